"""Stage scene_objects: every object that the view sees, with files that other tools read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from sceneloom.assets import scene_objects, scene_scaffold
from sceneloom.assets.stage import Made, StageContext
from sceneloom.ops.object_poses import SceneGenPose, camera_from_scenegen, mask_box
from sceneloom.resources.engines import Engines, View
from sceneloom.resources.failures import Reason, StageFailed
from sceneloom.resources.object_masks import MaskedObject, ObjectMasks
from sceneloom.resources.profiles import GroundTruthObjects, Objects
from sceneloom.resources.transformers_settings import Sam2ObjectsSettings

from .tiny import HEIGHT, WIDTH, MadeCollection, copied_collection, made_collection, run_scene


def instance_ids(made: MadeCollection, kind: str) -> np.ndarray:
    return np.asarray(Image.open(made.inputs(made.scene(kind)).path("scene_objects", "instance_ids.png")))


def test_masks_partition_the_view() -> None:
    made = made_collection()
    scene = made.scene("prompt")
    inputs = made.inputs(scene)
    ids = instance_ids(made, "prompt")
    assert (ids.shape, ids.dtype) == ((HEIGHT, WIDTH), np.uint16)
    rows = made.objects(scene)
    assert len(rows) >= 3
    for row in rows:
        mask = np.asarray(Image.open(inputs.path("scene_objects", row["mask"])))
        assert set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(mask > 0, ids == row["instance_id"])
        assert row["visible_pixels"] == (mask > 0).sum() >= 16
        assert 0.1 <= row["visibility"] <= 1
        left, top, right, bottom = row["box"]
        lines, columns = np.nonzero(mask)
        assert [columns.min(), lines.min(), columns.max() + 1, lines.max() + 1] == [left, top, right, bottom]


def test_posed_meshes_reproject_onto_their_masks_through_both_conventions() -> None:
    """The published GLB, by another library, placed by the published numbers alone, fills the published mask."""
    made = made_collection()
    scene = made.scene("prompt")
    inputs = made.inputs(scene)
    fx, fy, cx, cy = scene_scaffold.read_scaffold(inputs).intrinsics
    for row in made.objects(scene):
        mesh = trimesh.load(inputs.path("scene_objects", row["glb"]), force="mesh")
        assert isinstance(mesh, trimesh.Trimesh)
        np.testing.assert_allclose(mesh.extents, row["size"], rtol=1e-4)
        np.testing.assert_allclose(mesh.bounds.mean(axis=0), 0, atol=1e-4)
        ours = np.array(row["camera_from_object"])
        pose = SceneGenPose(**{name: row["scenegen"][name] for name in ("translation", "rotation", "scale")})
        np.testing.assert_allclose(camera_from_scenegen(pose), ours, atol=1e-6)
        assert pose.scale == pytest.approx(max(row["size"]), rel=1e-5)
        points = mesh.vertices @ ours[:3, :3].T + ours[:3, 3]
        if points[:, 2].min() < 0.05:
            continue  # reaches behind the camera: the projection is no box
        columns = points[:, 0] / points[:, 2] * fx + cx
        lines = points[:, 1] / points[:, 2] * fy + cy
        left, top, right, bottom = row["box"]
        assert columns.min() <= left + 0.5
        assert right - 0.5 <= columns.max()
        assert lines.min() <= top + 0.5
        assert bottom - 0.5 <= lines.max()
        if row["visibility"] > 0.98:
            found = np.clip([columns.min(), lines.min(), columns.max(), lines.max()], 0, [WIDTH, HEIGHT] * 2)
            # Thin legs fall between the centres of pixels this large.
            np.testing.assert_allclose(found, row["box"], atol=4.5)


def test_meshes_come_as_obj_with_their_textures() -> None:
    made = made_collection()
    scene = made.scene("prompt")
    inputs = made.inputs(scene)
    for row in made.objects(scene):
        folder = Path(row["obj"]).parent
        names = [name for name in inputs.names("scene_objects") if Path(name).parent == folder]
        text = inputs.path("scene_objects", row["obj"]).read_text()
        library = next(line.split()[1] for line in text.splitlines() if line.startswith("mtllib"))
        assert str(folder / library) in names
        pictures = [
            line.split()[-1]
            for line in inputs.path("scene_objects", str(folder / library)).read_text().splitlines()
            if line.startswith("map_Kd")
        ]
        assert pictures
        for picture in pictures:
            with Image.open(inputs.path("scene_objects", str(folder / picture))) as image:
                image.load()


def test_a_picture_has_no_objects_and_says_so() -> None:
    made = made_collection()
    scene = made.scene("image")
    assert made.objects(scene) == []
    assert made.record(scene, "scene_objects").metrics == {"objects": 0, "objects_in_scene": 0}
    assert not instance_ids(made, "image").any()


def test_the_profile_decides_which_objects_are_taken(tmp_path: Path) -> None:
    made = copied_collection(tmp_path / "copy", objects={"minimum_visible_pixels": 400})
    scene = made.scene("prompt")
    run_scene(made, scene, ["scene_objects"])
    strict, usual = made.objects(scene), made_collection().objects(scene)
    assert 0 < len(strict) < len(usual)
    assert strict == [row for row in usual if row["visible_pixels"] >= 400]


def test_a_wrong_pose_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_collection()
    scene = made.scene("prompt")
    true_pose = scene_objects.visible_objects

    def mirrored(*arguments: object, **options: object) -> list:
        found = true_pose(*arguments, **options)  # type: ignore[arg-type]
        return [
            dataclasses.replace(
                item,
                scenegen=dataclasses.replace(
                    item.scenegen,
                    translation=(-item.scenegen.translation[0] + 1, *item.scenegen.translation[1:]),
                ),
            )
            for item in found
        ]

    monkeypatch.setattr(scene_objects, "visible_objects", mirrored)
    context = StageContext(scene, made.profile, made.inputs(scene), tmp_path, 0, made.runtime.engines)
    with pytest.raises(StageFailed, match="of its mask lies inside its posed mesh's box") as raised:
        scene_objects.make(context)
    assert raised.value.reason is Reason.CONTRACT_VIOLATION


def test_equal_instance_ids_give_equal_colours_and_the_shell_is_dark() -> None:
    coloured = scene_objects.instance_colours(np.array([[0, 1], [2, 1]], np.uint16))
    assert coloured.dtype == np.uint8
    np.testing.assert_array_equal(coloured[0, 0], [24, 24, 24])
    np.testing.assert_array_equal(coloured[0, 1], coloured[1, 1])
    assert (coloured[0, 1] != coloured[1, 0]).any()
    assert coloured[0, 1].min() >= 80


def test_the_record_lists_the_objects_by_name() -> None:
    made = made_collection()
    scene = made.scene("prompt")
    record = made.record(scene, "scene_objects")
    rows = made.objects(scene)
    assert record.metadata["objects"] == [row["name"] for row in rows]
    assert record.metrics["objects"] == len(rows) <= record.metrics["objects_in_scene"]
    contract = next(each for each in record.contracts if each.contract == "instance_mask")
    assert contract.passed


def _made_by_depth_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, finder: object | None = None
) -> tuple[Made, dict[str, Any]]:
    """Make the objects of a scene of which only depth is known."""
    made = made_collection()
    scene = made.scene("prompt")
    scaffold = dataclasses.replace(scene_scaffold.read_scaffold(made.inputs(scene)), geometry=None)
    monkeypatch.setattr(scene_scaffold, "read_scaffold", lambda _: scaffold)
    engines = Engines(made.profile)
    monkeypatch.setattr(engines, "scene_objects", lambda: finder)
    context = StageContext(
        scene=scene, profile=made.profile, inputs=made.inputs(scene), scratch=folder, seed=0, engines=engines
    )
    return scene_objects.make(context), json.loads((folder / "objects.json").read_text())


def test_depth_alone_has_no_objects_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, published = _made_by_depth_alone(tmp_path, monkeypatch)
    assert published["objects"] == []
    assert published["estimated"]
    assert "names no engine that finds objects in views" in published["reason"]
    assert result.metrics == {"objects": 0}
    assert not np.asarray(Image.open(tmp_path / "instance_ids.png")).any()


class _MasksOfTheTruth:
    """Finds the objects of the shared prompt scene by their true masks."""

    def find_objects(self, view: View, *, minimum_pixels: int = 1) -> ObjectMasks:
        ids = instance_ids(made_collection(), "prompt").astype(np.uint16)
        found = []
        for number in range(1, int(ids.max()) + 1):
            mask = ids == number
            if mask.sum() >= minimum_pixels:
                found.append(MaskedObject(number, "thing", 0.9, mask_box(mask), int(mask.sum())))
            else:
                ids[mask] = 0
        return ObjectMasks(ids, tuple(found), {"engine": "truth"})


def test_objects_that_an_engine_finds_are_estimated_and_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, published = _made_by_depth_alone(tmp_path, monkeypatch, _MasksOfTheTruth())
    rows = published["estimated_objects"]
    assert published["objects"] == []
    assert published["estimated"]
    assert result.metrics["estimated_objects"] == len(rows) >= 3
    truth = {row["instance_id"]: row for row in made_collection().objects(made_collection().scene("prompt"))}
    with_boxes = [row for row in rows if "camera_from_object" in row]
    assert len(with_boxes) == result.metrics["objects_with_boxes"] >= 3
    for row in with_boxes:
        mask = np.asarray(Image.open(tmp_path / row["mask"]))
        assert (mask > 0).sum() == row["visible_pixels"] >= made_collection().profile.objects.minimum_visible_pixels
        if row["instance_id"] in truth:
            assert row["box"] == truth[row["instance_id"]]["box"]
            centre = np.array(row["camera_from_object"])[:3, 3]
            known = np.array(truth[row["instance_id"]]["camera_from_object"])[:3, 3]
            assert np.linalg.norm(centre - known) < max(truth[row["instance_id"]]["size"])


def test_only_settings_that_decide_what_is_found_enter_the_key() -> None:
    made = made_collection()
    limits = {"minimum_visible_pixels": 64, "minimum_visibility": 0.1}
    keys: dict[str, list[dict[str, Any]]] = {"ground_truth": [], "sam2": []}
    for changed in ({}, {"minimum_visibility": 0.5}, {"minimum_visible_pixels": 9}):
        objects = Objects.model_validate(limits | changed)
        for name, chosen in (("ground_truth", GroundTruthObjects()), ("sam2", Sam2ObjectsSettings(id="owner/model"))):
            engines = made.profile.engines.model_copy(update={"scene_objects": chosen})
            profile = made.profile.model_copy(update={"engines": engines, "objects": objects})
            keys[name].append(scene_objects.settings(profile, made.scene()))
    of_geometry, of_masks = keys["ground_truth"], keys["sam2"]
    assert of_geometry[0] == limits
    assert of_geometry[1] != of_geometry[0]
    assert of_masks[1] == of_masks[0] != of_masks[2]
    assert set(of_masks[0]) == {"minimum_visible_pixels", "engine"}

"""SceneGen's data set, read by an independent reader that follows the rules of its dataset class."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.spatial.transform import Rotation

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.layouts import scenegen, scenegen_files
from sceneloom.datasets.layouts.object_examination import Report
from sceneloom.datasets.layouts.object_scenes import largest_objects
from sceneloom.datasets.layouts.release import FindingKind, ReleaseDirectory, ReleaseRequest
from sceneloom.datasets.layouts.scenegen_examination import examine
from sceneloom.datasets.layouts.scenegen_files import mask_of_run_lengths, run_lengths
from sceneloom.datasets.object_table import SCENEGEN_CSV
from sceneloom.datasets.triangle_meshes import ObjMesh, occupied_cells, read_obj

from .object_scenes import (
    ALL,
    FOUR,
    TEST,
    VALIDATION,
    linked_copy,
    object_scenes,
    objects_of,
    put,
    scene_of_objects,
)

Published = tuple[Path, dict[str, str], Any]
FLIP = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("release") / "scenegen"
    directory = ReleaseDirectory(root)
    summary = scenegen.write(directory, object_scenes(), ReleaseRequest(root))
    return root, directory.scene_of, summary


# ---------------------------------------------------------------- what SceneGen's dataset class does


def instances(root: Path, table: str = "metadata_scene") -> list[tuple[str, list[dict[str, str]], int]]:
    """(scene, rows, query) of each training case: the row filters, then scenes of 1 to 16 rows with ids of length 7."""
    rows = list(csv.DictReader((root / f"{table}.csv").open()))
    assert rows
    assert all(row[flag] in ("True", "False") for row in rows for flag in ("cond_rendered", "voxelized", "rendered"))
    rows = [row for row in rows if row["ss_latent_ss_enc_conv3d_16l8_fp16"] == "True"]
    rows = [row for row in rows if float(row["aesthetic_score"]) >= 4.5 and row["vggt_feature"]]
    rows = [row for row in rows if row["cond_rendered"] == "True"]
    rows = [row for row in rows if row["masked_image_path"] and row["scene_image_path"]]
    rows = [row for row in rows if len(row["scene_id"]) == 7]
    scenes = {row["scene_id"]: [r for r in rows if r["scene_id"] == row["scene_id"]] for row in rows}
    return [(name, found, query) for name, found in scenes.items() if len(found) <= 16 for query in range(len(found))]


def load_case(root: Path, rows: list[dict[str, str]], query: int) -> dict[str, np.ndarray]:
    """One case with the query first; nothing is caught and drawn again."""
    assert "." not in str(root)
    ordered = [rows[query], *(row for k, row in enumerate(rows) if k != query)]
    pack: dict[str, list[np.ndarray]] = {"x_0": [], "cond": [], "mask_cond": [], "positions": []}
    pose = [(np.array(json.loads(row["translation"])), json.loads(row["rotation"])) for row in ordered]
    first = Rotation.from_euler("xyz", pose[0][1], degrees=True).as_matrix()
    for row, (translation, angles) in zip(ordered, pose, strict=True):
        latent = np.load(root / "ss_latents" / "ss_enc_conv3d_16l8_fp16" / f"{row['sha256']}.npz")["mean"]
        pack["x_0"].append(latent)
        pack["cond"].append(condition(root / row["masked_image_path"]))
        # All dots of the whole path go, also that of the ending.
        stem = str(root / row["masked_image_path"]).replace(".", "").removesuffix("png")
        pack["mask_cond"].append(resized(Image.open(f"{stem}_mask.png")))
        relative = first.T @ (translation - pose[0][0]) / float(ordered[0]["scale"])
        turn = Rotation.from_matrix(first.T @ Rotation.from_euler("xyz", angles, degrees=True).as_matrix())
        quaternion = turn.as_quat(scalar_first=True)
        pack["positions"].append(np.array([*relative, *quaternion, float(row["scale"]) / float(ordered[0]["scale"])]))
    arrays = {name: np.stack(values) for name, values in pack.items()}
    arrays["scene_image"] = resized(Image.open(root / rows[0]["scene_image_path"]))
    arrays["vggt_feature"] = np.load(root / "vggt_features" / f"{rows[0]['scene_id']}.npz")["vggt_feature"]
    return arrays


def resized(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((518, 518))).transpose(2, 0, 1) / 255


def condition(path: Path) -> np.ndarray:
    image = Image.open(path)
    rows, columns = np.asarray(image.getchannel(3)).nonzero()
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = max(box[2] - box[0], box[3] - box[1]) / 2 * 1.2
    x0, y0, x1, y1 = (int(value) for value in (centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half))
    image = image.crop((x0, y0, x1, y1)).resize((518, 518), Image.Resampling.LANCZOS)
    alpha = np.asarray(image.getchannel(3)) / 255
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1) / 255 * alpha


# ---------------------------------------------------------------- tests


def test_a_fresh_release_has_no_faults(published: Published) -> None:
    root, scene_of, summary = published
    assert examine(root, scene_of) == []
    assert summary.counts == {"scenes": 2, "test scenes": 2, "objects": 18, "assets": 9}
    assert set(summary.stand_ins) == {"cond_rendered", "vggt_features", "ss_latents"}
    assert summary.stand_ins["ss_latents"].endswith("in 9 of 9 files")
    assert not any("TRAINING WILL NOT START" in note for note in summary.notes)
    assert all((root / path).is_file() for path in scene_of)


def test_validation_scenes_are_never_trained_on(published: Published) -> None:
    root, _, summary = published
    assert {name for name, _, _ in instances(root, "metadata_scene_test")} == {TEST, VALIDATION}
    held = {TEST, VALIDATION}
    assert not held & {row["scene_id"] for row in csv.DictReader((root / "metadata_scene.csv").open())}
    assert not held & {folder.name for folder in (root / "masked_images").iterdir()}
    trained = json.loads((root / "raw/3D-FUTURE-scene/GT/train_set.json").read_text())
    assert not held & {image["file_name"] for image in trained["images"]}
    assert f"1 of the 2 test scenes are validation scenes: {VALIDATION}." in summary.notes


def test_the_manifest_learns_the_ids_of_the_scenes(published: Published) -> None:
    _, _, summary = published
    assert summary.scene_names == {"courtyard": TEST, "room-of-four": FOUR, "room": ALL, "corner": VALIDATION}


def test_every_training_case_loads_with_the_shapes_of_the_trainer(published: Published) -> None:
    root, _, _ = published
    cases = instances(root)
    assert [len(rows) for _, rows, _ in cases] == [4] * 4 + [6] * 6
    assert {name for name, _, _ in cases} == {FOUR, ALL}
    for name, rows, query in (cases[1], cases[-1], instances(root, "metadata_scene_test")[2]):
        case = load_case(root, rows, query)
        count = len(rows)
        assert case["x_0"].shape == (count, 8, 16, 16, 16)
        assert case["x_0"].dtype == np.float32
        assert case["cond"].shape == case["mask_cond"].shape == (count, 3, 518, 518)
        assert case["scene_image"].shape == (3, 518, 518)
        # 64 × 112 pixels give 518 × 294 for VGGT: 21 × 37 patches.
        assert case["vggt_feature"].shape == (1, 5 + 21 * 37, 2048), name
        assert np.allclose(case["positions"][0], [0, 0, 0, 1, 0, 0, 0, 1])
        assert np.isfinite(case["positions"]).all()


def test_relative_poses_put_canonical_assets_where_the_scene_has_them(published: Published) -> None:
    trimesh = pytest.importorskip("trimesh")
    root, _, _ = published
    _, rows, query = instances(root)[-1]
    positions = load_case(root, rows, query)["positions"]
    objects = objects_of(0).objects
    order = [query, *(k for k in range(len(rows)) if k != query)]
    asked = objects[query]
    for position, k in zip(positions, order, strict=True):
        mesh = trimesh.load(root / rows[k]["local_path"], force="mesh", process=False)
        z_up = np.stack([mesh.vertices[:, 0], -mesh.vertices[:, 2], mesh.vertices[:, 1]], axis=1)
        canonical = (z_up - (z_up.min(axis=0) + z_up.max(axis=0)) / 2) / np.ptp(z_up, axis=0).max()
        turn = Rotation.from_quat(position[3:7], scalar_first=True).as_matrix()
        y_up = Rotation.from_euler("xyz", (-90, 0, 0), degrees=True).as_matrix()
        found = canonical * position[7] @ (turn @ y_up).T + position[:3]
        pose = objects[k].camera_from_object
        world = (mesh.vertices @ pose[:3, :3].T + pose[:3, 3]) @ FLIP
        query_pose = asked.camera_from_object
        expected = (world - query_pose[:3, 3] @ FLIP) @ (FLIP @ query_pose[:3, :3]) / asked.scale
        assert np.allclose(found, expected, atol=1e-4)


def test_crops_are_the_picture_in_the_masks_box(published: Published) -> None:
    root, _, _ = published
    loaded = objects_of(0)
    crop = np.asarray(Image.open(root / f"masked_images/{ALL}/0.png"))
    left, top, right, bottom = loaded.objects[0].box
    wide = right - left > bottom - top
    assert wide
    height = int((bottom - top) * 518 / (right - left))
    above = (518 - height) // 2
    assert not crop[:above].any()
    assert not crop[above + height :].any()
    inner = crop[above : above + height]
    size = (right - left, bottom - top)
    alpha = np.asarray(Image.fromarray(inner[..., 3]).resize(size, Image.Resampling.BOX))
    assert ((alpha > 127) == loaded.objects[0].mask[top:bottom, left:right]).mean() > 0.97
    colours = np.asarray(Image.fromarray(inner[..., :3]).resize(size, Image.Resampling.BOX)).astype(int)
    # Colours outside the mask are there too.
    assert np.abs(colours - loaded.picture[top:bottom, left:right]).mean() < 12
    full = np.asarray(Image.open(root / f"masked_images/{ALL}/0_mask.png"))
    assert np.array_equal(full, np.repeat(loaded.objects[0].mask[..., None] * np.uint8(255), 3, axis=2))


def test_the_raw_layer_holds_what_the_toolkit_reads(published: Published) -> None:
    root, _, _ = published
    for part, numbers in (("train", [FOUR, ALL]), ("test", [VALIDATION, TEST])):
        annotations = json.loads((root / f"raw/3D-FUTURE-scene/GT/{part}_set.json").read_text())
        assert [image["file_name"] for image in annotations["images"]] == numbers
        for image in annotations["images"]:
            picture = Image.open(root / f"raw/3D-FUTURE-scene/{part}/image/{image['file_name']}.jpg")
            assert picture.size == (image["width"], image["height"])
        for annotation in annotations["annotations"]:
            assert (root / f"raw/3D-FUTURE-model/{annotation['model_id']}/raw_model.obj").is_file()
            assert len(annotation["pose"]["translation"]) == len(annotation["pose"]["euler"]) == 3
            assert annotation["category_id"] in {category["id"] for category in annotations["categories"]}
    rows = list(csv.DictReader((root / "metadata.csv").open()))
    assert len({row["sha256"] for row in rows}) == len(rows) == 9
    listed = {row["model_id"] for row in csv.DictReader((root / "metadata_scene.csv").open())}
    assert listed <= {row["file_identifier"].split("/")[-1] for row in rows}
    assert all((root / row["local_path"]).is_file() for row in rows)
    assert (root / "renders_cond").is_dir()


def test_pycocotools_decodes_the_masks(published: Published) -> None:
    mask_tools = pytest.importorskip("pycocotools.mask")
    root, _, _ = published
    annotations = json.loads((root / "raw/3D-FUTURE-scene/GT/train_set.json").read_text())["annotations"]
    for k, annotation in enumerate(item for item in annotations if item["image_id"] == int(ALL)):
        height, width = annotation["segmentation"]["size"]
        mask = mask_tools.decode(mask_tools.frPyObjects(annotation["segmentation"], height, width))
        assert np.array_equal(mask > 0, objects_of(0).objects[k].mask)


def test_trimesh_pairs_the_ground_truth_with_a_scene_that_it_wrote_itself(published: Published) -> None:
    trimesh = pytest.importorskip("trimesh")
    root, _, _ = published
    rows = next(rows for name, rows, _ in instances(root, "metadata_scene_test") if name == TEST)
    scene = trimesh.Scene()
    first = Rotation.from_euler("xyz", json.loads(rows[0]["rotation"]), degrees=True).as_matrix()
    upright = Rotation.from_euler("xyz", (90, 0, 0), degrees=True).as_matrix()
    for row in rows:
        pose = np.eye(4)
        pose[:3, :3] = (
            upright @ first.T @ Rotation.from_euler("xyz", json.loads(row["rotation"]), degrees=True).as_matrix()
        )
        pose[:3, 3] = (
            upright @ first.T @ np.subtract(json.loads(row["translation"]), json.loads(rows[0]["translation"]))
        )
        scene.add_geometry(trimesh.load(root / row["local_path"], force="mesh", process=False), transform=pose)
    low, high = scene.bounds
    scale = 1.96 / (high - low).max()
    to_unit = trimesh.transformations.compose_matrix(translate=-(low + high) / 2, scale=[scale] * 3)
    scene.apply_transform(to_unit)
    scene.apply_transform(trimesh.transformations.rotation_matrix(np.radians(-90), [1, 0, 0]))
    theirs = trimesh.load(io.BytesIO(scene.export(file_type="glb")), file_type="glb").dump()
    ours = trimesh.load(root / f"scene_test/{TEST}.glb").dump()
    assert len(ours) == len(theirs) == len(rows)
    for found, expected in zip(ours, theirs, strict=True):
        assert np.allclose(found.bounds, expected.bounds, atol=1e-4)
        assert len(found.faces) == len(expected.faces)
    camera = json.loads((root / "scene_test_render/render_cfg.json").read_text())[TEST]
    translation = -np.array(json.loads(rows[0]["translation"]))
    expected_camera = to_unit @ np.array([*(upright @ first.T @ translation), 1.0])
    assert np.allclose(camera["camera_pos"], expected_camera[:3])
    assert camera["render_path"] == str(root / f"scene_test_render/{TEST}.png")
    assert Image.open(root / f"scene_test_render/{TEST}.png").mode == "RGBA"


def test_test_scenes_lie_where_inference_looks(published: Published) -> None:
    root, _, _ = published
    assert {folder.name for folder in (root / "masked_images_test").iterdir()} == {TEST, VALIDATION}
    count = len(objects_of(1).objects)
    names = {"scene.jpg", *(f"{k}{end}.png" for k in range(count) for end in ("", "_mask"))}
    assert {file.name for file in (root / f"masked_images_test/{TEST}").iterdir()} == names
    assert not (root / f"masked_images/{TEST}").exists()


def test_equal_scenes_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        scenegen.write(ReleaseDirectory(tmp_path / name), [object_scenes()[1]], ReleaseRequest(tmp_path / "release"))
    assert digests(tmp_path / "first") == digests(tmp_path / "second") != {}


def digests(root: Path) -> dict[str, str]:
    files = [file for file in root.rglob("*") if file.is_file()]
    return {file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_stand_ins_follow_what_they_stand_for() -> None:
    picture = objects_of(0).picture
    feature = scenegen_files.stand_in_feature(picture)
    assert np.array_equal(feature, scenegen_files.stand_in_feature(picture))
    other = scenegen_files.stand_in_feature(objects_of(1).picture)
    near = scenegen_files.stand_in_feature(np.clip(picture.astype(int) + 2, 0, 255).astype(np.uint8))
    assert np.abs(near - feature).mean() < 0.2 * np.abs(other - feature).mean()
    assert scenegen_files.feature_tokens(518, 518) == 1374
    assert scenegen_files.feature_tokens(1200, 600) == 1374
    assert scenegen_files.stand_in_feature(np.zeros((90, 45, 3), np.uint8)).shape == (1, 1374, 2048)


def test_real_features_and_latents_are_taken_where_there_are_some(tmp_path: Path) -> None:
    scene = object_scenes()[1]
    item = objects_of(0).objects[0]
    feature = np.random.default_rng(0).normal(size=(1, 5 + 21 * 37, 2048)).astype(np.float32)
    latent = np.random.default_rng(1).normal(size=(8, 16, 16, 16)).astype(np.float32)
    (tmp_path / "given").mkdir()
    np.savez(tmp_path / "given" / f"{FOUR}.npz", vggt_feature=feature)
    np.savez(tmp_path / "given" / f"{item.sha256}.npz", mean=latent)
    options = {"vggt_features_dir": str(tmp_path / "given"), "ss_latents_dir": str(tmp_path / "given")}
    root = tmp_path / "out"
    summary = scenegen.write(ReleaseDirectory(root), [scene], ReleaseRequest(root, options=options))
    assert "vggt_features" not in summary.stand_ins
    assert summary.stand_ins["ss_latents"].endswith("in 3 of 4 files")
    assert np.array_equal(np.load(root / f"vggt_features/{FOUR}.npz")["vggt_feature"], feature)
    assert np.array_equal(np.load(root / f"{scenegen.LATENTS}/{item.sha256}.npz")["mean"], latent)
    np.savez(tmp_path / "given" / f"{FOUR}.npz", vggt_feature=feature[:, 1:])
    with pytest.raises(InputError, match="expected finite floats of shape"):
        scenegen.write(ReleaseDirectory(tmp_path / "again"), [scene], ReleaseRequest(root, options=options))


def test_scenes_that_cannot_make_the_layout_are_refused(tmp_path: Path) -> None:
    scene = object_scenes()[1]
    with pytest.raises(InputError, match="without dots"):
        scenegen.write(ReleaseDirectory(tmp_path), [scene], ReleaseRequest(Path("/data/v1.0")))
    with pytest.raises(InputError, match="pictures have no objects"):
        scenegen.write(ReleaseDirectory(tmp_path), [object_scenes()[3]], ReleaseRequest(tmp_path))
    loaded = objects_of(0)
    oblong = dataclasses.replace(loaded, intrinsics=loaded.intrinsics * [1, 2, 1, 1])
    with pytest.raises(InputError, match="field of view"):
        scenegen.write(ReleaseDirectory(tmp_path), [scene_of_objects("a", oblong)], ReleaseRequest(tmp_path))
    twin = dataclasses.replace(scene, scene_id="twin")
    with pytest.raises(InputError, match="both have the number"):
        scenegen.write(ReleaseDirectory(tmp_path), [scene, twin], ReleaseRequest(tmp_path))
    options = {"ss_latents_dir": str(tmp_path / "nowhere")}
    with pytest.raises(InputError, match="does not exist"):
        scenegen.write(ReleaseDirectory(tmp_path), [scene], ReleaseRequest(tmp_path, options=options))


def test_a_release_without_four_objects_says_that_training_will_not_start(tmp_path: Path) -> None:
    summary = scenegen.write(ReleaseDirectory(tmp_path), [object_scenes()[2]], ReleaseRequest(tmp_path))
    assert any("TRAINING WILL NOT START" in note for note in summary.notes)
    [finding] = examine(tmp_path, {})
    assert (finding.path, finding.kind) == ("metadata_scene.csv", FindingKind.OUT_OF_CONVENTION)
    assert "exactly 4" in finding.message


def test_only_the_largest_objects_are_kept() -> None:
    objects = [dataclasses.replace(objects_of(0).objects[0], visible_pixels=size) for size in (5, 90, 7, 60, 8)]
    assert [item.visible_pixels for item in largest_objects(objects, 3)] == [90, 60, 8]


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_round_trip(mask: np.ndarray) -> None:
    counts = run_lengths(mask)
    assert sum(counts) == mask.size
    assert np.array_equal(mask_of_run_lengths(counts, *mask.shape), mask)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(-180, 180)] * 3))
def test_rotations_are_scipys_extrinsic_xyz(angles: tuple[float, float, float]) -> None:
    ours = scenegen_files.rotation_of_euler(angles)
    assert np.allclose(ours, Rotation.from_euler("xyz", angles, degrees=True).as_matrix())
    assert np.allclose(scenegen_files.rotation_of_euler(scenegen_files.euler_of_rotation(ours)), ours, atol=1e-6)


def test_a_box_fills_the_cells_of_its_surface() -> None:
    trimesh = pytest.importorskip("trimesh")
    box = trimesh.creation.box(extents=[1.0, 1.0, 0.55])
    cells = occupied_cells(np.asarray(box.vertices, float), np.asarray(box.faces, np.int64), 8)
    grid = np.zeros((8, 8, 8), bool)
    grid[tuple(cells.T)] = True
    expected = np.zeros_like(grid)
    expected[:, :, 1:7] = True
    expected[1:-1, 1:-1, 2:6] = False
    assert np.array_equal(grid, expected)


def test_obj_files_are_read_as_trimesh_reads_them() -> None:
    trimesh = pytest.importorskip("trimesh")
    path = objects_of(0).objects[2].obj
    mesh = read_obj(path.read_bytes(), "mesh")
    other = trimesh.load(path, force="mesh", process=False)
    assert np.isclose(mesh_area(mesh), other.area, rtol=1e-5)
    assert np.allclose([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)], other.bounds, atol=1e-6)


def mesh_area(mesh: ObjMesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_a_report_names_a_broken_file_once_and_what_nothing_asked_for(tmp_path: Path) -> None:
    for name in ("a/good.json", "a/bad.json", "a/stray.json"):
        put(tmp_path / name, b"[1]" if name != "a/bad.json" else b"[1")
    report = Report(tmp_path, {"a/bad.json": "scene"})
    assert report.json("a/good.json", "stops") == [1]
    assert report.json("a/bad.json", "stops") is None
    assert report.json("a/bad.json", "stops") is None
    assert report.json("a/none.json", "stops") is None
    report.unexpected(["a"], "stays")
    found = [(item.path, item.kind, item.scene_id) for item in report.findings]
    assert found == [
        ("a/bad.json", FindingKind.TRUNCATED, "scene"),
        ("a/none.json", FindingKind.MISSING, None),
        ("a/stray.json", FindingKind.UNEXPECTED, None),
    ]


# ---------------------------------------------------------------- damage

CROP, MASK, PICTURE = (f"masked_images/{ALL}/{name}" for name in ("1.png", "1_mask.png", "scene.jpg"))


def swap_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        put(root / name, text.replace(old, new, 1).encode())

    return damage


def cut(name: str) -> Callable[[Path], None]:
    return lambda root: put(root / name, (root / name).read_bytes()[:-200])


def copy_of(source: str, name: str) -> Callable[[Path], None]:
    return lambda root: put(root / name, (root / source).read_bytes())


def write_picture(name: str, change: Callable[[Image.Image], Image.Image]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        buffer = io.BytesIO()
        change(Image.open(root / name)).save(buffer, format="PNG")
        put(root / name, buffer.getvalue())

    return damage


def other_pose(root: Path) -> None:
    """Turn the first object of the scene in table and annotations alike, as a wrong convention would."""
    rows = list(csv.DictReader((root / "metadata_scene.csv").open()))
    row = next(row for row in rows if row["scene_id"] == ALL)
    old = json.loads(row["translation"])
    new = [old[0], -old[1], -old[2]]
    row["translation"] = json.dumps(new)
    text = io.StringIO()
    writer = csv.DictWriter(text, SCENEGEN_CSV.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    put(root / "metadata_scene.csv", text.getvalue().encode())
    path = root / "raw/3D-FUTURE-scene/GT/train_set.json"
    content = json.loads(path.read_text())
    next(a for a in content["annotations"] if a["image_id"] == int(ALL))["pose"]["translation"] = new
    put(path, json.dumps(content).encode())


def nodes_reversed(root: Path) -> None:
    from sceneloom.datasets.glb import read_glb, write_glb

    path = root / f"scene_test/{TEST}.glb"
    document, binary = read_glb(path.read_bytes(), "glb")
    document["nodes"] = document["nodes"][::-1]
    put(path, write_glb(document, bytes(binary)))


def feature_without_axis(root: Path) -> None:
    path = root / f"vggt_features/{ALL}.npz"
    put(path, scenegen_files.feature_npz(np.load(path)["vggt_feature"][0]))


LATENT = f"{scenegen.LATENTS}/{{sha256}}.npz"
DAMAGES: dict[str, tuple[Callable[[Path], None], str, FindingKind, str | None]] = {
    "mask missing": (lambda root: (root / MASK).unlink(), MASK, FindingKind.MISSING, "room"),
    "crop cut short": (cut(CROP), CROP, FindingKind.TRUNCATED, "room"),
    "crop without alpha": (
        write_picture(CROP, lambda i: i.convert("RGB")),
        CROP,
        FindingKind.OUT_OF_CONVENTION,
        "room",
    ),
    "mask of one channel": (write_picture(MASK, lambda i: i.convert("L")), MASK, FindingKind.OUT_OF_CONVENTION, "room"),
    "mask empty": (write_picture(MASK, lambda i: i.point(lambda _: 0)), MASK, FindingKind.OUT_OF_CONVENTION, "room"),
    "mask of another size": (write_picture(MASK, lambda i: i.resize((50, 50))), MASK, FindingKind.MISALIGNED, "room"),
    "crop of another object": (copy_of(f"masked_images/{ALL}/2.png", CROP), CROP, FindingKind.MISALIGNED, "room"),
    "feature without its first axis": (
        feature_without_axis,
        f"vggt_features/{ALL}.npz",
        FindingKind.OUT_OF_CONVENTION,
        "room",
    ),
    "feature cut short": (
        cut(f"vggt_features/{FOUR}.npz"),
        f"vggt_features/{FOUR}.npz",
        FindingKind.TRUNCATED,
        "room-of-four",
    ),
    "blank flag": (
        swap_text("metadata_scene.csv", ",True,raw/", ",,raw/"),
        "metadata_scene.csv",
        FindingKind.OUT_OF_CONVENTION,
        None,
    ),
    "numpy scalars in a list": (
        swap_text("metadata_scene.csv", '"[', '"[np.float64(0), '),
        "metadata_scene.csv",
        FindingKind.OUT_OF_CONVENTION,
        None,
    ),
    "latents said to be absent": (
        swap_text("metadata_scene.csv", "raw_model.obj,True", "raw_model.obj,False"),
        "metadata_scene.csv",
        FindingKind.OUT_OF_CONVENTION,
        "room-of-four",
    ),
    "pose in another convention": (other_pose, f"masked_images/{ALL}/0.png", FindingKind.OUT_OF_CONVENTION, "room"),
    "table missing": (
        lambda root: (root / "metadata_scene_test.csv").unlink(),
        "metadata_scene_test.csv",
        FindingKind.MISSING,
        None,
    ),
    "a stray folder among the test scenes": (
        lambda root: put(root / "masked_images_test/notes/readme.txt", b"hello"),
        "masked_images_test/notes/readme.txt",
        FindingKind.UNEXPECTED,
        None,
    ),
    "ground truth in reverse": (nodes_reversed, f"scene_test/{TEST}.glb", FindingKind.MISALIGNED, "courtyard"),
    "ground truth cut short": (
        cut(f"scene_test/{TEST}.glb"),
        f"scene_test/{TEST}.glb",
        FindingKind.TRUNCATED,
        "courtyard",
    ),
    "picture cut short": (cut(PICTURE), PICTURE, FindingKind.TRUNCATED, "room"),
    "no renders_cond": (
        lambda root: (root / "renders_cond/README.txt").unlink() or (root / "renders_cond").rmdir(),
        "renders_cond",
        FindingKind.MISSING,
        None,
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, published: Published, tmp_path: Path) -> None:
    source, scene_of, _ = published
    root = linked_copy(source, tmp_path / "copy")
    damage, path, kind, scene = DAMAGES[name]
    damage(root)
    findings = examine(root, scene_of)
    assert (path, kind, scene) in {(item.path, item.kind, item.scene_id) for item in findings}, findings


def test_a_missing_latent_names_the_scene_that_brings_it(published: Published, tmp_path: Path) -> None:
    source, scene_of, _ = published
    root = linked_copy(source, tmp_path / "copy")
    path = LATENT.format(sha256=objects_of(1).objects[-1].sha256)
    (root / path).unlink()
    [finding] = examine(root, scene_of)
    assert (finding.path, finding.kind, finding.scene_id) == (path, FindingKind.MISSING, "courtyard")
    assert "draws another sample" in finding.message


def test_a_root_with_a_dot_is_named(published: Published, tmp_path: Path) -> None:
    source, scene_of, _ = published
    [finding] = examine(linked_copy(source, tmp_path / "v1.0"), scene_of)
    assert (finding.path, finding.kind) == (".", FindingKind.OUT_OF_CONVENTION)

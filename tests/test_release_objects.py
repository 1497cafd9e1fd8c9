"""Objects of a release: what the stages published, and views of it from other cameras."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sceneloom.assets.release_objects import load_objects
from sceneloom.assets.stage import StageInputs
from sceneloom.datasets.errors import InputError
from sceneloom.datasets.layouts.release import ReleaseObjects
from sceneloom.datasets.object_table import SCENEGEN_METADATA
from sceneloom.datasets.parquet import read_parquet

from .tiny import HEIGHT, WIDTH, made_collection


def rows_of(scene_id: str) -> list[dict[str, Any]]:
    table = read_parquet(made_collection().runtime.store.table_url("scenegen_metadata"), SCENEGEN_METADATA)
    return [row for row in table.to_pylist() if row["scene_name"] == scene_id]


@functools.cache
def loaded_prompt() -> ReleaseObjects:
    made = made_collection()
    scene = made.scene()
    return load_objects(made.inputs(scene), scene_number="1000001", rows=rows_of(scene.scene_id))


def test_objects_are_those_that_the_stage_published() -> None:
    made, loaded = made_collection(), loaded_prompt()
    published = made.objects(made.scene())
    assert [item.instance_id for item in loaded.objects] == [item["instance_id"] for item in published]
    for item, row in zip(loaded.objects, published, strict=True):
        with Image.open(made.inputs(made.scene()).path("scene_objects", row["mask"])) as mask:
            assert np.array_equal(item.mask, np.asarray(mask) > 0)
        assert np.array_equal(item.camera_from_object, np.array(row["camera_from_object"]))
        assert item.obj.name == "raw_model.obj"
        assert (item.obj.parent / "model.mtl").is_file()
        assert item.glb.read_bytes()[:4] == b"glTF"
        assert item.captions == (row["name"],)
    assert loaded.picture.shape == (HEIGHT, WIDTH, 3)
    assert loaded.metric


def test_the_same_camera_sees_the_same_scene() -> None:
    loaded = loaded_prompt()
    made = made_collection()
    view = loaded.render(np.eye(4), loaded.intrinsics, HEIGHT, WIDTH, False)
    assert np.array_equal(view.instance_ids, loaded.instance_ids)
    assert np.array_equal(view.depth, made.inputs(made.scene()).arrays("scene_scaffold", "depth.npz")["depth"])
    assert np.abs(view.rgb.astype(int) - loaded.picture).mean() < 8


def test_objects_only_leaves_the_walls_out_and_the_objects_where_they_are() -> None:
    loaded = loaded_prompt()
    view = loaded.render(np.eye(4), loaded.intrinsics, HEIGHT, WIDTH, True)
    shown = loaded.instance_ids > 0
    assert np.array_equal(view.instance_ids, loaded.instance_ids)
    assert (view.rgb[~shown] == 255).all()
    assert (view.depth[~shown] == 0).all()
    assert (view.depth[shown] > 0).all()
    assert (view.normals[~shown] == 0).all()


def test_normals_are_in_the_camera_frame_and_face_the_camera() -> None:
    loaded = loaded_prompt()
    upright = loaded.render(np.eye(4), loaded.intrinsics, HEIGHT, WIDTH, True)
    shown = upright.instance_ids > 0
    assert np.allclose(np.linalg.norm(upright.normals[shown], axis=1), 1, atol=1e-5)
    fx, fy, cx, cy = loaded.intrinsics
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    rays = np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones_like(rows)], axis=2)
    # Stored as int8, a normal is right to half a degree.
    assert ((upright.normals * rays).sum(axis=2)[shown] < 0.02).all()
    # A camera turned upside down sees the same surfaces with x and y exchanged for their opposites.
    turned = loaded.render(np.diag([-1.0, -1.0, 1.0, 1.0]), loaded.intrinsics, HEIGHT, WIDTH, True)
    back = turned.normals[::-1, ::-1] * np.array([-1, -1, 1])
    same = np.abs(back - upright.normals).max(axis=2) < 0.02
    assert same.mean() > 0.99


def test_rows_may_come_in_any_order_but_must_be_the_scenes() -> None:
    made = made_collection()
    scene = made.scene()
    rows = rows_of(scene.scene_id)
    again = load_objects(made.inputs(scene), scene_number="1000001", rows=rows[::-1])
    assert [item.sha256 for item in again.objects] == [row["sha256"] for row in rows]
    with pytest.raises(InputError, match="make the table scenegen_metadata again"):
        load_objects(made.inputs(scene), scene_number="1000001", rows=rows[:-1])
    stale = [dict(rows[0], sha256="0" * 64), *rows[1:]]
    with pytest.raises(InputError, match=scene.scene_id):
        load_objects(made.inputs(scene), scene_number="1000001", rows=stale)


def test_a_picture_has_no_objects_and_can_still_be_seen() -> None:
    made = made_collection()
    scene = made.scene("image")
    loaded = load_objects(made.inputs(scene), scene_number="1000009", rows=[])
    assert loaded.objects == ()
    assert not loaded.metric
    empty = loaded.render(np.eye(4), loaded.intrinsics, HEIGHT, WIDTH, True)
    assert (empty.rgb == 255).all()
    assert not empty.instance_ids.any()


def test_meshes_of_a_remote_store_stand_beside_their_textures(tmp_path: Path) -> None:
    made = made_collection()
    scene = made.scene()
    local = made.inputs(scene)

    class RemoteStore:
        is_local = False

        def fetch(self, record: Any, name: str) -> Path:
            source = local.store.fetch(record, name)
            target = tmp_path / record.stage / name.replace("/", "-") / Path(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            return target

    inputs: StageInputs = dataclasses.replace(local, store=RemoteStore())  # type: ignore[arg-type]
    loaded = load_objects(inputs, scene_number="1000001", rows=rows_of(scene.scene_id))
    for item, original in zip(loaded.objects, loaded_prompt().objects, strict=True):
        assert item.obj != original.obj
        assert {file.name for file in item.obj.parent.iterdir()} == {
            file.name for file in original.obj.parent.iterdir()
        }
        assert item.obj.read_bytes() == original.obj.read_bytes()
        assert item.glb.read_bytes() == original.glb.read_bytes()

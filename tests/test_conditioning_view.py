"""Stage conditioning_view: what is published of a scene's first picture."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sceneloom.assets import conditioning_view
from sceneloom.ops.pictures import fit_picture

from .tiny import HEIGHT, PICTURE, WIDTH, copied_collection, made_collection, run_scene


@pytest.mark.parametrize("kind", ["prompt", "image"])
def test_the_view_has_the_clips_size_and_a_centred_lens(kind: str) -> None:
    made = made_collection()
    inputs = made.inputs(made.scene(kind))
    with Image.open(inputs.path("conditioning_view", "view.png")) as image:
        assert (image.size, image.mode, image.format) == ((WIDTH, HEIGHT), "RGB", "PNG")
    camera = inputs.json("conditioning_view", "camera.json")
    fx, fy, cx, cy = camera["intrinsics"]
    assert (cx, cy) == (WIDTH / 2, HEIGHT / 2)
    assert fx == fy == pytest.approx(WIDTH / 2 / np.tan(np.radians(75) / 2))
    assert (camera["height"], camera["width"]) == (HEIGHT, WIDTH)


def test_a_prompts_view_comes_with_its_geometry_and_what_was_understood() -> None:
    made = made_collection()
    scene = made.scene("prompt")
    view = conditioning_view.read_view(made.inputs(scene))
    record = made.record(scene, "conditioning_view")
    assert view.geometry is not None
    assert view.geometry.size == (HEIGHT, WIDTH)
    families = [instance.family for instance in view.geometry.instances]
    assert families.count("sofa") == 1
    assert families.count("chair") == 2
    assert record.metrics["objects"] == len(families)
    assert record.metadata["prompt"] == scene.prompt
    assert record.metadata.keys() >= view.notes.keys()
    assert record.engine == "procedural"


def test_a_pictures_view_is_the_picture_fitted_to_the_clips_size() -> None:
    made = made_collection()
    scene = made.scene("image")
    view = conditioning_view.read_view(made.inputs(scene))
    with Image.open(PICTURE) as image:
        expected = fit_picture(np.asarray(image.convert("RGB")), HEIGHT, WIDTH)
    np.testing.assert_array_equal(view.picture, expected)
    assert view.geometry is None
    assert "scene.npz" not in made.inputs(scene).names("conditioning_view")
    assert made.record(scene, "conditioning_view").engine == "picture"


def test_a_preview_is_small_enough_for_an_event_log() -> None:
    made = made_collection()
    for scene in made.catalog.active():
        for stage in ("conditioning_view", "scene_scaffold", "video_latents", "depth_and_poses", "scene_objects"):
            preview = next(file for file in made.record(scene, stage).files if file.path == "preview.webp")
            assert 0 < preview.bytes <= 40_000


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    made = copied_collection(tmp_path / "copy", view={"horizontal_field_of_view": 60})
    gone = tmp_path / "away" / "corridor.jpg"
    event = run_scene(made, dataclasses.replace(made.scene("image"), image_url=str(gone)))[-1]
    assert event.failure is not None
    assert (event.stage, event.failure.reason) == ("conditioning_view", "invalid_input")
    assert f"{gone}: the picture is gone. Put it back" in event.failure.message


def test_a_picture_that_was_changed_is_not_taken_for_the_one_in_the_catalogue(tmp_path: Path) -> None:
    made = copied_collection(tmp_path / "copy", view={"horizontal_field_of_view": 60})
    picture = tmp_path / "copy" / "images" / "corridor.jpg"
    picture.write_bytes(picture.read_bytes() + b" ")
    scene = made.scene("image")
    event = run_scene(made, dataclasses.replace(scene, image_url=str(picture)))[-1]
    assert event.failure is not None
    assert event.failure.reason == "invalid_input"
    assert "changed after the catalogue was made" in event.failure.message


def test_the_licence_of_a_scene_goes_before_the_engines() -> None:
    made = made_collection()
    record = made.record(made.scene("prompt"), "conditioning_view")
    assert record.licence == "Apache-2.0"
    licensed = dataclasses.replace(made.scene(), licence="CC-BY-4.0")
    engine = conditioning_view.engine(made.runtime.engines, licensed)
    assert engine.licence == "CC-BY-4.0"


def test_checksums_in_the_record_are_those_of_the_files() -> None:
    made = made_collection()
    record = made.record(made.scene(), "conditioning_view")
    for file in record.files:
        content = Path(made.runtime.store.file_url(record, file.path)).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)
    assert json.loads(Path(made.runtime.store.file_url(record, "camera.json")).read_text())["height"] == HEIGHT

"""Stage clip_captions: captions by the stand-in and by a tiny vision-language model, and where releases take them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sceneloom.assets import clip_captions
from sceneloom.assets.clip_captions import read_captions
from sceneloom.assets.collection_tables import write_training_index
from sceneloom.assets.release_scenes import Selection, release_scenes
from sceneloom.datasets.errors import EngineError
from sceneloom.datasets.layouts import gen3r, lyra2
from sceneloom.datasets.layouts.caption_chunks import decode_chunks
from sceneloom.datasets.layouts.release import CaptionWindow, ReleaseDirectory, ReleaseRequest
from sceneloom.datasets.video import read_video
from sceneloom.resources.clip_captions import ClipCaptioner
from sceneloom.resources.transformers_settings import CaptionSettings

from .release_scenes import make_scene
from .tiny import MadeCollection, codec_folder, copied_collection, made_collection, run_scene
from .tiny_transformers import save_vision_language


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captions") / "model"
    save_vision_language(folder)
    return folder


def settings(model: Path) -> dict[str, Any]:
    return {
        "engine": "vlm",
        "path": str(model),
        "precision": "float32",
        "maximum_tokens": 6,
        "window_frames": 5,
        "pictures": 2,
    }


def with_captions(folder: Path, captions: dict[str, Any]) -> MadeCollection:
    return copied_collection(folder, engines={"latent_codec": {"path": str(codec_folder())}, "captions": captions})


def test_the_stand_in_says_what_was_built_and_where_the_camera_goes() -> None:
    made = made_collection()
    scene = made.scene()
    published = made.inputs(scene).json("clip_captions", "captions.json")
    assert (published["engine"], published["stand_in"]) == ("scene_words", True)
    assert published["clips"].keys() == set(made.profile.trajectories.names)
    [window] = published["clips"]["zoom_in"]
    assert window["frame_range"] == [0, made.profile.frames.count]
    assert window["text"].endswith("The camera moves forwards.")
    for name in made.record(scene, "conditioning_view").metadata["objects"]:
        assert name in window["text"]
    record = made.record(scene, "clip_captions")
    assert (record.engine, record.metrics["captions"], record.metadata["stand_in"]) == ("scene_words", 2, True)


def test_a_model_is_shown_the_published_frames(tmp_path: Path, model: Path) -> None:
    made = with_captions(tmp_path, settings(model))
    scene = made.scene("image")
    before = {stage: made.record(scene, stage).key for stage in ("video_latents", "gaussian_shards")}
    outcomes = {event.stage: event.outcome for event in run_scene(made, scene)}
    # No other stage depends on captions.
    assert {stage for stage, outcome in outcomes.items() if outcome == "made"} == {"clip_captions"}
    assert {stage: made.record(scene, stage).key for stage in before} == before

    inputs = made.inputs(scene)
    record = made.record(scene, "clip_captions")
    frames = read_video(inputs.path("video_latents", "left.mp4"))
    expected = ClipCaptioner(CaptionSettings.model_validate(settings(model))).caption(frames)
    published = inputs.json("clip_captions", "captions.json")
    assert published["clips"]["left"] == json.loads(json.dumps([caption.record() for caption in expected]))
    assert [window["frame_range"] for window in published["clips"]["left"]] == [[0, 5], [5, 9]]
    assert [window["seen"] for window in published["clips"]["left"]] == [[1, 3], [6, 8]]
    assert (published["engine"], published["stand_in"], record.engine) == ("vlm", False, "vlm")
    assert "model.safetensors" in record.key_parts.engine["weights"]
    assert str(model) not in json.dumps(record.key_parts.settings)
    assert read_captions(inputs)["left"] == tuple(CaptionWindow(*each.frame_range, each.text) for each in expected)


def test_the_training_index_has_the_captions_of_now(tmp_path: Path, model: Path) -> None:
    made = with_captions(tmp_path, settings(model))
    scene, other = made.scene("image"), made.scene()
    run_scene(made, scene, ["clip_captions"])
    table = write_training_index(made.catalog, made.runtime.pipeline())
    rows = {(row["scene_id"], row["trajectory"]): row["caption"] for row in table.to_pylist()}
    windows = read_captions(made.inputs(scene))["left"]
    assert rows[scene.scene_id, "left"].split("\n") == [window.text for window in windows]
    # This one's captions are those of the engine before.
    assert rows[other.scene_id, "left"] is None


def test_only_current_captions_go_into_a_release(tmp_path: Path, model: Path) -> None:
    shared = made_collection()
    everyone = Selection()

    def captioned(made: MadeCollection) -> dict[str, set[str]]:
        scenes = release_scenes(made.runtime, "clips", everyone, captioned=lambda _: True)
        return {scene.scene_id: set(scene.captions) for scene in scenes}

    both = set(shared.profile.trajectories.names)
    assert captioned(shared) == {scene.scene_id: both for scene in shared.catalog.active()}
    [plain, *_] = release_scenes(shared.runtime, "clips", everyone)
    assert (plain.captions, plain.captioned_by, "clip_captions" in plain.engines) == ({}, "", False)
    with_own = {
        scene.scene_id: scene for scene in release_scenes(shared.runtime, "clips", everyone, captioned=lambda _: True)
    }[plain.scene_id]
    assert with_own.engines["clip_captions"] == with_own.captioned_by == "scene_words"
    assert with_own.captions_stand_in
    assert with_own.content_key != plain.content_key
    # Those of another engine are no longer what would be written now.
    assert not any(captioned(with_captions(tmp_path, settings(model))).values())


def test_a_model_that_is_not_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    made = with_captions(tmp_path, {"engine": "vlm", "path": str(tmp_path / "absent")})
    with pytest.raises(EngineError, match="no such folder"):
        made.runtime.pipeline().plan(made.scene())


WINDOWS = (CaptionWindow(0, 80, "a hall"), CaptionWindow(80, 97, "a door"))


def test_lyra2_gets_the_caption_of_each_chunk(tmp_path: Path) -> None:
    scene = replace(
        make_scene("hall", trajectories=("left", "right"), frames=97),
        captions={"left": WINDOWS},
        captioned_by="vlm",
    )
    directory = ReleaseDirectory(tmp_path)
    summary = lyra2.write(directory, [scene], ReleaseRequest(tmp_path))
    folder = tmp_path / "framepack-caption-qwen3-chunk-80-overlap-0"
    left, right = (decode_chunks((folder / f"hall-{name}.pkl").read_bytes(), name) for name in ("left", "right"))
    assert {start: chunk["caption"] for start, chunk in left.items()} == {0: "a hall", 80: "a door"}
    assert left[80]["frame_range"] == (80, 97)
    assert left[0]["embedding"].shape == (3, 4096)
    assert not left[0]["embedding"].equal(left[80]["embedding"])
    assert {chunk["caption"] for chunk in right.values()} == {scene.prompt}
    assert summary.counts["captions"] == 3
    assert "captions" not in summary.stand_ins
    assert any("engine vlm" in note for note in summary.notes)
    assert lyra2.LAYOUT.examine(tmp_path, directory.scene_of) == []


def test_gen3r_draws_from_all_captions_of_a_clip(tmp_path: Path) -> None:
    # Gen3R's README names a prompt, its code one line of many.
    scenes = [
        replace(
            make_scene(name, trajectories=("left", "right"), frames=49, split=split),
            captions={"left": (*WINDOWS, CaptionWindow(97, 99, "a hall"))},
            captioned_by="scene_words",
            captions_stand_in=True,
        )
        for name, split in (("hall", "train"), ("den", "test"))
    ]
    directory = ReleaseDirectory(tmp_path)
    summary = gen3r.write(directory, scenes, ReleaseRequest(tmp_path, options={"any_size": "true"}))
    [folder] = tmp_path.glob("*/scenes/hall-left")
    assert (folder / "captions.txt").read_text() == "a hall\na door\n"
    assert (folder / "prompt.txt").read_text() == "a hall\n"
    [other] = tmp_path.glob("*/scenes/hall-right")
    assert (other / "captions.txt").read_text() == f"{scenes[0].prompt}\n"
    assert "scene_words" in summary.stand_ins["captions"]
    assert gen3r.LAYOUT.examine(tmp_path, directory.scene_of) == []


def test_the_stage_stands_last_and_nothing_waits_for_it() -> None:
    from sceneloom.assets.stages import STAGES

    assert STAGES[-1] is clip_captions.STAGE
    assert all(clip_captions.NAME not in stage.inputs for stage in STAGES)

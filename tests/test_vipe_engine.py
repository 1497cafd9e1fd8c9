"""Engine `vipe` in the pipeline, on the stand-in of its program: runs of Dagster, keys, refusals, what is kept."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from PIL import Image

from sceneloom.assets import depth_and_poses
from sceneloom.assets.catalog import refresh_catalog
from sceneloom.assets.scene_assets import RUNTIME_RESOURCE, build_scene_assets
from sceneloom.assets.scene_partitions import register_scenes, scene_partitions
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.assets.stage import StageInputs
from sceneloom.assets.stages import STAGES
from sceneloom.datasets.errors import ConfigError
from sceneloom.resources.engines import settings_in_key
from sceneloom.resources.failures import Reason
from sceneloom.resources.profiles import Profile, load_profile
from sceneloom.resources.vipe_engine import VipeDepthAndPoses
from sceneloom.resources.worker_settings import VipeSettings

from .tiny import (
    FRAMES,
    HEIGHT,
    STAGE_NAMES,
    TRAJECTORIES,
    WIDTH,
    MadeCollection,
    codec_folder,
    copied_collection,
    run_scene,
    write_profile,
)
from .vipe_clips import STAND_IN

TO_DEPTH = STAGE_NAMES[: STAGE_NAMES.index("depth_and_poses") + 1]
COUNTING = """
import os, runpy, sys
with open({calls!r}, "a") as file:
    file.write(os.path.realpath(sys.argv[2]) + "\\n")
runpy.run_path({stand_in!r}, run_name="__main__")
"""


def vipe(folder: Path, **changes: Any) -> dict[str, Any]:
    """The section of a profile that runs the stand-in; calls of it are noted in `calls`, a resolved input a line."""
    program = folder / "counting_vipe.py"
    program.write_text(COUNTING.format(calls=str(folder / "calls"), stand_in=str(STAND_IN)))
    return {
        "engine": "vipe",
        "environment": {"interpreter": sys.executable},
        "device": "cpu",
        "command": [sys.executable, str(program)],
        "scratch": str(folder / "scratch"),
        **changes,
    }


def engines(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"latent_codec": {"path": str(codec_folder())}, "depth_and_poses": vipe(folder, **changes)}


def calls(folder: Path, scenes: list[str]) -> Counter[str]:
    """How often the stand-in was started for each scene since it was last asked."""
    file = folder / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return Counter(next(scene for scene in scenes if scene in Path(line).parts) for line in lines)


@pytest.fixture(autouse=True)
def workers_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the workers of every engine that a test made."""
    made: list[VipeDepthAndPoses] = []
    initialise = VipeDepthAndPoses.__init__

    def noted(self: VipeDepthAndPoses, *given: Any, **named: Any) -> None:
        initialise(self, *given, **named)
        made.append(self)

    monkeypatch.setattr(VipeDepthAndPoses, "__init__", noted)
    yield
    for engine in made:
        engine.close()


# ---------------------------------------------------------------- eight scenes in a run of Dagster

PROMPTS = [f"a room with a {thing}" for thing in ("sofa", "bed", "desk", "piano", "table", "shelf", "stove", "chair")]


def dagster_run(profile: Profile, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """One run over all scenes in a process of its own, as far as engines go."""
    runtime = SceneRuntime(profile)
    scenes = [scene.scene_id for scene in refresh_catalog(profile, runtime.store).catalog.active()]
    partitions = scene_partitions("tiny")
    register_scenes(instance, partitions, scenes)
    assets = build_scene_assets(STAGES, partitions, scenes_per_run=10, pool=None)
    return dg.materialize(
        [assets, dg.AssetSpec("scene_catalog")],
        instance=instance,
        resources={RUNTIME_RESOURCE: runtime},
        selection=list(TO_DEPTH),
        tags={ASSET_PARTITION_RANGE_START_TAG: scenes[0], ASSET_PARTITION_RANGE_END_TAG: scenes[-1]},
        raise_on_error=False,
    )


def failed_scenes(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Reasons by scene, as the table of the step's failure says them."""
    data = result.failure_data_for_node("scene_stages")
    assert data is not None
    assert data.user_failure_data is not None
    table = data.user_failure_data.metadata["failures"]
    assert isinstance(table, dg.TableMetadataValue)
    assert {record.data["stage"] for record in table.records} == {"depth_and_poses"}
    return {str(record.data["scene"]): str(record.data["reason"]) for record in table.records}


def test_four_of_eight_scenes_fail_for_four_reasons_and_a_second_run_repeats_only_those(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    profile = load_profile(
        write_profile(
            tmp_path,
            ["prompts.txt"],
            frames={"count": FRAMES, "height": 64, "width": 64},
            trajectories={"names": ["left"]},
            engines=engines(tmp_path, clip_timeout=6, frame_timeout=0.01)
            | {"video_latents": {"engine": "raycast", "samples_per_pixel": 1}},
        )
    )
    scenes = [scene.scene_id for scene in refresh_catalog(profile, SceneRuntime(profile).store).catalog.active()]
    crashes, hangs, garbles, starves = scenes[1], scenes[3], scenes[4], scenes[6]
    faults = {crashes: "kill:pose.npz", hangs: "hang", garbles: "garbage", starves: "oom"}
    monkeypatch.setenv("VIPE_STAND_IN_FAULTS", json.dumps(faults))
    good = set(scenes) - set(faults)
    with dg.DagsterInstance.ephemeral() as instance:
        first = dagster_run(profile, instance)
        assert not first.success
        assert failed_scenes(first) == {
            crashes: "worker_killed",
            hangs: "timed_out",
            garbles: "contract_violation",
            starves: "out_of_memory",
        }
        assert instance.get_materialized_partitions(dg.AssetKey("depth_and_poses")) == good
        assert instance.get_materialized_partitions(dg.AssetKey("video_latents")) == set(scenes)
        # Only a crash is tried once more at once, and only by the worker's own rule.
        assert calls(tmp_path, scenes) == dict.fromkeys(scenes, 1) | {crashes: 2}
        store = SceneRuntime(profile).store
        done = {scene: store.record(scene, "depth_and_poses") for scene in good}
        noted = {scene: store.failure(scene, "depth_and_poses") for scene in faults}
        assert {scene: len(each.attempts) for scene, each in noted.items() if each} == dict.fromkeys(faults, 1)
        assert not any(each.quarantined for each in noted.values() if each)
        last = noted[hangs]
        assert last is not None
        assert "clip left: nothing came of it within 6 s" in last.last.message
        assert "Reading video stream" in last.last.log
        event = instance.get_latest_materialization_event(dg.AssetKey("depth_and_poses"))
        assert event is not None
        assert event.asset_materialization is not None
        preview = event.asset_materialization.metadata["preview"].value
        assert isinstance(preview, str)
        assert preview.startswith("![preview](data:image/webp;base64,")

        del faults[hangs]
        monkeypatch.setenv("VIPE_STAND_IN_FAULTS", json.dumps(faults))
        second = dagster_run(profile, instance)
        assert failed_scenes(second) == {
            crashes: "worker_killed",
            garbles: "contract_violation",
            starves: "out_of_memory",
        }
        assert calls(tmp_path, scenes) == {crashes: 2, hangs: 1, garbles: 1, starves: 1}
        assert instance.get_materialized_partitions(dg.AssetKey("depth_and_poses")) == good | {hangs}
        assert {scene: store.record(scene, "depth_and_poses") for scene in good} == done
    assert list((tmp_path / "scratch").glob("*/tasks-*")) == []


# ---------------------------------------------------------------- one scene


def write_truth(made: MadeCollection, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stand-in estimate what is true of the collection's clips, in a world and unit of its own."""
    folder.mkdir()
    for scene in made.catalog.active():
        inputs = made.inputs(scene)
        for trajectory in TRAJECTORIES:
            cameras = depth_and_poses.read_cameras(inputs, trajectory)
            np.savez(
                folder / f"{scene.scene_id}.{trajectory}.npz",
                c2w=cameras["commanded_c2w"],
                intrinsics=cameras["commanded_intrinsics"],
                depth=depth_and_poses.read_depth(inputs, trajectory).astype(np.float32),
            )
    monkeypatch.setenv("VIPE_STAND_IN_TRUTH", str(folder))


def test_the_way_of_a_scene_with_estimated_depth_and_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = copied_collection(tmp_path, engines=engines(tmp_path))
    scene = made.scene()
    write_truth(made, tmp_path / "truth", monkeypatch)
    truth = depth_and_poses.read_depth(made.inputs(scene), "left")
    events = run_scene(made, scene)
    assert [event.failure for event in events] == [None] * len(STAGE_NAMES)
    made_again = {event.stage for event in events if event.outcome == "made"}
    assert {"depth_and_poses", "quality_report", "gaussian_shards"} <= made_again
    assert made_again.isdisjoint(TO_DEPTH[:-1])
    inputs = StageInputs(made.runtime.store, {name: made.record(scene, name) for name in STAGE_NAMES})
    names = set(inputs.names("depth_and_poses"))
    assert names == {"cameras.json", "preview.webp"} | {
        f"{name}.{end}" for name in TRAJECTORIES for end in ("cameras.npz", "depth.npz", "estimation.npz", "vipe.log")
    }
    # One batch for all clips of the scene.
    assert calls(tmp_path, [scene.scene_id]) == {scene.scene_id: len(TRAJECTORIES)}
    np.testing.assert_allclose(depth_and_poses.read_depth(inputs, "left"), truth, rtol=2e-3)
    masks = inputs.arrays("depth_and_poses", "left.estimation.npz")["instance_masks"]
    assert (masks.shape, masks.dtype) == ((FRAMES, HEIGHT, WIDTH), np.uint8)
    assert set(np.unique(masks)) == {0, 1, 2}
    summary = inputs.json("depth_and_poses", "cameras.json")
    for facts in summary.values():
        assert facts["similarity"]["scale"] == pytest.approx(1.25, rel=1e-3)
        assert facts["cameras"]["trajectory_error"] < 1e-3
        assert facts["cameras"]["camera_scale"] == pytest.approx(1.25, rel=1e-3)
        assert facts["cameras"]["depth_scale_error"] < 1e-3
        assert facts["known_depth"] == "geometry"
        assert facts["estimation"]["instance_phrases"]["2"] == "car"
    report = inputs.json("quality_report", "report.json")
    assert all(clip["passed"] for clip in report.values())
    assert report["left"]["cameras"] == summary["left"]["cameras"]
    record = made.record(scene, "depth_and_poses")
    assert (record.engine, record.licence) == ("vipe", "Apache-2.0 AND AGPL-3.0-only AND CC-BY-NC-4.0")
    with Image.open(io.BytesIO(inputs.path("depth_and_poses", "preview.webp").read_bytes())) as preview:
        assert preview.width > 400


def test_a_clip_that_cannot_be_taken_is_quarantined_at_once_and_another_preset_tries_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = copied_collection(tmp_path, engines=engines(tmp_path))
    scene = made.scene()
    monkeypatch.setenv("VIPE_STAND_IN_FAULT", "slam")
    [*_, event] = run_scene(made, scene)
    assert event.failure is not None
    assert event.failure.reason == Reason.INVALID_INPUT
    assert event.failure.message.startswith("oversize: clip left: ")
    assert event.quarantined
    # The first clip is not tried again; the second is given up, which may have been handed over meanwhile.
    assert calls(tmp_path, [f"{trajectory}.mp4" for trajectory in TRAJECTORIES])["left.mp4"] == 1
    [*_, again] = run_scene(made, scene)
    assert again.quarantined
    assert calls(tmp_path, [scene.scene_id]) == {}
    monkeypatch.delenv("VIPE_STAND_IN_FAULT")
    changed = copied_collection(tmp_path, engines=engines(tmp_path, preset="no_vda"))
    assert [event.failure for event in run_scene(changed, scene, TO_DEPTH)] == [None] * len(TO_DEPTH)


def test_a_program_that_is_not_there_stops_the_batch_and_quarantines_nothing(tmp_path: Path) -> None:
    from sceneloom.assets.scene_pipeline import BatchStopped

    made = copied_collection(tmp_path, engines=engines(tmp_path, command=["no-such-vipe"]))
    with pytest.raises(BatchStopped, match="no-such-vipe cannot be started"):
        run_scene(made, made.scene())
    assert made.runtime.store.failure(made.scene().scene_id, "depth_and_poses") is None


def test_what_decides_the_result_is_in_the_key_and_where_it_runs_is_not(tmp_path: Path) -> None:
    def key(**changes: Any) -> dict[str, Any]:
        return settings_in_key(VipeSettings.model_validate(vipe(tmp_path, **changes)))

    usual = key()
    places = {
        "environment": {"container": "vipe:1.1"},
        "device": "cuda:1",
        "variables": {"HF_HOME": "/models"},
        "scratch": "/var/tmp",
        "clip_timeout": 1.0,
        "start_timeout": 1.0,
        "frame_timeout": 1.0,
        "idle_time": 1.0,
        "memory_limit": 1.0,
    }
    for name, value in places.items():
        assert key(**{name: value}) == usual, name
    deciding = {
        "preset": "lyra",
        "mode": "driver",
        "command": ["vipe"],
        "minimum_field_of_view": 20.0,
        "finite_depth_fraction": 0.9,
    }
    for name, value in deciding.items():
        assert key(**{name: value}) != usual, name
    assert key(mode="driver", overrides=["a=1"]) != key(mode="driver")


@pytest.mark.parametrize(
    ("preset", "found"),
    [("wide_angle", "gives MEI cameras"), ("panorama", "gives PANORAMA cameras"), ("pose_only", "gives no depth")],
)
def test_presets_that_a_stage_cannot_use_are_refused_in_the_profile(preset: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a room\n")
    with pytest.raises(ConfigError, match=found) as refused:
        load_profile(write_profile(tmp_path, ["prompts.txt"], engines=engines(tmp_path, preset=preset)))
    assert "engines.depth_and_poses.preset" in str(refused.value)
    assert "Choose one of default, lyra" in str(refused.value)


def test_clips_of_generators_may_be_estimated_too(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a room\n")
    profile = load_profile(write_profile(tmp_path, ["prompts.txt"], engines=engines(tmp_path, preset="static_vda")))
    engine = SceneRuntime(profile).engines.depth_and_poses()
    assert engine.contract.needs == {"frames"}
    assert engine.contract.licence == "Apache-2.0 AND CC-BY-NC-4.0"

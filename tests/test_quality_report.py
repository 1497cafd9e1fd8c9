"""Stage quality_report: numbers and a verdict for every clip, and what follows from a verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneloom.assets import quality_report
from sceneloom.datasets.training_index import QUALITY_NUMBERS
from sceneloom.resources.profiles import load_profile

from .tiny import (
    FRAMES,
    TRAJECTORIES,
    codec_folder,
    copied_collection,
    made_collection,
    run_scene,
    write_profile,
    write_sources,
)

KINDS = pytest.mark.parametrize("kind", ["prompt", "image"])


@KINDS
def test_every_clip_is_measured_and_exact_clips_pass(kind: str) -> None:
    made = made_collection()
    report = quality_report.read_report(made.inputs(made.scene(kind)))
    assert set(report) == set(TRAJECTORIES)
    for clip in report.values():
        assert clip["passed"]
        assert clip["failures"] == []
        metrics = clip["metrics"]
        assert set(metrics) == {*QUALITY_NUMBERS, "frames"}
        assert metrics["frames"] == FRAMES
        assert metrics["depth_coverage"] == 1
        assert metrics["depth_invalid_values"] == 0
        assert metrics["duplicate_fraction"] == 0
        assert metrics["depth_error_median"] < 0.005
        assert metrics["photometric_error"] < 0.04
        assert metrics["covisibility"] > 0.5


@KINDS
def test_clearance_and_depth_are_those_of_the_clip(kind: str) -> None:
    made = made_collection()
    inputs = made.inputs(made.scene(kind))
    for trajectory, clip in quality_report.read_report(inputs).items():
        clearance = inputs.arrays("camera_paths", f"{trajectory}.npz")["clearance"]
        depth = inputs.arrays("depth_and_poses", f"{trajectory}.depth.npz")["depth"].astype(np.float32)
        assert clip["metrics"]["clearance"] == pytest.approx(float(clearance.min()))
        assert clip["metrics"]["depth_minimum"] == pytest.approx(float(depth.min()))
        assert clip["metrics"]["depth_maximum"] == pytest.approx(float(depth.max()))


def test_the_records_numbers_are_the_worst_of_the_clips() -> None:
    made = made_collection()
    scene = made.scene()
    report = quality_report.read_report(made.inputs(scene))
    metrics = made.record(scene, "quality_report").metrics
    numbers = {name: [clip["metrics"][name] for clip in report.values()] for name in QUALITY_NUMBERS}
    assert metrics["clips_passed"] == len(TRAJECTORIES)
    assert metrics["photometric_error"] == max(numbers["photometric_error"])
    assert metrics["photometric_psnr"] == min(numbers["photometric_psnr"])
    assert metrics["sharpness"] == min(numbers["sharpness"])


def test_a_clip_outside_a_limit_keeps_its_scene_out_of_shards(tmp_path: Path) -> None:
    report = quality_report.read_report(made_collection().inputs(made_collection().scene()))
    values = {trajectory: clip["metrics"]["sharpness"] for trajectory, clip in report.items()}
    limit = (min(values.values()) + max(values.values())) / 2
    blurred = min(values, key=lambda trajectory: values[trajectory])

    made = copied_collection(tmp_path / "copy", quality={"minimum_sharpness": limit})
    scene = made.scene()
    events = {event.stage: event for event in run_scene(made, scene)}
    assert events["video_latents"].outcome == "current"
    assert events["quality_report"].outcome == "made"
    failure = events["gaussian_shards"].failure
    assert failure is not None
    assert failure.reason == "quality_rejected"
    assert events["scene_preview"].outcome == "current", "people can look at what was rejected"
    for part in (scene.scene_id, blurred, f"sharpness {values[blurred]:.4g}", f"{limit:.4g}"):
        assert part in failure.message

    record = made.record(scene, "quality_report")
    verdicts = {each.array: each for each in record.contracts}
    assert not verdicts[blurred].passed
    assert "sharpness" in verdicts[blurred].found
    assert f"{limit:.4g}" in verdicts[blurred].expected
    published = json.loads(made.runtime.store.fetch(record, "report.json").read_text())
    assert [failed["metric"] for failed in published[blurred]["failures"]] == ["sharpness"]


def test_a_number_that_could_not_be_measured_is_null_and_counts_nowhere() -> None:
    report = {
        "left": {"passed": True, "metrics": dict.fromkeys(quality_report._WORST)},
        "right": {"passed": False, "metrics": dict.fromkeys(quality_report._WORST) | {"sharpness": 4.0}},
    }
    assert quality_report._worst(report) == {"clips_passed": 1, "sharpness": 4.0}


def test_limits_on_estimated_cameras_count_only_where_cameras_are_estimated(tmp_path: Path) -> None:
    scene = made_collection().scene()

    def settings_with(depth_and_poses: str, **quality: float) -> dict[str, Any]:
        chosen = {"latent_codec": {"path": str(codec_folder())}, "depth_and_poses": depth_and_poses}
        profile = load_profile(write_profile(tmp_path, write_sources(tmp_path), engines=chosen, quality=quality))
        return quality_report.settings(profile, scene)

    known, estimated = settings_with("ground_truth"), settings_with("classical")
    assert settings_with("ground_truth", maximum_trajectory_error=0.01) == known
    assert settings_with("classical", maximum_trajectory_error=0.01) != estimated
    assert settings_with("ground_truth", minimum_sharpness=0.01) != known
    assert "maximum_trajectory_error" not in known["quality"]
    assert {"maximum_trajectory_error", "minimum_camera_scale", *known["quality"]} <= set(estimated["quality"])
    verdicts = made_collection().record(scene, "quality_report").contracts
    assert {"trajectory_error" in verdict.expected for verdict in verdicts} == {False}

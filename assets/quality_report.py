"""Stage `quality_report`: numbers and a verdict for every clip."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ..datasets.catalog import SceneEntry
from ..datasets.video import read_video
from ..ops.quality import CameraMetrics, ClipMetrics, QualityThresholds, Verdict, judge, measure_clip
from ..resources.engines import EngineIdentity, Engines
from ..resources.profiles import Profile
from ..resources.records import ContractObservation
from . import camera_paths, depth_and_poses, video_latents
from .stage import Made, Stage, StageContext, StageInputs

NAME = "quality_report"
REPORT = "report.json"
VERDICT_CHECK = "clips_within_thresholds"


def make(context: StageContext) -> Made:
    """Write report.json: for every trajectory its metrics, verdict, and the limits that were not kept; where cameras
    were estimated also how far they are from the commanded ones."""
    made = Made()
    report: dict[str, Any] = {}
    summary = context.inputs.json(depth_and_poses.NAME, depth_and_poses.SUMMARY)
    for trajectory in context.profile.trajectories.names:
        metrics = _measure(context, trajectory)
        cameras = depth_and_poses.camera_metrics(summary[trajectory])
        verdict = judge(metrics, context.profile.quality, cameras)
        report[trajectory] = {
            "metrics": _finite(metrics.as_dict()),
            **({} if cameras is None else {"cameras": _finite(cameras.as_dict())}),
            "passed": verdict.passed,
            "failures": [dataclasses.asdict(failure) for failure in verdict.failures],
        }
        limits = _limits(context.profile.quality, cameras_estimated=cameras is not None)
        made.contracts.append(_observation(trajectory, verdict, limits))
    context.write_json(REPORT, report)
    made.metadata |= report
    made.metrics |= _worst(report)
    return made


def _finite(numbers: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _measure(context: StageContext, trajectory: str) -> ClipMetrics:
    cameras = depth_and_poses.read_cameras(context.inputs, trajectory)
    return measure_clip(
        read_video(context.inputs.path(video_latents.NAME, video_latents.video_name(trajectory))),
        depth_and_poses.read_depth(context.inputs, trajectory),
        cameras["aligned_c2w"],
        cameras["estimated_intrinsics"],
        clearance=context.inputs.arrays(camera_paths.NAME, camera_paths.cameras_name(trajectory))["clearance"],
        dynamic=depth_and_poses.read_dynamic(context.inputs, trajectory),
    )


def _limits(thresholds: QualityThresholds, *, cameras_estimated: bool) -> dict[str, float | None]:
    """The limits that clips are held to, by name: those on estimated cameras only where there are any."""
    of_cameras = {field.name for field in dataclasses.fields(CameraMetrics)}
    limits = thresholds.model_dump(mode="json")
    return {
        name: limit for name, limit in limits.items() if cameras_estimated or name.split("_", 1)[1] not in of_cameras
    }


def _observation(trajectory: str, verdict: Verdict, applied: Mapping[str, float | None]) -> ContractObservation:
    limits = ", ".join(f"{name} {limit:g}" for name, limit in applied.items() if limit is not None)
    broken = "; ".join(f"{failure.metric} is {failure.found:.4g}" for failure in verdict.failures)
    expected = "; ".join(f"{failure.rule} {failure.limit:.4g}" for failure in verdict.failures)
    return ContractObservation(
        contract=VERDICT_CHECK,
        array=trajectory,
        expected=expected or limits,
        found=broken or "within every limit",
        passed=verdict.passed,
    )


_WORST = {
    "photometric_error": max,
    "photometric_psnr": min,
    "depth_error_median": max,
    "covisibility": min,
    "sharpness": min,
    "clearance": min,
    "depth_coverage": min,
    "trajectory_error": max,
    "camera_rotation_error": max,
    "focal_error": max,
    "depth_scale_error": max,
}


def _worst(report: dict[str, Any]) -> dict[str, float | int]:
    """The worst clip's number for what plots over scenes, and how many clips passed."""
    worst: dict[str, float | int] = {"clips_passed": sum(clip["passed"] for clip in report.values())}
    for name, choose in _WORST.items():
        numbers = [{**clip["metrics"], **clip.get("cameras", {})} for clip in report.values()]
        values = [clip[name] for clip in numbers if clip.get(name) is not None]
        if values:
            worst[name] = choose(values)
    return worst


def read_report(inputs: StageInputs) -> dict[str, Any]:
    """The published report, by trajectory."""
    return inputs.json(NAME, REPORT)


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Trajectories and the thresholds that apply."""
    limits = _limits(profile.quality, cameras_estimated=depth_and_poses.estimates_cameras(profile))
    return {"trajectories": list(profile.trajectories.names), "quality": limits}


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The metrics themselves; no engine is chosen."""
    return EngineIdentity("metrics", "Apache-2.0")


STAGE = Stage(
    name=NAME,
    inputs=(video_latents.NAME, depth_and_poses.NAME, camera_paths.NAME),
    code_version="1",
    description="For every clip: reprojection error between frames in colour and depth, coverage, sharpness, exposure, "
    "frozen frames, flicker and camera clearance, held to the profile's thresholds. Pixels of moving objects enter no "
    "comparison between frames.",
    kinds=frozenset({"json"}),
    make=make,
    settings=settings,
    engine=engine,
    checks={VERDICT_CHECK: "Every clip keeps the profile's quality thresholds; a clip that does not enters no shard."},
)

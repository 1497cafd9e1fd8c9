"""Stage `gaussian_shards`: what a 3D Gaussian decoder trains on, packed for training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..datasets.catalog import SceneEntry
from ..datasets.picture_runs import load_runs
from ..datasets.shards import ClipArrays, write_shard
from ..resources.engines import EngineIdentity, Engines
from ..resources.failures import Reason, StageFailed
from ..resources.profiles import Profile
from . import depth_and_poses, quality_report, video_latents
from .stage import Made, Stage, StageContext

NAME = "gaussian_shards"
SHARD = "shard.zarr"


def make(context: StageContext) -> Made:
    """Write shard.zarr with every trajectory's latents, depth, cameras and video, and with masks of what moves where
    they are known; refuse a scene with a failed clip."""
    report = quality_report.read_report(context.inputs)
    _require_passed(report, context.scene.scene_id)
    summary = write_shard(
        context.scratch / SHARD,
        _clips(context, report),
        latent_space=context.inputs.json(video_latents.NAME, video_latents.latent_space_name()),
        depth_tier=context.profile.shards.depth,
        minimum_psnr=context.profile.shards.minimum_psnr,
    )
    return Made(
        metrics={
            "clips": summary.clips,
            "depth_relative_error": summary.depth_relative_error,
            # Frames of one colour come back exactly; a record holds finite numbers.
            "rgb_psnr": min(summary.rgb_psnr, 99.0),
        },
        metadata={"clips": _index_rows(context, report)},
    )


def _require_passed(report: dict[str, Any], scene_id: str) -> None:
    failed = {
        trajectory: ", ".join(
            f"{failure['metric']} {failure['found']:.4g} ({failure['rule']} {failure['limit']:.4g})"
            for failure in clip["failures"]
        )
        for trajectory, clip in report.items()
        if not clip["passed"]
    }
    if failed:
        listed = "; ".join(f"{trajectory}: {broken}" for trajectory, broken in failed.items())
        raise StageFailed(
            Reason.QUALITY_REJECTED,
            f"{scene_id}: {len(failed)} of {len(report)} clips are outside the profile's quality thresholds: {listed}. "
            "A training scene needs all its clips; change the scene, or the thresholds under `quality`.",
        )


def _index_rows(context: StageContext, report: dict[str, Any]) -> list[dict[str, Any]]:
    """What the training index says of each clip, in the order of the shard."""
    frames = context.profile.frames
    cameras = context.inputs.json(depth_and_poses.NAME, depth_and_poses.SUMMARY)
    latent_space = context.inputs.json(video_latents.NAME, video_latents.latent_space_name())
    return [
        {
            "trajectory": trajectory,
            "frames": frames.count,
            "height": frames.height,
            "width": frames.width,
            "fps": float(frames.frames_per_second),
            "latent_space": latent_space["id"],
            "metric": cameras[trajectory]["metric"],
            "engine": context.inputs.records[video_latents.NAME].engine,
            "passed": report[trajectory]["passed"],
            "failures": [failure["metric"] for failure in report[trajectory]["failures"]],
            **{f"quality_{name}": value for name, value in report[trajectory]["metrics"].items() if name != "frames"},
        }
        for trajectory in context.profile.trajectories.names
    ]


def _clips(context: StageContext, report: dict[str, Any]) -> Iterator[ClipArrays]:
    summary = context.inputs.json(depth_and_poses.NAME, depth_and_poses.SUMMARY)
    for trajectory in context.profile.trajectories.names:
        cameras = depth_and_poses.read_cameras(context.inputs, trajectory)
        facts = summary[trajectory]
        yield ClipArrays(
            scene_id=context.scene.scene_id,
            trajectory=trajectory,
            latents=video_latents.read_latents(context.inputs, trajectory),
            depth=depth_and_poses.read_depth(context.inputs, trajectory),
            rgb=load_runs(context.inputs.path(video_latents.NAME, video_latents.pictures_name(trajectory))),
            c2w=cameras["commanded_c2w"],
            intrinsics=cameras["commanded_intrinsics"],
            metric=facts["metric"],
            quality={name: np.nan if value is None else value for name, value in report[trajectory]["metrics"].items()},
            estimated_c2w=cameras["estimated_c2w"],
            estimated_intrinsics=cameras["estimated_intrinsics"],
            dynamic_mask=depth_and_poses.read_dynamic(context.inputs, trajectory),
            metadata={
                "prompt": context.scene.prompt,
                "licence": context.scene.licence,
                "split": context.scene.split,
                "frames_per_second": context.profile.frames.frames_per_second,
                "alignment": facts["similarity"],
                **{name: facts[name] for name in ("dynamic_from",) if name in facts},
            },
        )


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Trajectories, tier of depth, and what of the catalogue's row is written into the shard. The PSNR of frames is in
    the key of video_latents, which codes them."""
    return {
        "trajectories": list(profile.trajectories.names),
        "depth": profile.shards.depth,
        "frames_per_second": profile.frames.frames_per_second,
        "split": scene.split,
        "licence": scene.licence,
    }


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The shard writer; no engine is chosen."""
    return EngineIdentity("zarr", "Apache-2.0")


STAGE = Stage(
    name=NAME,
    inputs=(video_latents.NAME, depth_and_poses.NAME, quality_report.NAME),
    code_version="4",
    description="A Zarr v3 shard with every clip's latents, z-depth, cameras and video, checksummed and "
    "self-describing. Made only when every clip of the scene passed the quality report.",
    kinds=frozenset({"zarr"}),
    make=make,
    settings=settings,
    engine=engine,
)

"""Stage `scene_preview`: the scene as a Rerun recording, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..datasets.catalog import SceneEntry
from ..datasets.video import read_video
from ..resources.engines import EngineIdentity, Engines
from ..resources.profiles import Profile
from . import depth_and_poses, scene_scaffold, video_latents
from .rerun_preview import PreviewClip, write_recording
from .stage import Made, Stage, StageContext, StageInputs

NAME = "scene_preview"
RECORDING = "scene.rrd"


def make(context: StageContext) -> Made:
    """Write scene.rrd with the cameras, frames, depth, points and objects of every trajectory."""
    path = context.scratch / RECORDING
    write_recording(
        path,
        scene_id=context.scene.scene_id,
        clips=_clips(context.inputs, context.profile.trajectories.names),
        frames_per_second=context.profile.frames.frames_per_second,
        scene=scene_scaffold.read_scaffold(context.inputs).geometry,
    )
    return Made(
        metrics={"recording_bytes": path.stat().st_size},
        metadata={"open": f"sceneloom view {context.scene.scene_id}"},
    )


def _clips(inputs: StageInputs, trajectories: tuple[str, ...]) -> Iterator[PreviewClip]:
    for trajectory in trajectories:
        cameras = depth_and_poses.read_cameras(inputs, trajectory)
        yield PreviewClip(
            name=trajectory,
            rgb=read_video(inputs.path(video_latents.NAME, video_latents.video_name(trajectory))),
            depth=depth_and_poses.read_depth(inputs, trajectory),
            c2w=cameras["commanded_c2w"],
            intrinsics=cameras["commanded_intrinsics"],
        )


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Trajectories and frame rate."""
    return {
        "trajectories": list(profile.trajectories.names),
        "frames_per_second": profile.frames.frames_per_second,
    }


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """Rerun's writer; no engine is chosen."""
    return EngineIdentity("rerun", "Apache-2.0")


STAGE = Stage(
    name=NAME,
    inputs=(video_latents.NAME, depth_and_poses.NAME, scene_scaffold.NAME, "conditioning_view"),
    code_version="1",
    description="A Rerun recording of the scene: cameras that move, what they see, depth, point clouds and objects. "
    "`sceneloom view SCENE` opens it.",
    kinds=frozenset({"rerun"}),
    make=make,
    settings=settings,
    engine=engine,
)

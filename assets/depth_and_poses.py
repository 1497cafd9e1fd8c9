"""Stage `depth_and_poses`: depth of every frame, and the estimated cameras beside the commanded ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..datasets.tensors import C2W, DEPTH, ESTIMATED_C2W, ESTIMATED_INTRINSICS, FLOAT16_RELATIVE_ERROR
from ..ops.alignment import align_cameras, relative_pose_error
from ..resources.engines import EngineIdentity, Engines, identity_of
from ..resources.profiles import Profile
from . import camera_paths, scene_scaffold
from .observations import observe
from .pictures_of_arrays import depth_picture, write_preview
from .stage import Made, Stage, StageContext, StageInputs

NAME = "depth_and_poses"
SUMMARY = "cameras.json"


def depth_name(trajectory: str) -> str:
    """File name of a trajectory's depth."""
    return f"{trajectory}.depth.npz"


def cameras_name(trajectory: str) -> str:
    """File name of a trajectory's commanded and estimated cameras."""
    return f"{trajectory}.cameras.npz"


def make(context: StageContext) -> Made:
    """Write <trajectory>.depth.npz, <trajectory>.cameras.npz for every trajectory, and cameras.json.

    Estimated cameras are aligned to the commanded ones by a similarity; depth is multiplied by the same scale, so that
    depth and commanded cameras share one unit.
    """
    frames = context.profile.frames
    sizes = {"T": frames.count, "H": frames.height, "W": frames.width}
    scaffold = scene_scaffold.read_scaffold(context.inputs)
    scene = context.engines.depth_and_poses().open_scene(scaffold)
    made = Made()
    summary: dict[str, Any] = {}
    last_frames = []
    for trajectory in context.profile.trajectories.names:
        cameras = camera_paths.read_cameras(context.inputs, trajectory, height=frames.height, width=frames.width)
        commanded = np.stack([camera.c2w for camera in cameras])
        intrinsics = np.stack([camera.intrinsics for camera in cameras])
        found = scene.estimate(cameras)
        similarity = align_cameras(found.c2w, commanded)
        aligned = similarity.apply(found.c2w)
        depth = _scaled_depth(found.depth, similarity.scale, (frames.count, frames.height, frames.width))
        observe(made, DEPTH, trajectory, depth, **sizes)
        observe(made, C2W, f"{trajectory} commanded", commanded, T=frames.count)
        observe(made, ESTIMATED_C2W, trajectory, found.c2w, T=frames.count)
        observe(made, ESTIMATED_INTRINSICS, trajectory, found.intrinsics, T=frames.count)
        np.savez_compressed(context.scratch / depth_name(trajectory), depth=depth)
        np.savez(
            context.scratch / cameras_name(trajectory),
            commanded_c2w=commanded,
            commanded_intrinsics=intrinsics,
            estimated_c2w=found.c2w,
            estimated_intrinsics=found.intrinsics,
            aligned_c2w=aligned,
        )
        relative = relative_pose_error(aligned, commanded)
        summary[trajectory] = {
            "metric": found.metric,
            "unit": "metre" if found.metric else "arbitrary",
            "similarity": {
                "scale": similarity.scale,
                "scale_determined": similarity.scale_determined,
                "rotation": similarity.rotation.tolist(),
                "rotation_from": similarity.rotation_from,
                "translation": similarity.translation.tolist(),
            },
            "absolute_trajectory_error": similarity.position_rmse,
            "rotation_error_degrees": similarity.rotation_rmse_degrees,
            "relative_translation_error": relative.translation_rmse,
            "relative_rotation_error_degrees": relative.rotation_rmse_degrees,
            "focal_error": float(np.abs(found.intrinsics[:, :2] / intrinsics[:, :2] - 1).max()),
            "depth_valid_fraction": float(np.mean([(frame > 0).mean() for frame in depth])),
            "depth_relative_error_bound": FLOAT16_RELATIVE_ERROR,
        }
        last_frames.append(depth_picture(depth[-1].astype(np.float32)))
    context.write_json(SUMMARY, summary)
    made.metadata |= summary
    made.metrics |= {
        "clips": len(summary),
        "absolute_trajectory_error": max(clip["absolute_trajectory_error"] for clip in summary.values()),
        "depth_valid_fraction": min(clip["depth_valid_fraction"] for clip in summary.values()),
    }
    write_preview(context.scratch, np.concatenate(last_frames, axis=1))
    return made


def _scaled_depth(frames: Any, scale: float, shape: tuple[int, int, int]) -> NDArray[np.float16]:
    """Depth frames times `scale`, as (T, H, W) float16: the only copy of the clip's depth in memory."""
    depth = np.zeros(shape, np.float16)
    for index, frame in enumerate(frames):
        depth[index] = frame * np.float32(scale)
    return depth


def read_depth(inputs: StageInputs, trajectory: str) -> NDArray[np.float16]:
    """The published depth of a trajectory, (T, H, W) float16 in the unit of the commanded cameras."""
    return inputs.arrays(NAME, depth_name(trajectory))["depth"]


def read_cameras(inputs: StageInputs, trajectory: str) -> dict[str, NDArray[np.float32]]:
    """The published cameras: commanded_c2w, commanded_intrinsics, estimated_c2w, estimated_intrinsics, aligned_c2w."""
    return inputs.arrays(NAME, cameras_name(trajectory))


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Size, trajectories and engine settings."""
    return {
        "frames": profile.frames.model_dump(mode="json", exclude={"frames_per_second"}),
        "trajectories": list(profile.trajectories.names),
        "engine": profile.engines.depth_and_poses.model_dump(mode="json"),
    }


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The depth and poses engine's identity."""
    return identity_of(engines.depth_and_poses().contract)


STAGE = Stage(
    name=NAME,
    inputs=(scene_scaffold.NAME, camera_paths.NAME, "conditioning_view", "video_latents"),
    code_version="1",
    description="Z-depth of every frame and the cameras: commanded and estimated, the similarity that aligns them and "
    "what is left over. On the embedded tier both are the truth.",
    kinds=frozenset({"numpy"}),
    make=make,
    settings=settings,
    engine=engine,
    sources=("resources/embedded_engines.py:GroundTruthDepthAndPoses",),
    checks={
        "depth": "Depth is finite float16 z-depth, 0 where invalid.",
        "c2w": "Commanded poses are rigid, in OpenCV axes.",
        "estimated_c2w": "Estimated poses are rigid, in OpenCV axes.",
        "estimated_intrinsics": "Estimated intrinsics are finite, in pixels.",
    },
)

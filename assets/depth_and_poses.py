"""Stage `depth_and_poses`: depth of every frame, and the estimated cameras beside the commanded ones."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..datasets.tensors import (
    C2W,
    DEPTH,
    DYNAMIC_MASK,
    ESTIMATED_C2W,
    ESTIMATED_INTRINSICS,
    FLOAT16_RELATIVE_ERROR,
    OBJECT_POSES,
)
from ..datasets.video import iter_video
from ..ops.alignment import Similarity, align_cameras, relative_pose_error, with_scale
from ..ops.contact_sheet import contact_sheet
from ..ops.quality import CameraMetrics
from ..resources.engines import (
    ClipGeometry,
    ClipsEstimator,
    ClipToEstimate,
    EngineIdentity,
    Engines,
    MovingObjects,
    Scaffold,
    SceneEstimator,
    View,
    engine_identity,
    settings_in_key,
)
from ..resources.failures import StageFailed
from ..resources.profiles import ClassicalPosesSettings, Profile
from ..resources.worker_engine_settings import VggtSettings
from ..resources.worker_settings import VipeSettings
from . import camera_paths, conditioning_view, scene_scaffold, video_latents
from .dynamic_masks import DYNAMIC_SOURCES, DynamicMasks, DynamicSource
from .estimated_cameras import KnownDepth, check_depth, describe, metrics_of, rows
from .event_metadata import PREVIEW_NAME
from .observations import observe
from .pictures_of_arrays import PREVIEW_FRAMES, depth_picture, spread
from .stage import Made, Stage, StageContext, StageInputs

NAME = "depth_and_poses"
SUMMARY = "cameras.json"
_FARTHEST = float(np.finfo(np.float16).max)


def depth_name(trajectory: str) -> str:
    """File name of a trajectory's depth."""
    return f"{trajectory}.depth.npz"


def cameras_name(trajectory: str) -> str:
    """File name of a trajectory's commanded and estimated cameras."""
    return f"{trajectory}.cameras.npz"


def estimation_name(trajectory: str) -> str:
    """File name of the further arrays of a trajectory that its engine gives, such as instance masks."""
    return f"{trajectory}.estimation.npz"


def object_poses_name(trajectory: str) -> str:
    """File name of the poses of a trajectory's objects, frame by frame; only where objects move and these are known."""
    return f"{trajectory}.object_poses.npz"


def dynamic_name(trajectory: str) -> str:
    """File name of the mask of what moves in a trajectory's frames; only where objects move."""
    return f"{trajectory}.dynamic.npz"


def make(context: StageContext) -> Made:
    """Write <trajectory>.depth.npz, <trajectory>.cameras.npz for every trajectory, and cameras.json.

    Where objects move: also <trajectory>.dynamic.npz, whose `dynamic_from` in cameras.json says what it rests on, and
    <trajectory>.object_poses.npz (instance_ids, moving, poses) where their poses are known. Where the engine gives more
    that is worth keeping: <trajectory>.estimation.npz and its own files, such as <trajectory>.vipe.log.
    Estimated cameras are aligned to the commanded ones by a similarity; depth is multiplied by the same scale, so that
    depth and commanded cameras share one unit. Where the cameras tell no scale, as when they only turn, depth does, by
    what the commanded cameras should see; else depth is only held against that.
    """
    frames = context.profile.frames
    scaffold = scene_scaffold.read_scaffold(context.inputs)
    view = scene_scaffold.read_view(context.inputs, scaffold)
    clips = [
        ClipToEstimate(
            name,
            context.inputs.path(video_latents.NAME, video_latents.video_name(name)),
            camera_paths.read_cameras(context.inputs, name, height=frames.height, width=frames.width),
        )
        for name in context.profile.trajectories.names
    ]
    device = getattr(context.profile.engines.video_latents, "device", "cpu")
    masks = DynamicMasks(scaffold, view, device)
    known: KnownDepth | None = None
    made = Made()
    summary: dict[str, Any] = {}
    shown: dict[str, list[NDArray[np.uint8]]] = {}
    with _estimates(context, clips, scaffold, view) as estimate:
        for clip in clips:
            found = estimate(clip)
            if found.notes.get("estimated_poses") and known is None:
                known = KnownDepth(scaffold, view, device)
            facts, picture = _write_clip(context, made, clip, found, known, masks, metric_commands=scaffold.metric)
            summary[clip.name] = facts
            shown |= picture
    context.write_json(SUMMARY, summary)
    (context.scratch / PREVIEW_NAME).write_bytes(contact_sheet(shown))
    made.metadata |= summary
    made.metrics |= {
        "clips": len(summary),
        "absolute_trajectory_error": max(clip["absolute_trajectory_error"] for clip in summary.values()),
        "depth_valid_fraction": min(clip["depth_valid_fraction"] for clip in summary.values()),
    }
    return made


@contextlib.contextmanager
def _estimates(
    context: StageContext, clips: Sequence[ClipToEstimate], scaffold: Scaffold, view: View
) -> Iterator[Callable[[ClipToEstimate], ClipGeometry]]:
    """Gives the estimate of each clip: of all at once where the engine takes them so, else one by one."""
    scene = context.engines.depth_and_poses().open_scene(scaffold, view)
    if not isinstance(scene, ClipsEstimator):
        yield functools.partial(_estimate, scene)
        return
    with tempfile.TemporaryDirectory(prefix=".estimates-", dir=context.scratch) as folder:
        found = scene.estimate_clips(clips, Path(folder))
        yield lambda clip: found[clip.name]


def _estimate(scene: SceneEstimator, clip: ClipToEstimate) -> ClipGeometry:
    """The estimate of one clip, whose name a failure says."""
    try:
        return scene.estimate(clip.commanded, functools.partial(iter_video, clip.video))
    except StageFailed as error:
        raise StageFailed(error.reason, f"clip {clip.name}: {error}", again=error.again, log=error.log) from error


def _write_clip(
    context: StageContext,
    made: Made,
    clip: ClipToEstimate,
    found: ClipGeometry,
    known: KnownDepth | None,
    masks: DynamicMasks,
    *,
    metric_commands: bool,
) -> tuple[dict[str, Any], dict[str, list[NDArray[np.uint8]]]]:
    """Write a clip's files; returns its summary and its row of the contact sheet."""
    trajectory = clip.name
    commanded = np.stack([camera.c2w for camera in clip.commanded])
    intrinsics = np.stack([camera.intrinsics for camera in clip.commanded])
    similarity = align_cameras(found.c2w, commanded)
    frames = context.profile.frames
    depth = _scaled_depth(found.depth, similarity.scale, (frames.count, frames.height, frames.width))
    check = None if known is None else check_depth(depth, clip.commanded, known)
    roundings = 1
    if check is not None and check.alignment is not None and not similarity.scale_determined:
        roundings = 2
        similarity = with_scale(similarity, found.c2w, commanded, check.alignment.scale)
        depth = _scaled_depth(depth, check.alignment.scale, depth.shape)
    aligned = similarity.apply(found.c2w)
    _observe(made, trajectory, depth, commanded, found)
    np.savez_compressed(context.scratch / depth_name(trajectory), depth=depth)
    np.savez(
        context.scratch / cameras_name(trajectory),
        commanded_c2w=commanded,
        commanded_intrinsics=intrinsics,
        estimated_c2w=found.c2w,
        estimated_intrinsics=found.intrinsics,
        aligned_c2w=aligned,
    )
    facts = {
        **_agreement(found, similarity, aligned, commanded, intrinsics),
        "depth_relative_error_bound": roundings * FLOAT16_RELATIVE_ERROR,
        "depth_valid_fraction": float(np.mean([(frame > 0).mean() for frame in depth])),
    }
    if found.notes:
        facts["estimation"] = dict(found.notes)
    moving = masks.of(found, clip.commanded)
    if moving is not None:
        facts |= _write_moving_objects(context, made, trajectory, *moving)
    _write_kept(context, trajectory, found)
    if check is None:
        return facts, {trajectory: [_grey(depth[index]) for index in spread(frames.count, PREVIEW_FRAMES)]}
    facts |= describe(
        found,
        similarity,
        aligned,
        clip.commanded,
        median_depth=_median_depth(depth[check.frames]),
        metric_commands=metric_commands,
        check=None if found.notes.get("depth_scaled_to_cameras") else check,
    )
    return facts, rows(trajectory, depth, check, similarity, aligned, commanded)


def _median_depth(depth: NDArray[np.float16]) -> float:
    valid = depth[depth > 0]
    return float(np.median(valid.astype(np.float32))) if valid.size else 0.0


def _write_kept(context: StageContext, trajectory: str, found: ClipGeometry) -> None:
    """Write what else the engine gives of a clip."""
    if found.kept:
        arrays: dict[str, Any] = dict(found.kept)
        np.savez_compressed(context.scratch / estimation_name(trajectory), **arrays)
    for end, file in found.files.items():
        shutil.copyfile(file, context.scratch / f"{trajectory}.{end}")


def _write_moving_objects(
    context: StageContext, made: Made, trajectory: str, moving: MovingObjects, source: DynamicSource
) -> dict[str, Any]:
    """Write a clip's dynamic mask, and its object poses where they are known; returns what its summary says of them."""
    count, height, width = moving.pixels.shape
    observe(made, DYNAMIC_MASK, trajectory, moving.pixels, T=count, H=height, W=width)
    np.savez_compressed(context.scratch / dynamic_name(trajectory), dynamic=moving.pixels)
    summary: dict[str, Any] = {"dynamic_fraction": float(moving.pixels.mean()), "dynamic_from": source}
    poses = moving.poses
    if poses is None:
        return summary
    observe(made, OBJECT_POSES, trajectory, poses.poses, T=count, K=len(poses.instance_ids))
    np.savez(
        context.scratch / object_poses_name(trajectory),
        instance_ids=poses.instance_ids,
        moving=poses.moving,
        poses=poses.poses,
    )
    return {"moving_objects": poses.instance_ids[poses.moving].tolist(), **summary}


def _observe(
    made: Made, trajectory: str, depth: NDArray[np.float16], commanded: NDArray[np.float32], found: ClipGeometry
) -> None:
    """Hold a clip's arrays to their contracts."""
    count, height, width = depth.shape
    observe(made, DEPTH, trajectory, depth, T=count, H=height, W=width)
    observe(made, C2W, f"{trajectory} commanded", commanded, T=count)
    observe(made, ESTIMATED_C2W, trajectory, found.c2w, T=count)
    observe(made, ESTIMATED_INTRINSICS, trajectory, found.intrinsics, T=count)


def _agreement(
    found: ClipGeometry,
    similarity: Similarity,
    aligned: NDArray[np.float32],
    commanded: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
) -> dict[str, Any]:
    """How the estimated cameras of a clip are aligned to the commanded ones, and what is left over."""
    relative = relative_pose_error(aligned, commanded)
    return {
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
    }


def _grey(depth: NDArray[np.float16]) -> NDArray[np.uint8]:
    """A frame's depth as an (H, W, 3) picture."""
    return np.repeat(depth_picture(depth.astype(np.float32))[..., None], 3, axis=2)


def _scaled_depth(
    frames: Iterable[NDArray[np.floating]], scale: float, shape: tuple[int, int, int]
) -> NDArray[np.float16]:
    """Depth frames times `scale`, as (T, H, W) float16: the only copy of the clip's depth in memory.

    What float16 cannot hold, as an estimator's sky, is marked invalid.
    """
    depth = np.zeros(shape, np.float16)
    for index, frame in enumerate(frames):
        scaled = frame.astype(np.float32, copy=False) * np.float32(scale)
        depth[index] = np.where(scaled <= _FARTHEST, scaled, 0)
    return depth


def estimates_cameras(profile: Profile) -> bool:
    """Whether the cameras of clips are estimated, and so can differ from the commanded ones."""
    return isinstance(profile.engines.depth_and_poses, VipeSettings | VggtSettings | ClassicalPosesSettings)


def camera_metrics(summary: dict[str, Any]) -> CameraMetrics | None:
    """How far the estimated cameras of a clip are from the commanded ones, from its part of cameras.json; None where
    they are the commanded ones."""
    return metrics_of(summary)


def read_depth(inputs: StageInputs, trajectory: str) -> NDArray[np.float16]:
    """The published depth of a trajectory, (T, H, W) float16 in the unit of the commanded cameras."""
    return inputs.arrays(NAME, depth_name(trajectory))["depth"]


def read_cameras(inputs: StageInputs, trajectory: str) -> dict[str, NDArray[np.float32]]:
    """The published cameras: commanded_c2w, commanded_intrinsics, estimated_c2w, estimated_intrinsics, aligned_c2w."""
    return inputs.arrays(NAME, cameras_name(trajectory))


def read_dynamic(inputs: StageInputs, trajectory: str) -> NDArray[np.bool_] | None:
    """Where a moving object is seen in a trajectory's frames, (T, H, W) bool; None where nothing moves."""
    name = dynamic_name(trajectory)
    return inputs.arrays(NAME, name)["dynamic"] if name in inputs.names(NAME) else None


def dynamic_from(inputs: StageInputs) -> DynamicSource | None:
    """What the scene's dynamic masks rest on; None where there are none."""
    found = {clip.get("dynamic_from") for clip in inputs.records[NAME].metadata.values()} - {None}
    return min(found, key=DYNAMIC_SOURCES.index, default=None)


def read_object_poses(inputs: StageInputs, trajectory: str) -> dict[str, NDArray[Any]] | None:
    """Where the objects are: instance_ids (K,) int32, moving (K,) bool and poses (T, K, 4, 4) float32 rigid
    world-from-object; None where nothing moves."""
    name = object_poses_name(trajectory)
    return inputs.arrays(NAME, name) if name in inputs.names(NAME) else None


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Size, trajectories and engine settings; of warped clips also those that they are warped with."""
    engines = profile.engines
    cache = {"cache": settings_in_key(engines.video_latents)} if engines.depth_and_poses.engine == "warped" else {}
    return {
        "frames": profile.frames.model_dump(mode="json", exclude={"frames_per_second"}),
        "trajectories": list(profile.trajectories.names),
        "engine": settings_in_key(profile.engines.depth_and_poses),
        **cache,
    }


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The depth and poses engine's identity."""
    return engine_identity(engines.depth_and_poses())


STAGE = Stage(
    name=NAME,
    inputs=(scene_scaffold.NAME, camera_paths.NAME, conditioning_view.NAME, video_latents.NAME),
    code_version="3",
    description="Z-depth of every frame and the cameras: commanded and estimated, the similarity that aligns them and "
    "what is left over. Of rendered clips both may be the truth; an engine may estimate depth frame by frame and take "
    "the cameras for the commanded ones, or estimate both from the frames alone.",
    kinds=frozenset({"numpy"}),
    make=make,
    settings=settings,
    engine=engine,
    sources=(
        "resources/embedded_engines.py:GroundTruthDepthAndPoses",
        "resources/frame_depth.py:FrameDepth",
        "resources/warped_video.py:WarpedDepthAndPoses",
        "resources/gaussian_video.py:RenderedDepthAndPoses",
        "resources/vipe_engine.py:VipeDepthAndPoses",
        "resources/vipe_results.py:VipeResult",
        "resources/classical_engine.py:ClassicalDepthAndPoses",
        "resources/vggt.py:VggtDepthAndPoses",
    ),
    checks={
        "depth": "Depth is finite float16 z-depth, 0 where invalid.",
        "c2w": "Commanded poses are rigid, in OpenCV axes.",
        "estimated_c2w": "Estimated poses are rigid, in OpenCV axes.",
        "estimated_intrinsics": "Estimated intrinsics are finite, in pixels.",
        "dynamic_mask": "Where objects move, the mask of their pixels has the depth's shape.",
        "object_poses": "Where objects move, poses of all objects are rigid at every frame.",
    },
)

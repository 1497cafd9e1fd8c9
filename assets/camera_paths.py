"""Stage `camera_paths`: the trajectories of a scene, scaled to its depth and kept clear of its surfaces."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.camera_files import read_cameras as read_camera_file
from ..datasets.catalog import SceneEntry
from ..datasets.errors import ConfigError
from ..datasets.tensors import C2W, INTRINSICS
from ..ops.clearance import FittedPath, fit_path
from ..ops.depth_surface import depth_surface
from ..ops.object_motion import swept_scene
from ..ops.raycast import RayCaster
from ..ops.scene_model import SceneModel
from ..ops.trajectories import (
    CameraPath,
    TrajectoryContext,
    build_path,
    path_from_cameras,
    scene_radius,
    scene_scale,
)
from ..resources.engines import Camera, EngineIdentity, Engines, Scaffold
from ..resources.profiles import CameraFile, Profile
from . import scene_scaffold
from .observations import observe
from .stage import Made, Stage, StageContext, StageInputs

NAME = "camera_paths"
SUMMARY = "paths.json"


def cameras_name(trajectory: str) -> str:
    """File name of a trajectory's cameras."""
    return f"{trajectory}.npz"


def make(context: StageContext) -> Made:
    """Write <trajectory>.npz (c2w, intrinsics, clearance) for every trajectory, and paths.json.

    Where objects move, cameras keep clear of all places that these pass, at whatever time. Where the scaffold is depth
    alone, they keep clear of the surface that the view shows; what it does not show counts as free. Of a video, a path
    is laid on top of the input camera's pose of the same frame, as Lyra composes them.
    """
    profile = context.profile
    scaffold = scene_scaffold.read_scaffold(context.inputs)
    caster = RayCaster(_surfaces(scaffold))
    input_c2w = scene_scaffold.read_clip_cameras(context.inputs, scaffold)
    made = Made()
    summary: dict[str, Any] = {}
    for trajectory in profile.trajectories.names:
        fitted = fit_path(
            _build(trajectory, scaffold, context),
            distance_to_surface=caster.closest_distance,
            visible=lambda origins, directions, reach: caster.cast(origins, directions, reach).distance,
            minimum_clearance=profile.trajectories.minimum_clearance,
        )
        intrinsics = np.repeat(scaffold.intrinsics[None].astype(np.float32), profile.frames.count, axis=0)
        c2w = fitted.path.c2w if not len(input_c2w) else on_top_of(input_c2w, fitted.path.c2w)
        observe(made, C2W, trajectory, c2w, T=profile.frames.count)
        observe(made, INTRINSICS, trajectory, intrinsics, T=profile.frames.count)
        np.savez(
            context.scratch / cameras_name(trajectory),
            c2w=c2w,
            intrinsics=intrinsics,
            clearance=fitted.clearance,
        )
        summary[trajectory] = _summary(fitted)
    context.write_json(SUMMARY, summary)
    made.metadata |= summary
    made.metrics |= {
        "trajectories": len(summary),
        "shortened": sum(path["factor"] < 1 for path in summary.values()),
        "smallest_factor": min(path["factor"] for path in summary.values()),
        "smallest_clearance": min(path["smallest_clearance"] for path in summary.values()),
    }
    return made


def on_top_of(input_c2w: NDArray[np.float32], path: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, 4, 4) float32 poses of a path that starts from the input camera of every frame: of a still input camera the
    path itself.

    Lyra composes them as world-to-camera Lᵢ·W₀ᵢ (cosmos_predict1's gen3c_dynamic_sdg.py); both are given here as
    camera-to-world, (T, 4, 4) float32.
    """
    still = (input_c2w == np.eye(4, dtype=np.float32)).all()
    return path if still else (input_c2w.astype(np.float64) @ path.astype(np.float64)).astype(np.float32)


def _surfaces(scaffold: Scaffold) -> SceneModel:
    """What the cameras must not come near."""
    if scaffold.clip is not None:
        # Paths are told from the input camera of the same frame: whatever comes nearest to that in the whole clip.
        depth = np.where(scaffold.clip.depth > 0, scaffold.clip.depth, np.float16(np.inf)).min(axis=0)
        nearest = np.where(np.isfinite(depth), depth, 0).astype(np.float32)
        return depth_surface(nearest, scaffold.intrinsics, metric=scaffold.metric)
    if scaffold.geometry is None:
        return depth_surface(scaffold.depth, scaffold.intrinsics, metric=scaffold.metric)
    return swept_scene(scaffold.geometry, scaffold.motions)


def _build(trajectory: str, scaffold: Scaffold, context: StageContext) -> CameraPath:
    chosen = context.profile.trajectories
    file = chosen.files.get(trajectory)
    frames = context.profile.frames
    if file is not None:
        sequence = read_camera_file(Path(file.path))
        return path_from_cameras(
            sequence.c2w,
            name=trajectory,
            source=file.path,
            frames=frames.count,
            times=sequence.times,
            scale=file.metres_per_unit,
        )
    return build_path(
        trajectory,
        TrajectoryContext(
            frames=frames.count,
            centre_depth=scene_scaffold.centre_depth(scaffold.depth),
            radius=scene_radius(scaffold.depth, scaffold.intrinsics),
            scene_scale=scene_scale(scaffold.depth),
            landscape=frames.width > frames.height,
        ),
        seed=context.seed,
        movement_factor=chosen.movement_factor,
        translation=chosen.translation,
    )


def _summary(fitted: FittedPath) -> dict[str, Any]:
    path = fitted.path
    return {
        "draws": dict(path.draws),
        "factor": fitted.factor,
        "movement_factor": path.movement_factor,
        "smallest_clearance": float(fitted.clearance.min()),
        "travelled": float(np.linalg.norm(np.diff(path.c2w[:, :3, 3], axis=0), axis=1).sum()),
        "translation": path.translation,
        "source": path.source,
        "parameters": dict(path.parameters),
    }


def read_cameras(inputs: StageInputs, trajectory: str, *, height: int, width: int) -> list[Camera]:
    """The commanded cameras of a trajectory, one a frame."""
    arrays = inputs.arrays(NAME, cameras_name(trajectory))
    return [
        Camera(pose, intrinsics, height, width)
        for pose, intrinsics in zip(arrays["c2w"], arrays["intrinsics"], strict=True)
    ]


def settings(profile: Profile, scene: SceneEntry) -> dict[str, Any]:
    """Trajectories, frames, and the content (not the place) of the user's camera files."""
    chosen = profile.trajectories
    return {
        **chosen.model_dump(mode="json", exclude={"files"}),
        "files": {name: _content(name, file) for name, file in chosen.files.items()},
        "frames": profile.frames.model_dump(mode="json", exclude={"frames_per_second"}),
    }


def _content(trajectory: str, file: CameraFile) -> dict[str, Any]:
    """What of a camera file (a folder, for COLMAP) decides the path. Raises ConfigError when it cannot be read."""
    place = Path(file.path)
    try:
        parts = sorted(part for part in place.rglob("*") if part.is_file()) if place.is_dir() else [place]
        content = b"".join(part.read_bytes() for part in parts)
    except OSError as error:
        raise ConfigError(
            f"{file.path} cannot be read ({error.strerror})",
            where=f"trajectories.files.{trajectory}",
            remedy="Name an existing camera file.",
        ) from error
    return {"sha256": hashlib.sha256(content).hexdigest(), "metres_per_unit": file.metres_per_unit}


def engine(engines: Engines, scene: SceneEntry) -> EngineIdentity:
    """The registry of trajectories; no engine is chosen."""
    return EngineIdentity("trajectories", "Apache-2.0")


STAGE = Stage(
    name=NAME,
    inputs=(scene_scaffold.NAME, "conditioning_view"),
    code_version="1",
    description="The commanded cameras of every trajectory: drawn from the scene's own seed, scaled to the depth of "
    "what the view shows, and shortened where they would come too close to a surface.",
    kinds=frozenset({"numpy"}),
    make=make,
    settings=settings,
    engine=engine,
    checks={
        "c2w": "Camera-to-world poses are rigid, in OpenCV axes, the first (the last of a reversed "
        "trajectory) is the conditioning camera.",
        "intrinsics": "Intrinsics are finite, in pixels of the clips.",
    },
)

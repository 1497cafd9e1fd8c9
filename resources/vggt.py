"""VGGT as a worker: engine `vggt`, which finds depth and cameras of clips, and the picture feature that SceneGen reads.

J. Wang et al., "VGGT: Visual Geometry Grounded Transformer", CVPR 2025.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.camera_conventions import (
    check_c2w,
    check_intrinsics,
    field_of_view_from_focal,
    intrinsics_from_matrix,
    invert_rigid,
    nearest_rotation,
    resize_intrinsics,
)
from ..datasets.errors import EngineError, SceneloomError
from .engines import Camera, ClipGeometry, Frames, Part, Scaffold, View
from .worker_batches import BatchTask
from .worker_engine import HubModelWorker, files_below
from .worker_engine_settings import VggtModelSettings, VggtSettings
from .worker_failures import FailureClass, WorkerFailed
from .worker_results import invalid_output, read_array

Float32 = NDArray[np.float32]

NAME = "vggt"
PATCH, SIDE, FEATURE_WIDTH = 14, 518, 2048
_POSE_TOLERANCE = 1e-3
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)

_Settings = TypeVar("_Settings", bound=VggtModelSettings)


@dataclass(frozen=True, slots=True, eq=False)
class VggtResult:
    """What VGGT found of a clip of T frames, in a world that is its first camera's, up to scale.

    Attributes:
        c2w: (T, 4, 4) float32 camera-to-world, OpenCV axes.
        intrinsics: (T, 4) float32 fx, fy, cx, cy in pixels of the clip; the principal point is the picture's centre.
        depth: (T, h, w) float32 z-depth at VGGT's own size.
        confidence: (T, h, w) float32 from 1.
        points: (T, h, w, 3) float32 in the world, and their confidence; None where they were not asked for.
    """

    c2w: Float32
    intrinsics: Float32
    depth: Float32
    confidence: Float32
    points: tuple[Float32, Float32] | None


class _VggtWorker(HubModelWorker[_Settings]):
    name: ClassVar[str] = NAME
    told: ClassVar[frozenset[str]] = frozenset({"model", "revision", "frames_per_head_call"})
    licences: ClassVar[Mapping[str, str]] = {"facebook/VGGT-1B": "CC-BY-NC-4.0"}
    """Of VGGT-1B; VGGT-1B-Commercial comes under a licence of its own, which is asked for."""

    def files_at(self, path: Path) -> Mapping[str, Path]:
        """A .pt file, or a folder's weights."""
        return {"model.pt": path} if path.suffix == ".pt" else files_below(path)


class VggtDepthAndPoses(_VggtWorker[VggtSettings]):
    """Engine `vggt`: depth and cameras of a clip from its frames alone."""

    needs: ClassVar[frozenset[Part]] = frozenset({"frames"})
    gives: ClassVar[frozenset[Part]] = frozenset({"depth", "cameras"})

    def open_scene(self, scaffold: Scaffold, view: View) -> VggtScene:
        """VGGT needs nothing of a scene but its clips' frames."""
        return VggtScene(self)


@dataclass(frozen=True, slots=True)
class VggtScene:
    """One scene, ready for its clips."""

    engine: VggtDepthAndPoses

    def estimate(self, commanded: Sequence[Camera], frames: Frames) -> ClipGeometry:
        """Depth and cameras in VGGT's own world and unit.

        `kept` of the result holds depth_confidence (T, h, w) float16, and with `keep_points` points (T, h, w, 3)
        float32 in VGGT's world and points_confidence (T, h, w) float16, all at VGGT's own size.

        Raises:
            WorkerFailed: the clip is longer than `maximum_frames`, VGGT gave no result, or one that is not sane.
            ConfigError: its environment cannot be used.
            EngineError: there are more or fewer frames than cameras.
        """
        settings, count = self.engine.settings, len(commanded)
        if count > settings.maximum_frames:
            found = f"{count} frames, and at most {settings.maximum_frames} are taken at once"
            raise WorkerFailed(FailureClass.OVERSIZE, found)
        height, width = commanded[0].height, commanded[0].width

        def write(folder: Path) -> dict[str, Any]:
            _write_frames(folder / "frames.npy", frames, (count, height, width, 3))
            return {"kind": "clip", "frames": str(folder / "frames.npy"), "points": settings.keep_points}

        def read(output: Path, figures: Mapping[str, Any]) -> VggtResult:
            return read_result(output, count, height, width, settings)

        answer = self.engine.worker.ask(BatchTask("clip", write, read, frames=count))
        found = answer.get()
        kept: dict[str, NDArray[Any]] = {"depth_confidence": _float16(found.confidence)}
        if found.points is not None:
            kept |= {"points": found.points[0], "points_confidence": _float16(found.points[1])}
        sure = found.confidence >= settings.minimum_confidence
        notes = {
            "engine": NAME,
            "estimated_depth": True,
            "estimated_poses": True,
            "seen_size": list(found.depth.shape[1:]),
            "confidence_median": float(np.median(found.confidence)),
            "confident": float(sure.mean()),
            "model": self.engine.model_facts(),
            **answer.facts(),
        }
        depth = _depth_of_frames(found.depth, sure, height, width)
        return ClipGeometry(depth, found.c2w, found.intrinsics, metric=False, notes=notes, kept=kept)


class VggtFeatures(_VggtWorker[VggtModelSettings]):
    """The feature of a picture that SceneGen reads: the last tokens of VGGT's aggregator."""

    def feature(self, picture: bytes) -> Float32:
        """(1, P, 2048) float32 of a JPEG or PNG file, as SceneGen's build_metadata_scene.py has it.

        P is 5 + 37·(h / 14), h the height after the width has become 518, at most 518.

        Raises:
            WorkerFailed: VGGT gave no feature, or one that is not whole.
            ConfigError: its environment cannot be used.
        """

        def write(folder: Path) -> dict[str, Any]:
            (folder / "picture").write_bytes(picture)
            return {"kind": "feature", "picture": str(folder / "picture")}

        def read(output: Path, figures: Mapping[str, Any]) -> Float32:
            tokens = _feature_tokens(figures)
            return read_array(output, "feature.npy", (1, tokens, FEATURE_WIDTH), np.floating).astype(np.float32)

        return self.worker.ask(BatchTask("picture", write, read)).get()


def read_result(output: Path, frames: int, height: int, width: int, settings: VggtSettings) -> VggtResult:
    """Read what the worker wrote for a clip of T frames of H × W pixels, and check all of it.

    Raises:
        WorkerFailed: invalid-output, naming the file and what is wrong in it; diverged where no camera has such a field
            of view.
    """
    depth = read_array(output, "depth.npy", (frames, -1, -1), np.floating).astype(np.float32)
    size = depth.shape[1:]
    confidence = read_array(output, "depth_confidence.npy", (frames, *size), np.floating).astype(np.float32)
    if (depth <= 0).any():
        raise invalid_output("depth.npy", f"{(depth <= 0).mean():.1%} of it is not positive")
    if (confidence < 1).any():
        raise invalid_output("depth_confidence.npy", f"a confidence of {confidence.min():.3g}, which starts at 1")
    extrinsics = read_array(output, "extrinsics.npy", (frames, 3, 4), np.floating)
    matrices = read_array(output, "intrinsics.npy", (frames, 3, 3), np.floating, finite=False)
    points = None
    if settings.keep_points:
        positions = read_array(output, "points.npy", (frames, *size, 3), np.floating).astype(np.float32)
        points = positions, read_array(output, "points_confidence.npy", (frames, *size), np.floating)
    return VggtResult(
        c2w=poses_of(extrinsics),
        intrinsics=_intrinsics(matrices, (size[0], size[1]), (height, width), settings),
        depth=depth,
        confidence=confidence,
        points=points,
    )


def poses_of(extrinsics: NDArray[np.floating]) -> Float32:
    """(T, 4, 4) camera-to-world poses of VGGT's (T, 3, 4) world-to-camera matrices; both have OpenCV axes.

    Raises:
        WorkerFailed: a matrix is not rigid.
    """
    w2c = np.tile(np.eye(4), (len(extrinsics), 1, 1))
    w2c[:, :3] = extrinsics
    try:
        check_c2w(w2c, where="extrinsics.npy", tolerance=_POSE_TOLERANCE)
    except SceneloomError as error:
        raise invalid_output("extrinsics.npy", error.found) from error
    # Float32 quaternions give rotations that are orthonormal to their rounding only.
    w2c[:, :3, :3] = nearest_rotation(w2c[:, :3, :3])
    return invert_rigid(w2c).astype(np.float32)


def _intrinsics(
    matrices: NDArray[np.floating], seen: tuple[int, int], size: tuple[int, int], settings: VggtSettings
) -> Float32:
    """(T, 4) in pixels of the clip. VGGT puts the principal point at w/2, h/2 of what it sees."""
    try:
        own = intrinsics_from_matrix(matrices)
        check_intrinsics(own, where="intrinsics.npy")
    except SceneloomError as error:
        # A field of view of 0, which a dead network says, makes the focal length infinite.
        raise WorkerFailed(FailureClass.DIVERGED, f"intrinsics.npy: {error.found}") from error
    degrees = np.degrees(field_of_view_from_focal(own[:, 1], seen[0]))
    low, high = settings.minimum_field_of_view, settings.maximum_field_of_view
    if not ((degrees >= low) & (degrees <= high)).all():
        found = f"the vertical field of view is {degrees.min():.1f}° to {degrees.max():.1f}°"
        raise WorkerFailed(FailureClass.DIVERGED, f"intrinsics.npy: {found}, expected {low}° to {high}°")
    return resize_intrinsics(own, source=seen, target=size).astype(np.float32)


def _depth_of_frames(depth: Float32, sure: NDArray[np.bool_], height: int, width: int) -> Iterator[Float32]:
    """Yield (H, W) depth, 0 where VGGT is not confident enough.

    Inverse depth is interpolated: that of a plane, however slanted, is affine in the pixel coordinates.
    """
    import torch

    for plane, valid in zip(depth, sure, strict=True):
        inverse = torch.from_numpy(1 / plane.astype(np.float64))[None, None]
        resized = torch.nn.functional.interpolate(inverse, (height, width), mode="bilinear", align_corners=False)
        kept = torch.from_numpy(valid)[None, None].float()
        mask = torch.nn.functional.interpolate(kept, (height, width), mode="nearest-exact") > 0
        yield torch.where(mask, 1 / resized, 0.0)[0, 0].float().numpy()


def _write_frames(path: Path, frames: Frames, shape: tuple[int, int, int, int]) -> None:
    """Write a clip's frames as they come, as one array; raises EngineError where they are not the cameras'."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    count = 0
    for count, frame in enumerate(frames(), start=1):
        if count > shape[0]:
            break
        array[count - 1] = frame
    if count != shape[0]:
        raise EngineError(
            f"{'more' if count > shape[0] else count} frames for {shape[0]} cameras",
            where=f"depth_and_poses, engine {NAME}",
            remedy="Make the clips again.",
        )
    array.flush()


def _feature_tokens(figures: Mapping[str, Any]) -> int:
    """Tokens of a picture of the size that the worker says VGGT saw."""
    height, width = figures.get("height"), figures.get("width")
    if width != SIDE or not isinstance(height, int) or height % PATCH or not 0 < height <= SIDE:
        raise invalid_output("figures", f"a picture of {height} × {width}, expected whole patches of a width of {SIDE}")
    return 5 + (SIDE // PATCH) * (height // PATCH)


def _float16(values: NDArray[np.floating]) -> NDArray[np.float16]:
    return np.minimum(values, _LARGEST_FLOAT16).astype(np.float16)

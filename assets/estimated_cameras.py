"""What is said and shown of cameras and depth that were estimated: held against the commanded cameras, and against the
depth that these should see."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..datasets.camera_conventions import field_of_view_from_focal
from ..datasets.errors import ContractError
from ..ops.alignment import Similarity, path_length, relative_pose_error
from ..ops.depth_alignment import DepthAlignment, align_scale
from ..ops.path_plot import top_view
from ..ops.quality import CameraMetrics
from ..resources.engines import Camera, ClipGeometry, Scaffold, View
from .pictures_of_arrays import depth_picture, spread

COMPARED_FRAMES = 5
"""Frames of a clip whose depth is held against what is known."""
SHOWN_FRAMES = 3
COMMANDED_COLOUR, ESTIMATED_COLOUR = (150, 150, 160), (255, 140, 0)


class KnownDepth:
    """The depth that cameras of a scene should see: of its geometry where there is any, else of the view's depth, seen
    from them as far as it reaches.

    Args:
        scaffold: depth and geometry behind the view.
        view: the picture that the clips start from.
        device: "cpu", "cuda" or "cuda:N".
    """

    def __init__(self, scaffold: Scaffold, view: View, device: str) -> None:
        self.source: Literal["geometry", "scaffold"] = "scaffold" if scaffold.geometry is None else "geometry"
        if scaffold.geometry is not None:
            make = _from_geometry
        else:
            make = _from_scaffold if scaffold.clip is None else _from_clip
        self._of = make(scaffold, view, device)

    def of(self, cameras: Sequence[Camera], frames: Sequence[int]) -> NDArray[np.float32]:
        """(N, H, W) z-depth of the named frames in the unit of the commanded cameras, 0 where nothing is known.

        Args:
            cameras: of the whole clip.
            frames: N indices, ascending.
        """
        return self._of(cameras, frames)


_OfFrames = Callable[[Sequence[Camera], Sequence[int]], NDArray[np.float32]]


def _from_geometry(scaffold: Scaffold, view: View, device: str) -> _OfFrames:
    from ..ops.object_motion import instances_at
    from ..ops.raycast import RayCaster
    from ..resources.embedded_engines import geometry_behind

    scene = geometry_behind(scaffold)
    caster = RayCaster(scene, device=device)

    def seen(frame: int, camera: Camera) -> NDArray[np.float32]:
        caster.place(instances_at(scene, scaffold.motions, frame))
        return caster.geometry(camera.c2w, camera.intrinsics, camera.height, camera.width).depth

    def of(cameras: Sequence[Camera], frames: Sequence[int]) -> NDArray[np.float32]:
        return np.stack([seen(frame, cameras[frame]) for frame in frames])

    return of


def _from_scaffold(scaffold: Scaffold, view: View, device: str) -> _OfFrames:
    from ..ops.scene_cache import SceneCache, SourceFrame

    cache = SceneCache(device=device, depth_limit=float(scaffold.depth.max()) or 1.0)
    cache.add(SourceFrame(view.picture, scaffold.depth, np.eye(4), scaffold.intrinsics))

    def of(cameras: Sequence[Camera], frames: Sequence[int]) -> NDArray[np.float32]:
        chosen = [cameras[index] for index in frames]
        return np.stack([cache.warp(each.c2w, each.intrinsics, each.height, each.width).depth for each in chosen])

    return of


def _from_clip(scaffold: Scaffold, view: View, device: str) -> _OfFrames:
    """Of a video, each frame against the depth of the input's frame of the same time."""
    from ..resources.clip_cache import ClipCache

    cache = ClipCache(scaffold, view, device=device, with_background=False)

    def of(cameras: Sequence[Camera], frames: Sequence[int]) -> NDArray[np.float32]:
        return np.stack([cache.warp(index, cameras[index]).depth for index in frames])

    return of


@dataclass(frozen=True, slots=True, eq=False)
class DepthCheck:
    """A clip's depth against what is known.

    Attributes:
        frames: indices that were compared.
        known: (N, H, W) float32 depth of these frames.
        source: "geometry" or "scaffold".
        alignment: the scale that would bring the depth onto it; None where nothing can be compared.
    """

    frames: list[int]
    known: NDArray[np.float32]
    source: str
    alignment: DepthAlignment | None


def check_depth(depth: NDArray[np.floating], cameras: Sequence[Camera], known: KnownDepth) -> DepthCheck:
    """Hold a clip's depth (T, H, W) against what its commanded cameras should see."""
    frames = spread(len(depth), COMPARED_FRAMES)
    expected = known.of(cameras, frames)
    given = np.concatenate(depth[frames].astype(np.float32))
    try:
        alignment = align_scale(given, np.concatenate(expected))
    except ContractError:
        alignment = None
    return DepthCheck(frames, expected, known.source, alignment)


def describe(
    found: ClipGeometry,
    similarity: Similarity,
    aligned: NDArray[np.float32],
    commanded: Sequence[Camera],
    *,
    median_depth: float,
    metric_commands: bool,
    check: DepthCheck | None,
) -> dict[str, Any]:
    """The part of a clip's summary that speaks of estimated cameras, JSON: `cameras` with the numbers that are judged
    (null where one means nothing), and what they rest on.

    Args:
        found: the estimate.
        similarity: that brought `aligned` onto the commanded cameras.
        aligned: (T, 4, 4) estimated poses in the commanded frame and unit.
        commanded: one camera a frame.
        median_depth: of the clip, in the unit of the commanded cameras.
        metric_commands: whether that is the metre.
        check: of the depth; None where its scale was made to fit the cameras.
    """
    poses = np.stack([camera.c2w for camera in commanded])
    focal = np.stack([camera.intrinsics for camera in commanded])[:, :2]
    way = path_length(poses)
    relative = relative_pose_error(aligned, poses)
    fields = np.degrees(field_of_view_from_focal(found.intrinsics[:, 1], commanded[0].height))
    step = way / (len(poses) - 1)
    determined = similarity.scale_determined
    alignment = None if check is None else check.alignment
    numbers = CameraMetrics(
        trajectory_error=similarity.position_rmse / max(way, median_depth / 2, 1e-9),
        camera_rotation_error=similarity.rotation_rmse_degrees,
        relative_translation_error=relative.translation_rmse / step if determined else math.nan,
        relative_rotation_error=relative.rotation_rmse_degrees,
        focal_error=float(np.abs(found.intrinsics[:, :2] / focal - 1).max()),
        vertical_field_of_view_lowest=float(fields.min()),
        vertical_field_of_view_highest=float(fields.max()),
        camera_scale=similarity.scale if determined and found.metric and metric_commands else math.nan,
        depth_scale_error=abs(1 - alignment.scale) if alignment is not None and determined else math.nan,
    )
    return {
        "cameras": {name: value if math.isfinite(value) else None for name, value in numbers.as_dict().items()},
        "path_length": way,
        "scale_from": "cameras" if determined else ("depth" if alignment is not None else "nothing"),
        "known_depth": None if check is None else check.source,
        "depth_against_known": None if alignment is None else alignment.record(),
    }


def metrics_of(summary: Mapping[str, Any]) -> CameraMetrics | None:
    """The numbers that `describe` wrote into a clip's summary; None where its cameras are the commanded ones."""
    if "cameras" not in summary:
        return None
    numbers = {name: math.nan if value is None else float(value) for name, value in summary["cameras"].items()}
    return CameraMetrics(**numbers)


def rows(
    trajectory: str,
    depth: NDArray[np.floating],
    check: DepthCheck,
    similarity: Similarity,
    aligned: NDArray[np.float32],
    commanded: NDArray[np.float32],
) -> dict[str, list[NDArray[np.uint8]]]:
    """A row of a contact sheet: estimated above known depth of some frames, and the two paths from above."""
    chosen = spread(len(check.frames), SHOWN_FRAMES)
    pictures: list[NDArray[np.uint8]] = []
    for place in chosen:
        pair = np.concatenate([depth[check.frames[place]].astype(np.float32), check.known[place]])
        pictures.append(np.repeat(depth_picture(pair)[..., None], 3, axis=2))
    height, width = pictures[0].shape[:2]
    scale = max(1, round(360 / width))
    plot, shown = top_view(
        [(commanded, COMMANDED_COLOUR), (aligned, ESTIMATED_COLOUR)], height=height * scale, width=width * scale
    )
    words = {"geometry": "the geometry's", "scaffold": "the scaffold's"}[check.source]
    label = (
        f"{trajectory}: estimated above {words}; from above, {shown:.2g} wide: grey commanded, orange estimated, "
        f"ATE {similarity.position_rmse:.2g}"
    )
    return {label: [*pictures, plot]}

"""Backward reprojection in plain NumPy, float64: defines what the kernel computes, and is its oracle in tests."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from ..datasets.camera_conventions import invert_rigid

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

SURFACE_SPREAD = 0.1
"""Four neighbouring depths within this relative span are one surface, and are interpolated; wider spans are edges."""

BORDER_PIXELS = 1e-3
"""How far outside the outermost pixel centres a point may fall: room for float32 rounding when nothing moved."""


class ReprojectionState(IntEnum):
    """What became of one target pixel.

    NO_DEPTH: the target has no valid depth there.
    OUT_OF_VIEW: behind the source camera, or outside its outermost pixel centres.
    UNKNOWN: the source has no valid depth there, or the point lies between the two sides of a depth edge.
    OCCLUDED: the source sees something nearer.
    CONFLICT: the source sees past the point. No occlusion explains that: the two depths contradict each other.
    COVISIBLE: both see the same surface point.
    """

    NO_DEPTH = 0
    OUT_OF_VIEW = 1
    UNKNOWN = 2
    OCCLUDED = 3
    CONFLICT = 4
    COVISIBLE = 5


@dataclass(frozen=True, slots=True)
class View:
    """One frame with its camera.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB.
        depth: (H, W) float16 or float32 z-depth, 0 = invalid.
        c2w: (4, 4) camera-to-world, OpenCV axes.
        intrinsics: (4,) fx, fy, cx, cy in pixels, pixel centres at +0.5.
    """

    rgb: UInt8
    depth: NDArray[np.floating]
    c2w: NDArray[np.floating]
    intrinsics: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Reprojection:
    """The source's picture and depth as the target's camera would see them.

    Attributes:
        state: (H, W) uint8, a ReprojectionState each.
        colour: (H, W, 3) float32 sRGB levels 0..255, bilinear; 0 where NO_DEPTH or OUT_OF_VIEW.
        depth: (H, W) float32 z-depth that the source has where the point falls; 0 where it has none.
        expected_depth: (H, W) float32 z-depth of the target's point in the source camera; 0 where NO_DEPTH or
            OUT_OF_VIEW.
    """

    state: UInt8
    colour: Float32
    depth: Float32
    expected_depth: Float32

    @property
    def covisible(self) -> NDArray[np.bool_]:
        """(H, W): both cameras see the same surface point."""
        return self.state == ReprojectionState.COVISIBLE


def relative_pose(target_c2w: NDArray[np.floating], source_c2w: NDArray[np.floating]) -> Float64:
    """(4, 4) float64: source camera coordinates from target camera coordinates."""
    return invert_rigid(source_c2w) @ np.asarray(target_c2w, np.float64)


def reproject_reference(target: View, source: View, *, tolerance: float) -> Reprojection:
    """Sample `source` where the points of `target`'s depth map fall in it; see `warping.reproject`."""
    z = target.depth.astype(np.float64)
    height, width = source.depth.shape
    point = _points(z, target.intrinsics) @ relative_pose(target.c2w, source.c2w)[:3, :3].T
    point += relative_pose(target.c2w, source.c2w)[:3, 3]
    focal, centre = np.asarray(source.intrinsics, np.float64).reshape(2, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        coordinates = focal * point[..., :2] / point[..., 2:] + centre
    lowest = 0.5 - BORDER_PIXELS
    inside = (coordinates >= lowest).all(-1) & (coordinates <= np.array([width, height]) - lowest).all(-1)
    seen = (z > 0) & (point[..., 2] > 0) & inside

    x, y = np.moveaxis(np.where(seen[..., None], coordinates, 0.5) - 0.5, -1, 0)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    corners, weights = _bilinear(x, y, height, width)
    colour = sum(w[..., None] * source.rgb[corner] for w, corner in zip(weights, corners, strict=True))
    depth, near, far = _surface(source.depth.astype(np.float64), corners, weights)

    expected = point[..., 2]
    state = np.full(z.shape, ReprojectionState.UNKNOWN, np.uint8)
    state[np.abs(expected - depth) <= tolerance * depth] = ReprojectionState.COVISIBLE
    state[expected < near * (1 - tolerance)] = ReprojectionState.CONFLICT
    state[expected > far * (1 + tolerance)] = ReprojectionState.OCCLUDED
    state[depth == 0] = ReprojectionState.UNKNOWN
    state[~seen] = ReprojectionState.OUT_OF_VIEW
    state[z <= 0] = ReprojectionState.NO_DEPTH
    return Reprojection(
        state=state,
        colour=np.where(seen[..., None], colour, 0).astype(np.float32),
        depth=np.where(seen, depth, 0).astype(np.float32),
        expected_depth=np.where(seen, expected, 0).astype(np.float32),
    )


def _points(depth: Float64, intrinsics: NDArray[np.floating]) -> Float64:
    """(H, W, 3) camera coordinates of the pixel centres at `depth`."""
    fx, fy, cx, cy = np.asarray(intrinsics, np.float64)
    row, column = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]] + 0.5
    return np.stack([(column - cx) / fx * depth, (row - cy) / fy * depth, depth], axis=-1)


def _bilinear(x: Float64, y: Float64, height: int, width: int) -> tuple[list[tuple], list[Float64]]:
    """Row-column index pairs and weights of the four pixels around (x, y), counted from pixel centres."""
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    right, down = x - x0, y - y0
    corners = [(y0, x0), (y0, x1), (y1, x0), (y1, x1)]
    weights = [(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down]
    return corners, weights


def _surface(depth: Float64, corners: list[tuple], weights: list[Float64]) -> tuple[Float64, Float64, Float64]:
    """Depth of the surface, and nearest and farthest valid of the four taps; all 0 where there is none.

    Inverse depth is linear in pixel coordinates on a plane, so interpolating it is exact there. Across an edge the
    nearest tap counts alone.
    """
    taps = np.stack([depth[corner] for corner in corners])
    valid = taps > 0
    far = taps.max(axis=0)
    near = np.where(valid, taps, np.inf).min(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        smooth = 1 / sum(weight / tap for weight, tap in zip(weights, taps, strict=True))
    nearest = np.take_along_axis(taps, np.argmax(np.stack(weights), axis=0)[None], axis=0)[0]
    one_surface = valid.all(axis=0) & (far <= near * (1 + SURFACE_SPREAD))
    surface = np.where(one_surface, smooth, nearest)
    known = surface > 0
    return np.where(known, surface, 0), np.where(known, near, 0), np.where(known, far, 0)

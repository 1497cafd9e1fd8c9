"""Backward reprojection in plain NumPy, float64: the oracle of the kernel in `warping`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .warping import BORDER_PIXELS, SURFACE_SPREAD, Float64, Reprojection, ReprojectionState, View, relative_pose


def reproject_reference(target: View, source: View, *, tolerance: float) -> Reprojection:
    """Sample `source` where the points of `target`'s depth map fall in it; see `warping.reproject`."""
    z = target.depth.astype(np.float64)
    height, width = source.depth.shape
    source_from_target = relative_pose(target.c2w, source.c2w)
    point = _points(z, target.intrinsics) @ source_from_target[:3, :3].T + source_from_target[:3, 3]
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

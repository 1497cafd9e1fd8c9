"""Forward warping in plain NumPy, float64, one point at a time: the oracle of the kernels behind `scene_cache`.

Independent of them where that is possible: weights are GEN3C's formula as it stands, and the occluder mesh is found by
testing each pixel's ray against every triangle (`raycast_reference`). Positions are rounded to 1/256 of a pixel as in
the kernels: what falls on the border of two pixels is part of the definition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..datasets.camera_conventions import invert_rigid
from .raycast_reference import depth_map
from .scene_cache import (
    DEPTH_WEIGHT,
    EDGE_REACH,
    EDGE_WINDOW,
    OCCLUDER_THRESHOLD,
    SAME_SURFACE,
    Bool,
    Float64,
    SourceFrame,
    WarpedFrame,
)


def warp_reference(
    frames: Sequence[SourceFrame],
    c2w: ArrayLike,
    intrinsics: ArrayLike,
    height: int,
    width: int,
    *,
    edge_threshold: float = 0.05,
    foreground_masking: bool = True,
    depth_limit: float = 100.0,
) -> WarpedFrame:
    """What a camera sees of source frames, in the order in which a cache got them; see `SceneCache.warp`."""
    rgb = np.zeros((height, width, 3), np.uint8)
    depth, confidence, least = np.zeros((3, height, width))
    for frame in frames:
        z = np.where(frame.depth > 0, np.minimum(frame.depth.astype(np.float64), depth_limit), 0.0)
        present = (z > 0) & (True if frame.mask is None else frame.mask)
        spread = spread_reference(z)
        usable = present & (spread < edge_threshold)
        layer_rgb, layer_depth, layer_confidence = _splat(frame, z, usable, c2w, intrinsics, height, width)
        if foreground_masking:
            mesh = triangles_reference(frame, z, present, spread >= OCCLUDER_THRESHOLD)
            if len(mesh):
                # The ray's parameter is the depth in the target camera, so the mesh goes into that camera's world.
                pose = np.asarray(frame.c2w, np.float64)
                world = mesh @ pose[:3, :3].T + pose[:3, 3]
                before = depth_map(world, c2w, intrinsics, height, width)
                layer_depth[(before > 0) & (before * (1 + SAME_SURFACE) < layer_depth)] = 0
        for place in np.argwhere(layer_depth > 0):
            at = tuple(place)
            new = layer_depth[at]
            if least[at] == 0:
                shown = True
            else:
                behind_new = depth[at] > new * (1 + SAME_SURFACE)
                agrees = new <= least[at] * (1 + SAME_SURFACE)
                shown = behind_new or (agrees and layer_confidence[at] > confidence[at])
            least[at] = new if least[at] == 0 else min(least[at], new)
            if shown:
                rgb[at], depth[at], confidence[at] = layer_rgb[at], new, layer_confidence[at]
    return WarpedFrame(
        rgb=rgb, depth=depth.astype(np.float32), valid=depth > 0, confidence=confidence.astype(np.float32)
    )


def _splat(
    frame: SourceFrame, z: Float64, usable: Bool, c2w: ArrayLike, intrinsics: ArrayLike, height: int, width: int
) -> tuple[np.ndarray, Float64, Float64]:
    """Colour, depth and confidence of one source in the target picture, all 0 where nothing lands."""
    target_from_source = invert_rigid(c2w) @ np.asarray(frame.c2w, np.float64)
    eye = invert_rigid(target_from_source)[:3, 3]
    fx, fy, cx, cy = np.asarray(intrinsics, np.float64)
    edge = edge_factor_reference(usable)

    points = []
    for row, column in np.argwhere(usable):
        point = _point(frame, z, row, column)
        seen = target_from_source[:3, :3] @ point + target_from_source[:3, 3]
        if seen[2] > 0:
            points.append((row, column, point, seen))
    farthest = max((np.log1p(seen[2]) for _, _, _, seen in points), default=0.0)

    weight, nearness, quality, samples = np.zeros((4, height, width))
    colour = np.zeros((height, width, 3))
    landed = []
    for row, column, point, seen in points:
        # From the centre of the pixel left of and above the picture, in 1/256 pixels.
        x = np.floor((fx * seen[0] / seen[2] + cx + 0.5) * 256 + 0.5)
        y = np.floor((fy * seen[1] / seen[2] + cy + 0.5) * 256 + 0.5)
        if not (0 <= x < 256 * (width + 1) and 0 <= y < 256 * (height + 1)):
            continue
        depth_weight = np.exp(-DEPTH_WEIGHT * np.log1p(seen[2]) / farthest)
        cosine = point @ (point - eye) / (np.linalg.norm(point) * np.linalg.norm(point - eye))
        for below in (0, 1):
            for right in (0, 1):
                u, v = int(x // 256) - 1 + right, int(y // 256) - 1 + below
                share_x = (x % 256) / 256 if right else 1 - (x % 256) / 256
                share_y = (y % 256) / 256 if below else 1 - (y % 256) / 256
                if share_x * share_y > 0 and 0 <= u < width and 0 <= v < height:
                    w = share_x * share_y * depth_weight
                    landed.append((v, u, share_x * share_y, seen[2]))
                    weight[v, u] += w
                    colour[v, u] += w * frame.rgb[row, column]
                    nearness[v, u] += w / seen[2]
                    quality[v, u] += w * edge[row, column] * max(0.0, cosine)
    nearest = np.full((height, width), np.inf)
    for v, u, _, depth in landed:
        nearest[v, u] = min(nearest[v, u], depth)
    for v, u, share, depth in landed:
        samples[v, u] += share * np.exp(-DEPTH_WEIGHT * (np.log1p(depth) - np.log1p(nearest[v, u])) / farthest)
    hit = weight > 0
    total = np.where(hit, weight, 1.0)
    rgb = np.where(hit[..., None], np.floor(colour / total[..., None] + 0.5), 0).astype(np.uint8)
    depth = np.where(hit, total / np.where(hit, nearness, 1.0), 0.0)
    return rgb, depth, np.minimum(samples, 1.0) * quality / total


def spread_reference(depth: Float64) -> Float64:
    """(max - min) / (mean + 1e-6) of the window around each pixel; see `scene_cache.depth_spread`."""
    reach = EDGE_WINDOW // 2
    spread = np.zeros(depth.shape)
    for row, column in np.ndindex(depth.shape):
        window = depth[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
        spread[row, column] = (window.max() - window.min()) / (window.mean() + 1e-6)
    return spread


def edge_factor_reference(usable: Bool) -> Float64:
    """min(1, d / EDGE_REACH), d the distance to the nearest unusable pixel; see `scene_cache.edge_factor`."""
    factor = np.ones(usable.shape)
    bad = np.argwhere(~usable)
    for row, column in np.ndindex(usable.shape):
        if len(bad):
            distance = np.abs(bad - (row, column)).max(axis=1).min()
            factor[row, column] = min(1.0, distance / EDGE_REACH)
    return factor


def triangles_reference(frame: SourceFrame, depth: Float64, present: Bool, edge: Bool) -> Float64:
    """(F, 3, 3) corners in the frame's camera; see `scene_cache.occluder_triangles`."""
    triangles = []
    for row, column in np.ndindex(depth.shape[0] - 1, depth.shape[1] - 1):
        square = (slice(row, row + 2), slice(column, column + 2))
        if edge[square].any() and present[square].all():
            a, b, c, d = (_point(frame, depth, row + i, column + j) for i in (0, 1) for j in (0, 1))
            triangles += [(a, b, c), (b, d, c)]
    return np.array(triangles).reshape(-1, 3, 3)


def _point(frame: SourceFrame, depth: Float64, row: int, column: int) -> Float64:
    """(3,) a pixel centre's point in its camera's axes."""
    fx, fy, cx, cy = np.asarray(frame.intrinsics, np.float64)
    z = depth[row, column]
    return np.array([(column + 0.5 - cx) / fx * z, (row + 0.5 - cy) / fy * z, z])

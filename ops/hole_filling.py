"""Holes of a warped picture filled from the background beside them.

What a camera newly sees beside a silhouette lies behind it, so a hole takes the farther of the surfaces at its rims
(the rule of depth-image-based rendering; C. Fehn, "Depth-image-based rendering (DIBR), compression and transmission for
a new approach on 3D-TV", SPIE 5291, 2004, stretches the background for the same reason).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

SAME_SURFACE = 0.1
"""Rims whose depth is within this share of the farthest rim's belong to the background."""


def fill_from_background(rgb: UInt8, depth: Float32, valid: Bool) -> tuple[UInt8, Float32]:
    """Fill what is not valid.

    From each hole pixel the nearest valid pixels to the left, right, above and below are looked up; of these, the ones
    on the background (`SAME_SURFACE`) are mixed by the inverse of their distance. Pixels with none in their row and
    column are filled from what was filled before.

    Args:
        rgb: (H, W, 3) uint8 sRGB.
        depth: (H, W) float32 z-depth, above 0 where valid.
        valid: (H, W) bool.

    Returns:
        rgb and depth without holes; black and 0 where nothing at all is valid.
    """
    colours, distances, known = np.where(valid[..., None], rgb, 0), np.where(valid, depth, 0), valid.copy()
    while known.any() and not known.all():
        colours, distances, known = _filled_once(colours, distances.astype(np.float32), known)
    return colours.astype(np.uint8), distances.astype(np.float32)


def _filled_once(rgb: UInt8, depth: Float32, valid: Bool) -> tuple[UInt8, Float32, Bool]:
    row, column = np.nonzero(~valid)
    rims = [
        _nearest_valid(valid, axis, backwards=backwards)[row, column] for axis in (0, 1) for backwards in (False, True)
    ]
    steps = np.stack([np.abs(rim - (row, row, column, column)[index]) for index, rim in enumerate(rims)], axis=1)
    found = np.stack([rim >= 0 for rim in rims], axis=1)
    at_row = np.stack([rims[0], rims[1], row, row], axis=1)
    at_column = np.stack([column, column, rims[2], rims[3]], axis=1)
    rim_depth = np.where(found, depth[at_row, at_column], 0.0)
    behind = found & (rim_depth >= (1.0 - SAME_SURFACE) * rim_depth.max(axis=1, keepdims=True))
    weights = np.where(behind, 1.0 / np.maximum(steps, 1), 0.0)
    total = weights.sum(axis=1)
    fillable = total > 0
    share = weights[fillable] / total[fillable, None]
    rgb, depth, valid = rgb.copy(), depth.copy(), valid.copy()
    y, x = row[fillable], column[fillable]
    sources = rgb[at_row[fillable], at_column[fillable]].astype(np.float64)
    rgb[y, x] = np.rint((share[..., None] * sources).sum(axis=1)).astype(np.uint8)
    depth[y, x] = (share * rim_depth[fillable]).sum(axis=1)
    valid[y, x] = True
    return rgb, depth, valid


def _nearest_valid(valid: Bool, axis: int, *, backwards: bool) -> NDArray[np.intp]:
    """(H, W) index, along an axis, of the nearest valid pixel before (after, if backwards) each pixel; -1 for none."""
    length = valid.shape[axis]
    shape = [1, 1]
    shape[axis] = length
    places = np.arange(length).reshape(shape)
    if backwards:
        flipped = np.flip(np.where(valid, places, length), axis)
        nearest = np.flip(np.minimum.accumulate(flipped, axis), axis)
        return np.where(nearest == length, -1, nearest)
    return np.maximum.accumulate(np.where(valid, places, -1), axis)

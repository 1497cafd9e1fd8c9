"""Where a depth map cannot be trusted: at the edges of surfaces, where networks give depths of no surface at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DEFAULT_BEND = 0.05


def depth_edges(depth: NDArray[np.floating], *, bend: float = DEFAULT_BEND) -> NDArray[np.bool_]:
    """(H, W) bool, pixels on or beside a depth edge.

    The inverse depth of a plane, however slanted, is affine in the pixel coordinates (of X·n = c with X = z·(x, y, 1)
    follows 1/z = (x, y, 1)·n / c), so the second difference of inverse depth along rows and columns is 0 on it. Pixels
    where that exceeds `bend` times the inverse depth are edges, and so are their eight neighbours. An edge that a
    network blurs bends at its two ends only; up to four pixels between them are edges too.

    Args:
        depth: (H, W) z-depth, 0 = invalid; invalid pixels are no edges, nor are their neighbours because of them.
        bend: smallest second difference of inverse depth, as a share of it, that is an edge. A step between two
            surfaces is one whose depths differ by about this share.
    """
    from scipy import ndimage

    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(depth > 0, 1.0 / depth.astype(np.float64), np.nan)
    bends = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        lines, found = np.moveaxis(inverse, axis, 0), np.moveaxis(bends, axis, 0)
        # Comparisons with NaN, the invalid pixels, are false.
        found[1:-1] |= np.abs(lines[:-2] - 2.0 * lines[1:-1] + lines[2:]) > bend * lines[1:-1]
    around = np.ones((3, 3), bool)
    wide = ndimage.binary_dilation(bends, around, iterations=2)
    return np.logical_and(ndimage.binary_erosion(wide, around, border_value=1), depth > 0)

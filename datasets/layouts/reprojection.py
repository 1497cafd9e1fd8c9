"""Whether an object's surface, seen through a stated camera, lies where its mask says: the test of a layout's poses."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MINIMUM_COVERED = 0.99
"""Share of a mask that the object's projected surface must cover; less means a wrong pose or camera."""
SURFACE_POINTS = 20_000

_CELLS = 96
"""Cells along the longer side of a mask's box: coarse enough for the points to leave no gaps in a surface."""
_NEAR = 1e-6


def mask_covered(points: ArrayLike, intrinsics: ArrayLike, mask: NDArray[np.bool_]) -> float:
    """Share of a mask's pixels that lie on, or one cell beside, the projection of an object's surface.

    Args:
        points: (N, 3) spread evenly over the surface, in the OpenCV camera frame (x right, y down, z forward).
        intrinsics: (4,) fx, fy, cx, cy in pixels of the mask, pixel centres at +0.5.
        mask: (H, W) bool, not empty.
    """
    given = np.asarray(points, dtype=np.float64)
    fx, fy, cx, cy = np.asarray(intrinsics, dtype=np.float64)
    seen = given[given[:, 2] > _NEAR]
    pixels = np.stack([fx * seen[:, 0] / seen[:, 2] + cx, fy * seen[:, 1] / seen[:, 2] + cy], axis=1)
    rows, columns = np.nonzero(mask)
    left, top = columns.min(), rows.min()
    side = max((max(columns.max() - left, rows.max() - top) + 1) / _CELLS, 1.0)
    # A margin of one cell on all sides keeps the dilation inside the grid.
    projected = np.floor((pixels - (left, top)) / side).astype(np.int64, copy=False) + 1
    inside = ((projected >= 0) & (projected <= _CELLS + 1)).all(axis=1)
    grid = np.zeros((_CELLS + 2, _CELLS + 2), bool)
    grid[projected[inside, 1], projected[inside, 0]] = True
    grown = np.pad(grid, 1)
    grown = np.any([np.roll(grown, (y, x), axis=(0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)[1:-1, 1:-1]
    mask_rows = np.floor((rows + 0.5 - top) / side).astype(np.int64) + 1
    mask_columns = np.floor((columns + 0.5 - left) / side).astype(np.int64) + 1
    return float(grown[mask_rows, mask_columns].mean())

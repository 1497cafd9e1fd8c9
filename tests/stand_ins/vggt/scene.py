"""What the stand-in of VGGT finds, whatever it is shown: a slanted wall seen by a camera that moves and turns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

NORMAL, DISTANCE = np.array([0.1, 0.2, 1.0]), 1.5
"""The wall: points X with NORMAL · X = DISTANCE, in the first camera's frame and a unit of its own."""
VERTICAL_VIEW = 0.9
"""Radians across the height."""


def poses(count: int) -> Float64:
    """(T, 4, 4) camera-to-world poses; the first is the identity."""
    c2w = np.tile(np.eye(4), (count, 1, 1))
    for index in range(count):
        angle = 0.03 * index
        c2w[index, :3, :3] = [
            [np.cos(angle), 0, np.sin(angle)],
            [0, 1, 0],
            [-np.sin(angle), 0, np.cos(angle)],
        ]
        c2w[index, :3, 3] = [0.05 * index, 0.02 * np.sin(index), -0.03 * index]
    return c2w


def intrinsics(height: int, width: int) -> Float64:
    """(4,) fx, fy, cx, cy of square pixels."""
    focal = height / 2 / np.tan(VERTICAL_VIEW / 2)
    return np.array([focal, focal, width / 2, height / 2])


def depth(c2w: Float64, height: int, width: int) -> Float64:
    """(H, W) z-depth of the wall from a camera, pixel centres at +0.5."""
    focal, _, middle_x, middle_y = intrinsics(height, width)
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(columns - middle_x) / focal, (rows - middle_y) / focal, np.ones((height, width))], axis=-1)
    across = rays @ c2w[:3, :3].T @ NORMAL
    return (DISTANCE - NORMAL @ c2w[:3, 3]) / across

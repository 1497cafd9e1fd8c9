"""Backward reprojection: one frame seen through another frame's depth, as one Warp kernel for CPU and CUDA.

`warping_reference` defines the result in plain NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .warp_runtime import load_kernels, load_warp
from .warping_reference import (
    BORDER_PIXELS,
    SURFACE_SPREAD,
    Reprojection,
    ReprojectionState,
    View,
    relative_pose,
)

__all__ = ["DEFAULT_TOLERANCE", "Reprojection", "ReprojectionState", "View", "reproject"]

DEFAULT_TOLERANCE = 0.05
"""Relative depth difference up to which two cameras are held to see the same point: above the 1-2 % by which estimated
depth wavers between frames, below the gap between most objects and what is behind them."""


def reproject(target: View, source: View, *, tolerance: float = DEFAULT_TOLERANCE, device: str = "cpu") -> Reprojection:
    """Sample `source` at the points that `target`'s depth map describes.

    Each target pixel centre (+0.5) is lifted by its z-depth, carried to the source camera and projected. There the
    colour is interpolated bilinearly in sRGB levels, and the depth in 1/z (which is linear on planes) where the four
    neighbours are one surface, else taken from the nearest. The point's own depth in the source camera, compared with
    the sampled one, tells covisible from occluded from contradictory (ReprojectionState).

    Args:
        target: the frame whose pixels are filled; its colours are not looked at.
        source: the frame that is sampled; may have another size.
        tolerance: relative depth difference that still counts as the same surface.
        device: Warp device, "cpu" or "cuda:0".

    Returns:
        Reprojection with arrays of the target's size.

    Raises:
        EngineError: there is no such device.
    """
    wp, kernel = _kernel(device)
    height, width = target.depth.shape
    state = wp.empty((height, width), dtype=wp.uint8, device=device)
    colour = wp.empty((height, width), dtype=wp.vec3, device=device)
    depth = wp.empty((height, width), dtype=wp.float32, device=device)
    expected_depth = wp.empty((height, width), dtype=wp.float32, device=device)
    wp.launch(
        kernel,
        dim=(height, width),
        inputs=[
            wp.array(_float32(target.depth), dtype=wp.float32, device=device),
            wp.array(np.ascontiguousarray(source.rgb), dtype=wp.uint8, device=device),
            wp.array(_float32(source.depth), dtype=wp.float32, device=device),
            wp.mat44(relative_pose(target.c2w, source.c2w).astype(np.float32)),
            wp.vec4(np.asarray(target.intrinsics, np.float32)),
            wp.vec4(np.asarray(source.intrinsics, np.float32)),
            tolerance,
            SURFACE_SPREAD,
            BORDER_PIXELS,
        ],
        outputs=[state, colour, depth, expected_depth],
        device=device,
    )
    return Reprojection(
        state=state.numpy(), colour=colour.numpy(), depth=depth.numpy(), expected_depth=expected_depth.numpy()
    )


def _kernel(device: str) -> tuple[Any, Any]:
    """Warp, and the kernel compiled for `device`."""
    wp = load_warp(device)
    from . import warping_kernels

    return wp, load_kernels(warping_kernels, device).reproject_pixels


def _float32(depth: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(depth, np.float32)

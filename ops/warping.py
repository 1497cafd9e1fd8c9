"""Backward reprojection: one frame seen through another frame's depth, as one Warp kernel for CPU and CUDA.

`warping_reference` computes the same in plain NumPy, for tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.camera_conventions import invert_rigid
from .warp_runtime import load_kernels, load_warp

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

DEFAULT_TOLERANCE = 0.05
"""Relative depth difference up to which two cameras are held to see the same point: above the 1-2 % by which estimated
depth wavers between frames, below the gap between most objects and what is behind them."""

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


def relative_pose(target_c2w: NDArray[np.floating], source_c2w: NDArray[np.floating]) -> Float64:
    """(4, 4) float64: source camera coordinates from target camera coordinates."""
    return invert_rigid(source_c2w) @ np.asarray(target_c2w, np.float64)


def _kernel(device: str) -> tuple[Any, Any]:
    """Warp, and the kernel compiled for `device`."""
    wp = load_warp(device)
    from . import warping_kernels

    return wp, load_kernels(warping_kernels, device).reproject_pixels


def _float32(depth: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(depth, np.float32)

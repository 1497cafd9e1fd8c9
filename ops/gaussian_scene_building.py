"""RGB-D pictures into 3D Gaussians: one isotropic Gaussian a pixel, as VistaDream's scaffolds are made of.

H. Wang et al., "VistaDream: Sampling multiview consistent images for single-view scene reconstruction", ICCV 2025,
section 3.1. Pixels are lifted at their centres (+0.5), where the published program lifts them at whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.errors import ContractError
from . import cameras
from .gaussian_scene import Gaussians

if TYPE_CHECKING:
    import torch

Bool = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]

OPACITY = 0.8
"""Of every new Gaussian: neighbours overlap, so that a surface of them is opaque all the same."""

OCCLUSION_MARGIN = 1 / 15
"""Share of a surface's depth by which a point may lie before it without counting as in its way."""


def gaussians_of_view(
    picture: UInt8,
    depth: NDArray[np.floating],
    c2w: ArrayLike,
    intrinsics: ArrayLike,
    *,
    where: Bool | None = None,
) -> Gaussians:
    """One Gaussian for every pixel that is wanted and has a depth, in the order of the pixels.

    The standard deviation is depth / (f·√2) on all axes, so that a Gaussian of any depth covers its pixel; rotations
    are the identity and opacities `OPACITY`.

    Args:
        picture: (H, W, 3) uint8 sRGB.
        depth: (H, W) z-depth, 0 = invalid.
        c2w: (4, 4) camera-to-world, OpenCV axes.
        intrinsics: (4,) fx, fy, cx, cy in pixels, pixel centres at +0.5.
        where: (H, W) bool pixels that are wanted; None: all.

    Returns:
        Gaussians as float32 tensors on the CPU.

    Raises:
        ContractError: the sizes differ.
    """
    import torch

    wanted = np.ones(depth.shape, bool) if where is None else where
    if picture.shape != (*depth.shape, 3) or wanted.shape != depth.shape:
        raise ContractError(
            f"a picture of {picture.shape}, depth of {depth.shape} and a mask of {wanted.shape}",
            where="Gaussians of a view",
            remedy="Give one size for all.",
        )
    rows, columns = np.nonzero(wanted & (depth > 0))
    z = depth[rows, columns].astype(np.float64)
    lens = np.asarray(intrinsics, np.float64)
    pixels = np.stack([columns + 0.5, rows + 0.5], axis=-1)
    scales = z / (np.sqrt(lens[0] * lens[1]) * np.sqrt(2.0))
    arrays = (
        cameras.unproject(pixels, z, np.asarray(c2w, np.float64), lens),
        np.tile([1.0, 0.0, 0.0, 0.0], (len(z), 1)),
        np.repeat(scales[:, None], 3, axis=1),
        np.full(len(z), OPACITY),
        picture[rows, columns] / 255.0,
    )
    return Gaussians(*(torch.from_numpy(np.asarray(values, np.float32)) for values in arrays))


def joined(parts: Sequence[Gaussians]) -> Gaussians:
    """All Gaussians of the parts, in order. Raises ContractError where there is no part."""
    import torch

    if not parts:
        raise ContractError("no Gaussians to join", where="Gaussians", remedy="Give at least one set.")
    return Gaussians(*(torch.cat([getattr(part, name) for part in parts]) for name in Gaussians.__slots__))


def moved(gaussians: Gaussians, device: str | torch.device) -> Gaussians:
    """The same Gaussians on a device, without gradients."""
    return Gaussians(*(getattr(gaussians, name).detach().to(device) for name in Gaussians.__slots__))


def selected(gaussians: Gaussians, keep: Bool) -> Gaussians:
    """Those of the Gaussians that are kept, in order; `keep` is (N,) bool."""
    import torch

    mask = torch.from_numpy(np.ascontiguousarray(keep)).to(gaussians.means.device)
    return Gaussians(*(getattr(gaussians, name)[mask] for name in Gaussians.__slots__))


def in_the_way(
    points: NDArray[np.floating], depth: NDArray[np.floating], c2w: ArrayLike, intrinsics: ArrayLike
) -> Bool:
    """(N,) bool, points that would hide what a camera is known to see, by more than `OCCLUSION_MARGIN` of its depth.

    Args:
        points: (N, 3) world coordinates.
        depth: (H, W) z-depth that the camera sees, 0 = not known: nothing is in the way of it.
        c2w: (4, 4) the camera's pose.
        intrinsics: (4,) pixels of `depth`.
    """
    height, width = depth.shape
    pixels, z = cameras.project(np.asarray(points, np.float64), c2w, intrinsics)
    inside = (z > 0) & (pixels >= 0).all(axis=-1) & (pixels < (width, height)).all(axis=-1)
    column, row = np.where(inside[:, None], pixels, 0.0).astype(np.intp).T
    known = depth[row, column]
    return inside & (known * (1.0 - OCCLUSION_MARGIN) > z)

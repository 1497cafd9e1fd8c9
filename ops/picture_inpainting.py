"""Filling holes of RGB-D pictures: colours by OpenCV's classical methods, depth joined to what is known around.

Classical inpainting goes on with what lies around a hole and invents nothing: it stands in for generative models.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError, InputError

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]
Method = Literal["telea", "navier_stokes"]

BLURS, BLUR_SIDE = 100, 15
"""Of the correction that joins new depth to known depth: VistaDream's number of box blurs and their side in pixels."""


def inpaint_classically(picture: UInt8, holes: Bool, *, method: Method = "telea", radius: float = 5.0) -> UInt8:
    """The picture with its holes filled from their borders inwards; all other pixels stay as they are.

    Args:
        picture: (H, W, 3) uint8 sRGB.
        holes: (H, W) bool.
        method: A. Telea, "An image inpainting technique based on the fast marching method", 2004, or M. Bertalmio et
            al., "Navier-Stokes, fluid dynamics, and image and video inpainting", 2001.
        radius: of the neighbourhood that a pixel is made from, pixels.

    Raises:
        ContractError: the sizes differ.
        InputError: everything is a hole.
    """
    import cv2

    _require_known(picture.shape[:2], holes)
    if not holes.any():
        return picture.copy()
    # What is in a hole must not matter, and OpenCV's first ring around holes reads it.
    clean = nearest_filled(picture, ~holes)
    flag = cv2.INPAINT_TELEA if method == "telea" else cv2.INPAINT_NS
    filled = cv2.inpaint(clean, holes.astype(np.uint8) * 255, radius, flag)
    return np.where(holes[..., None], filled, picture)


def nearest_filled(values: NDArray, known: Bool) -> NDArray:
    """The values with those that are not known replaced by the nearest that is.

    Args:
        values: (H, W) or (H, W, C).
        known: (H, W) bool.

    Raises:
        ContractError: the sizes differ.
        InputError: nothing is known.
    """
    from scipy import ndimage

    _require_known(values.shape[:2], ~known)
    nearest = np.empty((2, *known.shape), np.int32)
    ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True, indices=nearest)
    return values[nearest[0], nearest[1]]


def joined_depth(estimated: Float32, rendered: Float32, known: Bool) -> Float32:
    """Depth that is the rendered one where that is known, and goes over into the estimate without a step.

    What the estimate is off by at known pixels, as a factor, is spread into the holes by repeated box blurs that are
    held to it at the known pixels: VistaDream's connection of inpainted depth, of factors instead of differences, so
    that depth stays above 0 and far surfaces do not decide over near ones. In the middle of a large hole it fades out.

    Args:
        estimated: (H, W) depth already brought into the rendered one's unit, 0 = invalid.
        rendered: (H, W) depth, 0 = invalid.
        known: (H, W) bool, where the rendered depth is to be kept.

    Returns:
        (H, W) float32, 0 where neither tells a depth.

    Raises:
        ContractError: the sizes differ.
    """
    from scipy import ndimage

    if estimated.shape != rendered.shape or estimated.shape != known.shape:
        raise ContractError(
            f"depth of {estimated.shape} and {rendered.shape}, a mask of {known.shape}",
            where="depth inpainting",
            remedy="Give one size for all.",
        )
    kept = known & (rendered > 0)
    compared = kept & (estimated > 0)
    ratio = np.divide(rendered, estimated, out=np.ones(rendered.shape, np.float32), where=compared)
    factor = np.log(ratio)
    correction = factor.copy()
    for _ in range(BLURS):
        correction = ndimage.uniform_filter(correction, BLUR_SIDE, mode="nearest")
        correction[compared] = factor[compared]
    return np.where(kept, rendered, estimated * np.exp(correction)).astype(np.float32)


def _require_known(shape: tuple[int, ...], holes: Bool) -> None:
    if holes.shape != shape:
        raise ContractError(f"a mask of {holes.shape}", where="inpainting", remedy=f"Give one of {shape}.")
    if holes.all():
        raise InputError("everything is a hole", where="inpainting", remedy="Give a picture that shows something.")

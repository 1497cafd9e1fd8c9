"""Whether the camera of a video stands still: the motion that most of the picture shares, from tracked corners."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .background_plate import moving_pixels

UInt8 = NDArray[np.uint8]

MINIMUM_POINTS = 24
"""Corners that must be tracked; of fewer nothing is concluded."""
MINIMUM_SHARE = 0.5
"""Share of the corners that must move together: below it what moves may be the scene."""

_CORNERS = 400
_CORNER_QUALITY = 0.01
_CORNER_DISTANCE = 8
_RANSAC_PIXELS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class SharedMotion:
    """What most of a picture does from one frame to another.

    Attributes:
        matrix: (3, 3) float64 similarity, from pixels (x, y, 1) of the one frame to those of the other.
        pixels: how far it carries the corner of the picture that it carries farthest.
    """

    matrix: NDArray[np.float64]
    pixels: float


def shared_motion(first: UInt8, other: UInt8) -> SharedMotion | None:
    """The similarity (shift, turn, zoom) that most corners of two frames have in common.

    Corners (Shi and Tomasi 1994) are tracked by pyramidal Lucas-Kanade and must come back to within a pixel; the
    similarity is fitted by RANSAC. A still camera gives a similarity near the identity whatever moves before it, as
    long as most corners lie on what stands still.

    Args:
        first, other: (H, W, 3) uint8 sRGB of one size.

    Returns:
        None where too few corners are tracked, or too few move together, to tell.
    """
    import cv2

    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, other)]
    corners = cv2.goodFeaturesToTrack(grey[0], _CORNERS, _CORNER_QUALITY, _CORNER_DISTANCE)
    if corners is None or len(corners) < MINIMUM_POINTS:
        return None
    there, found, _ = cv2.calcOpticalFlowPyrLK(grey[0], grey[1], corners, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(grey[1], grey[0], there, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    away = np.linalg.norm((back - corners).reshape(-1, 2), axis=1)
    tracked = (found.ravel() == 1) & (found_back.ravel() == 1) & (away < 1.0)
    if tracked.sum() < MINIMUM_POINTS:
        return None
    matrix, inliers = cv2.estimateAffinePartial2D(
        corners[tracked], there[tracked], method=cv2.RANSAC, ransacReprojThreshold=_RANSAC_PIXELS
    )
    if matrix is None:
        return None
    if inliers.mean() < MINIMUM_SHARE:
        return None
    return _motion(np.vstack([matrix, [0.0, 0.0, 1.0]]), *first.shape[:2])


def motions_from_first(frames: UInt8) -> list[SharedMotion | None]:
    """What most of the picture does from the first of some frames to each of the others.

    Where a frame has too little in common with the first, the way goes by the frame before it.

    Args:
        frames: (T, H, W, 3) uint8 sRGB.

    Returns:
        T - 1 motions, None where neither way tells.
    """
    height, width = frames.shape[1:3]
    found: list[SharedMotion | None] = []
    before: SharedMotion | None = _motion(np.eye(3), height, width)
    for previous, frame in itertools.pairwise(frames):
        motion = shared_motion(frames[0], frame)
        if motion is None and before is not None and (step := shared_motion(previous, frame)) is not None:
            motion = _motion(step.matrix @ before.matrix, height, width)
        found.append(motion)
        before = motion
    return found


def changed_share(first: UInt8, other: UInt8, motion: SharedMotion | None) -> float:
    """Share of the picture that shows something else in another frame, beyond what the whole picture does.

    Args:
        first, other: (H, W, 3) uint8 sRGB of one size.
        motion: from the first to the other; None: as if the camera stood still.

    Returns:
        0 to 1, of the pixels that both frames show; 1 where there are none.
    """
    import cv2

    changed, both = moving_pixels(other, first), np.ones(first.shape[:2], bool)
    if motion is not None:
        height, width = first.shape[:2]
        back = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        aligned = cv2.warpPerspective(other, motion.matrix, (width, height), flags=back)
        nearest = cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST
        both = cv2.warpPerspective(both.astype(np.uint8), motion.matrix, (width, height), flags=nearest).astype(bool)
        changed = moving_pixels(np.where(both[..., None], aligned, first), first)
    return float(changed[both].mean()) if both.any() else 1.0


def _motion(matrix: NDArray[np.float64], height: int, width: int) -> SharedMotion:
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    moved = (corners @ matrix.T - corners)[:, :2]
    return SharedMotion(matrix, float(np.linalg.norm(moved, axis=1).max()))

"""What stands still in a video of a still camera: the background behind what moves, and where something moves.

The colour of a pixel's background is the median of its colours over time (N. J. B. McFarlane and C. P. Schofield,
"Segmentation and tracking of piglets in images", 1995): what is seen there more than half of the time. What is never
seen for that long, such as the place of a person who hardly moves, counts as background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

MEDIAN_FRAMES = 31
"""Frames, spread over the video, that the median is taken of."""
CHANGED_LEVELS = 16.0
"""Difference from the background, of the channel that differs most, averaged over 5 × 5 pixels, above which a pixel
moves: sensor noise and coding stay below 5 levels there, soft shadows mostly below 15."""
SAME_DEPTH = 0.05
"""Relative difference up to which the depth of two frames is that of the same surface: single-picture estimators
flicker by 1 to 3 %."""

_WINDOW = 5
_GROWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class BackgroundPlate:
    """What is seen behind what moves.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB.
        depth: (H, W) float32 z-depth; 0 where the background was never seen, or has no depth.
    """

    rgb: UInt8
    depth: Float32


def background_colours(frames: UInt8) -> UInt8:
    """(H, W, 3) uint8 median over at most `MEDIAN_FRAMES` of (T, H, W, 3) uint8 sRGB frames, evenly spread."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, MEDIAN_FRAMES).round().astype(int))
    some = frames[chosen]
    middle = len(some) // 2
    # A row at a time: partition copies. An even count takes the upper of the two middles, a colour that was there.
    return np.stack([np.partition(some[:, row], middle, axis=0)[middle] for row in range(some.shape[1])])


def moving_pixels(frame: UInt8, background: UInt8) -> Bool:
    """(H, W) bool, where a frame shows something before the background, grown by two pixels.

    What the whole picture has in common, as when a camera's exposure drifts, is not counted: of each channel the median
    difference is taken out first.

    Args:
        frame, background: (H, W, 3) uint8 sRGB.
    """
    import cv2

    size = (_WINDOW, _WINDOW)
    differences = [
        cv2.blur(frame[..., channel].astype(np.float32), size)
        - cv2.blur(background[..., channel].astype(np.float32), size)
        for channel in range(3)
    ]
    apart = [np.abs(difference - np.median(difference)) for difference in differences]
    changed = (np.maximum.reduce(apart) > CHANGED_LEVELS).astype(np.uint8)
    return cv2.dilate(changed, np.ones((_GROWN, _GROWN), np.uint8)).astype(bool)


def held_depth(depth: Float32, still: Float32, moving: Bool) -> Float32:
    """(H, W) float32: a frame's depth, but where nothing moves, and the two agree to `SAME_DEPTH`, that of before.

    Estimates of single pictures flicker; what stands still must not. Where they disagree by more, the scene changed in
    a way that colours do not tell, and the frame's own depth is kept.

    Args:
        depth: (H, W) float32 of the frame, 0 = invalid, in the unit of `still`.
        still: (H, W) float32 of what stands still, 0 = not known.
        moving: (H, W) bool, of the frame.
    """
    known = ~moving & (still > 0)
    agrees = (depth == 0) | (np.abs(depth - still) <= SAME_DEPTH * still)
    return np.where(known & agrees, still, depth).astype(np.float32)

"""Whether a clip's poses fit its pictures: the first frame, moved by depth and poses, must look like the later ones.

Files cannot say that their poses are world-to-camera, in reversed time or of other axes: every loader accepts them, and
training goes wrong without a message. Points of the first frame, placed by its depth, are projected into a few later
frames with the poses as they are given and as they would be read under other conventions; where another convention
makes the colours agree clearly better, the given one is wrong. This finds a wrong convention, not small errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera_conventions import invert_rigid

Float64 = NDArray[np.float64]

_POINTS = 6000
_FEWEST_POINTS = 64
_LARGEST_DIFFERENCE = 64.0
"""Colour differences beyond this many of 255 levels count as this many: what is newly seen differs anyhow."""
_CLEARLY_BETTER = 0.6
_LEVELS_BETTER = 1.5
_EQUALLY_GOOD = 1.05
_NEAR = 1e-3
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True)
class BetterConvention:
    """A convention that fits a clip's pictures clearly better than the given one.

    Attributes:
        name: what the poses seem to be; several, joined by "or", where they fit alike.
        error, given_error: mean colour difference in levels of 255 of this convention and of the given one, over the
            points that both see.
    """

    name: str
    error: float
    given_error: float


def compared_frames(c2w: NDArray[Any]) -> tuple[int, ...]:
    """Frames that `better_convention` looks at, ascending, 0 first: that with the farthest pose, and three at fixed
    places, because a camera that circles may be back at its start when the clip ends."""
    poses = np.asarray(c2w, np.float64)
    last = len(poses) - 1
    moved = np.abs(invert_rigid(poses[0]) @ poses - np.eye(4)).max(axis=(1, 2))
    places = {0, int(np.argmax(moved)), round(last / 8), round(3 * last / 8), last}
    return tuple(sorted(places))


def better_convention(
    pictures: Mapping[int, NDArray[np.uint8]], depth: NDArray[Any], c2w: NDArray[Any], intrinsics: NDArray[Any]
) -> BetterConvention | None:
    """The convention that fits clearly better than camera-to-world with OpenCV axes in the pictures' order, or None.

    Args:
        pictures: (H, W, 3) uint8 by frame number, those of `compared_frames`.
        depth: (H, W) z-depth of frame 0, 0 or not finite = invalid.
        c2w: (T, 4, 4) poses as the file gives them.
        intrinsics: (T, 4) fx, fy, cx, cy in pixels, centres at +0.5.
    """
    poses = np.asarray(c2w, np.float64)
    given = _relative(poses)
    others = {
        "world-to-camera": _relative(invert_rigid(poses)),
        "in reversed time order": _relative(poses[::-1]),
        "of OpenGL axes (y up, z backward)": _FLIP @ given @ _FLIP,
    }
    points, colours = _points(pictures[0], depth, np.asarray(intrinsics, np.float64)[0])
    if len(points) < _FEWEST_POINTS:
        return None
    moved = [frame for frame in pictures if frame]
    differences = _differences(points, colours, pictures, moved, given, intrinsics)
    errors: dict[str, tuple[float, float]] = {}
    for name, transforms in others.items():
        found = _differences(points, colours, pictures, moved, transforms, intrinsics)
        both = np.isfinite(differences) & np.isfinite(found)
        if both.sum() >= _FEWEST_POINTS:
            errors[name] = float(found[both].mean()), float(differences[both].mean())
    better = {name: pair for name, pair in errors.items() if _is_better(*pair)}
    if not better:
        return None
    error, given_error = min(better.values())
    names = [name for name, pair in better.items() if pair[0] <= error * _EQUALLY_GOOD]
    return BetterConvention(" or ".join(names), error, given_error)


def _is_better(error: float, given: float) -> bool:
    return error < _CLEARLY_BETTER * given and given - error > _LEVELS_BETTER


def _relative(poses: Float64) -> Float64:
    """(T, 4, 4) from the first camera's frame to each camera's."""
    return invert_rigid(poses) @ poses[0]


def _points(picture: NDArray[np.uint8], depth: NDArray[Any], lens: Float64) -> tuple[Float64, Float64]:
    """Points (N, 3) of a grid of pixels with valid depth in the camera's frame, and their colours (N, 3)."""
    height, width = depth.shape
    step = max(1, int(np.sqrt(height * width / _POINTS)))
    rows, columns = (grid.ravel() for grid in np.mgrid[step // 2 : height : step, step // 2 : width : step])
    z = depth[rows, columns].astype(np.float64)
    valid = np.isfinite(z) & (z > 0)
    rows, columns, z = rows[valid], columns[valid], z[valid]
    fx, fy, cx, cy = lens
    points = np.stack([(columns + 0.5 - cx) / fx * z, (rows + 0.5 - cy) / fy * z, z], axis=1)
    return points, picture[rows, columns].astype(np.float64)


def _differences(
    points: Float64,
    colours: Float64,
    pictures: Mapping[int, NDArray[np.uint8]],
    frames: list[int],
    transforms: Float64,
    intrinsics: NDArray[Any],
) -> Float64:
    """(frames, N) mean absolute colour difference of each point, NaN where a frame does not see it."""
    rows = []
    for frame in frames:
        seen = points @ transforms[frame, :3, :3].T + transforms[frame, :3, 3]
        colour = _sampled(pictures[frame], seen, np.asarray(intrinsics[frame], np.float64))
        rows.append(np.minimum(np.abs(colour - colours).mean(axis=1), _LARGEST_DIFFERENCE))
    return np.stack(rows) if rows else np.full((0, len(points)), np.nan)


def _sampled(picture: NDArray[np.uint8], points: Float64, lens: Float64) -> Float64:
    """Colours (N, 3) of a picture where it shows the points, between pixels linearly; NaN outside."""
    height, width = picture.shape[:2]
    fx, fy, cx, cy = lens
    z = np.maximum(points[:, 2], _NEAR)
    x, y = fx * points[:, 0] / z + cx - 0.5, fy * points[:, 1] / z + cy - 0.5
    inside = (points[:, 2] > _NEAR) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = x[inside], y[inside]
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    right, down = (x - left)[:, None], (y - top)[:, None]
    colour = (picture[top, left] * (1 - right) + picture[top, left + 1] * right) * (1 - down) + (
        picture[top + 1, left] * (1 - right) + picture[top + 1, left + 1] * right
    ) * down
    sampled = np.full((len(points), 3), np.nan)
    sampled[inside] = colour
    return sampled

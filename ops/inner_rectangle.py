"""The back wall's rectangle in a one-point perspective picture, from its edges and corner seams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

_WORKING_WIDTH = 320
_OPTIONS = 15
# A side's distance from the vanishing point, as a share of the picture's width or height: below the least the camera
# would have no room to move, beyond the border's margin the wall would not be seen.
_LEAST = 0.18
_MARGIN = 0.04
# A side's usual place, as a share of the way from the vanishing point to the border: in rooms, and in pictures without
# a vanishing point, which bend less the more of them is back wall.
_USUAL = 0.6
_USUAL_WITHOUT_SEARCH = 0.75
_PULL = 0.35
_MISPLACED = 0.6
_SEAM_SAMPLES = 48
_ANGLES = 90
_AXIS_ANGLE = np.radians(4.0)


@dataclass(frozen=True, slots=True)
class InnerRectangle:
    """Edges in pixels (x of left and right, y of top and bottom), pixel centres at +0.5."""

    left: float
    top: float
    right: float
    bottom: float


def find_inner_rectangle(
    picture: UInt8, vanishing: tuple[float, float], segments: Float64, *, search: bool
) -> InnerRectangle:
    """Choose the rectangle whose sides and corner seams lie on the picture's edges.

    Every combination of 15 positions a side, and then of 15 around the best of them, is scored by

    * the mean edge strength along its four sides (in the side's own direction) and along the four rays that continue
      from the vanishing point through its corners to the border: the seams between floor, ceiling and walls;
    * less the share of plumb segments on its floor and ceiling and of level segments on its side walls, which a room
      does not have there (the cue of D. Lee, M. Hebert, T. Kanade, "Geometric Reasoning for Single Image Structure
      Recovery", CVPR 2009);
    * less a mild penalty for sides far from their usual place.

    Args:
        picture: (H, W, 3) uint8 sRGB.
        vanishing: x, y in pixels, inside the picture.
        segments: (N, 4) x1, y1, x2, y2 in pixels, as from `vanishing_point.detect_segments`.
        search: false takes each side's usual place.

    Returns:
        A rectangle that holds the vanishing point, inside the picture.
    """
    height, width = picture.shape[:2]
    x, y = vanishing
    rooms = np.array([x, y, width - x, height - y])
    sides = np.array([width, height, width, height], dtype=np.float64)
    least, greatest = _limits(rooms, sides)
    usual = np.clip((_USUAL if search else _USUAL_WITHOUT_SEARCH) * rooms, least, greatest)
    best = usual
    if search:
        evidence = _Evidence.of(picture, vanishing, segments)
        low, high = least, greatest
        for _ in range(2):
            distances = np.linspace(low, high, _OPTIONS, axis=1)
            score = evidence.score(distances)
            for axis in range(4):
                penalty = _PULL * ((distances[axis] - usual[axis]) / sides[axis]) ** 2
                score = score - np.expand_dims(penalty, tuple(other for other in range(4) if other != axis))
            best = distances[np.arange(4), np.unravel_index(int(np.argmax(score)), score.shape)]
            step = (high - low) / (_OPTIONS - 1)
            low, high = np.maximum(best - step, least), np.minimum(best + step, greatest)
    left, top, right, bottom = map(float, best)
    return InnerRectangle(x - left, y - top, x + right, y + bottom)


def _limits(rooms: Float64, sides: Float64) -> tuple[Float64, Float64]:
    """Least and greatest distance of each side from the vanishing point; the border is `rooms` pixels away."""
    greatest = rooms - _MARGIN * sides
    return np.minimum(_LEAST * sides, greatest), greatest


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Edges of the shrunken picture, and where plumb and level segments lie about the vanishing point.

    Attributes:
        gradient_x, gradient_y: (h, w) grey levels a pixel.
        scale: (2,) working pixels per pixel of the picture, along x and y.
        point: (2,) the vanishing point, working pixels.
        steeper_plumb: (2, 2, 91) length of plumb segments steeper about the point than each angle, and …
        flatter_level: (2, 2, 91) … of level segments flatter than it, as shares of all in the quadrant; quadrants are
            numbered by (right of the point, below the point).
    """

    gradient_x: Float64
    gradient_y: Float64
    scale: Float64
    point: Float64
    steeper_plumb: Float64
    flatter_level: Float64

    @classmethod
    def of(cls, picture: UInt8, vanishing: tuple[float, float], segments: Float64) -> _Evidence:
        import cv2

        height, width = picture.shape[:2]
        shrink = min(1.0, _WORKING_WIDTH / width)
        size = (max(2, round(width * shrink)), max(2, round(height * shrink)))
        grey = cv2.cvtColor(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        smooth = cv2.GaussianBlur(grey, (0, 0), 1.0).astype(np.float32)
        scale = np.array([size[0] / width, size[1] / height])
        steeper, flatter = _misplaced_shares(segments, np.array(vanishing), float(np.hypot(height, width)))
        return cls(
            gradient_x=cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8).astype(np.float64),
            gradient_y=cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8).astype(np.float64),
            scale=scale,
            point=np.array(vanishing) * scale,
            steeper_plumb=steeper,
            flatter_level=flatter,
        )

    def score(self, distances: Float64) -> Float64:
        """(L, T, R, B) worth of every combination of the sides' distances, (4, options), from the vanishing point."""
        left, right = (self.point[0] + sign * distances[i] * self.scale[0] for i, sign in ((0, -1), (2, 1)))
        top, bottom = (self.point[1] + sign * distances[i] * self.scale[1] for i, sign in ((1, -1), (3, 1)))
        upright, level = _strength(self.gradient_x, self.gradient_y), _strength(self.gradient_y, self.gradient_x)
        at_left = _mean_along_columns(upright, left, top, bottom)[:, :, None, :]
        at_right = _mean_along_columns(upright, right, top, bottom).transpose(1, 0, 2)[None]
        at_top = _mean_along_columns(level.T, top, left, right).transpose(1, 0, 2)[..., None]
        at_bottom = _mean_along_columns(level.T, bottom, left, right).transpose(1, 2, 0)[:, None]
        corners = (
            self._corner(left, top, distances[0], distances[1], 0, 0)[:, :, None, None]
            + self._corner(left, bottom, distances[0], distances[3], 0, 1)[:, None, None, :]
            + self._corner(right, top, distances[2], distances[1], 1, 0).T[None, :, :, None]
            + self._corner(right, bottom, distances[2], distances[3], 1, 1)[None, None]
        )
        return (at_left + at_right + at_top + at_bottom + corners) / 8

    def _corner(self, xs: Float64, ys: Float64, across: Float64, down: Float64, right: int, below: int) -> Float64:
        """(xs, ys) worth of the seam from each corner outwards."""
        angle = np.arctan2(down[None, :], across[:, None]) / (np.pi / 2) * _ANGLES
        number = np.round(angle).astype(int)
        misplaced = self.steeper_plumb[right, below][number] + self.flatter_level[right, below][number]
        return _seams(self.gradient_x, self.gradient_y, self.point, xs, ys) - 2 * _MISPLACED * misplaced


def _misplaced_shares(segments: Float64, point: Float64, diagonal: float) -> tuple[Float64, Float64]:
    """For each quadrant and whole degree of a seam: plumb length above the angle, level length below it, (2, 2, 91)."""
    step = segments[:, 2:] - segments[:, :2]
    tilt = np.arctan2(np.abs(step[:, 1]), np.abs(step[:, 0]))
    samples = (np.arange(16) + 0.5) / 16
    from_point = segments[:, None, :2] + samples[None, :, None] * step[:, None] - point
    degrees = np.degrees(np.arctan2(np.abs(from_point[..., 1]), np.abs(from_point[..., 0])))
    quadrant = (from_point[..., 0] > 0) * 2 + (from_point[..., 1] > 0)
    bins = quadrant * _ANGLES + np.minimum(degrees.astype(int), _ANGLES - 1)
    weight = np.broadcast_to(np.hypot(step[:, 0], step[:, 1])[:, None] / 16, bins.shape)

    def lengths(chosen: NDArray[np.bool_]) -> Float64:
        total = np.bincount(bins[chosen].ravel(), weight[chosen].ravel(), minlength=4 * _ANGLES)
        return np.asarray(total, dtype=np.float64).reshape(2, 2, _ANGLES)

    plumb, level = lengths(tilt > np.pi / 2 - _AXIS_ANGLE), lengths(tilt < _AXIS_ANGLE)
    # A quadrant with hardly any segments should not decide anything: hence the length that is added.
    everything = (plumb + level).sum(axis=2, keepdims=True) + 0.1 * diagonal
    none = np.zeros((2, 2, 1))
    steeper = np.concatenate([np.cumsum(plumb[..., ::-1], axis=2)[..., ::-1], none], axis=2) / everything
    flatter = np.concatenate([none, np.cumsum(level, axis=2)], axis=2) / everything
    return steeper, flatter


def _strength(across: Float64, along: Float64) -> Float64:
    """0..1: how much of an edge there is here, in one direction; saturates, so that one bright window does not win.

    The largest within one pixel, because the options do not fall exactly on the edges.
    """
    import cv2

    clean = np.maximum(np.abs(across) - np.abs(along), 0.0)
    return cv2.dilate(clean / (clean + 6.0), np.ones((3, 3), np.uint8)).astype(np.float64)


def _mean_along_columns(strength: Float64, columns: Float64, starts: Float64, ends: Float64) -> Float64:
    """(columns, starts, ends) mean strength down each column from start to end."""
    height, width = strength.shape
    total = np.concatenate([np.zeros((1, width)), np.cumsum(strength, axis=0)])
    column = np.clip(columns.astype(int), 0, width - 1)
    first = np.clip(np.round(starts).astype(int), 0, height)
    last = np.clip(np.round(ends).astype(int), 0, height)
    summed = total[last][:, column].T[:, None, :] - total[first][:, column].T[:, :, None]
    return summed / np.maximum(last[None, None, :] - first[None, :, None], 1)


def _seams(gradient_x: Float64, gradient_y: Float64, point: Float64, xs: Float64, ys: Float64) -> Float64:
    """(xs, ys) mean edge strength along the ray from the vanishing point, from the corner (x, y) to the border."""
    height, width = gradient_x.shape
    step_x, step_y = xs[:, None, None] - point[0], ys[None, :, None] - point[1]
    reach_x = np.where(step_x > 0, (width - point[0]) / np.abs(step_x), point[0] / np.abs(step_x))
    reach_y = np.where(step_y > 0, (height - point[1]) / np.abs(step_y), point[1] / np.abs(step_y))
    share = 1.0 + np.linspace(0.02, 0.98, _SEAM_SAMPLES) * (np.minimum(reach_x, reach_y) - 1.0)
    length = np.hypot(step_x, step_y)
    normal = -step_y / length, step_x / length
    best = np.zeros(share.shape)
    for offset in (-1.0, 0.0, 1.0):
        column = np.clip((point[0] + step_x * share + offset * normal[0]).astype(int), 0, width - 1)
        row = np.clip((point[1] + step_y * share + offset * normal[1]).astype(int), 0, height - 1)
        across = np.abs(gradient_x[row, column] * normal[0] + gradient_y[row, column] * normal[1])
        along = np.abs(gradient_x[row, column] * normal[1] - gradient_y[row, column] * normal[0])
        clean = np.maximum(across - along, 0.0)
        best = np.maximum(best, clean / (clean + 6.0))
    return best.mean(axis=2)

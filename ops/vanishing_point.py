"""The point that a picture's receding lines run to, from its straight line segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

CONFIDENCE_THRESHOLD = 0.25
"""Below this confidence the picture's centre is taken instead."""

_WORKING_SIDE = 640
_TOLERANCE = np.radians(2.5)
_AXIS_ANGLE = np.radians(4.0)
_SHORTEST = 0.03
_LONGEST_SEGMENTS = 400
_PAIRS = 12_000
_REFINEMENTS = 4
_SECTORS = 12
# Share of the length that segments without any order lend to their best point (measured on uniform random segments:
# 0.18 on average for 20 of them, 0.11 for 60, 0.05 for 400), and the share beyond which more says nothing.
_CHANCE_SHARE = 0.18
_CLEAR_SHARE = 0.55
_CLEAR_SECTORS = 5
_CLEAR_COUNT = 12


@dataclass(frozen=True, slots=True)
class VanishingPoint:
    """Where the receding lines meet.

    Attributes:
        x, y: pixels, pixel centres at +0.5.
        confidence: 0..1, from the share of segments that agree, their number and the spread of their directions.
        fallback: true where the confidence was too low and (x, y) is the picture's centre.
        supporting: (N,) bool, the segments that run to the point.
    """

    x: float
    y: float
    confidence: float
    fallback: bool
    supporting: NDArray[np.bool_]


def detect_segments(picture: UInt8) -> Float64:
    """Straight line segments of a picture, longest first.

    OpenCV's LSD (von Gioi et al., "LSD: A Fast Line Segment Detector with a False Detection Control", 2010) on the
    grey picture, shrunk to at most 640 pixels a side so that what counts as a line does not depend on resolution.

    Args:
        picture: (H, W, 3) uint8 sRGB.

    Returns:
        (N, 4) float64: x1, y1, x2, y2 in pixels of `picture`, pixel centres at +0.5.
    """
    import cv2

    height, width = picture.shape[:2]
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    found = cv2.createLineSegmentDetector().detect(grey)[0]
    if found is None:
        return np.zeros((0, 4))
    factor = np.array([width / grey.shape[1], height / grey.shape[0]] * 2)
    # OpenCV puts pixel centres at whole numbers.
    segments = (np.asarray(found, dtype=np.float64).reshape(-1, 4) + 0.5) * factor
    lengths = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
    return segments[np.argsort(-lengths, kind="stable")]


def find_vanishing_point(segments: Float64, height: int, width: int, *, seed: int) -> VanishingPoint:
    """The vanishing point of the receding lines, inside the picture's middle part.

    Candidates are the crossings of pairs of segments (all of them, or as many as the seed draws). Each segment that is
    neither level nor plumb votes with its length for the candidates that it points at. A candidate whose votes all come
    from one direction is worth little: votes are summed by direction and their square roots added. The best candidate
    is refined by weighted least squares over the segments that agree.

    Args:
        segments: (N, 4) x1, y1, x2, y2 in pixels, as from `detect_segments`.
        height, width: the picture's size, pixels.
        seed: for the draw of pairs.

    Returns:
        The point, always with 0.2 ≤ x / width ≤ 0.8 and 0.2 ≤ y / height ≤ 0.8.
    """
    receding = _receding(segments, height, width)
    lines = segments[receding]
    nothing = VanishingPoint(width / 2, height / 2, 0.0, True, np.zeros(len(segments), dtype=bool))
    if len(lines) < 2:
        return nothing
    candidates = _candidates(lines, height, width, np.random.default_rng(seed))
    if not len(candidates):
        return nothing
    point = candidates[int(np.argmax(_scores(lines, candidates)))]
    for _ in range(_REFINEMENTS):
        point = _refine(lines, point, height, width)
    confidence = _confidence(lines, point)
    if confidence < CONFIDENCE_THRESHOLD:
        return VanishingPoint(width / 2, height / 2, confidence, True, nothing.supporting)
    supporting = nothing.supporting.copy()
    supporting[np.flatnonzero(receding)] = _agreement(lines, point[None])[0] > 0
    return VanishingPoint(float(point[0]), float(point[1]), confidence, False, supporting)


def _receding(segments: Float64, height: int, width: int) -> NDArray[np.bool_]:
    """Which of the longest segments are long enough, and neither level nor plumb: those run to points at infinity."""
    step = segments[:, 2:] - segments[:, :2]
    lengths = np.hypot(step[:, 0], step[:, 1])
    angle = np.arctan2(np.abs(step[:, 1]), np.abs(step[:, 0]))
    slanted = (angle > _AXIS_ANGLE) & (angle < np.pi / 2 - _AXIS_ANGLE)
    chosen = slanted & (lengths >= _SHORTEST * np.hypot(height, width))
    order = np.argsort(np.where(chosen, -lengths, np.inf), kind="stable")
    chosen[order[_LONGEST_SEGMENTS:]] = False
    return chosen


def _candidates(lines: Float64, height: int, width: int, generator: np.random.Generator) -> Float64:
    """(K, 2) crossings of pairs of lines that fall into the picture's middle part."""
    first, second = np.triu_indices(len(lines), 1)
    if len(first) > _PAIRS:
        drawn = np.sort(generator.choice(len(first), _PAIRS, replace=False))
        first, second = first[drawn], second[drawn]
    homogeneous = _homogeneous(lines)
    crossing = np.cross(homogeneous[first], homogeneous[second])
    finite = np.abs(crossing[:, 2]) > 1e-9
    points = crossing[finite, :2] / crossing[finite, 2:]
    return points[_in_middle(points, height, width)]


def _homogeneous(lines: Float64) -> Float64:
    """(N, 3) unit normal and offset: n · p + c = 0."""
    step = lines[:, 2:] - lines[:, :2]
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.hypot(step[:, 0], step[:, 1])[:, None]
    offset = -np.einsum("ij,ij->i", normal, lines[:, :2])
    return np.concatenate([normal, offset[:, None]], axis=1)


def _in_middle(points: Float64, height: int, width: int) -> NDArray[np.bool_]:
    share = points / np.array([width, height])
    return np.all((share >= 0.2) & (share <= 0.8), axis=1)


def _agreement(lines: Float64, points: Float64) -> Float64:
    """(K, N) 0..1: how well each line points at each point, 0 beyond the tolerance and for a point on the segment."""
    middle = (lines[:, :2] + lines[:, 2:]) / 2
    half = (lines[:, 2:] - lines[:, :2]) / 2
    reach = np.hypot(half[:, 0], half[:, 1])
    towards = points[:, None] - middle[None]
    distance = np.hypot(towards[..., 0], towards[..., 1])
    across = np.abs(towards[..., 0] * half[:, 1] - towards[..., 1] * half[:, 0])
    sine = across / np.maximum(distance * reach, 1e-9)
    agreement = np.maximum(0.0, 1.0 - np.arcsin(np.minimum(sine, 1.0)) / _TOLERANCE)
    return np.where(distance > reach, agreement, 0.0)


def _sectors(lines: Float64, points: Float64) -> NDArray[np.int64]:
    """(K, N) number of the sector, 0..11 about the point, in which each line's middle lies."""
    towards = (lines[:, :2] + lines[:, 2:])[None] / 2 - points[:, None]
    turn = np.arctan2(towards[..., 1], towards[..., 0]) / (2 * np.pi) + 0.5
    return np.minimum((turn * _SECTORS).astype(np.int64), _SECTORS - 1)


def _votes_by_sector(lines: Float64, points: Float64) -> Float64:
    """(K, 12) length of the agreeing lines in each sector about each point."""
    lengths = np.hypot(lines[:, 2] - lines[:, 0], lines[:, 3] - lines[:, 1])
    votes = _agreement(lines, points) * lengths
    bins = _sectors(lines, points) + np.arange(len(points))[:, None] * _SECTORS
    total = np.bincount(bins.ravel(), votes.ravel(), minlength=len(points) * _SECTORS)
    return np.asarray(total, dtype=np.float64).reshape(-1, _SECTORS)


def _scores(lines: Float64, points: Float64) -> Float64:
    """(K,) worth of each candidate; in blocks, so that memory stays small."""
    blocks = [np.sqrt(_votes_by_sector(lines, points[i : i + 1024])).sum(axis=1) for i in range(0, len(points), 1024)]
    return np.concatenate(blocks)


def _refine(lines: Float64, point: Float64, height: int, width: int) -> Float64:
    """The point nearest to the agreeing lines, weighted by agreement × length; unchanged where it would run off."""
    lengths = np.hypot(lines[:, 2] - lines[:, 0], lines[:, 3] - lines[:, 1])
    weight = _agreement(lines, point[None])[0] * lengths
    homogeneous = _homogeneous(lines)
    normal, offset = homogeneous[:, :2], homogeneous[:, 2]
    matrix = np.einsum("n,ni,nj->ij", weight, normal, normal)
    if np.linalg.cond(matrix) > 1e8:
        return point
    moved = np.linalg.solve(matrix, -np.einsum("n,ni,n->i", weight, normal, offset))
    return moved if _in_middle(moved[None], height, width)[0] else point


def _confidence(lines: Float64, point: Float64) -> float:
    lengths = np.hypot(lines[:, 2] - lines[:, 0], lines[:, 3] - lines[:, 1])
    agrees = _agreement(lines, point[None])[0] > 0
    share = float(lengths[agrees].sum() / lengths.sum())
    beyond_chance = (share - _CHANCE_SHARE) / (_CLEAR_SHARE - _CHANCE_SHARE)
    spread = len(np.unique(_sectors(lines, point[None])[0][agrees])) / _CLEAR_SECTORS
    number = int(agrees.sum()) / _CLEAR_COUNT
    return float(np.clip(beyond_chance, 0.0, 1.0) * min(1.0, spread) * min(1.0, number))

"""Keeping a camera path clear of surfaces: inside the scene, out of its objects, at a distance from both.

The scene is known only through two functions, so that a ray caster, a depth map or an analytic shape can stand behind
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ConfigError, InputError
from .trajectories import CameraPath, is_reversed, reversed_in_time, scale_path

DistanceToSurface = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""(N, 3) world points → (N,) unsigned distances to the nearest surface, metres; inf where there is none."""

FirstHit = Callable[[NDArray[np.float32], NDArray[np.float32], float], NDArray[np.floating]]
"""(N, 3) origins, (N, 3) unit directions, greatest distance → (N,) distances to the first surface, inf for a miss."""

SMALLEST_FACTOR = 0.02
"""A path that has to be shortened below this share of its motion shows nothing that a still picture does not."""

_BISECTIONS = 12


@dataclass(frozen=True, slots=True, eq=False)
class FittedPath:
    """A path that keeps clear.

    Attributes:
        path: the path, shortened where that was needed.
        factor: share of the motion that was kept, (0, 1]; 1 where the path was clear as given.
        clearance: (T,) float32 distance from each camera centre to the nearest surface, metres.
    """

    path: CameraPath
    factor: float
    clearance: NDArray[np.float32]


def fit_path(
    path: CameraPath | Callable[[float], CameraPath],
    *,
    distance_to_surface: DistanceToSurface,
    visible: FirstHit,
    minimum_clearance: float,
) -> FittedPath:
    """Shorten a path until no camera centre is nearer than `minimum_clearance` to a surface and none lies behind one.

    A camera is not behind a surface when the straight way from the previous camera to it hits nothing; chained from the
    first camera, this keeps every camera in the scene's free space, walls included, even where a wall is thinner than
    one frame's motion. The factor is found by bisection between `SMALLEST_FACTOR` and 1 to 0.0003; what is returned has
    been checked itself, and the same inputs give the same factor. A path that runs backwards to the conditioning camera
    is fitted as its counterpart, so that the two keep the same share of their motion.

    Args:
        path: a path, which is shortened by `scale_path`, or a function that makes it for a factor.
        distance_to_surface: see `DistanceToSurface`.
        visible: see `FirstHit`.
        minimum_clearance: metres, ≥ 0.

    Raises:
        ConfigError: `minimum_clearance` is negative.
        InputError: the first camera itself is too close, or no factor down to `SMALLEST_FACTOR` keeps clear.
    """
    if not minimum_clearance >= 0.0:
        raise ConfigError(f"minimum clearance {minimum_clearance}", where="clearance", remedy="Give metres, 0 or more.")
    given = path
    if isinstance(given, CameraPath) and is_reversed(given):
        forwards = fit_path(
            reversed_in_time(given),
            distance_to_surface=distance_to_surface,
            visible=visible,
            minimum_clearance=minimum_clearance,
        )
        clearance = np.ascontiguousarray(forwards.clearance[::-1])
        return FittedPath(reversed_in_time(forwards.path), forwards.factor, clearance)
    scaled = given if callable(given) else (lambda factor: scale_path(given, factor))
    tests = _ClearanceTests(distance_to_surface, visible, minimum_clearance)
    whole = given(1.0) if callable(given) else given
    clearance = tests.clearance(whole)
    if tests.fault(whole, clearance) is None:
        return FittedPath(whole, 1.0, clearance)
    if clearance[0] < minimum_clearance:
        raise InputError(
            f"the first camera is {clearance[0]:.3g} m from a surface, {minimum_clearance:.3g} m are required",
            where=f"trajectory {whole.name}",
            remedy="Move the conditioning camera into free space or lower the minimum clearance.",
        )
    return _longest_clear(scaled, tests)


def _longest_clear(scaled: Callable[[float], CameraPath], tests: _ClearanceTests) -> FittedPath:
    path = scaled(SMALLEST_FACTOR)
    best = FittedPath(path, SMALLEST_FACTOR, tests.clearance(path))
    fault = tests.fault(path, best.clearance)
    if fault is not None:
        raise InputError(
            f"{fault}, even with {SMALLEST_FACTOR:.0%} of the motion",
            where=f"trajectory {path.name}",
            remedy="Leave this trajectory out for the scene or lower the minimum clearance.",
        )
    blocked = 1.0
    for _ in range(_BISECTIONS):
        factor = (best.factor + blocked) / 2.0
        path = scaled(factor)
        clearance = tests.clearance(path)
        if tests.fault(path, clearance) is None:
            best = FittedPath(path, factor, clearance)
        else:
            blocked = factor
    return best


@dataclass(frozen=True, slots=True)
class _ClearanceTests:
    distance_to_surface: DistanceToSurface
    visible: FirstHit
    minimum: float

    def clearance(self, path: CameraPath) -> NDArray[np.float32]:
        centres = np.ascontiguousarray(path.c2w[:, :3, 3])
        return np.asarray(self.distance_to_surface(centres), dtype=np.float32)

    def fault(self, path: CameraPath, clearance: NDArray[np.float32]) -> str | None:
        """What is wrong with the path, or None."""
        # A distance that is not a number is no clearance: hence the negation.
        close = ~(clearance >= self.minimum)
        if close.any():
            frame = int(np.argmax(close))
            return f"frame {frame} is {clearance[frame]:.3g} m from a surface, {self.minimum:.3g} m are required"
        blocked = self._blocked(path)
        return None if blocked is None else f"a surface stands between frames {blocked - 1} and {blocked}"

    def _blocked(self, path: CameraPath) -> int | None:
        """First frame that cannot be reached from the one before in a straight line."""
        centres = path.c2w[:, :3, 3]
        steps = np.diff(centres, axis=0)
        length = np.linalg.norm(steps, axis=1)
        moving = np.flatnonzero(length > 0.0)
        if len(moving) == 0:
            return None
        directions = steps[moving] / length[moving, None]
        origins = np.ascontiguousarray(centres[moving])
        hit = np.asarray(self.visible(origins, directions, float(length.max())))
        behind = moving[hit <= length[moving]]
        return int(behind[0]) + 1 if len(behind) else None

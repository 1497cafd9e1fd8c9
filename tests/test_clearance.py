"""Clearance: paths in analytic scenes (rooms, spheres, thin walls) stay in free space and keep their distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ConfigError, InputError
from sceneloom.ops import trajectories
from sceneloom.ops.clearance import SMALLEST_FACTOR, FittedPath, fit_path
from sceneloom.ops.trajectories import CameraPath, TrajectoryContext, build_path, path_from_cameras, scale_path


class BoxRoom:
    """The inside of an axis-aligned box, from `low` to `high`."""

    def __init__(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> None:
        self.low, self.high = np.array(low), np.array(high)

    def distance(self, points: np.ndarray) -> np.ndarray:
        inside = np.minimum(points - self.low, self.high - points)
        beyond = np.linalg.norm(np.maximum(-inside, 0.0), axis=1)
        return np.where((inside >= 0.0).all(axis=1), inside.min(axis=1), beyond)

    def first_hit(self, origins: np.ndarray, directions: np.ndarray, max_distance: float) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = (self.low - origins) / directions, (self.high - origins) / directions
        near, far = np.minimum(low, high).max(axis=1), np.maximum(low, high).min(axis=1)
        hit = np.where((origins > self.low).all(axis=1) & (origins < self.high).all(axis=1), far, near)
        return np.where((hit > 0.0) & (near <= far) & (hit <= max_distance), hit, np.inf)


class Sphere:
    def __init__(self, centre: tuple[float, float, float], radius: float) -> None:
        self.centre, self.radius = np.array(centre), radius

    def distance(self, points: np.ndarray) -> np.ndarray:
        return np.abs(np.linalg.norm(points - self.centre, axis=1) - self.radius)

    def first_hit(self, origins: np.ndarray, directions: np.ndarray, max_distance: float) -> np.ndarray:
        to_centre = self.centre - origins
        along = (to_centre * directions).sum(axis=1)
        half_square = self.radius**2 - (to_centre**2).sum(axis=1) + along**2
        half = np.sqrt(np.maximum(half_square, 0.0))
        hit = np.where(along - half > 0.0, along - half, along + half)
        return np.where((half_square > 0.0) & (hit > 0.0) & (hit <= max_distance), hit, np.inf)


def fit(path: CameraPath, scene: BoxRoom | Sphere, minimum_clearance: float) -> FittedPath:
    return fit_path(
        path, distance_to_surface=scene.distance, visible=scene.first_hit, minimum_clearance=minimum_clearance
    )


CONTEXT = TrajectoryContext(frames=61, centre_depth=4.0, radius=3.0, scene_scale=3.0)
ROOMY = BoxRoom((-9.0, -9.0, -9.0), (9.0, 9.0, 9.0))


def test_a_clear_path_stays_as_it_is() -> None:
    path = build_path("left", CONTEXT, seed=1)
    fitted = fit(path, ROOMY, 0.2)
    assert fitted.factor == 1.0
    assert fitted.path is path
    np.testing.assert_allclose(fitted.clearance, ROOMY.distance(path.c2w[:, :3, 3]), rtol=1e-6)


def test_a_path_is_cut_to_the_room_as_far_as_it_can_go() -> None:
    path = build_path("left", CONTEXT, seed=1)
    reach = -path.c2w[-1, 0, 3]
    room = BoxRoom((-0.8, -2.0, -2.0), (2.0, 2.0, 6.0))
    fitted = fit(path, room, 0.3)
    assert fitted.factor == pytest.approx(0.5 / reach, abs=0.0005)
    assert fitted.clearance.min() >= 0.3
    assert fitted.path.movement_factor == fitted.factor
    assert fitted.path.c2w.tobytes() == scale_path(path, fitted.factor).c2w.tobytes()


@given(st.sampled_from(trajectories.names()), st.integers(0, 1000), st.floats(0.4, 1.5))
@settings(deadline=None, max_examples=60)
def test_no_camera_comes_too_close_to_any_wall(name: str, seed: int, half: float) -> None:
    room = BoxRoom((-half, -half, -half), (half, half, half))
    fitted = fit(build_path(name, CONTEXT, seed=seed), room, 0.2)
    centres = fitted.path.c2w[:, :3, 3]
    assert (room.distance(centres) >= 0.2 - 1e-6).all()
    assert (np.abs(centres) < half).all()
    assert SMALLEST_FACTOR <= fitted.factor <= 1.0


@pytest.mark.parametrize("half", [0.5, 3.0])
def test_a_reversed_path_keeps_what_its_counterpart_keeps(half: float) -> None:
    room = BoxRoom((-half, -half, -half), (half, half, half))
    for name in trajectories.LYRA_VIEWS:
        there, back = (fit(build_path(each, CONTEXT, seed=2), room, 0.2) for each in (name, f"{name}_reversed"))
        assert back.path.name == f"{name}_reversed"
        assert back.factor == there.factor
        assert back.path.movement_factor == there.path.movement_factor
        np.testing.assert_array_equal(back.path.c2w, there.path.c2w[::-1])
        np.testing.assert_array_equal(back.clearance, there.clearance[::-1])


def test_a_camera_never_ends_up_behind_a_wall_it_could_have_jumped() -> None:
    steps = np.tile(np.eye(4), (4, 1, 1))
    steps[:, 0, 3] = [0.0, 1.0, 2.0, 3.0]
    path = path_from_cameras(steps, name="stride", source="test")
    # The wall is 0.02 thick and 0.5 from the nearest camera centre on either side.
    wall = BoxRoom((1.49, -5.0, -5.0), (1.51, 5.0, 5.0))
    fitted = fit(path, wall, 0.2)
    assert fitted.path.c2w[-1, 0, 3] <= 1.49 - 0.2
    assert fitted.path.c2w[-1, 0, 3] == pytest.approx(1.29, abs=0.002)


def test_a_camera_stops_in_front_of_an_object() -> None:
    ball = Sphere((0.0, 0.0, 1.2), 0.3)
    fitted = fit(build_path("zoom_in", CONTEXT, seed=2), ball, 0.25)
    assert fitted.path.c2w[-1, 2, 3] == pytest.approx(0.65, abs=0.001)


def test_the_same_inputs_give_the_same_factor() -> None:
    room = BoxRoom((-0.8, -2.0, -2.0), (2.0, 2.0, 6.0))
    path = build_path("left", CONTEXT, seed=1)
    assert fit(path, room, 0.3).factor == fit(path, room, 0.3).factor


def test_a_function_of_the_factor_serves_as_well_as_a_path() -> None:
    room = BoxRoom((-0.8, -2.0, -2.0), (2.0, 2.0, 6.0))
    path = build_path("left", CONTEXT, seed=1)
    fitted = fit_path(
        lambda factor: build_path("left", CONTEXT, seed=1, movement_factor=factor),
        distance_to_surface=room.distance,
        visible=room.first_hit,
        minimum_clearance=0.3,
    )
    assert fitted.factor == fit(path, room, 0.3).factor


def test_a_camera_that_starts_too_close_is_refused() -> None:
    with pytest.raises(InputError, match=r"first camera is 0\.1 m"):
        fit(build_path("left", CONTEXT, seed=1), BoxRoom((-0.1, -1.0, -1.0), (1.0, 1.0, 1.0)), 0.2)


def test_a_path_without_room_to_move_is_refused_with_the_reason() -> None:
    room = BoxRoom((-0.2000001, -1.0, -1.0), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match=r"frame \d+ is .* even with 2%"):
        fit(build_path("left", CONTEXT, seed=1), room, 0.2)


def test_a_distance_that_is_not_a_number_is_no_clearance() -> None:
    with pytest.raises(InputError):
        fit_path(
            build_path("left", CONTEXT, seed=1),
            distance_to_surface=lambda points: np.where(np.arange(len(points)) == 0, 1.0, np.nan),
            visible=ROOMY.first_hit,
            minimum_clearance=0.1,
        )


def test_a_negative_clearance_is_refused() -> None:
    with pytest.raises(ConfigError):
        fit(build_path("left", CONTEXT, seed=1), ROOMY, -0.1)

"""Trajectories: the published formulas, the draws, the scaling and resampling of paths."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ConfigError, ContractError, InputError
from sceneloom.ops import cameras, trajectories
from sceneloom.ops.trajectories import (
    LYRA_REVERSED_VIEWS,
    LYRA_VIEWS,
    TrajectoryContext,
    build_path,
    is_reversed,
    path_from_cameras,
    reversed_in_time,
    runs_backwards,
    scale_path,
)

CONTEXT = TrajectoryContext(frames=121, centre_depth=2.5, radius=1.8, scene_scale=2.0)
LYRA = (*trajectories.LYRA_VIEWS, "down", "counterclockwise")


@pytest.mark.parametrize("name", trajectories.names())
def test_every_path_starts_at_the_conditioning_camera(name: str) -> None:
    path = build_path(name, CONTEXT, seed=3)
    assert path.c2w.shape == (121, 4, 4)
    assert path.c2w.dtype == np.float32
    start = -1 if name in LYRA_REVERSED_VIEWS else 0
    np.testing.assert_allclose(path.c2w[start], np.eye(4), atol=1e-7)
    step = np.linalg.norm(np.diff(path.c2w[:, :3, 3], axis=0), axis=1)
    assert step.max() < 0.1
    assert path.source
    json.dumps({"parameters": path.parameters, "draws": path.draws})


def lyra_positions(name: str, distance: float, depth: float, frames: int) -> list[tuple[float, float, float]]:
    """The published positions, written out one frame at a time."""
    signs = {"left": (-1, 0, 0), "right": (1, 0, 0), "up": (0, -1, 0), "down": (0, 1, 0)}
    signs |= {"zoom_out": (0, 0, -1), "zoom_in": (0, 0, 1)}
    positions = []
    for i in range(frames):
        if name in signs:
            moved = i * distance * depth / frames
            x, y, z = (sign * moved for sign in signs[name])
        else:
            theta = 2 * np.pi * 2 * i / (frames - 1)
            mirror = 1 if name == "clockwise" else -1
            x, y, z = mirror * 0.15 * distance * depth * (np.cos(theta) - 1), 0.1 * distance * depth * np.sin(theta), 0
        positions.append((x, y, z))
    return positions


def lyra_w2c(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """World-to-camera as Lyra's generator builds it: rows right, up, forward, translation −position."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    w2c = np.eye(4)
    w2c[:3, :3] = [right, np.cross(forward, right), forward]
    w2c[:3, 3] = -position
    return w2c


@pytest.mark.parametrize("name", LYRA)
@pytest.mark.parametrize(("facing", "factor"), [("center_facing", 0), ("no_rotation", 1), ("trajectory_aligned", 2)])
def test_lyra_translation_is_the_generators_own(name: str, facing, factor: float) -> None:
    path = build_path(name, CONTEXT, seed=11, translation="lyra", facing=facing, movement_factor=1.5)
    positions = np.array(lyra_positions(name, path.draws["distance"] * 1.5, 2.5, 121), dtype=np.float64)
    expected = [lyra_w2c(p, np.array([0.0, 0.0, 2.5]) + factor * p) for p in positions]
    np.testing.assert_allclose(cameras.invert_rigid(path.c2w), expected, atol=2e-6)
    assert path.translation == "lyra"


@pytest.mark.parametrize("name", LYRA)
def test_true_translation_puts_the_camera_on_the_path_looking_at_the_target(name: str) -> None:
    path = build_path(name, CONTEXT, seed=11)
    positions = np.array(lyra_positions(name, path.draws["distance"], 2.5, 121))
    np.testing.assert_allclose(path.c2w[:, :3, 3], positions, atol=1e-6)
    pixels, _ = cameras.project(np.array([[0.0, 0.0, 2.5]]), path.c2w, np.array([500.0, 500.0, 320.0, 176.0]))
    np.testing.assert_allclose(pixels[:, 0], np.broadcast_to([320.0, 176.0], (121, 2)), atol=1e-3)


def test_the_two_translations_differ_where_the_camera_turns_and_nowhere_else() -> None:
    def centres(name: str, translation) -> np.ndarray:
        return build_path(name, CONTEXT, seed=5, translation=translation).c2w[:, :3, 3]

    assert np.abs(centres("left", "true") - centres("left", "lyra")).max() > 0.01
    np.testing.assert_allclose(centres("zoom_out", "true"), centres("zoom_out", "lyra"), atol=1e-6)


RANGES = {
    "left": (0.2, 0.3),
    "right": (0.2, 0.3),
    "up": (0.1, 0.2),
    "zoom_out": (0.3, 0.4),
    "zoom_in": (0.3, 0.4),
    "clockwise": (0.4, 0.6),
}


def test_a_path_runs_backwards_where_it_ends_at_the_inputs_camera() -> None:
    away = np.repeat(np.eye(4)[None], 5, axis=0)
    away[:, 0, 3] = 0.1 * np.arange(5)
    assert (runs_backwards(away), runs_backwards(away[::-1])) == (False, True)
    # Of a camera that moved along with the path, and of one that met it at its end.
    assert not runs_backwards(away, away)
    meeting = away.copy()
    meeting[0, 0, 3] = 1.0
    assert runs_backwards(away, meeting)
    nearly = np.eye(4)
    nearly[0, 3] = 1e-7
    assert not runs_backwards([nearly, *[np.eye(4)] * 4], np.eye(4)[None])


def test_lyra_distances_fill_their_published_ranges() -> None:
    assert tuple(RANGES) == trajectories.LYRA_VIEWS == trajectories.names()[:6]
    small = TrajectoryContext(frames=2, centre_depth=1.0)
    for name, (low, high) in RANGES.items():
        drawn = np.array([build_path(name, small, seed=seed).draws["distance"] for seed in range(200)])
        assert low <= drawn.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < drawn.max() <= high


@pytest.mark.parametrize(("forward", "backward"), list(zip(LYRA_VIEWS, LYRA_REVERSED_VIEWS, strict=True)))
@pytest.mark.parametrize("translation", ["true", "lyra"])
def test_a_reversed_trajectory_is_its_counterpart_from_far_to_near(forward: str, backward: str, translation) -> None:
    there = build_path(forward, CONTEXT, seed=6, movement_factor=0.7, translation=translation)
    back = build_path(backward, CONTEXT, seed=6, movement_factor=0.7, translation=translation)
    assert back.draws == there.draws
    for frame in range(121):
        np.testing.assert_array_equal(back.c2w[frame], there.c2w[120 - frame])
    assert (is_reversed(there), is_reversed(back)) == (False, True)
    # The ellipses of "clockwise" end where they begin.
    assert (runs_backwards(there.c2w), runs_backwards(back.c2w)) == (False, forward != "clockwise")
    for path, expected in ((there, back), (back, there)):
        turned = reversed_in_time(path)
        assert (turned.name, turned.draws) == (expected.name, expected.draws)
        assert turned.c2w.tobytes() == expected.c2w.tobytes()


def test_a_path_without_a_counterpart_is_not_reversed() -> None:
    with pytest.raises(ConfigError, match="gen3r_free_reversed"):
        reversed_in_time(build_path("gen3r_free", CONTEXT, seed=0))


def test_draws_depend_on_seed_and_name_alone() -> None:
    first = {name: build_path(name, CONTEXT, seed=7).draws for name in trajectories.LYRA_VIEWS}
    again = {name: build_path(name, CONTEXT, seed=7).draws for name in reversed(trajectories.LYRA_VIEWS)}
    assert first == again
    assert first["left"] != first["right"]
    assert build_path("left", CONTEXT, seed=8).draws != first["left"]
    assert build_path("left", TrajectoryContext(49, 9.0), seed=7).draws == first["left"]


def test_the_same_inputs_give_the_same_bytes() -> None:
    for name in trajectories.names():
        assert build_path(name, CONTEXT, seed=7).c2w.tobytes() == build_path(name, CONTEXT, seed=7).c2w.tobytes()


def test_gen3r_presets_turn_in_place_or_move_by_the_scene_scale() -> None:
    context = TrajectoryContext(frames=49, centre_depth=1.0, scene_scale=1.6)
    sine, cosine = np.sin(np.radians(15.0)), np.cos(np.radians(15.0))
    forward = {
        "gen3r_arc_right": (sine, 0.0, cosine),
        "gen3r_arc_left": (-sine, 0.0, cosine),
        "gen3r_translate_up": (0.0, -sine, cosine),
        "gen3r_translate_down": (0.0, sine, cosine),
    }
    for name, expected in forward.items():
        path = build_path(name, context, seed=0)
        np.testing.assert_allclose(path.c2w[-1, :3, 2], expected, atol=1e-6)
        assert (path.c2w[:, :3, 3] == 0.0).all()
    zoom = build_path("gen3r_zoom_out", context, seed=0).c2w
    np.testing.assert_allclose(zoom[:, 2, 3], -1.6 * np.arange(49) / 48, atol=1e-6)
    assert (build_path("gen3r_free", context, seed=0).c2w == np.eye(4)).all()


def vistadream_position(name: str, turn: float, radius: float, across: float) -> list[float]:
    r = 0.3 * radius * np.sin(turn)
    x, y, z = across * r * np.cos(turn), 0.3 * r * np.sin(turn), -r
    if name == "vistadream_spiral":
        return [x, y, z * (0.3 if z < 0 else 0.4)]
    return [x, -y, z * (0.4 if z < 0 else 0.3)]


@pytest.mark.parametrize("landscape", [True, False])
@pytest.mark.parametrize("name", ["vistadream_spiral", "vistadream_wobble"])
def test_vistadream_loops_follow_their_formula(name: str, landscape: bool) -> None:
    context = TrajectoryContext(frames=60, centre_depth=1.0, radius=2.0, landscape=landscape)
    path = build_path(name, context, seed=0)
    spiral = name == "vistadream_spiral"
    turns = 2 * np.pi * np.arange(60) / 59
    across = 1.0 if landscape or not spiral else 0.6
    expected = [vistadream_position(name, turn, 2.0, across) for turn in (turns[::-1] if spiral else turns)]
    np.testing.assert_allclose(path.c2w[:, :3, 3], expected, atol=1e-6)
    to_target = np.array([0.0, 0.0, 1.0]) - path.c2w[:, :3, 3]
    np.testing.assert_allclose(np.cross(to_target, path.c2w[:, :3, 2]), 0.0, atol=1e-6)


def test_vistadream_rot_turns_once() -> None:
    forward = build_path("vistadream_rot", TrajectoryContext(frames=9, centre_depth=1.0), seed=0).c2w[:, :3, 2]
    turns = 2 * np.pi * np.arange(9) / 8
    np.testing.assert_allclose(forward, np.stack([np.sin(turns), 0 * turns, np.cos(turns)], axis=-1), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "context", "options", "message"),
    [
        ("spin", CONTEXT, {}, "left, right, up"),
        ("gen3r_zoom_in", TrajectoryContext(5, 1.0), {}, "scene_scale"),
        ("vistadream_spiral", TrajectoryContext(5, 1.0), {}, "radius"),
        ("left", CONTEXT, {"movement_factor": 0.0}, "factor"),
        ("left", CONTEXT, {"seed": -1}, "seed"),
        ("zoom_in", CONTEXT, {"movement_factor": 4.0}, "pass what it looks at"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, context: TrajectoryContext, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_path(name, context, **{"seed": 0, **options})


@pytest.mark.parametrize("arguments", [{"frames": 1, "centre_depth": 1.0}, {"frames": 5, "centre_depth": 0.0}])
def test_a_context_without_length_is_refused(arguments: dict) -> None:
    with pytest.raises(ConfigError):
        TrajectoryContext(**arguments)


@pytest.mark.parametrize("name", trajectories.names())
def test_shortening_a_registered_path_is_a_smaller_movement_factor(name: str) -> None:
    path = build_path(name, CONTEXT, seed=9, movement_factor=0.8)
    shorter = scale_path(path, 0.5)
    assert shorter.movement_factor == pytest.approx(0.4)
    expected = build_path(name, CONTEXT, seed=9, movement_factor=0.4)
    assert shorter.c2w.tobytes() == expected.c2w.tobytes()
    assert shorter.draws == path.draws


def user_cameras(seed: int, count: int = 8) -> np.ndarray:
    """A walk with small turns, anywhere in the world."""
    generator = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    for index in range(1, count):
        poses[index, :3, :3] = poses[index - 1, :3, :3] @ cameras.rotation_from_vector(generator.normal(size=3) * 0.2)
        poses[index, :3, 3] = poses[index - 1, :3, 3] + generator.normal(size=3)
    world = np.eye(4)
    world[:3, :3] = cameras.rotation_from_vector(generator.normal(size=3))
    world[:3, 3] = generator.normal(size=3) * 100.0
    return world @ poses


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_user_cameras_keep_their_relative_motion(seed: int) -> None:
    given_cameras = user_cameras(seed)
    path = path_from_cameras(given_cameras, name="mine", source="mine.npz", scale=0.5)
    expected = np.linalg.inv(given_cameras[0]) @ given_cameras
    expected[:, :3, 3] *= 0.5
    np.testing.assert_allclose(path.c2w, expected, atol=1e-5)


def test_user_cameras_are_resampled_in_time() -> None:
    given_cameras = user_cameras(1, 3)
    path = path_from_cameras(given_cameras, name="mine", source="mine.npz", frames=9, times=[0.0, 1.0, 4.0])
    assert len(path.c2w) == 9
    whole = path_from_cameras(given_cameras, name="mine", source="mine.npz")
    np.testing.assert_allclose(path.c2w[[0, 2, 8]], whole.c2w, atol=1e-5)


def test_a_users_path_shrinks_in_shape_and_in_turns_past_half_a_circle() -> None:
    angle = np.linspace(0.0, np.radians(300.0), 31)
    poses = np.tile(np.eye(4), (31, 1, 1))
    poses[:, :3, :3] = cameras.rotation_from_vector(angle[:, None] * [0.0, 1.0, 0.0])
    poses[:, 0, 3] = np.linspace(0.0, 3.0, 31)
    path = path_from_cameras(poses, name="mine", source="mine.npz")
    half = scale_path(path, 0.5)
    np.testing.assert_allclose(half.c2w[:, :3, 3], 0.5 * path.c2w[:, :3, 3], atol=1e-6)
    np.testing.assert_allclose(half.c2w[:, 0, 2], np.sin(angle / 2), atol=1e-5)
    np.testing.assert_allclose(half.c2w[:, 2, 2], np.cos(angle / 2), atol=1e-5)
    np.testing.assert_allclose(scale_path(path, 1.0).c2w, path.c2w, atol=1e-5)
    assert half.movement_factor == 0.5


def test_user_cameras_that_make_no_path_are_refused() -> None:
    poses = user_cameras(2)
    with pytest.raises(InputError, match="at least 2"):
        path_from_cameras(poses[:1], name="mine", source="mine.npz")
    with pytest.raises(InputError, match="scale"):
        path_from_cameras(poses, name="mine", source="mine.npz", scale=0.0)
    with pytest.raises(ContractError, match="orthonormal"):
        path_from_cameras(2.0 * poses * [1, 1, 1, 0.5], name="mine", source="mine.npz")


def test_paths_travel_between_processes() -> None:
    path = build_path("up", CONTEXT, seed=1)
    copy = pickle.loads(pickle.dumps(path))
    assert scale_path(copy, 0.5).c2w.tobytes() == scale_path(path, 0.5).c2w.tobytes()


def test_scales_of_a_scene_from_its_first_depth_map() -> None:
    depth = np.full((40, 60), 4.0, dtype=np.float32)
    depth[:, :10] = 0.0
    assert trajectories.scene_scale(depth) == pytest.approx(3.2)
    # x and y of a fronto-parallel plane are uniform: their 5–50 % range is 0.45 of the extent; z has none.
    intrinsics = np.array([50.0, 50.0, 30.0, 20.0])
    expected = (0.45 * 50 / 50 * 4.0 + 0.45 * 40 / 50 * 4.0) / 3.0
    assert trajectories.scene_radius(depth, intrinsics) == pytest.approx(expected, rel=0.03)
    with pytest.raises(InputError, match="no valid depth"):
        trajectories.scene_scale(np.zeros((4, 4), dtype=np.float32))
    with pytest.raises(InputError, match="no valid depth"):
        trajectories.scene_radius(np.zeros((4, 4), dtype=np.float32), intrinsics)

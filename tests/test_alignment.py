"""Alignment: known similarities are found again, for wide, straight and turning paths; errors are measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ContractError
from sceneloom.ops import alignment, cameras
from sceneloom.ops.trajectories import TrajectoryContext, build_path

SEEDS = st.integers(0, 2**32 - 1)
CONTEXT = TrajectoryContext(frames=25, centre_depth=2.0, radius=2.0, scene_scale=1.5)


def random_rotation(generator: np.random.Generator) -> np.ndarray:
    return cameras.rotation_from_quaternion(generator.normal(size=4), order="wxyz")


def moved(c2w: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, float, np.ndarray]:
    """The path in another world and unit: what an estimator might report, with its scale and rotation."""
    scale, rotation = float(generator.uniform(0.2, 5.0)), random_rotation(generator)
    poses = c2w.astype(np.float64)
    poses[:, :3, :3] = rotation @ poses[:, :3, :3]
    poses[:, :3, 3] = scale * poses[:, :3, 3] @ rotation.T + generator.normal(size=3) * 3.0
    return poses, scale, rotation


@given(SEEDS)
@settings(deadline=None, max_examples=40)
def test_umeyama_finds_a_known_similarity(seed: int) -> None:
    generator = np.random.default_rng(seed)
    points, rotation = generator.normal(size=(12, 3)), random_rotation(generator)
    target = 2.5 * points @ rotation.T + [1.0, -2.0, 3.0]
    scale, found, translation = alignment.umeyama(points, target)
    assert scale == pytest.approx(2.5)
    np.testing.assert_allclose(found, rotation, atol=1e-9)
    np.testing.assert_allclose(translation, [1.0, -2.0, 3.0], atol=1e-9)


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_umeyama_is_the_least_squares_optimum_under_noise(seed: int) -> None:
    generator = np.random.default_rng(seed)
    points, rotation = generator.normal(size=(12, 3)), random_rotation(generator)
    target = 1.5 * points @ rotation.T + generator.normal(size=(12, 3)) * 0.3
    scale, found, translation = alignment.umeyama(points, target)

    def error(scale: float, rotation: np.ndarray, translation: np.ndarray) -> float:
        return float(((target - scale * points @ rotation.T - translation) ** 2).sum())

    best = error(scale, found, translation)
    for _ in range(20):
        nearby = found @ cameras.rotation_from_vector(generator.normal(size=3) * 0.02)
        shift = generator.normal(size=3) * 0.02
        assert error(scale * generator.uniform(0.97, 1.03), nearby, translation + shift) >= best


def test_umeyama_never_reflects() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    _, rotation, _ = alignment.umeyama(points, points * [1.0, 1.0, -1.0])
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_umeyama_of_points_in_a_plane_is_a_rotation() -> None:
    generator = np.random.default_rng(1)
    points, rotation = generator.normal(size=(9, 3)) * [1.0, 1.0, 0.0], random_rotation(generator)
    _, found, _ = alignment.umeyama(points, points @ rotation.T)
    np.testing.assert_allclose(found, rotation, atol=1e-9)


def test_umeyama_refuses_what_it_cannot_align() -> None:
    points = np.random.default_rng(0).normal(size=(4, 3))
    with pytest.raises(ContractError, match="shapes"):
        alignment.umeyama(points, points[:3])
    with pytest.raises(ContractError, match="finite"):
        alignment.umeyama(points, points * np.nan)
    with pytest.raises(ContractError, match="coincide"):
        alignment.umeyama(np.ones((4, 3)), points)


@given(
    SEEDS,
    st.sampled_from(["left", "up", "zoom_in", "clockwise", "vistadream_spiral", "gen3r_zoom_out"]),
    st.sampled_from(["true", "lyra"]),
)
@settings(deadline=None, max_examples=60)
def test_cameras_in_another_world_and_unit_are_brought_back(seed: int, name: str, translation) -> None:
    generator = np.random.default_rng(seed)
    commanded = build_path(name, CONTEXT, seed=1, translation=translation).c2w
    estimated, scale, rotation = moved(commanded, generator)
    found = alignment.align_cameras(estimated, commanded)
    assert found.scale_determined
    assert found.scale == pytest.approx(1.0 / scale, rel=1e-4)
    np.testing.assert_allclose(found.rotation, rotation.T, atol=1e-4)
    np.testing.assert_allclose(found.apply(estimated), commanded, atol=1e-4)
    assert found.position_rmse < 1e-4
    assert found.rotation_rmse_degrees < 0.01


@pytest.mark.parametrize(
    ("name", "translation", "rotation_from"),
    [
        ("left", "true", "orientations"),
        # Nearly straight: its centres bend by a few hundredths of its length.
        ("left", "lyra", "orientations"),
        ("zoom_in", "true", "orientations"),
        ("clockwise", "true", "centres"),
    ],
)
def test_straight_paths_take_their_rotation_from_the_cameras(name: str, translation, rotation_from: str) -> None:
    commanded = build_path(name, CONTEXT, seed=1, translation=translation).c2w
    assert alignment.align_cameras(commanded, commanded).rotation_from == rotation_from


def test_noise_on_a_straight_path_does_not_turn_it_about_itself() -> None:
    generator = np.random.default_rng(4)
    commanded = build_path("zoom_out", CONTEXT, seed=1).c2w
    estimated, _, _ = moved(commanded, generator)
    estimated[:, :3, 3] += generator.normal(size=(25, 3)) * 0.002
    found = alignment.align_cameras(estimated, commanded)
    assert found.rotation_rmse_degrees < 0.01
    assert 0.0 < found.position_rmse < 0.05
    _, unguarded, _ = alignment.umeyama(estimated[:, :3, 3], commanded[:, :3, 3])
    assert np.degrees(cameras.rotation_angle(unguarded.T @ found.rotation)) > 0.05


def test_a_camera_that_only_turns_has_a_rotation_but_no_scale() -> None:
    generator = np.random.default_rng(2)
    commanded = build_path("gen3r_arc_left", CONTEXT, seed=1).c2w
    estimated, _, rotation = moved(commanded, generator)
    estimated[:, :3, 3] += generator.normal(size=(25, 3)) * 1e-3
    found = alignment.align_cameras(estimated, commanded)
    assert (found.scale, found.scale_determined) == (1.0, False)
    np.testing.assert_allclose(found.rotation, rotation.T, atol=1e-6)
    assert found.position_rmse < 5e-3


def test_an_estimate_that_moves_against_its_orientation_has_no_scale() -> None:
    commanded = build_path("zoom_in", CONTEXT, seed=1).c2w
    backwards = commanded.copy()
    backwards[:, :3, 3] *= -1.0
    found = alignment.align_cameras(backwards, commanded)
    assert not found.scale_determined
    assert found.position_rmse > 0.1


def test_residuals_are_those_of_the_aligned_path() -> None:
    generator = np.random.default_rng(6)
    commanded = build_path("clockwise", CONTEXT, seed=1).c2w
    estimated, _, _ = moved(commanded, generator)
    estimated[:, :3, 3] += generator.normal(size=(25, 3)) * 0.01
    found = alignment.align_cameras(estimated, commanded)
    aligned = found.apply(estimated)
    assert alignment.absolute_trajectory_error(aligned, commanded) == pytest.approx(found.position_rmse, rel=1e-4)


def test_relative_pose_errors_are_what_was_put_in() -> None:
    commanded = build_path("left", CONTEXT, seed=1).c2w.astype(np.float64)
    step = np.eye(4)
    step[:3, :3] = cameras.rotation_from_vector([0.0, np.radians(0.5), 0.0])
    step[:3, 3] = [0.0, 0.003, 0.0]
    estimated = commanded.copy()
    for index in range(1, len(commanded)):
        motion = np.linalg.inv(commanded[index - 1]) @ commanded[index]
        estimated[index] = estimated[index - 1] @ motion @ step
    error = alignment.relative_pose_error(estimated, commanded)
    np.testing.assert_allclose(error.translation, 0.003, atol=1e-9)
    np.testing.assert_allclose(error.rotation_degrees, 0.5, atol=1e-6)
    assert error.translation_rmse == pytest.approx(0.003)
    assert error.rotation_rmse_degrees == pytest.approx(0.5)
    assert len(alignment.relative_pose_error(estimated, commanded, delta=10).translation) == 15


def test_relative_pose_error_does_not_see_the_choice_of_world() -> None:
    commanded = build_path("left", CONTEXT, seed=1).c2w.astype(np.float64)
    world = cameras.look_at([3.0, 1.0, 2.0], [0.0, 0.0, 0.0])
    error = alignment.relative_pose_error(world @ commanded, commanded)
    assert error.translation.max() < 1e-9
    assert error.rotation_degrees.max() < 1e-5


def test_paths_of_different_lengths_are_refused() -> None:
    commanded = build_path("left", CONTEXT, seed=1).c2w
    with pytest.raises(ContractError, match="24 estimated and 25 commanded"):
        alignment.align_cameras(commanded[1:], commanded)
    with pytest.raises(ContractError, match="delta"):
        alignment.relative_pose_error(commanded, commanded, delta=25)


def test_a_single_camera_is_aligned_without_a_scale() -> None:
    commanded = build_path("left", CONTEXT, seed=1).c2w[3:4]
    found = alignment.align_cameras(np.eye(4)[None], commanded)
    assert not found.scale_determined
    np.testing.assert_allclose(found.apply(np.eye(4)[None]), commanded, atol=1e-6)


def test_a_scale_from_elsewhere_brings_the_mean_centres_together() -> None:
    commanded = np.tile(np.eye(4), (5, 1, 1))
    commanded[:, :3, 3] = [2.0, 3.0, 4.0]
    estimated = commanded.copy()
    estimated[:, :3, 3] = np.random.default_rng(0).normal(scale=1e-3, size=(5, 3)) + 1
    found = alignment.align_cameras(estimated, commanded)
    assert not found.scale_determined
    scaled = alignment.with_scale(found, estimated, commanded, 3.0)
    aligned = scaled.apply(estimated)[:, :3, 3]
    np.testing.assert_allclose(aligned.mean(axis=0), [2, 3, 4], atol=1e-5)
    np.testing.assert_allclose(np.ptp(aligned, axis=0), 3 * np.ptp(estimated[:, :3, 3], axis=0), rtol=1e-2)
    assert scaled.position_rmse == pytest.approx(
        alignment.absolute_trajectory_error(scaled.apply(estimated), commanded), rel=1e-3
    )
    assert scaled.position_rmse == pytest.approx(3 * found.position_rmse)
    assert scaled.rotation_rmse_degrees == found.rotation_rmse_degrees


def test_the_length_of_a_path() -> None:
    c2w = np.tile(np.eye(4), (4, 1, 1))
    c2w[:, 0, 3] = [0, 3, 3, 1]
    c2w[:, 1, 3] = [0, 4, 4, 4]
    assert alignment.path_length(c2w) == pytest.approx(7)
    assert alignment.path_length(c2w[:1]) == 0

"""Camera geometry: rays, projection, look-at, interpolation, crops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ContractError
from sceneloom.ops import cameras

SEEDS = st.integers(0, 2**32 - 1)


def random_poses(seed: int, count: int = 4) -> np.ndarray:
    generator = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = cameras.rotation_from_quaternion(generator.normal(size=(count, 4)), order="wxyz")
    poses[:, :3, 3] = generator.normal(size=(count, 3)) * 5.0
    return poses


INTRINSICS = np.array([30.0, 32.0, 20.0, 11.5])


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_projection_undoes_unprojection(seed: int) -> None:
    generator = np.random.default_rng(seed)
    poses = random_poses(seed)
    pixels, depth = generator.uniform(-50.0, 90.0, (4, 7, 2)), generator.uniform(0.1, 40.0, (4, 7))
    points = cameras.unproject(pixels, depth, poses, INTRINSICS)
    back, back_depth = cameras.project(points, poses, INTRINSICS)
    np.testing.assert_allclose(back, pixels, atol=1e-7)
    np.testing.assert_allclose(back_depth, depth, atol=1e-9)


def test_points_behind_the_camera_have_no_pixel() -> None:
    pixels, depth = cameras.project(np.array([[0.0, 0.0, -2.0], [0.0, 0.0, 2.0]]), np.eye(4), INTRINSICS)
    assert np.isnan(pixels[0]).all()
    np.testing.assert_allclose(pixels[1], INTRINSICS[2:])
    np.testing.assert_allclose(depth, [-2.0, 2.0])


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_rays_go_through_the_centres_of_their_pixels(seed: int) -> None:
    poses = random_poses(seed, 2)
    origins, directions = cameras.pixel_rays(poses, np.stack([INTRINSICS, 2.0 * INTRINSICS]), 6, 9)
    assert origins.shape == directions.shape == (2, 6, 9, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1.0)
    points = (origins + 3.0 * directions).reshape(2, -1, 3)
    pixels, _ = cameras.project(points, poses, np.stack([INTRINSICS, 2.0 * INTRINSICS]))
    rows, columns = np.meshgrid(np.arange(6), np.arange(9), indexing="ij")
    expected = np.stack([columns + 0.5, rows + 0.5], axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), atol=1e-6)


def test_the_middle_ray_of_a_centred_lens_is_the_optical_axis() -> None:
    intrinsics = cameras.centred_intrinsics(5, 7, horizontal_field_of_view=np.pi / 2)
    _, directions = cameras.pixel_rays(np.eye(4), intrinsics, 5, 7)
    np.testing.assert_allclose(directions[2, 3], [0.0, 0.0, 1.0], atol=1e-12)
    assert directions[0, 3, 1] < 0.0 < directions[2, 6, 0]


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_plucker_coordinates_do_not_depend_on_the_point_of_the_ray(seed: int) -> None:
    pose = random_poses(seed, 1)[0]
    origins, directions = cameras.pixel_rays(pose, INTRINSICS, 3, 4)
    plucker = cameras.plucker_coordinates(pose, INTRINSICS, 3, 4)
    np.testing.assert_allclose(plucker[..., :3], np.cross(origins + 7.0 * directions, directions), atol=1e-9)
    np.testing.assert_allclose((plucker[..., :3] * plucker[..., 3:]).sum(axis=-1), 0.0, atol=1e-9)
    np.testing.assert_array_equal(plucker[..., 3:], directions)


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_a_camera_sees_what_it_looks_at_in_its_middle_and_upright(seed: int) -> None:
    generator = np.random.default_rng(seed)
    positions, targets = generator.normal(size=(2, 6, 3))
    poses = cameras.look_at(positions, targets)
    cameras.check_c2w(poses)
    pixels, depth = cameras.project(targets[:, None], poses, INTRINSICS)
    np.testing.assert_allclose(pixels[:, 0], np.broadcast_to(INTRINSICS[2:], (6, 2)), atol=1e-6)
    assert (depth > 0.0).all()
    np.testing.assert_allclose(poses[:, 1, 0], 0.0, atol=1e-12)
    assert (poses[:, 1, 1] > 0.0).all()


def test_looking_straight_ahead_is_the_identity_rotation() -> None:
    np.testing.assert_array_equal(cameras.look_at([0.0, 0.0, 0.0], [0.0, 0.0, 2.0]), np.eye(4))


@pytest.mark.parametrize("target", [[0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
def test_a_view_without_direction_or_roll_is_refused(target: list[float]) -> None:
    with pytest.raises(ContractError):
        cameras.look_at([0.0, 0.0, 0.0], target)


@given(SEEDS, st.floats(0.0, np.pi - 1e-6))
@settings(deadline=None, max_examples=50)
def test_rotation_vectors_there_and_back(seed: int, angle: float) -> None:
    axis = np.random.default_rng(seed).normal(size=3)
    vector = axis / np.linalg.norm(axis) * angle
    rotation = cameras.rotation_from_vector(vector)
    np.testing.assert_allclose(cameras.vector_from_rotation(rotation), vector, atol=1e-9)
    np.testing.assert_allclose(cameras.rotation_angle(rotation), angle, atol=1e-9)


def test_relative_poses_keep_relative_motion() -> None:
    poses = random_poses(5)
    relative = cameras.poses_relative_to_first(poses)
    np.testing.assert_array_equal(relative[0], np.eye(4))
    np.testing.assert_allclose(poses[0] @ relative, poses, atol=1e-12)


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_interpolation_goes_through_the_keys_like_scipy_between_them(seed: int) -> None:
    from scipy.spatial.transform import Rotation, Slerp

    generator = np.random.default_rng(seed)
    poses, times = random_poses(seed, 5), np.cumsum(generator.uniform(0.1, 1.0, 5))
    np.testing.assert_allclose(cameras.interpolate_poses(poses, times, times), poses, atol=1e-9)
    at = np.sort(generator.uniform(times[0], times[-1], 11))
    between = cameras.interpolate_poses(poses, times, at)
    expected = Slerp(times, Rotation.from_matrix(poses[:, :3, :3]))(at).as_matrix()
    np.testing.assert_allclose(between[:, :3, :3], expected, atol=1e-7)
    for axis in range(3):
        np.testing.assert_allclose(between[:, axis, 3], np.interp(at, times, poses[:, axis, 3]), atol=1e-9)


def test_interpolation_refuses_times_that_do_not_increase_or_lie_outside() -> None:
    poses = random_poses(1, 3)
    with pytest.raises(ContractError, match="increase"):
        cameras.interpolate_poses(poses, [0.0, 0.0, 1.0], [0.5])
    with pytest.raises(ContractError, match="outside"):
        cameras.interpolate_poses(poses, [0.0, 1.0, 2.0], [2.5])


SIZES = st.tuples(st.integers(8, 300), st.integers(8, 300))


@given(SIZES, SIZES)
@settings(deadline=None, max_examples=100)
def test_a_cover_crop_covers_its_target_and_keeps_points_on_their_rays(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    plan = cameras.cover_crop(source, target)
    for side in range(2):
        offset = (plan.top, plan.left)[side]
        assert offset >= 0
        assert offset + target[side] <= plan.resized[side]
    assert min(plan.resized[0] - target[0], plan.resized[1] - target[1]) == 0
    intrinsics = np.array([100.0, 110.0, source[1] / 2.0, source[0] / 2.0])
    point = np.array([[0.3, -0.2, 2.0]])
    before, _ = cameras.project(point, np.eye(4), intrinsics)
    after, _ = cameras.project(point, np.eye(4), plan.intrinsics(intrinsics))
    resized = before[0] * [plan.resized[1] / source[1], plan.resized[0] / source[0]]
    np.testing.assert_allclose(after[0], resized - [plan.left, plan.top])


def test_a_cover_crop_of_the_same_shape_only_resizes() -> None:
    plan = cameras.cover_crop((704, 1280), (176, 320))
    assert (plan.resized, plan.top, plan.left) == ((176, 320), 0, 0)

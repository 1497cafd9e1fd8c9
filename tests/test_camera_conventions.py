"""Conventions: every conversion is undone by its inverse, and the checks refuse what they must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets import camera_conventions as conventions
from sceneloom.datasets.errors import ContractError

SEEDS = st.integers(0, 2**32 - 1)
ORDERS = st.sampled_from(["wxyz", "xyzw"])


def random_poses(seed: int, count: int = 5) -> np.ndarray:
    """(T, 4, 4) rigid poses, rotations uniform over SO(3)."""
    generator = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    quaternion = generator.normal(size=(count, 4))
    poses[:, :3, :3] = conventions.rotation_from_quaternion(quaternion, order="wxyz")
    poses[:, :3, 3] = generator.normal(size=(count, 3)) * 10.0
    return poses


@given(SEEDS)
@settings(deadline=None, max_examples=50)
def test_the_rigid_inverse_is_the_matrix_inverse(seed: int) -> None:
    poses = random_poses(seed)
    np.testing.assert_allclose(conventions.invert_rigid(poses), np.linalg.inv(poses), atol=1e-12)
    np.testing.assert_allclose(conventions.invert_rigid(conventions.invert_rigid(poses)), poses, atol=1e-12)


@given(SEEDS)
@settings(deadline=None, max_examples=50)
def test_opengl_axes_there_and_back(seed: int) -> None:
    poses = random_poses(seed)
    opengl = conventions.opengl_from_opencv(poses)
    np.testing.assert_array_equal(conventions.opencv_from_opengl(opengl), poses)
    np.testing.assert_array_equal(opengl[:, :3, 3], poses[:, :3, 3])
    np.testing.assert_array_equal(opengl[:, :3, 2], -poses[:, :3, 2])
    np.testing.assert_allclose(np.linalg.det(opengl[:, :3, :3]), 1.0)


@given(SEEDS, ORDERS)
@settings(deadline=None, max_examples=50)
def test_quaternions_there_and_back_as_scipy_has_them(seed: int, order) -> None:
    from scipy.spatial.transform import Rotation

    rotation = random_poses(seed)[:, :3, :3]
    quaternion = conventions.quaternion_from_rotation(rotation, order=order)
    np.testing.assert_allclose(conventions.rotation_from_quaternion(quaternion, order=order), rotation, atol=1e-12)
    expected = Rotation.from_matrix(rotation).as_quat(canonical=True, scalar_first=order == "wxyz")
    np.testing.assert_allclose(quaternion, expected, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("angle", [0.0, 1e-9, np.pi - 1e-9, np.pi])
def test_quaternions_at_the_angles_where_naive_formulas_fail(axis: int, angle: float) -> None:
    quaternion = np.zeros(4)
    quaternion[0], quaternion[1 + axis] = np.cos(angle / 2), np.sin(angle / 2)
    rotation = conventions.rotation_from_quaternion(quaternion, order="wxyz")
    back = conventions.quaternion_from_rotation(rotation, order="wxyz")
    np.testing.assert_allclose(np.abs(back @ quaternion), 1.0, atol=1e-12)


def test_a_quaternion_of_no_length_is_refused() -> None:
    with pytest.raises(ContractError, match="zero"):
        conventions.rotation_from_quaternion([0.0, 0.0, 0.0, 0.0], order="wxyz")


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_the_nearest_rotation_repairs_rounding(seed: int) -> None:
    rotation = random_poses(seed)[:, :3, :3]
    repaired = conventions.nearest_rotation(np.round(rotation, 4))
    np.testing.assert_allclose(np.swapaxes(repaired, 1, 2) @ repaired, np.tile(np.eye(3), (5, 1, 1)), atol=1e-12)
    assert np.abs(repaired - rotation).max() < 2e-4
    np.testing.assert_allclose(np.linalg.det(conventions.nearest_rotation(-rotation)), 1.0)


def test_calibration_matrices_there_and_back() -> None:
    intrinsics = np.array([[500.0, 510.0, 320.5, 180.25], [100.0, 100.0, 50.0, 50.0]])
    matrix = conventions.matrix_from_intrinsics(intrinsics)
    np.testing.assert_array_equal(matrix[0], [[500.0, 0.0, 320.5], [0.0, 510.0, 180.25], [0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(conventions.intrinsics_from_matrix(matrix), intrinsics)
    matrix[1, 0, 1] = 2.0
    with pytest.raises(ContractError, match="not of the form"):
        conventions.intrinsics_from_matrix(matrix)


@given(st.floats(0.05, 3.0), st.integers(1, 4000))
@settings(deadline=None)
def test_focal_length_and_field_of_view_there_and_back(angle: float, extent: int) -> None:
    focal = conventions.focal_from_field_of_view(angle, extent)
    assert conventions.field_of_view_from_focal(focal, extent) == pytest.approx(angle)


def test_a_ninety_degree_lens_sees_as_wide_as_it_is_far() -> None:
    assert conventions.focal_from_field_of_view(np.pi / 2, 640) == pytest.approx(320.0)


def test_resizing_keeps_a_centred_lens_centred_and_normalises() -> None:
    intrinsics = np.array([600.0, 600.0, 640.0, 352.0])
    half = conventions.resize_intrinsics(intrinsics, source=(704, 1280), target=(352, 640))
    np.testing.assert_allclose(half, [300.0, 300.0, 320.0, 176.0])
    normalised = conventions.resize_intrinsics(intrinsics, source=(704, 1280), target=(1, 1))
    np.testing.assert_allclose(normalised, [600 / 1280, 600 / 704, 0.5, 0.5])


def test_sound_poses_pass_in_float32() -> None:
    conventions.check_c2w(random_poses(3, 50).astype(np.float32))


@pytest.mark.parametrize(
    ("break_pose", "message"),
    [
        (lambda poses: poses.__setitem__((2, 0, 0), np.nan), "frame 2 is not finite"),
        (lambda poses: poses.__setitem__((1, 3, 0), 0.5), "frame 1 has a bottom row"),
        (lambda poses: poses.__imul__(np.array([2.0, 2.0, 2.0, 1.0])), "frame 0 is not orthonormal"),
        (lambda poses: poses.__imul__(np.array([1.0, 1.0, -1.0, 1.0])), "reflection"),
    ],
)
def test_broken_poses_are_refused_by_name(break_pose, message: str) -> None:
    poses = random_poses(4)
    break_pose(poses)
    with pytest.raises(ContractError, match=message):
        conventions.check_c2w(poses, where="scene 7")


def test_poses_of_another_shape_are_refused() -> None:
    for shape in [(4, 4), (3, 3, 4), (0, 4, 4)]:
        with pytest.raises(ContractError, match="expected"):
            conventions.check_c2w(np.zeros(shape))


@pytest.mark.parametrize(
    ("row", "size", "message"),
    [
        ([0.0, 500.0, 320.0, 180.0], None, "focal length ≤ 0"),
        ([np.inf, 500.0, 320.0, 180.0], None, "not finite"),
        ([500.0, 500.0, 700.0, 180.0], (360, 640), "principal point outside"),
        ([0.8, 1.4, 0.5, 0.5], (360, 640), "no focal length"),
    ],
)
def test_broken_intrinsics_are_refused(row: list[float], size: tuple[int, int] | None, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        conventions.check_intrinsics(np.array([row]), size=size)


def test_sound_intrinsics_pass() -> None:
    conventions.check_intrinsics(np.array([[500.0, 500.0, 320.0, 180.0]], dtype=np.float32), size=(360, 640))

"""Boxes of masked objects: exact boxes are found again from one view, whatever the mask and the depth get wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sceneloom.datasets.errors import ContractError
from sceneloom.ops import cameras
from sceneloom.ops.object_boxes import EstimatedBox, estimated_boxes
from sceneloom.ops.object_poses import camera_from_scenegen, projected_box

HEIGHT, WIDTH = 240, 320
INTRINSICS = cameras.centred_intrinsics(HEIGHT, WIDTH, horizontal_field_of_view=1.2)
WALL = 6.0
ANGLES = st.floats(-44.0, 44.0)


def pose_of(yaw_degrees: float, centre: tuple[float, float, float]) -> np.ndarray:
    """(4, 4) of an upright object whose front is turned away from facing the camera."""
    angle = np.radians(yaw_degrees)
    front = np.array([np.sin(angle), 0.0, -np.cos(angle)])
    up = np.array([0.0, -1.0, 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([np.cross(up, front), up, front], axis=1)
    pose[:3, 3] = centre
    return pose


def seen_box(pose: np.ndarray, size: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and z-depth of a box before a wall: every pixel's ray against the box's three pairs of planes."""
    _, directions = cameras.pixel_rays(np.eye(4), INTRINSICS, HEIGHT, WIDTH)
    rays = directions / directions[..., 2:]
    inverse = np.linalg.inv(pose)
    origin, local = inverse[:3, 3], rays @ inverse[:3, :3].T
    near, far = np.full((HEIGHT, WIDTH), -np.inf), np.full((HEIGHT, WIDTH), np.inf)
    for axis in range(3):
        with np.errstate(divide="ignore"):
            hits = (np.array([[-0.5], [0.5]]) * size[axis] - origin[axis]) / local[..., axis].reshape(1, -1)
        near = np.maximum(near, hits.min(axis=0).reshape(HEIGHT, WIDTH))
        far = np.minimum(far, hits.max(axis=0).reshape(HEIGHT, WIDTH))
    hit = (near <= far) & (near > 0) & (near < WALL)
    return hit.astype(np.uint16), np.where(hit, near, WALL).astype(np.float32)


def the_box(ids: np.ndarray, depth: np.ndarray) -> EstimatedBox:
    (box,) = estimated_boxes(ids, depth, INTRINSICS)
    return box


def assert_is(box: EstimatedBox, pose: np.ndarray, size: tuple[float, float, float], *, tolerance: float) -> None:
    np.testing.assert_allclose(box.size, size, atol=tolerance)
    np.testing.assert_allclose(box.camera_from_object[:3, 3], pose[:3, 3], atol=tolerance)
    turn = cameras.rotation_angle(box.camera_from_object[:3, :3].T @ pose[:3, :3])
    assert np.degrees(turn) < 5.0


# Below the camera and turned, so that the view shows three of its sides.
SIZE = (0.9, 0.5, 0.5)
CENTRE = (0.15, 0.7, 2.6)


@given(st.floats(12.0, 40.0), st.sampled_from([-1.0, 1.0]))
@settings(deadline=None, max_examples=25)
def test_a_box_that_shows_three_sides_is_found_again(yaw: float, side: float) -> None:
    pose = pose_of(side * yaw, CENTRE)
    assert_is(the_box(*seen_box(pose, SIZE)), pose, SIZE, tolerance=0.06)


@given(ANGLES, st.tuples(*[st.floats(0.3, 1.2)] * 3), st.floats(-0.6, 0.6), st.floats(-0.5, 0.9))
@settings(deadline=None, max_examples=25)
def test_every_box_is_upright_rigid_and_holds_its_points(
    yaw: float, size: tuple[float, float, float], x: float, y: float
) -> None:
    pose = pose_of(yaw, (x, y, 3.0))
    ids, depth = seen_box(pose, size)
    box = the_box(ids, depth)
    rotation = box.camera_from_object[:3, :3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation[:, 1], [0.0, -1.0, 0.0], atol=1e-12)
    rows, columns = np.nonzero(ids)
    points = cameras.unproject(np.stack([columns, rows], 1) + 0.5, depth[ids > 0], np.eye(4), INTRINSICS)
    local = (points - box.camera_from_object[:3, 3]) @ rotation
    outside = np.abs(local) > np.array(box.size) / 2 + 0.03
    # Both ends of each axis are trimmed, and points of sides seen at a grazing angle may count as strays.
    assert outside.any(axis=1).mean() < 0.08
    low, high = np.array(box.minimum) - 0.03, np.array(box.maximum) + 0.03
    assert ((points >= low) & (points <= high)).all(axis=1).mean() > 0.92
    # No side is larger than the truth: an estimate from what is seen never invents.
    assert box.size[1] <= size[1] + 0.01
    # The front looks to the camera more than the other sides do.
    towards = -box.camera_from_object[[0, 2], 3]
    facing = [float(rotation[[0, 2], axis] @ towards) * sign for axis in (0, 2) for sign in (1, -1)]
    assert float(rotation[[0, 2], 2] @ towards) == pytest.approx(max(facing))


def test_a_mask_that_spills_over_the_outline_changes_little() -> None:
    pose = pose_of(25.0, CENTRE)
    ids, depth = seen_box(pose, SIZE)
    spilled = ndimage.binary_dilation(ids > 0, iterations=3).astype(np.uint16)
    # The test asks for something: the wall that the mask holds is two metres farther back.
    assert depth[spilled > 0].max() == WALL
    assert_is(the_box(spilled, depth), pose, SIZE, tolerance=0.06)


@pytest.mark.parametrize("factors", [(0.2, 3.0), (0.75, 1.25)])
def test_wrong_depths_change_little(factors: tuple[float, float]) -> None:
    pose = pose_of(-30.0, CENTRE)
    ids, depth = seen_box(pose, SIZE)
    generator = np.random.default_rng(0)
    wrong = generator.random(depth.shape) < 0.05
    depth[wrong] *= generator.choice(factors, wrong.sum()).astype(np.float32)
    depth[generator.random(depth.shape) < 0.1] = 0.0
    box = the_box(ids, depth)
    assert_is(box, pose, SIZE, tolerance=0.06)
    assert box.used_pixels < 0.9 * box.visible_pixels


def test_an_object_that_something_hides_in_the_middle_keeps_both_its_parts() -> None:
    pose = pose_of(0.0, (0.0, 0.4, 2.5))
    size = (1.2, 0.5, 0.4)
    ids, depth = seen_box(pose, size)
    ids[:, 150:170], depth[:, 150:170] = 2, 1.0
    boxes = estimated_boxes(ids, depth, INTRINSICS)
    assert [box.instance_id for box in boxes] == [1, 2]
    assert boxes[0].size[0] == pytest.approx(1.2, abs=0.04)


def test_another_unit_of_depth_is_another_unit_of_everything() -> None:
    ids, depth = seen_box(pose_of(25.0, CENTRE), SIZE)
    one, other = the_box(ids, depth), the_box(ids, depth * 10.0)
    np.testing.assert_allclose(other.size, np.array(one.size) * 10.0, rtol=1e-4)
    np.testing.assert_allclose(other.camera_from_object[:3, :3], one.camera_from_object[:3, :3], atol=1e-4)
    np.testing.assert_allclose(other.scenegen.translation, np.array(one.scenegen.translation) * 10.0, rtol=1e-4)


def test_a_flat_object_is_as_thick_as_a_pixel() -> None:
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    ids = np.zeros(depth.shape, np.uint16)
    ids[30:60, 40:90] = 1
    box = the_box(ids, depth)
    pixel = 2.0 / INTRINSICS[0]
    assert box.size == pytest.approx((50 * pixel, 30 * pixel, pixel), rel=0.05)
    assert box.box == (40, 30, 90, 60)
    assert box.visible_pixels == 1500


def test_objects_without_depth_have_no_box() -> None:
    ids, depth = seen_box(pose_of(25.0, CENTRE), SIZE)
    depth[ids > 0] = 0.0
    assert estimated_boxes(ids, depth, INTRINSICS) == []
    assert estimated_boxes(np.zeros_like(ids), depth, INTRINSICS) == []


def test_the_scenegen_pose_projects_onto_the_mask() -> None:
    pose = pose_of(20.0, CENTRE)
    ids, depth = seen_box(pose, SIZE)
    box = the_box(ids, depth)
    np.testing.assert_allclose(camera_from_scenegen(box.scenegen), box.camera_from_object, atol=1e-9)
    corners = np.array(np.meshgrid(*([-0.5, 0.5],) * 3)).reshape(3, -1).T * box.size
    projected = projected_box(corners, box.scenegen, INTRINSICS, HEIGHT, WIDTH)
    np.testing.assert_allclose(projected, box.box, atol=4.0)


def test_records_are_json_and_say_that_they_are_estimates() -> None:
    ids, depth = seen_box(pose_of(25.0, CENTRE), SIZE)
    record = the_box(ids, depth).record()
    assert json.loads(json.dumps(record, allow_nan=False))["estimated"] is True
    assert record["instance_id"] == 1


def test_masks_and_depth_must_be_of_one_view() -> None:
    ids, depth = seen_box(pose_of(25.0, CENTRE), SIZE)
    with pytest.raises(ContractError, match="shape"):
        estimated_boxes(ids[:-1], depth, INTRINSICS)

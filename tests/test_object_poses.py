from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sceneloom.datasets.errors import ContractError
from sceneloom.ops import cameras, object_export, object_poses
from sceneloom.ops.object_poses import SceneGenPose
from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.scene_model import SceneInstance, SceneModel

from .scenes import box_mesh, room_scene, translation

SIZE = (0.5, 1.0, 0.3)


def posed_scene() -> SceneModel:
    """The room with a box that stands turned, tilted and off the axis, a ball, and a camera that looks down."""
    scene = room_scene(height=120, width=200)
    place = translation(-0.5, 0.9, -0.8)
    place[:3, :3] = Rotation.from_euler("yxz", [35, 20, -10], degrees=True).as_matrix()
    box = SceneInstance(1, "box", "box", box_mesh(SIZE, (2,) * 6), place)
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("x", -12, degrees=True).as_matrix()
    return dataclasses.replace(
        scene, instances=[box, scene.instances[1]], scene_from_camera=scene.scene_from_camera @ tilt
    )


def instance_image(scene: SceneModel) -> np.ndarray:
    height, width = scene.size
    return RayCaster(scene).geometry(np.eye(4), scene.intrinsics, height, width).instance_ids


def pixels_alone(scene: SceneModel):
    return lambda instance: object_poses.pixels_of_object_alone(scene, instance)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-180, 180), min_size=3, max_size=3))
def test_euler_angles_are_scipys_lower_case_xyz(angles: list[float]) -> None:
    expected = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    np.testing.assert_allclose(object_poses.rotation_from_euler_degrees(angles), expected, atol=1e-12)
    found = object_poses.euler_degrees_from_rotation(expected)
    assert -90 <= found[1] <= 90
    # At ±90° single precision of the matrix leaves the two other angles loose, never the rotation.
    np.testing.assert_allclose(Rotation.from_euler("xyz", found, degrees=True).as_matrix(), expected, atol=1e-7)


@pytest.mark.parametrize("b", [90.0, -90.0])
def test_euler_angles_at_the_pole(b: float) -> None:
    rotation = Rotation.from_euler("xyz", [25, b, 70], degrees=True).as_matrix()
    found = object_poses.euler_degrees_from_rotation(rotation)
    assert found[:2] == pytest.approx((0.0, b), abs=1e-5)
    np.testing.assert_allclose(object_poses.rotation_from_euler_degrees(found), rotation, atol=1e-7)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_scenegen_pose_reads_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(rng=rng).as_matrix()
    pose[:3, 3] = rng.normal(size=3) * 3
    scenegen = object_poses.scenegen_pose(pose, 1.25)
    assert scenegen.scale == 1.25
    np.testing.assert_allclose(object_poses.camera_from_scenegen(scenegen), pose, atol=1e-9)


def test_a_level_object_straight_ahead() -> None:
    # The camera stands 2.5 m behind the origin at 1.5 m; the object 2 m before it, 0.5 m to the right, on the floor.
    scene = room_scene()
    instance = SceneInstance(1, "box", "box", box_mesh(SIZE, (2,) * 6), translation(0.5, 0.5, 0.5))
    pose = object_poses.camera_from_object(scene, instance)
    np.testing.assert_allclose(pose[:3, 3], [0.5, 1.0, 2.0], atol=1e-12)
    scenegen = object_poses.scenegen_pose(pose, object_export.longest_side(instance))
    assert scenegen.translation == pytest.approx((0.5, -1.0, -2.0))
    assert scenegen.rotation == pytest.approx((0.0, 0.0, 0.0))
    assert scenegen.scale == pytest.approx(1.0)


def test_masks_poses_and_visibility_of_a_rendered_view() -> None:
    scene = posed_scene()
    ids = instance_image(scene)
    found = object_poses.visible_objects(scene, ids, pixels_alone(scene))
    assert [one.instance.instance_id for one in found] == [1, 2]
    for one in found:
        np.testing.assert_array_equal(one.mask, ids == one.instance.instance_id)
        left, top, right, bottom = one.box
        assert one.mask[top:bottom, left:right].sum() == one.visible_pixels == one.mask.sum()
        assert one.visibility == pytest.approx(1.0, abs=0.01)
    assert found[0].size == pytest.approx(SIZE)


def test_the_written_obj_and_pose_reproject_onto_the_mask() -> None:
    """From the files' own numbers, through scipy and trimesh: nothing of the code that wrote them."""
    scene = posed_scene()
    ids = instance_image(scene)
    for one in object_poses.visible_objects(scene, ids, pixels_alone(scene)):
        obj = object_export.to_obj(one.instance, scene.materials)[object_export.OBJ_NAME]
        mesh = trimesh.load_mesh(io.BytesIO(obj), file_type="obj", process=False)
        canonical = mesh.vertices / mesh.extents.max()
        rotation = Rotation.from_euler("xyz", one.scenegen.rotation, degrees=True)
        opengl = rotation.apply(canonical * one.scenegen.scale) + one.scenegen.translation
        opencv = opengl * [1, -1, -1]
        pixels, _ = cameras.project(opencv, np.eye(4), scene.intrinsics)
        assert np.abs(np.r_[pixels.min(axis=0), pixels.max(axis=0)] - one.box).max() < 1.0
        check = object_poses.check_reprojection(mesh.vertices, one.scenegen, one.mask, scene.intrinsics)
        assert check.mask_inside == 1.0
        assert check.box_difference < 1.0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pose: SceneGenPose((pose.translation[0], -pose.translation[1], pose.translation[2]), pose.rotation, 1.0),
        lambda pose: SceneGenPose(pose.translation, (pose.rotation[2], pose.rotation[1], pose.rotation[0]), 1.0),
        lambda pose: SceneGenPose(pose.translation, tuple(-angle for angle in pose.rotation), 1.0),
        lambda pose: dataclasses.replace(pose, scale=1.3),
        lambda pose: SceneGenPose((pose.translation[0], pose.translation[1], -pose.translation[2]), pose.rotation, 1.0),
    ],
)
def test_a_wrong_pose_does_not_fit_the_mask(spoil) -> None:
    scene = posed_scene()
    one = object_poses.visible_objects(scene, instance_image(scene), pixels_alone(scene))[0]
    vertices = one.instance.mesh.vertices
    assert object_poses.check_reprojection(vertices, one.scenegen, one.mask, scene.intrinsics).box_difference < 1
    wrong = object_poses.check_reprojection(vertices, spoil(one.scenegen), one.mask, scene.intrinsics)
    assert wrong.box_difference > 1.5


def test_a_hidden_share_lowers_the_visibility() -> None:
    scene = posed_scene()
    screen = SceneInstance(3, "screen", "screen", box_mesh((1.0, 3.0, 0.05), (0,) * 6), translation(-1.0, 1.5, 0.4))
    scene = dataclasses.replace(scene, instances=[*scene.instances, screen])
    ids = instance_image(scene)
    alone = pixels_alone(scene)
    box = object_poses.visible_objects(scene, ids, alone)[0]
    free = np.count_nonzero(instance_image(posed_scene()) == 1)
    assert 0 < box.visible_pixels < free
    assert box.visibility == pytest.approx(box.visible_pixels / free, abs=0.01)
    kept = object_poses.visible_objects(scene, ids, alone, minimum_visibility=box.visibility + 0.01)
    assert [one.instance.instance_id for one in kept] == [2, 3]
    kept = object_poses.visible_objects(scene, ids, alone, minimum_visible_pixels=box.visible_pixels + 1)
    assert 1 not in [one.instance.instance_id for one in kept]


def test_objects_cut_by_the_picture_edge_count_what_is_inside() -> None:
    scene = posed_scene()
    edge = SceneInstance(1, "box", "box", box_mesh((1.0, 1.0, 1.0), (2,) * 6), translation(-1.45, 1.5, 0.0))
    scene = dataclasses.replace(scene, instances=[edge])
    (one,) = object_poses.visible_objects(scene, instance_image(scene), pixels_alone(scene))
    assert one.box[0] == 0
    assert one.visibility == pytest.approx(1.0, abs=0.01)
    check = object_poses.check_reprojection(edge.mesh.vertices, one.scenegen, one.mask, scene.intrinsics)
    assert check.mask_inside == 1.0


def test_objects_behind_the_camera_cover_nothing() -> None:
    scene = posed_scene()
    behind = SceneInstance(1, "box", "box", box_mesh((0.2, 0.2, 0.2), (2,) * 6), translation(0.0, 1.5, 2.8))
    assert object_poses.pixels_of_object_alone(dataclasses.replace(scene, instances=[behind]), behind) == 0


def test_ids_from_another_scene_are_refused() -> None:
    scene = posed_scene()
    with pytest.raises(ContractError, match=r"ids \[9\] are not in the scene"):
        object_poses.visible_objects(scene, np.full((4, 4), 9), pixels_alone(scene))
    with pytest.raises(ContractError, match="empty"):
        object_poses.mask_box(np.zeros((3, 3), bool))

"""Rigid motions over a clip: the scene at each frame, poses of its objects, and where they pass."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ContractError, InputError
from sceneloom.ops import raycast_reference
from sceneloom.ops.cameras import rotation_from_vector
from sceneloom.ops.object_motion import (
    ObjectMotion,
    box_corners,
    from_records,
    instances_at,
    moving_ids,
    object_poses,
    scene_at,
    swept_scene,
)
from sceneloom.ops.raycast import RayCaster

from . import scenes

FRAMES = 5


def slide(number: int, way: tuple[float, float, float], frames: int = FRAMES) -> ObjectMotion:
    displacement = np.tile(np.eye(4), (frames, 1, 1))
    displacement[:, :3, 3] = np.linspace(0, 1, frames)[:, None] * np.array(way)
    return ObjectMotion((number,), "slide", float(np.linalg.norm(way)), 0.5, displacement)


def tumble(number: int, seed: int) -> ObjectMotion:
    """Any rigid motion."""
    rng = np.random.default_rng(seed)
    displacement = np.tile(np.eye(4), (FRAMES, 1, 1))
    displacement[1:, :3, :3] = rotation_from_vector(rng.normal(0, 0.4, (FRAMES - 1, 3)))
    displacement[1:, :3, 3] = rng.normal(0, 0.2, (FRAMES - 1, 3))
    return ObjectMotion((number,), "turn", 1.0, 1.0, displacement)


def test_frame_0_is_the_scene_as_it_was_built() -> None:
    scene = scenes.room_scene()
    moved = scene_at(scene, (tumble(1, 0), slide(2, (0.3, 0, 0))), 0)
    for before, after in zip(scene.instances, moved.instances, strict=True):
        np.testing.assert_array_equal(before.scene_from_object, after.scene_from_object)
    assert scene_at(scene, (), 99).instances == tuple(scene.instances)


@given(st.integers(0, 10_000), st.integers(1, FRAMES - 1))
@settings(deadline=None, max_examples=15)
def test_depth_of_moved_objects_is_the_reference_depth(seed: int, frame: int) -> None:
    scene = scenes.room_scene(height=24, width=40, rings=6, sectors=8)
    motions = (tumble(1, seed), tumble(2, seed + 1))
    caster = RayCaster(scene)
    caster.place(instances_at(scene, motions, frame))
    seen = caster.geometry(np.eye(4), scene.intrinsics, 24, 40)
    triangles = raycast_reference.world_triangles(scene_at(scene, motions, frame))
    expected = raycast_reference.depth_map(triangles, np.eye(4), scene.intrinsics, 24, 40)
    # A ray along a silhouette may fall to either side in float32.
    wrong = np.abs(seen.depth - expected) > 1e-4 * expected
    assert wrong.mean() < 0.005


def test_poses_are_of_the_world_frame_and_all_objects_are_listed() -> None:
    scene = scenes.room_scene()
    poses = object_poses(scene, (slide(2, (0.3, 0.0, 0.2)),), FRAMES)
    np.testing.assert_array_equal(poses.instance_ids, [1, 2])
    np.testing.assert_array_equal(poses.moving, [False, True])
    assert (poses.poses.dtype, poses.poses.shape) == (np.float32, (FRAMES, 2, 4, 4))
    assert (poses.poses[:, 0] == poses.poses[0, 0]).all()
    # The camera looks along the scene's -z with y down: a way of (x, y, z) is one of (x, -y, -z) in the world.
    np.testing.assert_allclose(poses.poses[-1, 1, :3, 3] - poses.poses[0, 1, :3, 3], [0.3, 0.0, -0.2], atol=1e-6)


def test_what_is_carried_moves_too() -> None:
    scene = scenes.room_scene()
    alone = slide(2, (0.1, 0, 0))
    both = ObjectMotion((2, 1), alone.kind, alone.amplitude, alone.cycles, alone.displacement)
    np.testing.assert_array_equal(moving_ids((both,)), [1, 2])
    moved = instances_at(scene, (both,), FRAMES - 1)
    for before, after in zip(scene.instances, moved, strict=True):
        offset = after.scene_from_object[:3, 3] - before.scene_from_object[:3, 3]
        np.testing.assert_allclose(offset, [0.1, 0, 0], atol=1e-12)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_copies_of_the_swept_scene_are_close_to_every_place_that_is_passed(seed: int) -> None:
    scene = scenes.room_scene()
    motion = tumble(1, seed)
    swept = swept_scene(scene, (motion,))
    assert [item.instance_id for item in swept.instances] == list(range(1, len(swept.instances) + 1))
    box = scene.instances[0]
    copies = [item for item in swept.instances if item.mesh is box.mesh]
    places = np.stack([box_corners(box, item.scene_from_object) for item in copies])
    for frame in range(FRAMES):
        corners = box_corners(box, motion.displacement[frame] @ box.scene_from_object)
        assert np.linalg.norm(places - corners, axis=-1).max(axis=1).min() <= 0.05


def test_a_surface_that_passes_later_is_kept_clear_of() -> None:
    scene = scenes.room_scene()
    motion = slide(2, (0.0, 0.0, 2.0), 41)
    swept, still = RayCaster(swept_scene(scene, (motion,))), RayCaster(scene)
    world_from_scene = np.linalg.inv(scene.scene_from_camera)
    there = (world_from_scene @ np.array([0.8, 0.5, 1.0, 1.0]))[None, :3]
    outside = there + np.array([[0.0, -0.6, 0.0]])
    assert still.closest_distance(outside)[0] > 0.9
    assert swept.closest_distance(outside)[0] == pytest.approx(0.1, abs=0.05)


def test_records_and_displacements_make_the_motions_again() -> None:
    motions = (slide(1, (0.1, 0, 0)), tumble(2, 4))
    records = json.loads(json.dumps([motion.record() for motion in motions]))
    assert [record["unit"] for record in records] == ["metre", "radian"]
    again = from_records(records, np.stack([motion.displacement for motion in motions]))
    for before, after in zip(motions, again, strict=True):
        assert (before.instance_ids, before.kind, before.amplitude) == (after.instance_ids, after.kind, after.amplitude)
        np.testing.assert_array_equal(before.displacement, after.displacement)
    with pytest.raises(ContractError, match="for 1 motions"):
        from_records(records[:1], np.stack([motion.displacement for motion in motions]))
    with pytest.raises(ContractError, match="not at rest at frame 0"):
        from_records(records[:1], motions[0].displacement[None, 1:])


def test_a_frame_after_the_clip_is_refused() -> None:
    with pytest.raises(InputError, match="frame 5 of motions over 5 frames"):
        instances_at(scenes.room_scene(), (slide(1, (0.1, 0, 0)),), FRAMES)

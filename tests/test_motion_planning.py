"""Planning motions: always clear of everything, smooth, at rest at first, and the same for the same seed."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter

import numpy as np
import pytest

from sceneloom.datasets.errors import InputError
from sceneloom.ops.motion_planning import plan_motions
from sceneloom.ops.object_motion import ObjectMotion, instances_at, moving_ids
from sceneloom.ops.procedural_scene import build_scene
from sceneloom.ops.scene_model import SceneInstance, SceneModel

from . import scenes

PROMPTS = (
    "a dining room in the morning with a round table, four chairs and a vase",
    "a sunny courtyard with two benches, a barrel and four potted plants",
    "a living room at night with a sofa, a floor lamp, a basket and a table with a table lamp",
    "a small bedroom at night with a bed, a table lamp and a blue rug",
)
FRAMES = 25
CASES = pytest.mark.parametrize(("prompt", "seed"), [(prompt, seed) for prompt in PROMPTS for seed in range(3)])


@functools.cache
def scene_of(prompt: str, seed: int) -> SceneModel:
    return build_scene(prompt, seed=seed, height=64, width=112)


@functools.cache
def planned(prompt: str, seed: int) -> tuple[ObjectMotion, ...]:
    return plan_motions(scene_of(prompt, seed), seed=seed, frames=FRAMES, objects=3, distance=0.6)


def points_of(instance: SceneInstance) -> np.ndarray:
    return instance.mesh.vertices @ instance.scene_from_object[:3, :3].T + instance.scene_from_object[:3, 3]


def gap(first: SceneInstance, second: SceneInstance) -> float:
    """Metres between two meshes along the best of the directions of their sides: positive proves them apart."""
    a, b = points_of(first), points_of(second)
    axes = np.concatenate([first.scene_from_object[:3, :3], second.scene_from_object[:3, :3], np.eye(3)], axis=1)
    on_a, on_b = a @ axes, b @ axes
    return float(np.maximum(on_b.min(axis=0) - on_a.max(axis=0), on_a.min(axis=0) - on_b.max(axis=0)).max())


@CASES
def test_meshes_never_meet_nor_leave_the_room(prompt: str, seed: int) -> None:
    scene, motions = scene_of(prompt, seed), planned(prompt, seed)
    assert motions
    moving = set(moving_ids(motions).tolist())
    carried = [set(motion.instance_ids) for motion in motions]
    room: dict[str, float] = scene.description["room_metres"]  # type: ignore[assignment]
    start = {item.instance_id: points_of(item) for item in scene.instances}
    for frame in range(FRAMES):
        instances = instances_at(scene, motions, frame)
        for item in instances:
            if item.instance_id not in moving:
                continue
            points = points_of(item)
            assert np.abs(points[:, 0]).max() < room["width"] / 2
            assert -room["ahead"] < points[:, 2].min()
            assert points[:, 1].min() >= start[item.instance_id][:, 1].min() - 1e-6, "sinks"
            assert points[:, 1].max() < max(room["height"], start[item.instance_id][:, 1].max() + 1e-6)
            for other in instances:
                if other is item or any({item.instance_id, other.instance_id} <= group for group in carried):
                    continue
                assert gap(item, other) > -1e-6, f"{item.name} meets {other.name} at frame {frame}"


@CASES
def test_motions_are_rigid_smooth_and_start_at_rest(prompt: str, seed: int) -> None:
    for motion in planned(prompt, seed):
        displacement = motion.displacement
        np.testing.assert_array_equal(displacement[0], np.eye(4))
        rotation = displacement[:, :3, :3]
        np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), np.tile(np.eye(3), (FRAMES, 1, 1)), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(rotation), 1)
        angle = np.arccos(np.clip((np.trace(rotation, axis1=1, axis2=2) - 1) / 2, -1, 1))
        travel = angle if motion.kind in ("turn", "rock") else np.linalg.norm(displacement[:, :3, 3], axis=1)
        assert travel.max() <= motion.amplitude + 1e-9
        assert travel.max() > 0.9 * motion.amplitude
        # Of (1 - cos 2πct) / 2 the first step is small and the second difference bounded.
        assert travel[1] < 0.02 * motion.amplitude
        assert np.abs(np.diff(travel, 2)).max() < 0.5 * (2 * np.pi * motion.cycles / (FRAMES - 1)) ** 2 * 1.01 * (
            motion.amplitude
        )


def test_lamps_and_fixed_things_stay_and_loads_are_carried() -> None:
    families: Counter[str] = Counter()
    for prompt in PROMPTS:
        for seed in range(3):
            scene = scene_of(prompt, seed)
            of_id = {item.instance_id: item for item in scene.instances}
            for motion in planned(prompt, seed):
                root = motion.instance_ids[0]
                families[of_id[root].family] += 1
                for item in scene.instances:
                    if item.support in motion.instance_ids:
                        assert item.instance_id in motion.instance_ids
                    if item.instance_id in motion.instance_ids:
                        assert "lamp" not in item.family
                        assert max(max(scene.materials[n].emission) for n in item.mesh.material) == 0
    assert families
    assert not families.keys() & {"fountain", "tree", "parasol"}


def test_the_seed_decides() -> None:
    scene = scene_of(PROMPTS[0], 0)
    first, same, other = (plan_motions(scene, seed=seed, frames=FRAMES, objects=2, distance=0.6) for seed in (4, 4, 5))
    assert [motion.record() for motion in first] == [motion.record() for motion in same]
    assert all((a.displacement == b.displacement).all() for a, b in zip(first, same, strict=True))
    assert [motion.record() for motion in first] != [motion.record() for motion in other]
    assert len(first) == 2
    assert plan_motions(scene, seed=4, frames=FRAMES, objects=0, distance=0.6) == ()


def test_the_way_does_not_depend_on_how_finely_it_is_sampled() -> None:
    scene = scene_of(PROMPTS[1], 0)
    coarse, fine = (plan_motions(scene, seed=1, frames=n, objects=1, distance=0.6) for n in (13, 25))
    assert coarse[0].record() == fine[0].record()
    np.testing.assert_allclose(coarse[0].displacement, fine[0].displacement[::2], atol=1e-12)


@pytest.mark.parametrize("change", [{"seed": -1}, {"frames": 1}, {"objects": -1}, {"distance": 0.0}])
def test_numbers_out_of_range_are_refused(change: dict[str, float]) -> None:
    arguments = {"seed": 0, "frames": 9, "objects": 1, "distance": 0.5} | change
    with pytest.raises(InputError, match="object motion"):
        plan_motions(scene_of(PROMPTS[0], 0), **arguments)  # type: ignore[arg-type]


def test_a_scene_without_a_room_is_refused() -> None:
    with pytest.raises(InputError, match="how large its room is"):
        plan_motions(scenes.room_scene(), seed=0, frames=9, objects=1, distance=0.5)
    bare = dataclasses.replace(scene_of(PROMPTS[0], 0), description={})
    with pytest.raises(InputError, match="procedural scenes only"):
        plan_motions(bare, seed=0, frames=9, objects=1, distance=0.5)

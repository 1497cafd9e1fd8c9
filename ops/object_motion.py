"""Objects that move while a clip runs: rigid motions over its frames, and the scene at each of them.

A motion starts at rest, so that frame 0 shows the scene as it was built. Its displacements are in the scene frame:
scene-from-object at frame i is `displacement[i]` times that of the scene as it was built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError, InputError
from .scene_model import Float32, Float64, Int32, SceneInstance, SceneModel

Kind = Literal["slide", "turn", "rock", "hover"]
"""How an object moves, always there and back: along the floor; about the vertical; over a lower edge; up."""

KINDS: tuple[Kind, ...] = get_args(Kind)

_SWEPT_STEP = 0.05
"""Metres between the places of a moving object that stand for all of its way in `swept_scene`."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMotion:
    """One rigid motion over a clip's T frames.

    Attributes:
        instance_ids: the object, then all that stands on it and moves with it.
        kind: see `Kind`.
        amplitude: farthest from the start, metres for slide and hover, radians for turn and rock.
        cycles: how often it goes there and back during the clip.
        displacement: (T, 4, 4) float64 rigid, scene frame; the identity at frame 0.
    """

    instance_ids: tuple[int, ...]
    kind: Kind
    amplitude: float
    cycles: float
    displacement: Float64

    def record(self) -> dict[str, Any]:
        """The motion without its displacements, as JSON."""
        return {
            "instance_ids": list(self.instance_ids),
            "kind": self.kind,
            "amplitude": self.amplitude,
            "unit": "metre" if self.kind in ("slide", "hover") else "radian",
            "cycles": self.cycles,
        }


@dataclass(frozen=True, slots=True, eq=False)
class ObjectPoses:
    """Where every object of a scene is at every frame of a clip.

    Attributes:
        instance_ids: (K,) int32, all objects of the scene.
        moving: (K,) bool, whether the object moves in the clip.
        poses: (T, K, 4, 4) float32 rigid world-from-object; the world is the conditioning camera's OpenCV frame.
    """

    instance_ids: Int32
    moving: NDArray[np.bool_]
    poses: Float32


def from_records(records: Sequence[Mapping[str, Any]], displacements: Float64) -> tuple[ObjectMotion, ...]:
    """Motions of what `ObjectMotion.record` gave and their (M, T, 4, 4) displacements.

    Raises:
        ContractError: there are not as many displacements as records, or a motion does not start at rest.
    """
    fits = displacements.shape[:1] == (len(records),) and displacements.shape[2:] == (4, 4)
    if not fits or not (displacements[:, 0] == np.eye(4)).all():
        raise ContractError(
            f"displacements of shape {displacements.shape} for {len(records)} motions, or one not at rest at frame 0",
            where="object motion",
            remedy="Give (M, T, 4, 4) displacements that start with the identity.",
        )
    return tuple(
        ObjectMotion(tuple(record["instance_ids"]), record["kind"], record["amplitude"], record["cycles"], displacement)
        for record, displacement in zip(records, displacements, strict=True)
    )


def moving_ids(motions: Sequence[ObjectMotion]) -> Int32:
    """Ids of all instances that move, in order."""
    return np.array(sorted(number for motion in motions for number in motion.instance_ids), dtype=np.int32)


def instances_at(scene: SceneModel, motions: Sequence[ObjectMotion], frame: int) -> tuple[SceneInstance, ...]:
    """The scene's instances where they are at a frame; those that do not move are the scene's own.

    Raises:
        InputError: the motions have no such frame.
    """
    if any(not 0 <= frame < len(motion.displacement) for motion in motions):
        raise InputError(
            f"frame {frame} of motions over {len(motions[0].displacement)} frames",
            where="object motion",
            remedy="Ask for a frame of the clip that the motions were planned for.",
        )
    moved = {number: motion.displacement[frame] for motion in motions for number in motion.instance_ids}
    return tuple(
        replace(instance, scene_from_object=moved[instance.instance_id] @ instance.scene_from_object)
        if instance.instance_id in moved
        else instance
        for instance in scene.instances
    )


def scene_at(scene: SceneModel, motions: Sequence[ObjectMotion], frame: int) -> SceneModel:
    """The scene at a frame of the clip; at frame 0 it is the scene as it was built.

    Raises:
        InputError: the motions have no such frame.
    """
    return replace(scene, instances=instances_at(scene, motions, frame))


def object_poses(scene: SceneModel, motions: Sequence[ObjectMotion], frames: int) -> ObjectPoses:
    """Poses of all of the scene's objects over the first `frames` frames of the clip."""
    world_from_scene = np.linalg.inv(scene.scene_from_camera)
    poses = np.zeros((frames, len(scene.instances), 4, 4), np.float32)
    for frame in range(frames):
        for index, instance in enumerate(instances_at(scene, motions, frame)):
            poses[frame, index] = world_from_scene @ instance.scene_from_object
    ids = np.array([instance.instance_id for instance in scene.instances], dtype=np.int32)
    return ObjectPoses(ids, np.isin(ids, moving_ids(motions)), poses)


def swept_scene(scene: SceneModel, motions: Sequence[ObjectMotion]) -> SceneModel:
    """The scene with a copy of each moving object wherever it passes: what a camera keeps clear of at any time.

    Copies follow so closely that every place of every corner of an object's box is within 5 cm of one in a copy. Their
    instance ids count on from the scene's.
    """
    instances = list(scene.instances)
    by_id = {instance.instance_id: instance for instance in scene.instances}
    for motion in motions:
        for number in motion.instance_ids:
            for frame in _spread_frames(by_id[number], motion.displacement):
                pose = motion.displacement[frame] @ by_id[number].scene_from_object
                instances.append(
                    replace(by_id[number], instance_id=len(instances) + 1, scene_from_object=pose, support=0)
                )
    return replace(scene, instances=tuple(instances))


def box_corners(instance: SceneInstance, poses: Float64) -> Float64:
    """(…, 8, 3) corners of the instance's bounding box, of its own frame, under (…, 4, 4) poses."""
    low, high = instance.mesh.vertices.min(axis=0), instance.mesh.vertices.max(axis=0)
    sides = np.stack([low, high]).astype(np.float64)
    corners = np.array([[sides[i, 0], sides[j, 1], sides[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    return np.einsum("...ij,nj->...ni", poses[..., :3, :3], corners) + poses[..., None, :3, 3]


def _spread_frames(instance: SceneInstance, displacement: Float64) -> list[int]:
    """Frames after the first: at any other the object is within `_SWEPT_STEP` of one of them, or of its start."""
    corners = box_corners(instance, displacement @ instance.scene_from_object)
    kept = [0]
    for frame in range(1, len(corners)):
        if np.linalg.norm(corners[kept] - corners[frame], axis=-1).max(axis=1).min() > _SWEPT_STEP:
            kept.append(frame)
    return kept[1:]

"""Choosing how the objects of a procedural scene move: seeded, smooth, and never into one another.

Every motion follows (1 − cos 2πct) / 2 over the clip's time t from 0 to 1, with c cycles: from rest, there and back. It
is taken only if at every frame the object, with all that stands on it, keeps clear of the walls, the ceiling, the
camera and the boxes of all other objects, wherever those are at that frame. Boxes are upright ones around the moved
object's own box, so boxes that do not meet prove that the meshes do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..datasets.errors import InputError
from .cameras import project, rotation_from_vector
from .object_motion import KINDS, Kind, ObjectMotion, box_corners
from .placement import RULES, FloorArea, UprightBoxes, boxes_meet
from .scene_model import BACKGROUND_ID, Float64, SceneInstance, SceneModel

_FIXED = frozenset(("fountain", "tree", "parasol"))
"""Families that are fixed to the ground."""
_AGAINST_WALLS = frozenset(family for family, rule in RULES.items() if rule == "wall")
"""Families that move only where nothing else can."""

_MARGIN = 0.02
_GAP_TO_WALL = 0.045  # skirting and picture frames stand out by up to 0.035 m
_GAP_TO_CEILING = 0.35  # beams and lamps hang down by less
_CLEAR_DISTANCE = 1.5
"""Least distance in metres from the conditioning camera's plane, as for objects that stand."""

_DRAWS = 12
"""Draws of one kind of motion for one object; each asks for a little less than the one before."""
_SHRINK = 0.85
_CYCLES = (0.5, 1.0)
_FIRST_CHOICE: dict[Kind, float] = {"slide": 0.4, "turn": 0.3, "rock": 0.15, "hover": 0.15}
"""How likely a kind of motion is tried first; rock and hover find room nearly everywhere."""
_ANGLES: dict[Kind, tuple[float, float]] = {"turn": (math.radians(40), math.radians(180)), "rock": (0.07, 0.2)}
_LEAST: dict[Kind, float] = {"slide": 0.1, "hover": 0.06, "turn": math.radians(15), "rock": 0.04}
_HOVER_SHARE = 0.6
"""Height of a hover as a share of the distance that a slide may go."""


def plan_motions(
    scene: SceneModel, *, seed: int, frames: int, objects: int, distance: float
) -> tuple[ObjectMotion, ...]:
    """Motions for some objects of a procedural scene; the same arguments give the same motions.

    What gives off light stays, as does what is fixed to the ground; furniture against walls moves only where nothing
    else can. What stands on a moving object moves with it.

    Args:
        scene: with `room_metres` in its description.
        seed: of every draw, 0 or more.
        frames: T, at least 2.
        objects: most objects that move, not counting those carried along; fewer where no more can.
        distance: metres, longest way of a slide.

    Raises:
        InputError: a number is out of range, or the scene does not say how large its room is.
    """
    if seed < 0 or frames < 2 or objects < 0 or not 0.0 < distance <= 2.0:
        raise InputError(
            f"seed {seed}, {frames} frames, {objects} objects, distance {distance}",
            where="object motion",
            remedy="Give a seed of 0 or more, 2 frames or more, 0 objects or more and a distance of up to 2 m.",
        )
    plan = _Plan(scene, _room(scene), frames)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(b"object_motion")))
    roots = [root for root in scene.instances if root.family not in _FIXED and not plan.shines(root)]
    order = [roots[index] for index in rng.permutation(len(roots))]
    for root in sorted(order, key=lambda root: root.family in _AGAINST_WALLS):
        full = len(plan.motions) == objects
        if full or (plan.motions and root.family in _AGAINST_WALLS):
            break
        plan.try_to_move(root, distance, rng)
    return tuple(plan.motions)


def _room(scene: SceneModel) -> tuple[FloorArea, float]:
    """The floor between the walls, and the height that nothing rises above."""
    room = scene.description.get("room_metres")
    if not isinstance(room, Mapping):
        raise InputError(
            "the scene does not say how large its room is",
            where="object motion",
            remedy="Plan motions for procedural scenes only.",
        )
    width, ahead, behind, height = (float(room[name]) for name in ("width", "ahead", "behind", "height"))
    return FloorArea((-width / 2, -ahead), (width / 2, behind)), height - _GAP_TO_CEILING


@dataclass(frozen=True, slots=True)
class _Group:
    """An object with all that stands on it: for each member its upright boxes, one a frame."""

    members: tuple[SceneInstance, ...]
    displacement: Float64

    def corners(self) -> Float64:
        """(members, T, 8, 3)."""
        return np.stack([box_corners(item, self.displacement @ item.scene_from_object) for item in self.members])


class _Plan:
    """Motions taken so far, and where that leaves every object."""

    def __init__(self, scene: SceneModel, room: tuple[FloorArea, float], frames: int) -> None:
        self.scene = scene
        self.area, self.ceiling = room
        self.frames = frames
        self.motions: list[ObjectMotion] = []
        self._boxes = {item.instance_id: _upright_boxes(item, np.eye(4)[None]) for item in scene.instances}
        self._support = {item.instance_id: item.support for item in scene.instances}

    def shines(self, root: SceneInstance) -> bool:
        """Whether the object or something on it gives off light: lights do not move."""
        centres = np.array([light.centre for light in self.scene.area_lights]).reshape(-1, 3)
        for item in self._carried(root):
            if any(max(self.scene.materials[number].emission) > 0 for number in np.unique(item.mesh.material)):
                return True
            local = (centres - item.scene_from_object[:3, 3]) @ item.scene_from_object[:3, :3]
            low, high = item.mesh.vertices.min(axis=0) - _MARGIN, item.mesh.vertices.max(axis=0) + _MARGIN
            if ((local >= low) & (local <= high)).all(axis=1).any():
                return True
        return False

    def try_to_move(self, root: SceneInstance, distance: float, rng: np.random.Generator) -> None:
        """Take the first motion of the object that keeps clear, if one of several draws does."""
        members = self._carried(root)
        taken = {number for motion in self.motions for number in motion.instance_ids}
        if taken & {item.instance_id for item in members}:
            return
        kinds: list[Kind] = [kind for kind in KINDS if kind != "slide" or root.support == BACKGROUND_ID]
        weights = np.array([_FIRST_CHOICE[kind] for kind in kinds])
        for choice in rng.choice(len(kinds), len(kinds), replace=False, p=weights / weights.sum()):
            motion = self._clear_motion(kinds[choice], members, distance, rng)
            if motion is not None:
                self.motions.append(motion)
                for item in members:
                    self._boxes[item.instance_id] = _upright_boxes(item, motion.displacement)
                return

    def _clear_motion(
        self, kind: Kind, members: tuple[SceneInstance, ...], distance: float, rng: np.random.Generator
    ) -> ObjectMotion | None:
        for attempt in range(_DRAWS):
            amplitude = max(_amplitude(kind, distance, rng) * _SHRINK**attempt, _LEAST[kind])
            cycles = float(rng.uniform(*_CYCLES))
            travel = 0.5 - 0.5 * np.cos(2 * np.pi * cycles * np.linspace(0.0, 1.0, self.frames))
            displacement = _displacement(kind, members[0], amplitude * travel, rng)
            if self._keeps_clear(_Group(members, displacement)):
                return ObjectMotion(tuple(item.instance_id for item in members), kind, amplitude, cycles, displacement)
        return None

    def _carried(self, root: SceneInstance) -> tuple[SceneInstance, ...]:
        """The object and, after it, all that stands on it or on what stands on it."""
        members = [root]
        for carrier in members:
            members += [item for item in self.scene.instances if item.support == carrier.instance_id]
        return tuple(members)

    def _keeps_clear(self, group: _Group) -> bool:
        corners = group.corners()
        if not (self._in_room(corners) and self._before_the_camera(group, corners)):
            return False
        ids = {item.instance_id for item in group.members}
        others = [number for number in self._boxes if number not in ids]
        return not any(
            self._meets(_upright_boxes(item, group.displacement), item.instance_id, other)
            for item in group.members
            for other in others
        )

    def _in_room(self, corners: Float64) -> bool:
        """Inside walls and under the ceiling, or no nearer to them than at the start."""
        start = corners[:, :1]
        low = np.array([self.area.low[0] + _GAP_TO_WALL, -np.inf, self.area.low[1] + _GAP_TO_WALL])
        high = np.array([self.area.high[0] - _GAP_TO_WALL, self.ceiling, self.area.high[1] - _GAP_TO_WALL])
        low = np.minimum(low, start.min(axis=2, keepdims=True)) - 1e-9
        low[..., 1] = start[..., 1].min(axis=2)[..., None] - 1e-9  # nothing sinks
        high = np.maximum(high, start.max(axis=2, keepdims=True)) + 1e-9
        return bool(((corners >= low) & (corners <= high)).all())

    def _before_the_camera(self, group: _Group, corners: Float64) -> bool:
        """Far enough from the camera's plane, and the middle of the object in its picture."""
        camera_from_scene = np.linalg.inv(self.scene.scene_from_camera)
        depth = corners @ camera_from_scene[2, :3] + camera_from_scene[2, 3]
        if not (depth >= min(_CLEAR_DISTANCE, float(depth[:, 0].min())) - 1e-9).all():
            return False
        middle = corners[0].mean(axis=1)
        pixels, _ = project(middle, self.scene.scene_from_camera, self.scene.intrinsics)
        height, width = self.scene.size
        return bool(((pixels >= 0.0) & (pixels <= (width, height))).all())

    def _meets(self, boxes: UprightBoxes, item: int, other: int) -> bool:
        """Whether the boxes (one a frame) come close to the other object's at the same frame."""
        margin = 0.0 if other == self._support[item] or item == self._support[other] else _MARGIN
        met = boxes_meet(boxes, self._boxes[other], margin)
        return bool((np.diagonal(met) if met.shape[1] > 1 else met).any())


def _amplitude(kind: Kind, distance: float, rng: np.random.Generator) -> float:
    if kind in _ANGLES:
        return float(rng.uniform(*_ANGLES[kind]))
    most = distance if kind == "slide" else _HOVER_SHARE * distance
    return float(rng.uniform(0.4, 1.0)) * most


def _displacement(kind: Kind, root: SceneInstance, travel: Float64, rng: np.random.Generator) -> Float64:
    """(T, 4, 4) displacements for (T,) metres or radians, in a direction that is drawn; the first is the identity."""
    if kind == "slide":
        heading = rng.uniform(0.0, 2 * np.pi)
        return _shifts(travel[:, None] * np.array([np.cos(heading), 0.0, np.sin(heading)]))
    if kind == "hover":
        return _shifts(travel[:, None] * np.array([0.0, 1.0, 0.0]))
    corners = box_corners(root, root.scene_from_object)
    if kind == "turn":
        sign = float(rng.choice([-1.0, 1.0]))
        return _turns(np.array([0.0, sign, 0.0]), corners.mean(axis=0), travel)
    side = root.scene_from_object[:3, :3] @ np.array([[1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1]], float).T
    outwards = side[:, int(rng.integers(4))]
    # Turned about the lower edge on that side, by the right hand about up × outwards, the object tips outwards.
    pivot = corners[np.argmax(corners @ outwards - 1e-3 * corners[:, 1])]
    return _turns(np.cross([0.0, 1.0, 0.0], outwards), pivot, travel)


def _shifts(offset: Float64) -> Float64:
    displacement = np.tile(np.eye(4), (len(offset), 1, 1))
    displacement[:, :3, 3] = offset
    return displacement


def _turns(axis: Float64, pivot: Float64, angles: Float64) -> Float64:
    displacement = np.tile(np.eye(4), (len(angles), 1, 1))
    displacement[:, :3, :3] = rotation_from_vector(angles[:, None] * axis)
    displacement[:, :3, 3] = pivot - displacement[:, :3, :3] @ pivot
    displacement[angles == 0.0] = np.eye(4)
    return displacement


def _upright_boxes(item: SceneInstance, displacement: Float64) -> UprightBoxes:
    """One a frame: the smallest with the object's heading around its own, perhaps tilted, box."""
    poses = displacement @ item.scene_from_object
    corners = box_corners(item, poses)
    yaw = np.arctan2(poses[:, 0, 2], poses[:, 2, 2])
    cosine, sine = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, z = cosine * corners[..., 0] - sine * corners[..., 2], sine * corners[..., 0] + cosine * corners[..., 2]
    local = np.stack([x, corners[..., 1], z], axis=-1)
    low, high = local.min(axis=1), local.max(axis=1)
    middle = (low + high) / 2
    centre = np.stack(
        [
            cosine[:, 0] * middle[:, 0] + sine[:, 0] * middle[:, 2],
            middle[:, 1],
            -sine[:, 0] * middle[:, 0] + cosine[:, 0] * middle[:, 2],
        ],
        axis=-1,
    )
    return UprightBoxes(centre, (high - low) / 2, yaw)

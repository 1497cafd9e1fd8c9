"""A ray-cast room in which a box slides to the right, as the frames of a video of a still camera and their truth."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from sceneloom.ops.background_plate import BackgroundPlate
from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.scene_model import SceneInstance
from sceneloom.resources.engines import Camera, ClipDepth, InputClip, Scaffold, View

from .scenes import room_scene, translation

FRAMES, HEIGHT, WIDTH = 5, 96, 160
BOX = 1


@dataclasses.dataclass(frozen=True)
class MovingRoom:
    """A room whose box slides to the right, seen at every frame from any camera."""

    caster: RayCaster
    instances: tuple[SceneInstance, ...]
    lens: np.ndarray
    poses: tuple[np.ndarray, ...]

    def place(self, frame: int) -> None:
        """Put the box where it is at that frame."""
        box, *others = self.instances
        self.caster.place([dataclasses.replace(box, scene_from_object=self.poses[frame]), *others])

    def see(self, frame: int, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Picture, depth, and where the box is."""
        self.place(frame)
        seen = self.caster.render(pose, self.lens, HEIGHT, WIDTH, samples_per_pixel=4, seed=1)
        geometry = self.caster.geometry(pose, self.lens, HEIGHT, WIDTH)
        return seen.rgb, geometry.depth, geometry.instance_ids == BOX


@functools.cache
def room() -> MovingRoom:
    """The room; its caster is shared."""
    scene = room_scene(height=HEIGHT, width=WIDTH, unlit=True)
    poses = tuple(translation(-0.9 + 0.3 * frame, 0.4, -1.0) for frame in range(FRAMES))
    return MovingRoom(RayCaster(scene), tuple(scene.instances), np.asarray(scene.intrinsics), poses)


@functools.cache
def truth() -> tuple[View, Scaffold]:
    """The clip of a still camera, with the truth behind it."""
    seen = [room().see(frame, np.eye(4)) for frame in range(FRAMES)]
    frames, depth = np.stack([each[0] for each in seen]), np.stack([each[1] for each in seen])
    moving = np.stack([each[2] for each in seen])
    farthest = depth.argmax(axis=0)[None]
    background = BackgroundPlate(
        np.take_along_axis(frames, farthest[..., None], axis=0)[0], np.take_along_axis(depth, farthest, axis=0)[0]
    )
    poses = np.repeat(np.eye(4, dtype=np.float32)[None], FRAMES, axis=0)
    view = View(frames[0], room().lens, None, {}, InputClip(frames, poses, "assumed_static"))
    clip = ClipDepth(depth.astype(np.float16), moving, background)
    return view, Scaffold(depth[0], room().lens, True, None, {}, clip=clip)


def shifted(right: float, forwards: float = 0.0) -> np.ndarray:
    """A pose beside the input's camera."""
    pose = np.eye(4)
    pose[0, 3], pose[2, 3] = right, forwards
    return pose


def camera(pose: np.ndarray) -> Camera:
    """A camera of the room's size and lens."""
    return Camera(pose, room().lens, HEIGHT, WIDTH)

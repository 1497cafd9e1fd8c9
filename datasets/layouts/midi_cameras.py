"""The room frame of a scene's objects, and the cameras that look at them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..camera_conventions import opengl_from_opencv

Float64 = NDArray[np.float64]

ROOM_HALF_SIDE = 0.95
"""Half of the longest side of the objects' box in the room frame; MIDI decodes within ±1.005."""
FIELDS_OF_VIEW = (50.0, 65.0, 80.0)
"""Degrees, tried in this order: a wider lens sees all objects from nearer, so that the walls stay behind the camera."""
AZIMUTHS = (0.0, -12.0, 12.0, -24.0, 24.0, -36.0, 36.0, -48.0, 48.0, -60.0, 60.0)
"""Degrees about the room's upright, from the conditioning camera's side; the first is the view that tests use."""

_ELEVATIONS = (8.0, 30.0)
_MARGIN = 1.06


@dataclass(frozen=True, slots=True)
class RoomFrame:
    """y up, z towards the conditioning camera, the objects' box centred and its longest side 1.9.

    Attributes:
        rotation: (3, 3), room axes from world axes.
        centre: (3,) centre of the box in world coordinates, metres.
        scale: room units a metre.
        elevation: degrees of the conditioning camera above the centre.
    """

    rotation: Float64
    centre: Float64
    scale: float
    elevation: float

    @property
    def room_from_world(self) -> Float64:
        """(4, 4) similarity from the world, the conditioning camera's OpenCV frame in metres."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.scale * self.rotation
        matrix[:3, 3] = -self.scale * self.rotation @ self.centre
        return matrix

    def opengl_pose(self, c2w: Float64) -> Float64:
        """(4, 4) rigid pose of an OpenCV camera of the world, OpenGL axes, in the room frame."""
        pose = np.eye(4)
        pose[:3, :3] = self.rotation @ c2w[:3, :3]
        pose[:3, 3] = self.room_from_world[:3, :3] @ c2w[:3, 3] + self.room_from_world[:3, 3]
        return opengl_from_opencv(pose)


def room_frame(points: Float64, uprights: Sequence[Float64]) -> RoomFrame:
    """The frame of a room from its objects.

    Args:
        points: (N, 3) all vertices, world frame.
        uprights: (3,) unit y axis of each object, world frame; furniture stands, so the one that most share is up.
    """
    axes = np.asarray(uprights)
    up = axes[np.argmax((axes @ axes.T).sum(axis=1))]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    towards = -middle + up * (middle @ up)
    if np.linalg.norm(towards) < 1e-6:
        # The camera looks straight down: the lower edge of its picture is then the side nearest to the viewer.
        towards = np.array([0.0, 1.0, 0.0]) - up * up[1]
    z = towards / np.linalg.norm(towards)
    rotation = np.stack([np.cross(up, z), up, z])
    turned = points @ rotation.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    centre = rotation.T @ ((low + high) / 2)
    elevation = math.degrees(math.asin(float(np.clip(-centre @ up / max(np.linalg.norm(centre), 1e-9), -1, 1))))
    return RoomFrame(rotation, centre, 2 * ROOM_HALF_SIDE / float((high - low).max()), elevation)


def view_poses(frame: RoomFrame, points: Float64, field_of_view: float) -> list[Float64]:
    """(4, 4) OpenCV poses in the world that look at the objects' centre and see all of them in a square picture.

    Args:
        points: (N, 3) all vertices, world frame.
        field_of_view: degrees, of both sides.
    """
    elevation = math.radians(min(max(frame.elevation, _ELEVATIONS[0]), _ELEVATIONS[1]))
    tangent = math.tan(math.radians(field_of_view) / 2)
    poses = []
    for azimuth in np.radians(AZIMUTHS):
        direction = np.array(
            [math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth)]
        )
        forward = -direction
        right = np.cross(forward, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(forward, right), forward], axis=1)
        world_axes = frame.rotation.T @ axes
        seen = (points - frame.centre) @ world_axes
        distance = _MARGIN * float((np.abs(seen[:, :2]).max(axis=1) / tangent - seen[:, 2]).max())
        pose = np.eye(4)
        pose[:3, :3] = world_axes
        pose[:3, 3] = frame.centre - distance * world_axes[:, 2]
        poses.append(pose)
    return poses


def square_intrinsics(size: int, field_of_view: float) -> Float64:
    """(4,) fx, fy, cx, cy in pixels of a square picture; degrees."""
    focal = size / (2 * math.tan(math.radians(field_of_view) / 2))
    return np.array([focal, focal, size / 2, size / 2])

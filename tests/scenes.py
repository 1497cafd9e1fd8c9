"""Small scenes built by hand whose geometry is known in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sceneloom.ops.scene_model import (
    AreaLight,
    Material,
    SceneInstance,
    SceneModel,
    SkyLight,
    SunLight,
    Texture,
    TriangleMesh,
)

ROOM = (4.0, 3.0, 6.0)
"""Width (x), height (y) and length (z) of `room_scene`'s room in metres; the floor's centre is the scene's origin."""

CAMERA_HEIGHT = 1.5

_BOX_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
_BOX_QUADS = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]  # -x +x -y +y -z +z
)


def box_mesh(size: tuple[float, float, float], materials: tuple[int, ...] = (0, 0, 0, 0, 0, 0)) -> TriangleMesh:
    """Closed box around the origin; one material a side in the order -x, +x, -y, +y, -z, +z; uv span each side once."""
    faces = np.concatenate([[[a, b, c], [a, c, d]] for a, b, c, d in _BOX_QUADS]).astype(np.int32)
    corners = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], np.float32)
    return TriangleMesh(
        vertices=(_BOX_CORNERS * np.asarray(size) / 2).astype(np.float32),
        faces=faces,
        uv=np.tile(corners, (6, 1, 1)),
        material=np.repeat(np.asarray(materials, np.int32), 2),
    )


def sphere_mesh(radius: float, rings: int = 16, sectors: int = 32, material: int = 0) -> TriangleMesh:
    """Closed sphere around the origin whose vertices lie on the radius."""
    polar = np.linspace(0, np.pi, rings + 1)[1:-1, None]
    turn = np.linspace(0, 2 * np.pi, sectors, endpoint=False)[None]
    ring_points = np.stack(
        np.broadcast_arrays(np.sin(polar) * np.cos(turn), np.cos(polar), -np.sin(polar) * np.sin(turn)), axis=-1
    )
    vertices = np.concatenate([[[0, 1, 0]], ring_points.reshape(-1, 3), [[0, -1, 0]]]) * radius
    last = len(vertices) - 1
    faces: list[tuple[int, int, int]] = []
    for s in range(sectors):
        n = (s + 1) % sectors
        faces.append((0, 1 + s, 1 + n))
        for r in range(rings - 2):
            a, b = 1 + r * sectors + s, 1 + r * sectors + n
            c, d = a + sectors, b + sectors
            faces += [(a, c, d), (a, d, b)]
        faces.append((last, last - sectors + n, last - sectors + s))
    count = len(faces)
    return TriangleMesh(
        vertices=vertices.astype(np.float32),
        faces=np.array(faces, np.int32),
        uv=np.zeros((count, 3, 2), np.float32),
        material=np.full(count, material, np.int32),
    )


def translation(x: float, y: float, z: float) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def flat_texture(rgb: tuple[int, int, int], side: int = 4) -> Texture:
    return Texture(np.full((side, side, 3), rgb, np.uint8))


def checker_texture(cells: int = 8, cell: int = 16, low: int = 60, high: int = 220) -> Texture:
    rows, columns = np.indices((cells * cell, cells * cell)) // cell
    grey = np.where((rows + columns) % 2 == 0, low, high).astype(np.uint8)
    return Texture(np.repeat(grey[..., None], 3, axis=-1))


def looking_along_minus_z(x: float, y: float, z: float) -> NDArray[np.float64]:
    """scene_from_camera of a level OpenCV camera at (x, y, z) that looks along the scene's -z."""
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[:3, 3] = x, y, z
    return pose


def room_scene(
    *,
    height: int = 96,
    width: int = 160,
    unlit: bool = False,
    sun: SunLight | None = None,
    area_lights: tuple[AreaLight, ...] = (),
    sky: SkyLight | None = None,
    rings: int = 16,
    sectors: int = 32,
) -> SceneModel:
    """A room of size ROOM with a box (instance 1) and a sphere (instance 2) on its floor.

    The camera stands 2.5 m behind the centre at CAMERA_HEIGHT and looks level along -z. Material 0 is the walls, 1 the
    floor's checks, 2 the box, 3 the sphere (glossy), 4 the ceiling.
    """
    materials = [
        Material("white walls", "painted", flat_texture((200, 200, 196)), unlit=unlit),
        Material("checked floor", "tiles", checker_texture(), unlit=unlit),
        Material("red box", "painted", flat_texture((180, 60, 50)), unlit=unlit),
        Material("blue ball", "painted", flat_texture((60, 90, 190)), specular=0.6, roughness=0.25, unlit=unlit),
        Material("white ceiling", "painted", flat_texture((230, 230, 230)), unlit=unlit),
    ]
    walls = box_mesh(ROOM, (0, 0, 1, 4, 0, 0))
    shell = TriangleMesh(
        walls.vertices + np.array([0, ROOM[1] / 2, 0], np.float32),
        walls.faces[:, ::-1].copy(),
        walls.uv[:, ::-1].copy(),
        walls.material,
    )
    instances = [
        SceneInstance(1, "box", "red box", box_mesh((0.8, 0.8, 0.8), (2,) * 6), translation(-0.7, 0.4, -1.0)),
        SceneInstance(2, "ball", "blue ball", sphere_mesh(0.5, rings, sectors, 3), translation(0.8, 0.5, -0.5)),
    ]
    focal = 0.8 * width
    return SceneModel(
        shell=shell,
        instances=instances,
        materials=materials,
        sun=sun,
        sky=sky or SkyLight((0.5, 0.5, 0.5), (0.3, 0.3, 0.3)),
        area_lights=area_lights,
        scene_from_camera=looking_along_minus_z(0.0, CAMERA_HEIGHT, 2.5),
        intrinsics=np.array([focal, focal, width / 2, height / 2]),
        size=(height, width),
    )


def ceiling_light(half: float = 0.5, radiance: float = 6.0) -> AreaLight:
    """A square panel one centimetre under `room_scene`'s ceiling that shines down."""
    return AreaLight((0.0, ROOM[1] - 0.01, 0.0), (half, 0.0, 0.0), (0.0, 0.0, half), (radiance, radiance, radiance))

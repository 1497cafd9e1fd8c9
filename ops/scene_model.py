"""The scene as geometry: meshes, materials, lights and the camera that looks at it first.

Frames used here:

* object frame: y up, metres, origin at the centre of the mesh's axis-aligned bounding box.
* scene frame: y up, metres, right-handed, floor at y = 0.
* world frame: the OpenCV frame of the conditioning camera (x right, y down, z forward), metres. Everything that
  is stored about cameras, depth and poses is in this frame, so the conditioning camera's c2w is the identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
UInt8 = NDArray[np.uint8]

BACKGROUND_ID = 0
"""Instance id of the shell (floor, walls, ceiling, ground, sky dome); objects count from 1."""


@dataclass(frozen=True, slots=True)
class Texture:
    """A picture on a surface.

    Attributes:
        image: (H, W, 3) uint8 sRGB; row 0 is at v = 1 (the top), as in an image file.
        wrap: "repeat" for tiles that continue without a seam, "clamp" for pictures.
    """

    image: UInt8
    wrap: Literal["repeat", "clamp"] = "repeat"


@dataclass(frozen=True, slots=True)
class Material:
    """How a surface answers light.

    Attributes:
        name: e.g. "oak planks".
        kind: "wood", "fabric", "tiles", "stone", "painted", "metal", "glass", "leaf", "picture", "light", …
        texture: base colour.
        specular: strength of the highlight, 0..1.
        roughness: width of the highlight, 0 (mirror-like) .. 1 (matt).
        emission: linear RGB radiance given off, on top of what is reflected (lamps, bright windows).
        unlit: the texture already holds the light (a photograph): shown as it is, no shading.
        texture_metres: (u, v) size in metres of one texture tile, for materials made as tiles.
    """

    name: str
    kind: str
    texture: Texture
    specular: float = 0.0
    roughness: float = 1.0
    emission: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unlit: bool = False
    texture_metres: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class TriangleMesh:
    """Triangles with texture coordinates and a material each.

    Attributes:
        vertices: (V, 3) float32, metres.
        faces: (F, 3) int32, counter-clockwise seen from outside.
        uv: (F, 3, 2) float32 texture coordinates of the three corners; 1.0 is one whole texture.
        material: (F,) int32 index into the scene's materials.
    """

    vertices: Float32
    faces: Int32
    uv: Float32
    material: Int32


@dataclass(frozen=True, slots=True)
class SceneInstance:
    """One object standing in the scene.

    Attributes:
        instance_id: 1, 2, … in the order of the scene's list.
        family: what kind of thing it is ("chair", "floor_lamp", …).
        name: family with what sets it apart ("red wooden chair").
        mesh: closed mesh in the object frame.
        scene_from_object: (4, 4) float64 rigid transform (no scale).
        support: instance id of what it stands on, BACKGROUND_ID for the floor, ground or wall.
    """

    instance_id: int
    family: str
    name: str
    mesh: TriangleMesh
    scene_from_object: Float64
    support: int = BACKGROUND_ID


@dataclass(frozen=True, slots=True)
class SunLight:
    """Directional light. `direction` points from the scene to the sun (unit, scene frame); `colour` is linear RGB
    irradiance on a surface that faces it; `angular_radius` (radians) softens the shadow's edge."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    angular_radius: float = 0.01


@dataclass(frozen=True, slots=True)
class SkyLight:
    """Light from everywhere, shadowed by ambient occlusion: linear RGB at the zenith and at the horizon/ground."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class AreaLight:
    """One-sided rectangle that gives off light (ceiling panel, window, lamp shade).

    `centre` and the half-edge vectors are in the scene frame, metres; light leaves along
    cross(half_edge_u, half_edge_v); `radiance` is linear RGB.
    """

    centre: tuple[float, float, float]
    half_edge_u: tuple[float, float, float]
    half_edge_v: tuple[float, float, float]
    radiance: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class SceneModel:
    """Everything the ray caster needs, and nothing it does not.

    Attributes:
        shell: closed surroundings in the scene frame (instance id BACKGROUND_ID); no ray leaves it.
        instances: objects, instance ids 1..n in order.
        materials: indexed by the meshes' `material`.
        sun, sky, area_lights: the lights.
        scene_from_camera: (4, 4) float64 pose of the conditioning camera (OpenCV axes) in the scene frame.
        intrinsics: (4,) float64 fx, fy, cx, cy in pixels of `size`, pixel centres at +0.5.
        size: (height, width) the intrinsics are given for.
        exposure: factor on linear radiance before the sRGB curve.
        metric: whether the scene frame's unit is truly the metre (false for scenes inferred from a picture).
        description: what was understood, drawn and built, JSON-compatible, for the record.
    """

    shell: TriangleMesh
    instances: Sequence[SceneInstance]
    materials: Sequence[Material]
    sun: SunLight | None
    sky: SkyLight
    area_lights: Sequence[AreaLight]
    scene_from_camera: Float64
    intrinsics: Float64
    size: tuple[int, int]
    exposure: float = 1.0
    metric: bool = True
    description: Mapping[str, object] = field(default_factory=dict)

"""Ray caster: pictures, exact depth, normals and ids of a scene from any camera, and rays for other questions.

The tracing and shading kernels (`raycast_kernels`) run on CPU and CUDA alike. Light is computed without noise where
that is possible: what a light gives is an analytic formula, and only how much of it is blocked is sampled with rays,
one small stratified set shared by each 4 × 4 pixels and averaged over the surface around a pixel (Heitz, Hill &
McGuire, "Combining analytic direct illumination and stochastic shadows", I3D 2018).

The shading model:

* reflected light = base colour × (sky + sun / π + area lights / π), a GGX highlight on top (reflectance at normal
  incidence 0.08 × specular, alpha = roughness²), plus emission. One bounce; the sky stands for all further ones.
* sky radiance runs linearly with a normal's height from the horizon's to the zenith's colour, times ambient occlusion.
* surfaces that are unlit or give off light block none: they stand for the sky, the sun's and the lamps' way in.
* a lit colour is multiplied by the exposure and passes a curve that is the identity up to 0.6 and approaches 1 beyond
  (1 - 0.4 · exp((0.6 - x) / 0.4)); an unlit one passes neither. Samples are averaged after it, then encoded as sRGB.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.errors import InputError
from .mesh_normals import corner_normals, face_normals
from .raycast_bvh import build_bvh
from .scene_model import (
    BACKGROUND_ID,
    Float32,
    Float64,
    Int32,
    SceneInstance,
    SceneModel,
    Texture,
    TriangleMesh,
    UInt8,
)
from .texture_pyramid import pack_pyramids
from .warp_runtime import load_kernels, load_warp

_REFLECTANCE_OF_SPECULAR = 0.08
_LEAST_ALPHA = 0.03
"""GGX alpha below which a highlight would be narrower than a pixel and flicker."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the ray through each pixel's centre meets.

    Attributes:
        depth: (H, W) float32 z-depth in metres; 0 where nothing is hit.
        normals: (H, W, 3) int8, 127 × the unit geometric normal in the world frame, turned towards the camera (within
            half a degree); 0 where nothing is hit. See `decode_normals`.
        instance_ids: (H, W) uint16; 0 is the shell, and where nothing is hit.
        material_ids: (H, W) uint16 index into the scene's materials; 0 where nothing is hit.
    """

    depth: Float32
    normals: NDArray[np.int8]
    instance_ids: NDArray[np.uint16]
    material_ids: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Frame:
    """One rendered camera: `Geometry` (of pixel centres, never averaged) and colour.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB.
        depth, normals, instance_ids, material_ids: as in `Geometry`.
    """

    rgb: UInt8
    depth: Float32
    normals: NDArray[np.int8]
    instance_ids: NDArray[np.uint16]
    material_ids: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Hits:
    """What a batch of N rays meets first.

    Attributes:
        distance: (N,) float32 metres along the normalised direction; inf for a miss.
        face: (N,) int32 triangle, counted through the shell and then the instances in order; -1 for a miss.
        barycentric: (N, 2) float32 weights of the triangle's second and third corner.
        instance: (N,) int32 instance id, 0 for the shell; -1 for a miss.
        normal: (N, 3) float32 unit geometric normal towards the ray's origin; 0 for a miss.
    """

    distance: Float32
    face: Int32
    barycentric: Float32
    instance: Int32
    normal: Float32


def decode_normals(normals: NDArray[np.int8]) -> Float32:
    """Unit float32 normals of their int8 form (…, 3); 0 stays 0."""
    vector = normals.astype(np.float32)
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.divide(vector, length, out=np.zeros_like(vector), where=length > 0)


class RayCaster:
    """A scene made ready for rays.

    Several threads may use one caster, and build others, at the same time; on the CPU they run in parallel. A caster
    whose objects are moved by `place` belongs to one thread.

    Args:
        scene: what to look at. The world frame is the camera frame of `scene.scene_from_camera`.
        device: a Warp device, "cpu" or "cuda:0" for instance.

    Raises:
        EngineError: the device is not there.
        InputError: the scene's arrays do not fit together.
    """

    def __init__(self, scene: SceneModel, *, device: str = "cpu") -> None:
        self._warp, self._kernels, self._bvh_kernels = _load(device)
        self._device = device
        self._buffers = threading.local()
        self._world_from_scene = np.linalg.inv(scene.scene_from_camera).astype(np.float64)
        soup = _world_triangles(scene, self._world_from_scene)
        self._instances = tuple(scene.instances)
        self._soup = soup
        self._surface_lock = threading.Lock()
        self._surface_mesh: Any = None
        self._keep: list[Any] = []
        self._scene = self._upload(scene, soup, self._world_from_scene)

    @property
    def bounds(self) -> Float32:
        """(2, 3) float32 lowest and highest corner of everything, world frame, metres."""
        return np.stack([self._soup.vertices.min(axis=0), self._soup.vertices.max(axis=0)])

    def place(self, instances: Sequence[SceneInstance]) -> None:
        """Move the objects: afterwards the caster sees what a new one, of the scene with these instances, would see.

        Only what moved is computed again, and the hierarchy; textures, materials and lights stay. No other thread may
        use the caster meanwhile.

        Args:
            instances: those of the scene, in order and with their own meshes; their poses may differ.

        Raises:
            InputError: they are not the scene's instances.
        """
        same = len(instances) == len(self._instances) and all(
            new.instance_id == old.instance_id and new.mesh is old.mesh
            for new, old in zip(instances, self._instances, strict=True)
        )
        if not same:
            raise InputError(
                f"{len(instances)} instances that are not the {len(self._instances)} of the caster's scene",
                where="ray caster",
                remedy="Give the scene's own instances with other poses, or make a new caster.",
            )
        moved = [
            index
            for index, (new, old) in enumerate(zip(instances, self._instances, strict=True))
            if not np.array_equal(new.scene_from_object, old.scene_from_object)
        ]
        if moved:
            self._soup.move({index: instances[index] for index in moved}, self._world_from_scene)
            self._instances = tuple(instances)
            self._surface_mesh = None
            self._upload_shape(self._scene, self._soup)

    def geometry(self, c2w: ArrayLike, intrinsics: ArrayLike, height: int, width: int) -> Geometry:
        """Depth, normals and ids of one camera: one ray through each pixel's centre.

        Args:
            c2w: (4, 4) camera-to-world pose, OpenCV axes.
            intrinsics: (4,) fx, fy, cx, cy in pixels of (height, width), pixel centres at +0.5.
        """
        buffers = self._frame_buffers(height, width)
        self._trace(self._camera(c2w, intrinsics), buffers, height, width)
        return Geometry(**buffers.geometry())

    def render(
        self,
        c2w: ArrayLike,
        intrinsics: ArrayLike,
        height: int,
        width: int,
        *,
        samples_per_pixel: int = 2,
        seed: int,
        shadows: bool = True,
        ambient_occlusion_samples: int = 2,
        ambient_occlusion_reach: float = 1.0,
    ) -> Frame:
        """Colour, depth, normals and ids of one camera.

        Args:
            c2w: (4, 4) camera-to-world pose, OpenCV axes.
            intrinsics: (4,) fx, fy, cx, cy in pixels of (height, width), pixel centres at +0.5.
            samples_per_pixel: rays for colour, at fixed well-spread places in every pixel; with 1 it is the centre's.
            seed: of the draws on lights and hemisphere. Frames of one clip should share it: their noise then agrees.
            shadows: whether sun and area lights are blocked; one ray each a pixel.
            ambient_occlusion_samples: rays into the hemisphere a pixel; 0 for none.
            ambient_occlusion_reach: metres beyond which nothing darkens the sky's light.

        Raises:
            InputError: a size, count or reach is out of range, or the camera is not one.
        """
        if samples_per_pixel < 1 or ambient_occlusion_samples < 0 or not ambient_occlusion_reach > 0:
            raise InputError(
                f"samples_per_pixel={samples_per_pixel}, ambient_occlusion_samples={ambient_occlusion_samples}, "
                f"ambient_occlusion_reach={ambient_occlusion_reach}",
                where="render",
                remedy="Give at least 1 sample a pixel, 0 or more occlusion samples and a positive reach.",
            )
        camera = self._camera(c2w, intrinsics)
        buffers = self._frame_buffers(height, width)
        self._trace(camera, buffers, height, width)
        draws = self._draws(seed, samples_per_pixel, ambient_occlusion_samples)
        shape = (height, width)
        hits = [self._scene, camera, buffers.depth, buffers.face]
        self._launch(
            self._kernels.sample_visibility,
            shape,
            [*hits, draws.sun, draws.area, draws.sky, int(shadows), ambient_occlusion_reach, buffers.sampled],
        )
        self._launch(self._kernels.filter_visibility, shape, [*hits, buffers.sampled, buffers.visibility])
        self._launch(
            self._kernels.shade,
            shape,
            [*hits, buffers.barycentric, buffers.visibility, draws.pixel, buffers.rgb],
        )
        return Frame(rgb=buffers.rgb.numpy().copy(), **buffers.geometry())

    def cast(self, origins: ArrayLike, directions: ArrayLike, max_distance: float = math.inf) -> Hits:
        """First hits of N rays.

        Args:
            origins: (N, 3) world frame, metres.
            directions: (N, 3), of any length but zero.
            max_distance: metres; nothing farther is hit.
        """
        start, unit = _rays(origins, directions)
        wp = self._warp
        count = len(start)
        fields = {
            "distance": wp.empty(count, dtype=wp.float32, device=self._device),
            "face": wp.empty(count, dtype=wp.int32, device=self._device),
            "barycentric": wp.empty(count, dtype=wp.vec2, device=self._device),
            "instance": wp.empty(count, dtype=wp.int32, device=self._device),
            "normal": wp.empty(count, dtype=wp.vec3, device=self._device),
        }
        rays = [wp.array(values, dtype=wp.vec3, device=self._device) for values in (start, unit)]
        self._launch(self._kernels.cast_rays, count, [self._scene, *rays, float(max_distance), *fields.values()])
        return Hits(**{name: values.numpy() for name, values in fields.items()})

    def closest_distance(self, points: ArrayLike, max_distance: float = math.inf) -> Float32:
        """(N,) float32 metres from each of (N, 3) world points to the nearest surface; inf beyond `max_distance`."""
        wp = self._warp
        start = _vectors(points, "points")
        distance = wp.empty(len(start), dtype=wp.float32, device=self._device)
        # Warp squares the reach, so it has to stay well inside float32.
        reach = min(float(max_distance), 1e9)
        inputs = [self._surface().id, wp.array(start, dtype=wp.vec3, device=self._device), reach, distance]
        self._launch(self._kernels.nearest_surface, len(start), inputs)
        return distance.numpy()

    def _surface(self) -> Any:
        """Warp's own mesh, made at the first question about distances."""
        with self._surface_lock:
            if self._surface_mesh is None:
                wp = self._warp
                self._surface_mesh = wp.Mesh(
                    points=self._array(self._soup.vertices, wp.vec3),
                    indices=self._array(self._soup.faces.reshape(-1), wp.int32),
                )
            return self._surface_mesh

    def _launch(self, kernel: Any, shape: int | tuple[int, int], inputs: list[Any]) -> None:
        self._warp.launch(kernel, dim=shape, inputs=inputs, device=self._device, record_tape=False)

    def _trace(self, camera: Any, buffers: _FrameBuffers, height: int, width: int) -> None:
        outputs = [buffers.depth, buffers.normals, buffers.instance_ids, buffers.material_ids]
        self._launch(
            self._kernels.trace_geometry,
            (height, width),
            [self._scene, camera, *outputs, buffers.face, buffers.barycentric],
        )

    def _camera(self, c2w: ArrayLike, intrinsics: ArrayLike) -> Any:
        pose = np.asarray(c2w, np.float64)
        lens = np.asarray(intrinsics, np.float64)
        if pose.shape != (4, 4) or lens.shape != (4,) or not np.isfinite(pose).all() or not (lens[:2] > 0).all():
            raise InputError(
                f"camera with c2w of shape {pose.shape} and intrinsics {lens.tolist()}",
                where="ray caster",
                remedy="Give a finite (4, 4) pose and (4,) fx, fy, cx, cy with positive focal lengths.",
            )
        camera = self._kernels.CameraArrays()
        camera.origin = self._warp.vec3(*pose[:3, 3])
        camera.rotation = self._warp.mat33(*pose[:3, :3].ravel())
        camera.focal = self._warp.vec2(*lens[:2])
        camera.centre = self._warp.vec2(*lens[2:])
        return camera

    def _frame_buffers(self, height: int, width: int) -> _FrameBuffers:
        """This thread's arrays for frames of one size, made once."""
        if height < 1 or width < 1:
            raise InputError(f"a picture of {width} × {height}", where="ray caster", remedy="Give a positive size.")
        kept: _FrameBuffers | None = getattr(self._buffers, "frame", None)
        if kept is None or kept.depth.shape != (height, width):
            kept = _FrameBuffers.allocate(self._warp, height, width, self._device)
            self._buffers.frame = kept
        return kept

    def _draws(self, seed: int, samples_per_pixel: int, sky_rays: int) -> _Draws:
        wanted = (seed, samples_per_pixel, sky_rays)
        kept: tuple[tuple[int, int, int], _Draws] | None = getattr(self._buffers, "draws", None)
        if kept is None or kept[0] != wanted:
            kept = (wanted, self._upload_draws(seed, samples_per_pixel, sky_rays))
            self._buffers.draws = kept
        return kept[1]

    def _upload_draws(self, seed: int, samples_per_pixel: int, sky_rays: int) -> _Draws:
        wp = self._warp
        tile = self._kernels.TILE**2
        sun, area, sky = light_draws(seed, tile, sky_rays)
        return _Draws(
            sun=wp.array(sun, dtype=wp.vec2, device=self._device),
            area=wp.array(area, dtype=wp.vec3, device=self._device),
            sky=wp.array(sky, shape=(tile, sky_rays), dtype=wp.vec3, device=self._device),
            pixel=wp.array(_pixel_offsets(samples_per_pixel), dtype=wp.vec2, device=self._device),
        )

    def _upload(self, scene: SceneModel, soup: _Soup, world_from_scene: Float64) -> Any:
        arrays = self._kernels.SceneArrays()
        self._upload_materials(arrays, scene, soup)
        self._upload_triangles(arrays, scene, soup)
        self._upload_shape(arrays, soup)
        self._upload_lights(arrays, scene, world_from_scene)
        return arrays

    def _upload_triangles(self, arrays: Any, scene: SceneModel, soup: _Soup) -> None:
        """What of the triangles stays when objects move."""
        wp = self._warp
        opaque = np.array([not (m.unlit or max(m.emission) > 0) for m in scene.materials], np.int32)
        arrays.face_opaque = self._array(opaque[soup.material], wp.int32)
        arrays.corner_uv = self._array(soup.uv.reshape(-1, 2), wp.vec2)
        arrays.face_material = self._array(soup.material, wp.int32)
        arrays.face_instance = self._array(soup.instance, wp.int32)

    def _upload_shape(self, arrays: Any, soup: _Soup) -> None:
        """What of the triangles changes when objects move, in place of what was there."""
        wp = self._warp
        triangles = soup.vertices[soup.faces]
        bvh = build_bvh(triangles, wp, self._bvh_kernels)
        lod = np.log2(_texels_per_metre(triangles, soup.uv, self._face_texture_size)).astype(np.float32)
        shape = {
            "boxes": (bvh.box, wp.float32),
            "child": (bvh.child, wp.int32),
            "corners": (bvh.corners, wp.float32),
            "block": (bvh.block, wp.int32),
            "corner_point": (triangles.reshape(-1, 3), wp.vec3),
            "face_normal": (soup.face_normal, wp.vec3),
            "corner_normal": (soup.corner_normal.reshape(-1, 3), wp.vec3),
            "face_lod": (lod, wp.float32),
        }
        for name, (values, dtype) in shape.items():
            setattr(arrays, name, wp.array(np.ascontiguousarray(values), dtype=dtype, device=self._device))

    def _upload_materials(self, arrays: Any, scene: SceneModel, soup: _Soup) -> None:
        wp = self._warp
        textures, texture_of_material = _distinct_textures(scene)
        pyramids = pack_pyramids(textures)
        arrays.emission = self._array(np.array([m.emission for m in scene.materials], np.float32), wp.vec3)
        gloss = [(_REFLECTANCE_OF_SPECULAR * m.specular, max(m.roughness**2, _LEAST_ALPHA)) for m in scene.materials]
        arrays.gloss = self._array(np.array(gloss, np.float32), wp.vec2)
        arrays.unlit = self._array(np.array([m.unlit for m in scene.materials], np.int32), wp.int32)
        arrays.material_texture = self._array(texture_of_material, wp.int32)
        arrays.texels = self._array(pyramids.texels, wp.vec4us)
        arrays.level_start = self._array(pyramids.level_start, wp.int32)
        arrays.texture_size = self._array(pyramids.size, wp.vec2i)
        arrays.level_count = self._array(pyramids.level_count, wp.int32)
        arrays.repeat = self._array(pyramids.repeat, wp.int32)
        self._face_texture_size = pyramids.size[texture_of_material][soup.material]

    def _upload_lights(self, arrays: Any, scene: SceneModel, world_from_scene: Float64) -> None:
        wp = self._warp
        rotation, shift = world_from_scene[:3, :3], world_from_scene[:3, 3]
        arrays.up = wp.vec3(*rotation[:, 1])
        arrays.zenith = wp.vec3(*scene.sky.zenith)
        arrays.horizon = wp.vec3(*scene.sky.horizon)
        arrays.exposure = float(scene.exposure)
        arrays.has_sun = int(scene.sun is not None)
        if scene.sun is not None:
            towards = rotation @ np.asarray(scene.sun.direction, np.float64)
            towards /= np.linalg.norm(towards)
            tangent, bitangent = _tangents(towards) * math.tan(scene.sun.angular_radius)
            arrays.sun_direction = wp.vec3(*towards)
            arrays.sun_tangent, arrays.sun_bitangent = wp.vec3(*tangent), wp.vec3(*bitangent)
            arrays.sun_colour = wp.vec3(*scene.sun.colour)
        lights = scene.area_lights
        vectors = np.array([(light.centre, light.half_edge_u, light.half_edge_v) for light in lights], np.float64)
        vectors = vectors.reshape(-1, 3, 3) @ rotation.T
        vectors[:, 0] += shift
        normal = np.cross(vectors[:, 1], vectors[:, 2])
        quarter = np.linalg.norm(normal, axis=1)
        for name, values in zip(("light_centre", "light_u", "light_v"), vectors.swapaxes(0, 1), strict=True):
            setattr(arrays, name, self._array(values.astype(np.float32), wp.vec3))
        arrays.light_normal = self._array((normal / quarter[:, None]).astype(np.float32), wp.vec3)
        arrays.light_area = self._array((4 * quarter).astype(np.float32), wp.float32)
        radiance = np.array([light.radiance for light in lights], np.float32).reshape(-1, 3)
        arrays.light_radiance = self._array(radiance, wp.vec3)

    def _array(self, values: NDArray[Any], dtype: Any) -> Any:
        """`values` on the device; the struct that it goes into holds no reference of its own for empty arrays."""
        array = self._warp.array(np.ascontiguousarray(values), dtype=dtype, device=self._device)
        self._keep.append(array)
        return array


def light_draws(seed: int, count: int, sky_rays: int) -> tuple[Float32, Float32, Float32]:
    """The stratified draws that a tile of `count` (a power of two) pixels shares.

    Each pair of numbers is a digitally shifted (0, 2)-sequence (Sobol's first two dimensions), in an order of its own.

    Returns:
        (count, 2) points of the unit disc for the sun; (count, 3) points of [-1, 1]² on an area light and, last, the
        0..1 draw that chooses the light; (count, sky_rays, 3): a point of [0, 1)² for the direction and the share of
        the reach for the length of each hemisphere ray.
    """
    rng = np.random.default_rng(seed)
    disc = _sobol_points(rng, count, 1)[0]
    radius, turn = np.sqrt(disc[:, 0]), 2 * np.pi * disc[:, 1]
    sun = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    area = np.concatenate([2 * _sobol_points(rng, count, 1)[0] - 1, _strata(rng, count)[:, None]], axis=1)
    directions = _sobol_points(rng, count, sky_rays).swapaxes(0, 1)
    lengths = _strata(rng, count * sky_rays).reshape(count, sky_rays)
    sky = np.concatenate([directions, lengths[..., None]], axis=2)
    return sun.astype(np.float32), area.astype(np.float32), sky.astype(np.float32)


def _sobol_points(rng: np.random.Generator, count: int, blocks: int) -> Float64:
    """(blocks, count, 2) points in [0, 1): the sequence's first blocks, each stratified, and their union too."""
    index = np.arange(blocks * count, dtype=np.uint32)
    bits = np.zeros((2, len(index)), np.uint32)
    first, second = 1 << 31, 1 << 31
    for bit in range(int(index[-1]).bit_length() if len(index) else 0):
        chosen = ((index >> bit) & 1).astype(np.uint32)
        bits[0] ^= chosen * np.uint32(first)
        bits[1] ^= chosen * np.uint32(second)
        first >>= 1
        second ^= second >> 1
    shift = rng.integers(0, 1 << 32, (2, 1), dtype=np.uint32)
    points = ((bits ^ shift).T / 2.0**32).reshape(blocks, count, 2)
    return points[:, rng.permutation(count)]


def _strata(rng: np.random.Generator, count: int) -> Float64:
    """(count,) one draw in the middle of each of `count` equal parts of 0..1, in random order."""
    return (rng.permutation(count) + 0.5) / count


def _pixel_offsets(samples: int) -> Float32:
    """(samples, 2) float32 places in a pixel: the Hammersley set, centred, so that the mean place is the centre."""
    index = np.arange(samples)
    inverse = np.zeros(samples)
    for bit in range(max(samples - 1, 1).bit_length()):
        inverse += ((index >> bit) & 1) * 0.5 ** (bit + 1)
    return np.stack([(index + 0.5) / samples, inverse - inverse.mean() + 0.5], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Draws:
    """A tile's draws on the device."""

    sun: Any
    area: Any
    sky: Any
    pixel: Any


@dataclass(frozen=True, slots=True)
class _FrameBuffers:
    """One thread's Warp arrays of one frame size."""

    depth: Any
    normals: Any
    instance_ids: Any
    material_ids: Any
    face: Any
    barycentric: Any
    sampled: Any
    visibility: Any
    rgb: Any

    @classmethod
    def allocate(cls, wp: ModuleType, height: int, width: int, device: str) -> _FrameBuffers:
        kinds = {
            "depth": wp.float32,
            "normals": wp.vec3b,
            "instance_ids": wp.uint16,
            "material_ids": wp.uint16,
            "face": wp.int32,
            "barycentric": wp.vec2,
            "sampled": wp.vec3,
            "visibility": wp.vec3,
            "rgb": wp.vec3ub,
        }
        return cls(**{name: wp.empty((height, width), dtype=kind, device=device) for name, kind in kinds.items()})

    def geometry(self) -> dict[str, Any]:
        """Copies of what the geometry launch filled, by the names of `Geometry`."""
        names = ("depth", "normals", "instance_ids", "material_ids")
        return {name: getattr(self, name).numpy().copy() for name in names}


@dataclass(frozen=True, slots=True)
class _Soup:
    """All triangles of a scene in the world frame: the shell's, then each instance's."""

    vertices: Float32  # (V, 3)
    faces: Int32  # (F, 3)
    uv: Float32  # (F, 3, 2)
    material: Int32  # (F,)
    instance: Int32  # (F,)
    face_normal: Float32  # (F, 3)
    corner_normal: Float32  # (F, 3, 3)
    first_vertex: Int32  # (I + 2,) of the shell and each instance, then V
    first_face: Int32  # (I + 2,) of the shell and each instance, then F
    object_normals: dict[int, tuple[Float64, Float32]]  # of what moved before: face and corner normals, object frame

    def move(self, instances: Mapping[int, SceneInstance], world_from_scene: Float64) -> None:
        """Give the instances of these places in the scene's list the poses that they have now."""
        for index, instance in instances.items():
            if index not in self.object_normals:
                self.object_normals[index] = face_normals(instance.mesh), corner_normals(instance.mesh)
            pose = world_from_scene @ instance.scene_from_object
            vertices, face_normal, corner_normal = _posed(instance.mesh, pose, *self.object_normals[index])
            self.vertices[self.first_vertex[index + 1] : self.first_vertex[index + 2]] = vertices
            part = slice(self.first_face[index + 1], self.first_face[index + 2])
            self.face_normal[part], self.corner_normal[part] = face_normal, corner_normal


def _posed(
    mesh: TriangleMesh, pose: Float64, face_normal: Float64, corner_normal: Float32
) -> tuple[Float64, Float64, Float32]:
    """A mesh's vertices, face normals and corner normals under a pose."""
    rotation = pose[:3, :3]
    vertices = mesh.vertices.astype(np.float64) @ rotation.T + pose[:3, 3]
    return vertices, face_normal @ rotation.T, corner_normal @ rotation.T.astype(np.float32)


def _world_triangles(scene: SceneModel, world_from_scene: Float64) -> _Soup:
    parts = [(scene.shell, world_from_scene, BACKGROUND_ID)]
    parts += [(i.mesh, world_from_scene @ i.scene_from_object, i.instance_id) for i in scene.instances]
    vertices, faces, face_normal, corner_normal, instance = [], [], [], [], []
    base = 0
    for mesh, pose, instance_id in parts:
        _check_mesh(mesh, len(scene.materials), instance_id)
        posed = _posed(mesh, pose, face_normals(mesh), corner_normals(mesh))
        for kept, values in zip((vertices, face_normal, corner_normal), posed, strict=True):
            kept.append(values)
        faces.append(mesh.faces + base)
        instance.append(np.full(len(mesh.faces), instance_id, np.int32))
        base += len(mesh.vertices)
    return _Soup(
        vertices=np.concatenate(vertices).astype(np.float32),
        faces=np.concatenate(faces).astype(np.int32),
        uv=np.concatenate([mesh.uv for mesh, _, _ in parts]).astype(np.float32),
        material=np.concatenate([mesh.material for mesh, _, _ in parts]).astype(np.int32),
        instance=np.concatenate(instance),
        face_normal=np.concatenate(face_normal).astype(np.float32),
        corner_normal=np.concatenate(corner_normal),
        first_vertex=np.cumsum([0, *(len(mesh.vertices) for mesh, _, _ in parts)], dtype=np.int32),
        first_face=np.cumsum([0, *(len(mesh.faces) for mesh, _, _ in parts)], dtype=np.int32),
        object_normals={},
    )


def _check_mesh(mesh: TriangleMesh, materials: int, instance_id: int) -> None:
    faces = len(mesh.faces)
    fits = (
        faces > 0
        and mesh.faces.shape == (faces, 3)
        and mesh.uv.shape == (faces, 3, 2)
        and mesh.material.shape == (faces,)
        and mesh.faces.min() >= 0
        and mesh.faces.max() < len(mesh.vertices)
        and mesh.material.min() >= 0
        and mesh.material.max() < materials
        and bool(np.isfinite(mesh.vertices).all())
    )
    if not fits:
        raise InputError(
            f"faces {mesh.faces.shape}, uv {mesh.uv.shape}, material {mesh.material.shape} over "
            f"{len(mesh.vertices)} vertices and {materials} materials do not fit together, or a vertex is not finite",
            where="the shell's mesh" if instance_id == BACKGROUND_ID else f"the mesh of instance {instance_id}",
            remedy="Give (F, 3) faces, (F, 3, 2) uv and (F,) materials with indices in range, and at least one face.",
        )


def _distinct_textures(scene: SceneModel) -> tuple[list[Texture], Int32]:
    """Textures without repeats, and each material's place among them."""
    place: dict[tuple[int, str], int] = {}
    textures: list[Texture] = []
    of_material = np.zeros(len(scene.materials), np.int32)
    for number, material in enumerate(scene.materials):
        key = (id(material.texture.image), material.texture.wrap)
        if key not in place:
            place[key] = len(textures)
            textures.append(material.texture)
        of_material[number] = place[key]
    return textures, of_material


def _texels_per_metre(triangles: Float32, uv: Float32, texture_size: Int32) -> Float64:
    """(F,) texels of level 0 along a metre of each (3, 3) triangle, as the root of the ratio of their areas.

    (Akenine-Möller et al., "Improved shader and texture level of detail using ray cones", JCGT 2021, equation 2.)
    """
    a, b, c = triangles.astype(np.float64).swapaxes(0, 1)
    world = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    texel = uv.astype(np.float64) * texture_size[:, None]
    (u1, v1), (u2, v2) = (texel[:, 1] - texel[:, 0]).T, (texel[:, 2] - texel[:, 0]).T
    texel_area = np.abs(u1 * v2 - u2 * v1)
    return np.sqrt(np.maximum(texel_area, 1e-12) / np.maximum(world, 1e-12))


def _tangents(direction: Float64) -> Float64:
    """(2, 3) unit vectors at right angles to a unit vector and to each other."""
    helper = np.eye(3)[np.argmin(np.abs(direction))]
    tangent = np.cross(direction, helper).astype(np.float64)
    tangent /= np.linalg.norm(tangent)
    return np.stack([tangent, np.cross(direction, tangent).astype(np.float64)])


def _vectors(values: ArrayLike, what: str) -> Float32:
    vectors = np.ascontiguousarray(values, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != 3 or not np.isfinite(vectors).all():
        raise InputError(
            f"{what} of shape {vectors.shape}, or with values that are not finite",
            where="ray caster",
            remedy="Give finite numbers of shape (N, 3).",
        )
    return vectors


def _rays(origins: ArrayLike, directions: ArrayLike) -> tuple[Float32, Float32]:
    start, direction = _vectors(origins, "origins"), _vectors(directions, "directions")
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    if start.shape != direction.shape or not (length > 0).all():
        raise InputError(
            f"{len(start)} origins and {len(direction)} directions, or a direction of length zero",
            where="ray caster",
            remedy="Give one direction, not zero, for each origin.",
        )
    return start, direction / length


def _load(device: str) -> tuple[Any, ModuleType, ModuleType]:
    """Warp, the kernels on the device, and those that build the hierarchy, always on the CPU."""
    wp = load_warp(device)
    from . import raycast_bvh_kernels, raycast_kernels

    return wp, load_kernels(raycast_kernels, device), load_kernels(raycast_bvh_kernels, "cpu")

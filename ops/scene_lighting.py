"""Light for procedural places: moods, sun through the windows, lamps, and an exposure meter.

Radiometry is that of the scene model: the sun's colour is irradiance, every other colour is radiance, and a matt
surface of albedo a gives back a · (sky + irradiance / π).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .furniture_piece import Lamp
from .materials import Rgb
from .mesh_normals import face_normals
from .rooms import Extent, Window, ceiling_lamp_depth
from .scene_model import AreaLight, Float64, SkyLight, SunLight, TriangleMesh

_MAXIMUM_LIGHTS = 6
"""Each light costs every shaded pixel; the brightest few carry the picture."""


@dataclass(frozen=True, slots=True)
class Mood:
    """Light of a time of day.

    Attributes:
        sun: irradiance of a surface that faces the sun, linear RGB; None where it does not shine.
        sun_elevation: range in degrees.
        ambient: radiance of the light from everywhere indoors, linear RGB.
        outdoor_ambient: the same under the open sky.
        window: radiance of the sky seen by a window, linear RGB.
        ceiling: radiance of the ceiling lamp, 0 when it is off.
        lamps: factor on the standing lamps.
        zenith, horizon, ground: sRGB colours of the view outside.
        brightness: mean sRGB value (0..1) that the exposure aims at.
        night: whether stars are out.
    """

    sun: Rgb | None
    sun_elevation: tuple[float, float]
    ambient: Rgb
    outdoor_ambient: Rgb
    window: Rgb
    ceiling: float
    lamps: float
    zenith: Rgb
    horizon: Rgb
    ground: Rgb
    brightness: float
    night: bool = False


MOODS: dict[str, Mood] = {
    "day": Mood(
        sun=(7.5, 7.0, 6.2),
        sun_elevation=(38.0, 56.0),
        ambient=(0.30, 0.31, 0.33),
        outdoor_ambient=(0.70, 0.86, 1.10),
        window=(4.6, 5.0, 5.5),
        ceiling=0.0,
        lamps=0.15,
        zenith=(0.33, 0.55, 0.86),
        horizon=(0.80, 0.88, 0.95),
        ground=(0.42, 0.55, 0.28),
        brightness=0.50,
    ),
    "morning": Mood(
        sun=(8.0, 6.2, 4.2),
        sun_elevation=(18.0, 30.0),
        ambient=(0.28, 0.28, 0.30),
        outdoor_ambient=(0.66, 0.74, 0.92),
        window=(4.4, 4.1, 3.9),
        ceiling=0.0,
        lamps=0.15,
        zenith=(0.45, 0.62, 0.86),
        horizon=(0.97, 0.88, 0.76),
        ground=(0.46, 0.55, 0.32),
        brightness=0.49,
    ),
    "sunset": Mood(
        sun=(10.0, 4.6, 1.7),
        sun_elevation=(10.0, 18.0),
        ambient=(0.27, 0.23, 0.24),
        outdoor_ambient=(0.60, 0.52, 0.62),
        window=(3.8, 2.6, 2.1),
        ceiling=0.0,
        lamps=0.5,
        zenith=(0.34, 0.38, 0.62),
        horizon=(0.97, 0.62, 0.36),
        ground=(0.34, 0.33, 0.22),
        brightness=0.45,
    ),
    "overcast": Mood(
        sun=None,
        sun_elevation=(45.0, 45.0),
        ambient=(0.33, 0.34, 0.36),
        outdoor_ambient=(1.00, 1.05, 1.15),
        window=(4.6, 4.8, 5.1),
        ceiling=0.0,
        lamps=0.3,
        zenith=(0.62, 0.67, 0.73),
        horizon=(0.80, 0.82, 0.84),
        ground=(0.38, 0.44, 0.33),
        brightness=0.50,
    ),
    "night": Mood(
        sun=(0.35, 0.45, 0.70),
        sun_elevation=(30.0, 50.0),
        ambient=(0.13, 0.13, 0.16),
        outdoor_ambient=(0.20, 0.24, 0.36),
        window=(0.14, 0.18, 0.30),
        ceiling=1.0,
        lamps=2.2,
        zenith=(0.035, 0.05, 0.12),
        horizon=(0.09, 0.12, 0.22),
        ground=(0.04, 0.05, 0.05),
        brightness=0.40,
        night=True,
    ),
    "lamplight": Mood(
        sun=None,
        sun_elevation=(30.0, 50.0),
        ambient=(0.16, 0.13, 0.105),
        outdoor_ambient=(0.34, 0.30, 0.36),
        window=(0.30, 0.34, 0.52),
        ceiling=0.8,
        lamps=2.6,
        zenith=(0.10, 0.12, 0.27),
        horizon=(0.36, 0.27, 0.32),
        ground=(0.08, 0.09, 0.09),
        brightness=0.41,
    ),
}
"""Every kind of light that prompts can ask for."""


def sun_light(mood: Mood, windows: Sequence[Window], rng: np.random.Generator) -> SunLight | None:
    """The sun, where it shines: through one of the windows indoors, from behind the camera's side outdoors."""
    if mood.sun is None:
        return None
    elevation = np.deg2rad(rng.uniform(*mood.sun_elevation))
    if windows:
        window = windows[int(rng.integers(len(windows)))]
        outwards = -np.cross(window.half_edge_u, window.half_edge_v)
        azimuth = np.arctan2(outwards[0], outwards[2]) + np.deg2rad(rng.uniform(-38.0, 38.0))
    else:
        side = rng.choice([-1.0, 1.0])
        azimuth = side * np.deg2rad(rng.uniform(35.0, 110.0))
        elevation = max(elevation, np.deg2rad(30.0))
    direction = (
        float(np.cos(elevation) * np.sin(azimuth)),
        float(np.sin(elevation)),
        float(np.cos(elevation) * np.cos(azimuth)),
    )
    return SunLight(direction, mood.sun, angular_radius=0.012)


def sky_light(mood: Mood, *, indoors: bool) -> SkyLight:
    """Light from everywhere; indoors it comes a little more from below, thrown back by the floor."""
    colour = np.asarray(mood.ambient if indoors else mood.outdoor_ambient)
    if indoors:
        return SkyLight(_rgb(colour), _rgb(colour * (0.92, 0.88, 0.82)))
    return SkyLight(_rgb(colour), _rgb(colour * (0.62, 0.58, 0.50)))


def room_lights(mood: Mood, windows: Sequence[Window], extent: Extent) -> list[AreaLight]:
    """Windows as rectangles of sky, and the ceiling lamp when it is on. A wall's windows are joined into one light."""
    lights = []
    by_wall: dict[tuple[float, ...], list[Window]] = {}
    for window in windows:
        normal = np.cross(window.half_edge_u, window.half_edge_v)
        by_wall.setdefault(tuple(np.round(normal / np.linalg.norm(normal), 3).tolist()), []).append(window)
    for normal, group in by_wall.items():
        for window in group[:2]:
            share = len(group) / min(len(group), 2)
            lights.append(
                AreaLight(
                    _rgb(window.centre + 0.04 * np.asarray(normal)),
                    _rgb(window.half_edge_u * 0.95),
                    _rgb(window.half_edge_v * 0.95),
                    _rgb(np.asarray(mood.window) * share),
                )
            )
    if mood.ceiling > 0.0:
        colour = np.array([1.0, 0.86, 0.66]) * 6.0 * mood.ceiling
        centre = (0.0, extent.height - 0.07, ceiling_lamp_depth(extent))
        lights.append(AreaLight(centre, (0.6, 0.0, 0.0), (0.0, 0.0, 0.35), _rgb(colour)))
    return lights


def lamp_lights(mood: Mood, lamps: Sequence[tuple[Float64, Lamp]]) -> list[AreaLight]:
    """The lights of standing lamps: (4, 4) scene-from-object pose and lamp, one rectangle each."""
    lights = []
    for pose, lamp in lamps:
        centre = pose[:3, :3] @ np.asarray(lamp.centre) + pose[:3, 3]
        across = pose[:3, 0] * lamp.half_side
        along = pose[:3, 2] * lamp.half_side
        first, second = (along, across) if lamp.up else (across, along)
        lights.append(AreaLight(_rgb(centre), _rgb(first), _rgb(second), _rgb(np.asarray(lamp.radiance) * mood.lamps)))
    return lights


def brightest(lights: Sequence[AreaLight]) -> tuple[AreaLight, ...]:
    """The lights of greatest power, in their given order."""
    power = [
        float(np.linalg.norm(np.cross(light.half_edge_u, light.half_edge_v)) * np.mean(light.radiance))
        for light in lights
    ]
    kept = sorted(np.argsort(power)[::-1][:_MAXIMUM_LIGHTS].tolist())
    return tuple(lights[index] for index in kept)


@dataclass(frozen=True, slots=True)
class MeterScene:
    """What the exposure meter looks at.

    Attributes:
        extent: inside of the place.
        indoors: whether it has a ceiling.
        floor, walls, ceiling: albedo, linear RGB.
        sky_colour: sRGB of what is seen over the walls.
        objects: merged meshes of the objects in the scene frame.
        albedo: (F, 3) linear RGB of their triangles.
        sun, sky, lights: the lights.
    """

    extent: Extent
    indoors: bool
    floor: Float64
    walls: Float64
    ceiling: Float64
    sky_colour: Float64
    objects: TriangleMesh
    albedo: Float64
    sun: SunLight | None
    sky: SkyLight
    lights: Sequence[AreaLight]


def metered_exposure(
    scene: MeterScene, scene_from_camera: Float64, intrinsics: Float64, size: tuple[int, int], brightness: float
) -> float:
    """Factor that brings the mean sRGB value of the picture to about `brightness` (0..1).

    The picture is estimated on a coarse grid of rays: the place's sides, covered by the objects' triangles where these
    are nearer, under light without shadows.
    """
    rows, columns = 20, 36
    point, normal, albedo, depth = _sides(scene, scene_from_camera, intrinsics, size, rows, columns)
    _cover(scene, scene_from_camera, intrinsics, size, (rows, columns), (point, normal, albedo, depth))
    open_sky = ~np.isfinite(depth)
    radiance = albedo * _diffuse(scene, point, normal)
    low, high = 0.05, 20.0
    for _ in range(24):
        middle = float(np.sqrt(low * high))
        picture = np.where(open_sky[:, None], scene.sky_colour, _picture_value(radiance * middle))
        low, high = (middle, high) if picture.mean() < brightness else (low, middle)
    return float(np.sqrt(low * high))


def _sides(
    scene: MeterScene, pose: Float64, intrinsics: Float64, size: tuple[int, int], rows: int, columns: int
) -> tuple[Float64, Float64, Float64, Float64]:
    """Where rays through a grid of pixels leave the place: points, inward normals, albedo (N, 3) and z-depth (N,);
    infinite depth over a court's walls."""
    row, column = np.mgrid[0:rows, 0:columns].reshape(2, -1) + 0.5
    x = (column / columns * size[1] - intrinsics[2]) / intrinsics[0]
    y = (row / rows * size[0] - intrinsics[3]) / intrinsics[1]
    direction = np.stack([x, y, np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    eye, extent = pose[:3, 3], scene.extent
    low = np.array([-extent.width / 2, 0.0, -extent.ahead])
    high = np.array([extent.width / 2, extent.height if scene.indoors else 1e3, extent.behind])
    safe = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    reach = np.where(safe > 0, high - eye, low - eye) / safe
    axis = reach.argmin(axis=1)
    depth = reach.min(axis=1)
    point = eye + depth[:, None] * direction
    normal = np.zeros_like(point)
    index = np.arange(len(point))
    normal[index, axis] = -np.sign(safe[index, axis])
    upwards = normal[:, 1:2]
    albedo = np.where(upwards > 0, scene.floor, np.where(upwards < 0, scene.ceiling, scene.walls))
    depth = np.where(point[:, 1] > extent.height + 1e-6, np.inf, depth)
    return point, normal, albedo, depth


def _cover(
    scene: MeterScene,
    pose: Float64,
    intrinsics: Float64,
    size: tuple[int, int],
    grid: tuple[int, int],
    picture: tuple[Float64, Float64, Float64, Float64],
) -> None:
    """Enters the objects' triangles, nearest last, at the grid cells of their centres."""
    centre = scene.objects.vertices[scene.objects.faces].astype(np.float64).mean(axis=1)
    face_normal = face_normals(scene.objects)
    towards_eye = pose[:3, 3] - centre
    local = -towards_eye @ pose[:3, :3]
    z = np.maximum(local[:, 2], 1e-3)
    column = ((intrinsics[0] * local[:, 0] / z + intrinsics[2]) / size[1] * grid[1]).astype(int)
    row = ((intrinsics[1] * local[:, 1] / z + intrinsics[3]) / size[0] * grid[0]).astype(int)
    facing = np.einsum("ij,ij->i", face_normal, towards_eye) > 0
    seen = facing & (local[:, 2] > 0.3) & (column >= 0) & (column < grid[1]) & (row >= 0) & (row < grid[0])
    order = np.flatnonzero(seen)[np.argsort(-local[seen, 2], kind="stable")]
    cell = row[order] * grid[1] + column[order]
    point, normal, albedo, depth = picture
    point[cell], normal[cell], albedo[cell], depth[cell] = (
        centre[order],
        face_normal[order],
        scene.albedo[order],
        z[order],
    )


def _diffuse(scene: MeterScene, point: Float64, normal: Float64) -> Float64:
    """(N, 3) light given back by white matt surfaces, without shadows."""
    share = (0.5 + 0.5 * normal[:, 1:2]).clip(0.0, 1.0)
    result = 0.85 * (share * np.asarray(scene.sky.zenith) + (1.0 - share) * np.asarray(scene.sky.horizon))
    if scene.sun is not None:
        lit = 0.05 if scene.indoors else 0.75
        cosine = (normal @ np.asarray(scene.sun.direction)).clip(0.0)
        result = result + lit * cosine[:, None] * np.asarray(scene.sun.colour) / np.pi
    for light in scene.lights:
        facing = np.cross(light.half_edge_u, light.half_edge_v)
        area = 4.0 * np.linalg.norm(facing)
        facing = facing / np.linalg.norm(facing)
        offset = np.asarray(light.centre) - point
        squared = np.einsum("ij,ij->i", offset, offset) + area / np.pi
        cosines = np.einsum("ij,ij->i", offset, normal).clip(0.0) * (-offset @ facing).clip(0.0) / squared
        result = result + 0.8 * (area * cosines / squared / np.pi)[:, None] * np.asarray(light.radiance)
    return result


def _picture_value(value: Float64) -> Float64:
    """sRGB 0..1 of exposed linear radiance: bright parts are rolled off from 0.7 up, about as the ray caster does."""
    value = np.where(value < 0.7, value, 1.0 - 0.3 * np.exp((0.7 - value) / 0.3))
    return np.where(value <= 0.0031308, 12.92 * value, 1.055 * np.maximum(value, 1e-9) ** (1 / 2.4) - 0.055)


def _rgb(values: np.ndarray) -> Rgb:
    return float(values[0]), float(values[1]), float(values[2])

"""Draws the example pictures that are not photographs: a corridor, a street and a gallery in one-point perspective.

    python examples/make_example_images.py            # writes corridor.jpg, street.jpg and gallery.jpg into images/

The scenes are plain boxes with drawn textures, rendered by the package's ray caster; the same versions of it, NumPy and
Pillow give the same files.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.scene_model import AreaLight, Material, SceneModel, SkyLight, SunLight, Texture, TriangleMesh

Colour = tuple[int, int, int]
Point = tuple[float, float, float]
UInt8 = NDArray[np.uint8]

HEIGHT, WIDTH = 540, 960
_LARGEST_FILE = 150_000


class SceneSketch:
    """Quadrilaterals and boxes with materials, collected into one shell; scene frame, y up, metres."""

    def __init__(self) -> None:
        self.materials: list[Material] = []
        self._corners: list[NDArray[np.float64]] = []
        self._uv: list[NDArray[np.float64]] = []
        self._material: list[int] = []

    def material(self, image: UInt8, *, emission: float = 0.0, unlit: bool = False, specular: float = 0.0) -> int:
        light = (emission, emission, emission)
        texture = Texture(image)
        self.materials.append(Material("drawn", "painted", texture, specular, 0.4, emission=light, unlit=unlit))
        return len(self.materials) - 1

    def plain(self, colour: Colour, *, grain: float = 3.0, emission: float = 0.0, unlit: bool = False) -> int:
        image = _grain(np.full((64, 64, 3), colour), grain, len(self.materials))
        return self.material(image, emission=emission, unlit=unlit)

    def quad(self, corner: Point, u: Point, v: Point, material: int, repeats: tuple[float, float] = (1, 1)) -> None:
        """Corner is the texture's bottom left; it is seen from the side that u × v points to."""
        start, across, up = np.array(corner), np.array(u), np.array(v)
        self._corners.append(np.stack([start, start + across, start + across + up, start + up]))
        self._uv.append(np.array([(0, 0), (repeats[0], 0), repeats, (0, repeats[1])], dtype=np.float64))
        self._material.append(material)

    def box(self, low: Point, high: Point, material: int) -> None:
        (x0, y0, z0), (x1, y1, z1) = low, high
        w, h, d = x1 - x0, y1 - y0, z1 - z0
        self.quad((x0, y0, z1), (w, 0, 0), (0, h, 0), material)
        self.quad((x1, y0, z0), (-w, 0, 0), (0, h, 0), material)
        self.quad((x0, y0, z0), (0, 0, d), (0, h, 0), material)
        self.quad((x1, y0, z1), (0, 0, -d), (0, h, 0), material)
        self.quad((x0, y1, z1), (w, 0, 0), (0, 0, -d), material)
        self.quad((x0, y0, z0), (w, 0, 0), (0, 0, d), material)

    def shell(self) -> TriangleMesh:
        count = len(self._corners)
        pattern = np.array([[0, 1, 2], [0, 2, 3]])
        return TriangleMesh(
            vertices=np.concatenate(self._corners).astype(np.float32),
            faces=(4 * np.arange(count)[:, None, None] + pattern).reshape(-1, 3).astype(np.int32),
            uv=np.stack(self._uv)[:, pattern].reshape(-1, 3, 2).astype(np.float32),
            material=np.repeat(self._material, 2).astype(np.int32),
        )


def _grain(image: NDArray[np.generic], strength: float, seed: int) -> UInt8:
    noise = np.random.default_rng(seed).normal(0, strength, (*image.shape[:2], 1))
    return np.clip(image.astype(np.float64) + noise, 0, 255).astype(np.uint8)


def planks(colour: Colour, seed: int, *, count: int = 8, side: int = 512) -> UInt8:
    """Boards that run up the texture, each with its own tone, ends and grain."""
    generator = np.random.default_rng(seed)
    board = np.arange(side) * count // side
    tone = generator.uniform(0.78, 1.1, (count, 2))
    ends = generator.integers(0, side, count)
    rows = np.arange(side)[:, None]
    second = (rows + ends[board][None]) % side < side // 2
    grain = generator.normal(0, 1, (side // 32, side)).repeat(32, axis=0)
    grain = (grain + np.roll(grain, 11, axis=0) + np.roll(grain, 23, axis=0)) * 0.02
    shade = np.where(second, tone[board, 0][None], tone[board, 1][None]) + grain
    shade[:, np.arange(side) % (side // count) < 2] = 0.45
    shade[((rows + ends[board][None]) % (side // 2)) < 2] = 0.5
    return _grain(shade[..., None] * np.array(colour), 2.0, seed)


def bricks(colour: Colour, seed: int, *, rows: int = 16, columns: int = 8, side: int = 512) -> UInt8:
    generator = np.random.default_rng(seed)
    row = np.arange(side)[:, None] * rows // side
    shift = (row % 2) * side // columns // 2
    place = (np.arange(side)[None] + shift) % side
    column = place * columns // side
    shade = generator.uniform(0.75, 1.1, (rows, columns))[row, column][..., None] * np.array(colour, dtype=np.float64)
    mortar = (np.arange(side)[:, None] % (side // rows) < 3) | (place % (side // columns) < 3)
    shade[mortar] = (176, 170, 160)
    return _grain(shade, 4.0, seed)


def painting(seed: int, *, height: int = 192, width: int = 256) -> UInt8:
    """An abstract of overlapping discs and bars in a dark frame."""
    generator = np.random.default_rng(seed)
    rows, columns = np.indices((height, width))
    image = np.empty((height, width, 3))
    image[:] = generator.uniform(120, 235, 3)
    for _ in range(14):
        y, x = generator.uniform(0, height), generator.uniform(0, width)
        colour, size = generator.uniform(20, 245, 3), generator.uniform(14, 60)
        if generator.random() < 0.5:
            inside = np.hypot(rows - y, columns - x) < size
        else:
            inside = (np.abs(rows - y) < size / 4) & (np.abs(columns - x) < size * 1.5)
        image[inside] = 0.25 * image[inside] + 0.75 * colour
    border = np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns]) < 9
    image[border] = (48, 36, 28)
    return _grain(image, 3.0, seed)


def corridor() -> SceneModel:
    """A corridor, 2.6 × 2.9 × 13 m, doors on both sides, ceiling lights and a bright window at its end."""
    sketch = SceneSketch()
    left, right, top, far, near = -1.3, 1.3, 2.9, -11.0, 2.0
    length = near - far
    floor = sketch.material(planks((168, 118, 74), 3), specular=0.4)
    wall, lower = sketch.plain((226, 216, 190)), sketch.plain((92, 122, 118))
    ceiling, rail = sketch.plain((238, 236, 230)), sketch.plain((70, 58, 50))
    door, lamp = sketch.material(planks((126, 72, 44), 5, count=4)), sketch.plain((255, 248, 230), emission=1.6)
    window, brass = sketch.plain((206, 228, 250), emission=1.0), sketch.plain((200, 170, 90))
    sketch.quad((left, 0, near), (2.6, 0, 0), (0, 0, -length), floor, (2, length / 1.3))
    sketch.quad((left, top, far), (2.6, 0, 0), (0, 0, length), ceiling)
    for x, u, start in ((left, (0, 0, -length), near), (right, (0, 0, length), far)):
        sketch.quad((x, 0, start), u, (0, 1.0, 0), lower, (8, 1))
        sketch.quad((x, 1.0, start), u, (0, top - 1.0, 0), wall, (8, 1))
        inner = x - 0.03 * np.sign(x)
        for low, high in ((0.0, 0.12), (0.98, 1.06)):
            sketch.box((min(x, inner), low, far), (max(x, inner), high, near), rail)
        for z in (-1.2, -4.2, -7.2, -10.2):
            shift = 0.6 if x > 0 else 0.0
            deep = x - 0.06 * np.sign(x)
            sketch.box((min(x, deep), 0, z - 0.55 - shift), (max(x, deep), 2.15, z + 0.55 - shift), rail)
            deep = x - 0.08 * np.sign(x)
            sketch.box((min(x, deep), 0, z - 0.45 - shift), (max(x, deep), 2.05, z + 0.45 - shift), door)
            knob = x - 0.12 * np.sign(x)
            sketch.box((min(x, knob), 0.98, z - 0.38 - shift), (max(x, knob), 1.06, z - 0.3 - shift), brass)
    sketch.quad((left, 0, far), (2.6, 0, 0), (0, top, 0), wall)
    sketch.quad((right, 0, near), (-2.6, 0, 0), (0, top, 0), wall)
    sketch.quad((-0.75, 0.9, far + 0.02), (1.5, 0, 0), (0, 1.5, 0), window)
    for low, high in (((-0.03, 0.9), (0.03, 2.4)), ((-0.75, 1.62), (0.75, 1.68)), ((-0.85, 0.82), (0.85, 0.9))):
        sketch.box((*low, far), (*high, far + 0.06), rail)
    lights = []
    for z in (0.4, -2.6, -5.6, -8.6):
        sketch.box((-0.45, top - 0.05, z - 0.2), (0.45, top, z + 0.2), lamp)
        lights.append(AreaLight((0, top - 0.06, z), (0.45, 0, 0), (0, 0, 0.2), (5.0, 4.7, 4.2)))
    lights.append(AreaLight((0, 1.65, far + 0.05), (0.75, 0, 0), (0, 0.75, 0), (1.6, 1.9, 2.3)))
    sky = SkyLight(zenith=(0.42, 0.41, 0.38), horizon=(0.34, 0.33, 0.31))
    return _scene(sketch, sky, camera=(0.15, 1.55, 1.2), centre=(0.47, 0.5), lights=lights)


def street() -> SceneModel:
    """A street between brick houses, with pavements, a church front at its end, and low sun from the right."""
    sketch = SceneSketch()
    far, near = -46.0, 5.0
    length = near - far
    road, pavement = sketch.plain((98, 98, 102), grain=9.0), sketch.material(bricks((150, 146, 138), 31, rows=8))
    line, glass, trim = sketch.plain((228, 226, 214)), sketch.plain((86, 108, 132)), sketch.plain((224, 218, 202))
    sky_image = np.linspace((74, 128, 205), (212, 226, 240), 128)[:, None].repeat(8, axis=1)
    sky = sketch.material(_grain(sky_image, 0.0, 0), unlit=True)
    sketch.quad((-60, 0, 30), (120, 0, 0), (0, 0, -150), road, (60, 75))
    for z in np.arange(2.0, far, -4.0):
        sketch.box((-0.08, 0, z - 2.0), (0.08, 0.01, z), line)
    for side in (-1, 1):
        near_x, far_x = sorted((3.2 * side, 5.0 * side))
        sketch.box((near_x, 0, far), (far_x, 0.15, near), pavement)
        colours: list[Colour] = [(158, 84, 62), (196, 168, 122), (120, 96, 88), (176, 110, 84), (148, 140, 130)]
        heights = (8.2, 9.6, 7.4, 10.4, 8.8) if side < 0 else (9.2, 7.6, 10.0, 8.4, 9.4)
        for house, (colour, height) in enumerate(zip(colours[::side], heights, strict=True)):
            front = sketch.material(bricks(colour, 40 + house + 10 * (side > 0)))
            z = near - house * length / 5
            _house(sketch, side, (z - length / 5, z), height, front, glass, trim)
    church = sketch.material(bricks((190, 178, 156), 77))
    sketch.quad((-7, 0, far - 6), (14, 0, 0), (0, 9, 0), church, (6, 4))
    sketch.quad((-2, 9, far - 6), (4, 0, 0), (0, 8, 0), church, (2, 4))
    sketch.box((-1, 0, far - 6), (1, 3.4, far - 5.9), sketch.plain((84, 56, 40)))
    sketch.box((-0.9, 11, far - 6), (0.9, 13.4, far - 5.9), glass)
    for corner, u in (((-60, -1, -110), (120, 0, 0)), ((60, -1, 30), (-120, 0, 0))):
        sketch.quad(corner, u, (0, 90, 0), sky)
    for corner, u in (((-60, -1, 30), (0, 0, -140)), ((60, -1, -110), (0, 0, 140))):
        sketch.quad(corner, u, (0, 90, 0), sky)
    sketch.quad((-60, 89, -110), (120, 0, 0), (0, 0, 140), sketch.plain((74, 128, 205), grain=0.0, unlit=True))
    sun = SunLight(direction=(0.55, 0.65, 0.52), colour=(2.3, 2.1, 1.7))
    light = SkyLight(zenith=(0.42, 0.5, 0.62), horizon=(0.34, 0.34, 0.36))
    return _scene(sketch, light, camera=(-0.6, 1.7, 3.0), centre=(0.5, 0.56), sun=sun)


def _house(
    sketch: SceneSketch, side: int, reach: tuple[float, float], height: float, front: int, glass: int, trim: int
) -> None:
    low, high = reach
    x = 5.0 * side
    sketch.box((min(x, x + 6 * side), 0, low), (max(x, x + 6 * side), height, high), front)
    depth = high - low
    corner, u = ((x, 0, high), (0, 0, -depth)) if side < 0 else ((x, 0, low), (0, 0, depth))
    sketch.quad((x - 0.01 * side, *corner[1:]), u, (0, height, 0), front, (depth / 2.4, height / 2.4))
    for y in np.arange(1.1, height - 1.6, 2.7):
        for z in np.arange(low + 1.5, high - 1.0, 2.5):
            for thick, grow, material in ((0.05, 0.12, trim), (0.07, 0.0, glass)):
                edge = x - thick * side
                sketch.box(
                    (min(x, edge), y - grow, z - 0.5 - grow), (max(x, edge), y + 1.5 + grow, z + 0.5 + grow), material
                )
    edge = x - 0.25 * side
    sketch.box((min(x, edge), height - 0.3, low), (max(x, edge), height, high), trim)


def gallery() -> SceneModel:
    """A gallery, 7 × 4 × 12 m: parquet, blue-grey walls with paintings, a lit ceiling and two benches."""
    sketch = SceneSketch()
    left, right, top, far, near = -3.5, 3.5, 4.0, -9.0, 3.0
    length = near - far
    floor = sketch.material(planks((150, 98, 58), 9, count=12), specular=0.5)
    wall, back = sketch.plain((122, 140, 156)), sketch.plain((150, 84, 74))
    white, panel = sketch.plain((240, 238, 232)), sketch.plain((255, 252, 244), emission=1.2)
    wood, leather = sketch.plain((70, 46, 32)), sketch.plain((132, 40, 36))
    sketch.quad((left, 0, near), (7, 0, 0), (0, 0, -length), floor, (4, 7))
    sketch.quad((left, top, far), (7, 0, 0), (0, 0, length), white)
    sketch.quad((left, 0, near), (0, 0, -length), (0, top, 0), wall, (6, 2))
    sketch.quad((right, 0, far), (0, 0, length), (0, top, 0), wall, (6, 2))
    sketch.quad((left, 0, far), (7, 0, 0), (0, top, 0), back, (4, 2))
    sketch.quad((right, 0, near), (-7, 0, 0), (0, top, 0), wall, (4, 2))
    for x in (left, right):
        inner = x - 0.05 * np.sign(x)
        sketch.box((min(x, inner), 0, far), (max(x, inner), 0.2, near), white)
        sketch.box((min(x, inner), top - 0.18, far), (max(x, inner), top, near), white)
    sketch.box((left, 0, far), (right, 0.2, far + 0.05), white)
    lights = []
    for z in (0.5, -3.0, -6.5):
        sketch.box((-1.4, top - 0.04, z - 1.1), (1.4, top, z + 1.1), panel)
        lights.append(AreaLight((0, top - 0.05, z), (1.4, 0, 0), (0, 0, 1.1), (2.1, 2.1, 2.0)))
    for number, z in enumerate((0.2, -2.6, -5.4, -7.9)):
        art = sketch.material(painting(number))
        width, height = (1.9, 1.4) if number % 2 else (1.3, 1.6)
        sketch.quad((left + 0.05, 1.15, z + width / 2), (0, 0, -width), (0, height, 0), art)
        art = sketch.material(painting(20 + number))
        sketch.quad((right - 0.05, 1.15, z - width / 2), (0, 0, width), (0, height, 0), art)
    sketch.quad((-1.5, 1.1, far + 0.05), (3.0, 0, 0), (0, 1.9, 0), sketch.material(painting(42, width=320, height=200)))
    for z in (-2.2, -5.8):
        sketch.box((-0.9, 0.36, z - 0.3), (0.9, 0.5, z + 0.3), leather)
        for x in (-0.8, 0.7):
            sketch.box((x, 0, z - 0.25), (x + 0.1, 0.36, z + 0.25), wood)
    sky = SkyLight(zenith=(0.38, 0.38, 0.38), horizon=(0.32, 0.31, 0.3))
    return _scene(sketch, sky, camera=(0.7, 1.6, 2.4), centre=(0.5, 0.46), lights=lights)


def _scene(
    sketch: SceneSketch,
    sky: SkyLight,
    *,
    camera: Point,
    centre: tuple[float, float],
    sun: SunLight | None = None,
    lights: list[AreaLight] | None = None,
) -> SceneModel:
    """A level camera that looks down the negative z axis; `centre` is where that axis meets the picture, 0..1."""
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[:3, 3] = camera
    focal = WIDTH / 2 / np.tan(np.radians(72.0) / 2)
    return SceneModel(
        shell=sketch.shell(),
        instances=(),
        materials=sketch.materials,
        sun=sun,
        sky=sky,
        area_lights=lights or (),
        scene_from_camera=pose,
        intrinsics=np.array([focal, focal, WIDTH * centre[0], HEIGHT * centre[1]]),
        size=(HEIGHT, WIDTH),
    )


def picture(scene: SceneModel) -> UInt8:
    """(540, 960, 3) uint8 sRGB of what the scene's camera sees."""
    caster = RayCaster(scene)
    return caster.render(
        np.eye(4), scene.intrinsics, HEIGHT, WIDTH, samples_per_pixel=9, seed=0, ambient_occlusion_samples=8
    ).rgb


def jpeg(rgb: UInt8) -> bytes:
    """The finest JPEG that stays below 150 kB."""
    for quality in range(92, 40, -4):
        file = io.BytesIO()
        Image.fromarray(rgb).save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= _LARGEST_FILE:
            return file.getvalue()
    raise ValueError("the picture does not fit into 150 kB")


def main() -> None:
    folder = Path(__file__).parent / "images"
    folder.mkdir(exist_ok=True)
    for make in (corridor, street, gallery):
        (folder / f"{make.__name__}.jpg").write_bytes(jpeg(picture(make())))


if __name__ == "__main__":
    main()

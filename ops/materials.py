"""Procedural materials: seamless texture tiles with real detail, drawn from a seeded generator.

A tile is (N, N, 3) uint8 sRGB and continues without a seam on all sides. Noise is made in the frequency domain, where a
random spectrum is periodic by construction; patterns (planks, weave, tiles) repeat a whole number of times per tile.
Tiles hold detail between about 5 mm and 0.5 m, the range that a camera a few metres away can see.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..datasets.errors import InputError
from .meshes import Surface
from .scene_model import Float32, Material, Texture, UInt8

Rgb = tuple[float, float, float]

PALETTE: dict[str, Rgb] = {
    "white": (0.90, 0.89, 0.86),
    "cream": (0.90, 0.84, 0.71),
    "beige": (0.80, 0.71, 0.58),
    "grey": (0.55, 0.55, 0.55),
    "charcoal": (0.25, 0.26, 0.28),
    "chalk": (0.85, 0.86, 0.85),
    "ivory": (0.91, 0.87, 0.78),
    "sand": (0.85, 0.77, 0.64),
    "ochre": (0.80, 0.63, 0.36),
    "blush": (0.87, 0.75, 0.70),
    "pale sage": (0.76, 0.80, 0.71),
    "pale blue": (0.74, 0.81, 0.86),
    "pale grey": (0.74, 0.74, 0.74),
    "black": (0.13, 0.13, 0.14),
    "red": (0.70, 0.16, 0.14),
    "burgundy": (0.44, 0.10, 0.16),
    "terracotta": (0.74, 0.39, 0.26),
    "orange": (0.86, 0.47, 0.16),
    "mustard": (0.80, 0.61, 0.20),
    "yellow": (0.92, 0.78, 0.27),
    "olive": (0.46, 0.47, 0.24),
    "green": (0.25, 0.49, 0.27),
    "sage": (0.60, 0.67, 0.55),
    "teal": (0.13, 0.45, 0.46),
    "turquoise": (0.27, 0.68, 0.68),
    "blue": (0.18, 0.36, 0.64),
    "navy": (0.14, 0.20, 0.38),
    "sky blue": (0.56, 0.73, 0.87),
    "purple": (0.42, 0.27, 0.54),
    "lavender": (0.68, 0.61, 0.79),
    "pink": (0.88, 0.60, 0.64),
    "brown": (0.43, 0.28, 0.18),
    "oak": (0.70, 0.53, 0.34),
    "walnut": (0.40, 0.26, 0.17),
    "pine": (0.82, 0.66, 0.44),
    "mahogany": (0.45, 0.19, 0.12),
    "ebony": (0.20, 0.16, 0.14),
    "gold": (0.83, 0.66, 0.30),
    "silver": (0.74, 0.75, 0.77),
    "copper": (0.76, 0.46, 0.31),
    "bronze": (0.47, 0.36, 0.22),
}
"""Named colours as sRGB 0..1, kept within what pigments do (no channel at 0 or 1)."""

WOOD_COLOURS = ("oak", "walnut", "pine", "mahogany", "brown", "ebony")
FABRIC_COLOURS = (
    *("cream", "beige", "grey", "charcoal", "red", "burgundy", "terracotta", "orange", "mustard", "olive", "green"),
    *("sage", "teal", "turquoise", "blue", "navy", "sky blue", "purple", "lavender", "pink"),
)
METAL_COLOURS = ("charcoal", "silver", "gold", "copper", "bronze", "black")


class Recipe(NamedTuple):
    """How a kind of material is drawn and how it answers light."""

    tile: Callable[[np.random.Generator, int, Rgb], Float32]
    colours: tuple[str, ...]
    texture_metres: tuple[float, float]
    specular: float
    roughness: float
    size: int = 256


class MaterialBook:
    """The materials of one scene, each drawn once.

    Args:
        rng: generator of every choice and texture.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.materials: list[Material] = []
        self._scheme: dict[str, list[str]] = {}
        self._known: dict[tuple[object, ...], Surface] = {}

    def surface(self, kind: str, colour: str | None = None) -> Surface:
        """A material of `kind`, in a named colour or one of the few that this scene uses for the kind.

        Asking again for the same kind and colour gives the same material.

        Raises:
            InputError: the kind or the colour is not known.
        """
        if kind not in RECIPES:
            raise InputError(
                f"no material {kind!r}", where="MaterialBook.surface", remedy=f"Known: {', '.join(sorted(RECIPES))}."
            )
        if colour is not None and colour not in PALETTE:
            raise InputError(
                f"no colour {colour!r}", where="MaterialBook.surface", remedy=f"Known: {', '.join(PALETTE)}."
            )
        recipe = RECIPES[kind]
        name = colour or self._scheme_colour(kind, recipe)
        key = (kind, name)
        if key not in self._known:
            base = _jittered(self.rng, PALETTE[name])
            image = _to_bytes(recipe.tile(self.rng, recipe.size, base))
            self._known[key] = self.add(
                Material(
                    name=f"{name} {kind}",
                    kind=kind,
                    texture=Texture(image),
                    specular=recipe.specular,
                    roughness=recipe.roughness,
                    texture_metres=recipe.texture_metres,
                )
            )
        return self._known[key]

    def _scheme_colour(self, kind: str, recipe: Recipe) -> str:
        """One of at most two colours a kind has in a scene (three for cloth): rooms are furnished to match."""
        if kind not in self._scheme:
            count = min(3 if kind in {"fabric", "velvet", "painted"} else 2, len(recipe.colours))
            self._scheme[kind] = [str(name) for name in self.rng.permutation(recipe.colours)[:count]]
        return str(self.rng.choice(self._scheme[kind]))

    def add(self, material: Material) -> Surface:
        """Takes in a material made elsewhere."""
        self.materials.append(material)
        return Surface(len(self.materials) - 1, material.texture_metres)

    def glow(self, name: str, colour: Rgb, radiance: Rgb) -> Surface:
        """A plain surface that gives off light (lamp shades, bulbs, embers)."""
        key = ("glow", name, colour, radiance)
        if key not in self._known:
            flat = np.broadcast_to(np.asarray(colour, dtype=np.float32), (16, 16, 3))
            grain = self.rng.normal(0.0, 0.008, (16, 16, 1)).astype(np.float32)
            texture = Texture(_to_bytes(flat + grain))
            self._known[key] = self.add(Material(name=name, kind="light", texture=texture, emission=radiance))
        return self._known[key]

    def picture(self, name: str, image: UInt8) -> Surface:
        """A picture shown once (paintings, screens, rugs)."""
        return self.add(Material(name=name, kind="picture", texture=Texture(image, wrap="clamp"), roughness=0.6))


def noise(
    rng: np.random.Generator, size: int, *, exponent: float, stretch: tuple[float, float] = (1.0, 1.0)
) -> Float32:
    """(size, size) periodic noise of zero mean and unit deviation.

    Args:
        rng: source of the spectrum's phases and amplitudes.
        size: samples a side.
        exponent: amplitude falls as frequency^-exponent (0 white, 1 cloudy, 2 smooth).
        stretch: how much longer features are along x (columns) and y (rows).
    """
    envelope = _envelope(size, exponent, stretch)
    spectrum = rng.standard_normal((*envelope.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    field = np.fft.irfft2(spectrum * envelope, s=(size, size)).astype(np.float32)
    return field / max(float(field.std()), 1e-9)


@functools.lru_cache(maxsize=64)
def _envelope(size: int, exponent: float, stretch: tuple[float, float]) -> Float32:
    rows = np.fft.fftfreq(size)[:, None] * size * stretch[1]
    columns = np.fft.rfftfreq(size)[None, :] * size * stretch[0]
    radius = np.sqrt(rows**2 + columns**2)
    envelope = np.maximum(radius, 1.0) ** -exponent
    envelope[0, 0] = 0.0
    return envelope.astype(np.float32)


def _cells(rng: np.random.Generator, size: int, count: int) -> tuple[np.ndarray, Float32]:
    """Periodic Voronoi cells: (size, size) index of the nearest of `count` seeds and the distance to the cell's border
    (second nearest minus nearest), in tiles."""
    side = int(np.ceil(np.sqrt(count)))
    jitter = rng.uniform(0.1, 0.9, (2, side, side)).astype(np.float32)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * side
    cell = axis.astype(np.int32)
    nearest = np.full((size, size), np.inf, dtype=np.float32)
    second = nearest.copy()
    index = np.zeros((size, size), dtype=np.int32)
    # Each pixel's two nearest seeds are among the 5 × 5 cells around its own, because every cell holds one.
    for row_step in range(-2, 3):
        for column_step in range(-2, 3):
            rows, columns = (cell + row_step)[:, None], (cell + column_step)[None, :]
            number = rows % side * side + columns % side
            down = rows + jitter[1].ravel()[number] - axis[:, None]
            across = columns + jitter[0].ravel()[number] - axis[None, :]
            distance = np.sqrt(down**2 + across**2) / side
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            index = np.where(closer, number, index)
            nearest = np.minimum(nearest, distance)
    return index, second - nearest


def _jittered(rng: np.random.Generator, colour: Rgb) -> Rgb:
    """The colour with a little change of lightness and hue, so that no two reds are the same."""
    values = np.clip(np.asarray(colour) * rng.uniform(0.92, 1.08) + rng.normal(0.0, 0.009, 3), 0.05, 0.95)
    return float(values[0]), float(values[1]), float(values[2])


def _to_bytes(image: np.ndarray) -> UInt8:
    return (np.clip(image, 0.02, 0.98) * 255.0 + 0.5).astype(np.uint8)


def _shaded(colour: Rgb, brightness: np.ndarray) -> Float32:
    """(N, N, 3) colour times a (N, N) brightness around 1."""
    return np.asarray(colour, dtype=np.float32) * brightness[..., None].astype(np.float32)


def _coordinates(size: int) -> tuple[Float32, Float32]:
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return axis[None, :], axis[:, None]


def _blend(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> Float32:
    return (first + (second - first) * share[..., None]).astype(np.float32)


def _wood_grain(rng: np.random.Generator, size: int) -> Float32:
    """(size, size) brightness around 1: growth rings along x, fibres and pores."""
    _, y = _coordinates(size)
    warp = noise(rng, size, exponent=2.0, stretch=(3.0, 1.0))
    rings = int(rng.integers(5, 11))
    phase = rings * y + rng.uniform(0.35, 0.8) * warp
    growth = (phase - np.floor(phase)) ** 1.8
    fibres = noise(rng, size, exponent=0.7, stretch=(24.0, 1.0))
    broad = noise(rng, size, exponent=1.5, stretch=(4.0, 1.0))
    return (1.06 - 0.24 * growth + 0.055 * fibres + 0.06 * broad).astype(np.float32)


def _wood(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    grain = _wood_grain(rng, size)
    image = _shaded(colour, grain)
    image[..., 2] *= 0.5 + 0.5 * grain  # darker rings are also redder
    return image


def _planks(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Floor boards along x, each from another tree, with joints at random places."""
    boards = int(rng.choice([4, 8]))
    height = size // boards
    grain = _wood_grain(rng, size)
    brightness = np.empty((size, size), dtype=np.float32)
    for board in range(boards):
        rows = slice(board * height, (board + 1) * height)
        cut = int(rng.integers(size))
        strip = np.roll(grain, (int(rng.integers(size)), int(rng.integers(size))), axis=(0, 1))[:height]
        tone = rng.uniform(0.84, 1.1, 2)
        half = np.where((np.arange(size) - cut) % size < size // 2, tone[0], tone[1])
        strip = strip * half
        strip[:, [cut, (cut + size // 2) % size]] *= 0.55
        strip[0], strip[1], strip[-1] = strip[0] * 0.5, strip[1] * 0.8, strip[-1] * 1.06
        brightness[rows] = strip
    return _shaded(colour, brightness)


def _herringbone(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Parquet of blocks four times as long as wide, in a stair pattern."""
    cell = size // 16
    row, column = np.divmod(np.arange(size * size), size)
    row, column = (row // cell).reshape(size, size), (column // cell).reshape(size, size)
    step = (column - row) % 8
    lying = step < 4
    block = np.where(lying, (column - step) % 16 + 16 * row, ((row - 7 + step) % 16) * 16 + column + 256)
    tone = rng.uniform(0.78, 1.12, 1024)[block % 1024]
    grain = _wood_grain(rng, size)
    brightness = np.where(lying, grain, grain.T) * tone
    joint = np.ones((size, size), dtype=np.float32)
    joint[:, 1:] *= np.where(block[:, 1:] != block[:, :-1], 0.6, 1.0)
    joint[1:] *= np.where(block[1:] != block[:-1], 0.6, 1.0)
    return _shaded(colour, brightness * joint)


def _fabric(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Woven cloth: melange, stripes or checks in a second colour."""
    x, y = _coordinates(size)
    threads = size // 8
    weave = np.sin(2 * np.pi * threads * x) * np.sin(2 * np.pi * threads * y)
    slubs = noise(rng, size, exponent=0.6, stretch=(14.0, 1.0)) + noise(rng, size, exponent=0.6, stretch=(1.0, 14.0))
    brightness = 1.0 + 0.05 * weave + 0.05 * slubs + 0.045 * noise(rng, size, exponent=1.3)
    other = np.asarray(PALETTE[str(rng.choice(["white", "cream", "charcoal", *FABRIC_COLOURS]))], dtype=np.float32)
    base = np.broadcast_to(np.asarray(colour, dtype=np.float32), (size, size, 3))
    pattern = rng.choice(["melange", "melange", "stripes", "check", "dots"])
    repeats = int(rng.integers(3, 7))
    wave_x, wave_y = ((repeats * axis) % 1.0 for axis in (x, y))
    share = np.zeros((size, size), dtype=np.float32)
    if pattern == "stripes":
        share = share + 0.75 * (wave_x < rng.uniform(0.15, 0.4))
    elif pattern == "check":
        share = 0.4 * (wave_x < 0.4) + 0.4 * (wave_y < 0.4) + share
    elif pattern == "dots":
        share = share + 0.8 * ((wave_x - 0.5) ** 2 + (wave_y - 0.5) ** 2 < 0.05)
    return _blend(base, other, share) * brightness[..., None].astype(np.float32)


def _velvet(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    nap = 0.06 * noise(rng, size, exponent=1.4) + 0.05 * noise(rng, size, exponent=0.4, stretch=(1.0, 6.0))
    return _shaded(colour, 1.0 + nap)


def _leather(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    _, border = _cells(rng, size, 300)
    creases = np.clip(border * 40.0, 0.0, 1.0)
    return _shaded(colour, 0.91 + 0.09 * creases + 0.05 * noise(rng, size, exponent=1.3))


def _carpet(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    tufts = 0.08 * noise(rng, size, exponent=0.25) + 0.08 * noise(rng, size, exponent=1.2)
    _, y = _coordinates(size)
    ribs = 0.05 * np.sin(2 * np.pi * 24 * y) * float(rng.random() < 0.5)
    return _shaded(colour, 1.0 + tufts + ribs)


def _painted(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Brushed paint with faint wear."""
    strokes = 0.016 * noise(rng, size, exponent=0.6, stretch=(10.0, 1.0))
    return _shaded(colour, 1.0 + strokes + 0.028 * noise(rng, size, exponent=1.6))


def _plaster(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Trowelled wall: broad clouds, fine grain, a few arcs."""
    clouds = noise(rng, size, exponent=1.5)
    trowel = np.abs(noise(rng, size, exponent=1.8, stretch=(2.0, 1.0)))
    return _shaded(
        colour, 1.0 + 0.022 * clouds - 0.025 * np.exp(-60.0 * trowel**2) + 0.02 * noise(rng, size, exponent=0.3)
    )


def _wallpaper(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Printed paper: stripes, lozenges or rosettes, a shade off the ground colour."""
    x, y = _coordinates(size)
    repeats = int(rng.integers(2, 5))
    u, v = 2 * np.pi * repeats * x, 2 * np.pi * repeats * y
    kind = rng.choice(["stripes", "lozenges", "rosettes"])
    if kind == "stripes":
        field = np.sin(2 * u) + 0.4 * np.sin(6 * u) + 0.0 * v
    elif kind == "lozenges":
        field = 2.4 * (np.cos(u) * np.cos(v)) - 0.5
    else:
        field = 1.6 * np.cos(u) + 1.6 * np.cos(v) + np.cos(2 * u) * np.cos(2 * v) - 0.8
    share = 1.0 / (1.0 + np.exp(-9.0 * field))
    shift = rng.choice([-0.16, -0.1, 0.1])
    base = np.asarray(colour, dtype=np.float32)
    ground = np.broadcast_to(base, (size, size, 3))
    return _blend(ground, np.clip(base + shift, 0.05, 0.95), share) * (
        1.0 + 0.02 * noise(rng, size, exponent=1.0)[..., None]
    ).astype(np.float32)


def _tiles(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Square tiles with grout; plain, chequered or with an encaustic motif."""
    count = int(rng.choice([2, 4, 4]))
    x, y = _coordinates(size)
    u, v = (count * axis % 1.0 for axis in (x, y))
    row, column = (count * y).astype(int), (count * x).astype(int)
    tone = rng.uniform(0.9, 1.08, (count, count))[row, column]
    glaze = 1.0 + 0.035 * noise(rng, size, exponent=1.4)
    image = _shaded(colour, tone * glaze)
    second = np.asarray(PALETTE[str(rng.choice(["white", "cream", "charcoal", "navy", "terracotta", "sage"]))])
    style = rng.choice(["plain", "chequered", "motif"])
    radius = np.hypot(u - 0.5, v - 0.5)
    if style == "chequered" and count % 2 == 0:
        share = np.broadcast_to((row + column) % 2 * 0.85, (size, size))
    elif style == "motif":
        petals = 0.30 + 0.10 * np.cos(4 * np.arctan2(v - 0.5, u - 0.5))
        corner = np.hypot(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.2
        share = 0.8 * ((radius < petals) ^ (radius < 0.14)) + 0.8 * corner
    else:
        share = np.zeros((size, size))
    image = _blend(image, second * (tone * glaze)[..., None], np.clip(share, 0.0, 0.9))
    edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) / count
    grout = np.clip((edge - 0.006) * 300.0, 0.0, 1.0)
    return _blend(np.full((size, size, 3), 0.5 + 0.15 * rng.random(), dtype=np.float32), image, grout)


def _brick(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Running bond: eight courses of four bricks."""
    courses, bricks = 8, 4
    x, y = _coordinates(size)
    row = (courses * y).astype(int)
    shifted = (bricks * x + 0.5 * (row % 2)) % bricks
    tone = rng.uniform(0.72, 1.15, (courses, bricks))[row, shifted.astype(int)]
    u, v = shifted % 1.0, courses * y % 1.0
    edge = np.minimum(np.minimum(u, 1 - u) / bricks, np.minimum(v, 1 - v) / courses)
    ragged = edge + 0.002 * noise(rng, size, exponent=0.8)
    mortar = np.clip((ragged - 0.008) * 180.0, 0.0, 1.0)
    clay = _shaded(colour, tone * (1.0 + 0.09 * noise(rng, size, exponent=0.8)))
    joint = _shaded((0.66, 0.63, 0.58), 1.0 + 0.06 * noise(rng, size, exponent=0.6))
    return _blend(joint, clay, mortar)


def _marble(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    clouds, fine = noise(rng, size, exponent=1.7), noise(rng, size, exponent=1.4)
    veins = np.exp(-14.0 * np.abs(clouds + 0.25 * fine)) + 0.5 * np.exp(-22.0 * np.abs(fine))
    vein = np.asarray(PALETTE[str(rng.choice(["charcoal", "brown", "gold", "grey"]))], dtype=np.float32)
    return _blend(_shaded(colour, 1.0 + 0.04 * clouds), vein, np.clip(0.6 * veins, 0.0, 0.8))


def _stone(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    grains = 0.08 * noise(rng, size, exponent=0.4) + 0.06 * noise(rng, size, exponent=1.2)
    return _shaded(colour, 1.0 + grains)


def _flagstones(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Irregular paving: rounded Voronoi stones in sand."""
    count = int(rng.choice([16, 36, 64]))
    index, border = _cells(rng, size, count)
    tone = rng.uniform(0.74, 1.14, count + 64)[index]
    tint = rng.normal(0.0, 0.02, (count + 64, 3))[index].astype(np.float32)
    rough = border * np.sqrt(count) + 0.02 * noise(rng, size, exponent=1.0)
    stone = _shaded(colour, tone * (1.0 + 0.07 * noise(rng, size, exponent=0.8))) + tint
    joint = _shaded((0.42, 0.39, 0.33), 1.0 + 0.12 * noise(rng, size, exponent=0.4))
    return _blend(
        joint, stone * (0.8 + 0.2 * np.clip(rough * 3.0, 0.0, 1.0))[..., None], np.clip((rough - 0.08) * 16, 0.0, 1.0)
    )


def _concrete(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    clouds = noise(rng, size, exponent=1.6)
    pits = noise(rng, size, exponent=0.5) > 2.4
    return _shaded(colour, 1.0 + 0.07 * clouds + 0.03 * noise(rng, size, exponent=0.2) - 0.25 * pits)


def _grass(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    blades = noise(rng, size, exponent=0.5, stretch=(1.0, 5.0)) + noise(rng, size, exponent=0.5, stretch=(5.0, 1.0))
    patches = noise(rng, size, exponent=1.6)
    image = _shaded(colour, 1.0 + 0.16 * blades + 0.12 * patches)
    image[..., 0] += 0.05 * patches
    return image


def _gravel(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    index, border = _cells(rng, size, 400)
    tone = rng.uniform(0.7, 1.2, 1024)[index % 1024]
    return _shaded(colour, tone * (0.65 + 0.35 * np.clip(border * 50.0, 0.0, 1.0)))


def _foliage(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Overlapping leaves seen from afar."""
    index, border = _cells(rng, size, 400)
    tone = rng.uniform(0.4, 1.15, 1024)[index % 1024]
    edge = np.clip(border * 60.0, 0.0, 1.0) ** 0.7
    image = _shaded(colour, tone * (0.35 + 0.65 * edge) * (1.0 + 0.2 * noise(rng, size, exponent=0.6)))
    image[..., 0] *= 0.9 + 0.2 * rng.random(1024)[index % 1024].astype(np.float32)
    return image


def _leaf(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """A single leaf's skin: midrib-to-edge veins and mottling."""
    x, y = _coordinates(size)
    veins = np.abs(np.sin(2 * np.pi * (8 * y + 2 * np.abs(x - 0.5))))
    return _shaded(colour, 0.9 + 0.12 * veins + 0.1 * noise(rng, size, exponent=1.5))


def _metal(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    brushed = 0.05 * noise(rng, size, exponent=0.4, stretch=(30.0, 1.0))
    return _shaded(colour, 1.0 + brushed + 0.04 * noise(rng, size, exponent=1.6))


def _rusted(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    rust = np.clip(noise(rng, size, exponent=1.2) - 0.4, 0.0, 1.0)
    bloom = np.asarray((0.45, 0.25, 0.14), dtype=np.float32) * (1.0 + 0.2 * noise(rng, size, exponent=0.5))[..., None]
    return _blend(_metal(rng, size, colour), bloom, 0.8 * rust)


def _ceramic(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    """Glazed clay: plain, banded or with brush-dabbed glaze."""
    _, y = _coordinates(size)
    glaze = 1.0 + 0.05 * noise(rng, size, exponent=1.5)
    image = _shaded(colour, glaze)
    style = rng.choice(["plain", "bands", "dabs"])
    second = np.asarray(PALETTE[str(rng.choice(["white", "navy", "cream", "charcoal", "teal"]))], dtype=np.float32)
    if style == "bands":
        wave = np.sin(2 * np.pi * (int(rng.integers(2, 5)) * y + 0.02 * noise(rng, size, exponent=1.8)))
        return _blend(image, second, 0.8 * (wave > 0.45))
    if style == "dabs":
        return _blend(image, second, 0.7 * np.clip(3.0 * (noise(rng, size, exponent=1.4) - 0.7), 0.0, 1.0))
    return image


def _wicker(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    x, y = _coordinates(size)
    strands = 16
    over = ((strands * x).astype(int) + (strands * y).astype(int)) % 2 == 0
    across, down = np.sin(np.pi * (strands * x % 1.0)), np.sin(np.pi * (strands * y % 1.0))
    tone = np.where(over, 0.62 + 0.45 * down + 0 * x, 0.52 + 0.45 * across + 0 * y)
    return _shaded(colour, tone * (1.0 + 0.07 * noise(rng, size, exponent=0.8)))


def _bark(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    ridges = np.abs(noise(rng, size, exponent=1.1, stretch=(1.0, 6.0)))
    return _shaded(colour, 0.6 + 0.32 * np.clip(ridges, 0.0, 1.6) + 0.06 * noise(rng, size, exponent=0.3))


def _water(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    ripples = np.abs(noise(rng, size, exponent=1.8))
    return _shaded(colour, 0.85 + 0.5 * np.exp(-9.0 * ripples) + 0.06 * noise(rng, size, exponent=1.4))


def _glass(rng: np.random.Generator, size: int, colour: Rgb) -> Float32:
    return _shaded(colour, 1.0 + 0.06 * noise(rng, size, exponent=2.0))


_STONES = ("grey", "beige", "cream", "charcoal", "sage")
WALL_COLOURS = (
    *("white", "white", "cream", "cream", "ivory", "chalk", "sand", "beige", "pale sage", "pale blue", "pale grey"),
    *("blush", "sage", "sky blue", "terracotta", "teal", "ochre"),
)

RECIPES: dict[str, Recipe] = {
    "wood": Recipe(_wood, WOOD_COLOURS, (0.9, 0.45), 0.12, 0.5),
    "planks": Recipe(_planks, ("oak", "walnut", "pine", "brown", "beige", "grey"), (1.6, 1.0), 0.12, 0.45, 512),
    "parquet": Recipe(_herringbone, ("oak", "walnut", "pine", "brown"), (1.2, 1.2), 0.15, 0.4, 512),
    "fabric": Recipe(_fabric, FABRIC_COLOURS, (0.6, 0.6), 0.0, 1.0),
    "velvet": Recipe(_velvet, FABRIC_COLOURS, (0.6, 0.6), 0.05, 0.8),
    "leather": Recipe(_leather, ("brown", "black", "burgundy", "beige", "olive", "terracotta"), (0.3, 0.3), 0.2, 0.45),
    "carpet": Recipe(_carpet, ("grey", "beige", "navy", "sage", "burgundy", "charcoal"), (0.8, 0.8), 0.0, 1.0, 512),
    "painted": Recipe(_painted, ("white", "cream", *FABRIC_COLOURS), (0.7, 0.7), 0.12, 0.5),
    "plaster": Recipe(_plaster, WALL_COLOURS, (1.6, 1.6), 0.0, 1.0, 512),
    "wallpaper": Recipe(_wallpaper, WALL_COLOURS, (0.8, 0.8), 0.02, 0.9),
    "tiles": Recipe(_tiles, ("white", "cream", "terracotta", "sky blue", "sage", "grey"), (1.2, 1.2), 0.25, 0.3, 512),
    "brick": Recipe(_brick, ("terracotta", "brown", "sand", "beige", "chalk"), (0.96, 0.6), 0.0, 1.0, 512),
    "marble": Recipe(_marble, ("white", "cream", "grey", "black", "sage"), (0.9, 0.9), 0.3, 0.25),
    "stone": Recipe(_stone, _STONES, (0.7, 0.7), 0.05, 0.9),
    "flagstones": Recipe(_flagstones, ("grey", "beige", "terracotta", "sage"), (2.4, 2.4), 0.05, 0.9, 512),
    "concrete": Recipe(_concrete, ("grey", "beige", "charcoal"), (1.5, 1.5), 0.04, 0.9, 512),
    "grass": Recipe(_grass, ("green", "olive"), (1.2, 1.2), 0.0, 1.0, 512),
    "gravel": Recipe(_gravel, ("beige", "grey", "cream"), (0.9, 0.9), 0.0, 1.0),
    "foliage": Recipe(_foliage, ("green", "green", "olive"), (0.8, 0.8), 0.0, 1.0),
    "leaf": Recipe(_leaf, ("green", "green", "olive", "sage"), (0.25, 0.25), 0.08, 0.6),
    "metal": Recipe(_metal, METAL_COLOURS, (0.5, 0.5), 0.45, 0.3),
    "rusted metal": Recipe(_rusted, ("charcoal", "grey"), (0.6, 0.6), 0.15, 0.7),
    "ceramic": Recipe(
        _ceramic, ("white", "cream", "terracotta", "teal", "blue", "mustard", "pink"), (0.5, 0.4), 0.3, 0.2
    ),
    "wicker": Recipe(_wicker, ("beige", "pine", "brown"), (0.3, 0.3), 0.05, 0.8),
    "bark": Recipe(_bark, ("brown", "grey"), (0.5, 0.5), 0.0, 1.0),
    "water": Recipe(_water, ("turquoise", "sky blue", "teal"), (0.8, 0.8), 0.5, 0.15),
    "glass": Recipe(_glass, ("sky blue", "turquoise", "sage", "silver"), (0.8, 0.8), 0.6, 0.1),
}
"""Every kind of material by the name that prompts and furniture use."""

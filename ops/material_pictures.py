"""Pictures drawn from a seed: the view outside, paintings, a television's screen."""

from __future__ import annotations

import numpy as np

from .materials import FABRIC_COLOURS, PALETTE, noise
from .scene_model import Float32, UInt8


def outdoor_panorama(
    rng: np.random.Generator, *, zenith: np.ndarray, horizon: np.ndarray, ground: np.ndarray, night: bool
) -> UInt8:
    """(512, 1024, 3) uint8 equirectangular view that closes in u: sky with clouds or stars, hills, trees, meadow.

    Row 0 looks straight up; the horizon is the middle row. The colours are (3,) sRGB 0..1.
    """
    size, rows, horizon_row = 1024, 512, 256
    elevation = (1.0 - (np.arange(rows)[:, None] + 0.5) / horizon_row).astype(np.float32)  # 1 up, 0 level, -1 down
    image = np.empty((rows, size, 3), dtype=np.float32)
    image[:horizon_row] = _sky(rng, elevation[:horizon_row], zenith, horizon, night=night)
    grain = np.tile(noise(rng, 512, exponent=0.7), (1, 2))
    # The hills rise a quarter of the way to the zenith at most; only those rows are painted.
    band = slice(horizon_row - 64, horizon_row)
    for depth, (height, haze) in enumerate([(0.10, 0.55), (0.065, 0.3), (0.05, 0.0)]):
        ridge = np.clip(height * (0.6 + 0.35 * _ridge(rng, size, rough=1.4 - 0.35 * depth)), 0.0, 0.24)
        colour = ground * (0.75 - 0.12 * depth) * (1.0 - haze) + horizon * haze
        leaves = 1.0 + (0.05 + 0.06 * depth) * np.roll(grain[band], 300 * depth, axis=1)
        share = np.clip((ridge - elevation[band]) * rows / 4.0 + 0.5, 0.0, 1.0)
        image[band] = _paint(image[band], colour.astype(np.float32) * leaves[..., None], share)
    below = elevation[horizon_row:]
    meadow = 0.85 + 0.25 * np.clip(-6.0 * below, 0.0, 1.0) + 0.09 * grain[horizon_row:]
    image[horizon_row:] = ground.astype(np.float32) * meadow[..., None]
    return (np.clip(image, 0.01, 0.985) * 255.0 + 0.5).astype(np.uint8)


def _sky(
    rng: np.random.Generator, elevation: Float32, zenith: np.ndarray, horizon: np.ndarray, *, night: bool
) -> Float32:
    """(R, 1024, 3) sky over (R, 1) elevations: a gradient with clouds, and stars by night."""
    rows, size = len(elevation), 1024
    share = np.broadcast_to(elevation**0.55, (rows, size))
    image = _mix(horizon.astype(np.float32), zenith.astype(np.float32), share)
    if night:
        stars = (rng.random((rows, size)) > 0.9988) * rng.random((rows, size)) * (elevation > 0.08)
        image = image + stars[..., None].astype(np.float32)
    cover = 0.25 if night else float(rng.uniform(0.35, 0.8))
    clouds = np.repeat(noise(rng, 512, exponent=1.55, stretch=(1.0, 2.6))[:rows], 2, axis=1)
    clouds = 0.5 * (clouds + np.roll(clouds, 1, axis=1))
    share = cover * np.clip(1.3 * clouds + 0.1, 0.0, 1.0) * np.clip(elevation * 5.0, 0.0, 1.0)
    return _paint(image, np.clip(horizon * 1.08 + 0.03, 0.0, 0.97).astype(np.float32), share)


def painting(rng: np.random.Generator) -> UInt8:
    """(192, 192, 3) uint8 picture: a landscape, colour fields or an abstract of discs and bars."""
    size = 192
    names = rng.choice(FABRIC_COLOURS, 5, replace=False)
    colours = [np.asarray(PALETTE[str(name)], dtype=np.float32) for name in names]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    image = np.broadcast_to(np.asarray(PALETTE["cream"], dtype=np.float32), (size, size, 3)).copy()
    style = rng.choice(["landscape", "fields", "shapes"])
    if style == "landscape":
        image = _mix(np.clip(colours[0] + 0.25, 0, 1), colours[1], y)
        disc = np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.15, 0.4)) < rng.uniform(0.06, 0.12)
        image[disc] = np.asarray(PALETTE["cream"])
        for layer in range(3):
            ridge = 0.45 + 0.16 * layer - 0.06 * _ridge(rng, size, rough=1.5)
            image = np.where((y > ridge)[..., None], colours[2 + layer] * (0.75 + 0.1 * layer), image)
    elif style == "fields":
        level = 0.06
        while level < 0.9:
            thick = rng.uniform(0.12, 0.4)
            band = (y > level) & (y < min(level + thick, 0.94)) & (x > 0.07) & (x < 0.93)
            image[band] = colours[int(rng.integers(5))]
            level += thick + 0.02
    else:
        for _ in range(int(rng.integers(5, 10))):
            colour = colours[int(rng.integers(5))]
            cx, cy, reach = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), rng.uniform(0.06, 0.24)
            if rng.random() < 0.5:
                image[np.hypot(x - cx, y - cy) < reach] = colour
            else:
                turn = rng.uniform(0, np.pi)
                across = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
                along = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
                image[(np.abs(across) < 0.04) & (np.abs(along) < 2 * reach)] = colour
    strokes = noise(rng, size, exponent=0.8, stretch=(3.0, 1.0))
    return (np.clip(image * (1.0 + 0.05 * strokes[..., None]), 0.03, 0.97) * 255.0 + 0.5).astype(np.uint8)


def screen_picture(rng: np.random.Generator) -> UInt8:
    """(144, 256, 3) uint8 picture for a television: a `painting`, a fifth darker, stretched to 16:9."""
    rows, columns = 144, 256
    picture = painting(rng)
    across = np.linspace(0, picture.shape[1] - 1, columns).astype(int)
    down = np.linspace(0, picture.shape[0] - 1, rows).astype(int)
    return (picture[down][:, across] * 0.8).astype(np.uint8)


def rug_picture(rng: np.random.Generator, ground: Float32 | None = None) -> UInt8:
    """(256, 384, 3) uint8 carpet with borders and a repeated motif, on a (3,) `ground` sRGB 0..1 if given."""
    rows, columns = 256, 384
    names = rng.choice(FABRIC_COLOURS, 4, replace=False)
    drawn, border, line, motif = (np.asarray(PALETTE[str(name)], dtype=np.float32) for name in names)
    ground = drawn if ground is None else ground
    # Dyes of one rug are near to one another: the others lean towards the ground colour and cream.
    wool = 0.55 * ground + 0.45 * np.asarray(PALETTE["cream"], dtype=np.float32)
    border, line, motif = (0.5 * colour + 0.5 * wool for colour in (border, line, motif))
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    edge = np.minimum(np.minimum(x, columns - 1 - x), np.minimum(y, rows - 1 - y))
    image = np.broadcast_to(ground, (rows, columns, 3)).copy()
    period = float(rng.choice([21.0, 32.0, 48.0]))
    u, v = (x - columns / 2) / period * np.pi, (y - rows / 2) / period * np.pi
    field = np.cos(u) * np.cos(v) if rng.random() < 0.5 else np.cos(u + v) + np.cos(u - v) - 0.4
    image[np.abs(field) > 0.72] = motif
    image[(np.abs(field) > 0.3) & (np.abs(field) < 0.42)] = line
    image[edge < 30] = border
    image[(edge < 30) & (np.cos(x / 7.0) * np.cos(y / 7.0) > 0.35)] = line
    for inner in (8, 30):
        image[np.abs(edge - inner) < 2.5] = motif
    pile = 1.0 + 0.06 * noise(rng, 512, exponent=0.4)[:rows, :columns]
    return (np.clip(image * pile[..., None], 0.03, 0.95) * 255.0 + 0.5).astype(np.uint8)


def _ridge(rng: np.random.Generator, size: int, *, rough: float) -> Float32:
    """(size,) periodic line of zero mean and unit deviation."""
    frequency = np.maximum(np.fft.rfftfreq(size) * size, 1.0)
    spectrum = (rng.normal(size=len(frequency)) + 1j * rng.normal(size=len(frequency))) * frequency**-rough
    spectrum[:2] = 0.0
    line = np.fft.irfft(spectrum, size)
    return (line / max(float(line.std()), 1e-9)).astype(np.float32)


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> Float32:
    return (first + (np.asarray(second) - first) * share[..., None]).astype(np.float32)


def _paint(image: np.ndarray, colour: np.ndarray, share: np.ndarray) -> Float32:
    return (image + (colour - image) * share[..., None]).astype(np.float32)

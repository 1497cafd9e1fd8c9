"""A small picture of camera paths from above, for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_GROUND = (24, 24, 27)
_OVERSAMPLING = 4
_MARGIN = 0.12
_SMALLEST_EXTENT = 1e-3

Colour = tuple[int, int, int]


def top_view(
    paths: Sequence[tuple[NDArray[np.floating], Colour]], *, height: int, width: int
) -> tuple[NDArray[np.uint8], float]:
    """Camera centres seen from above: x to the right, z upwards, one scale for both.

    Later paths are drawn thinner over earlier ones, so that both are seen where they agree. A square marks a path's
    first camera; lines from some of the cameras show where they look.

    Args:
        paths: (T, 4, 4) c2w of one world with OpenCV axes, each with its colour.
        height, width: of the picture, pixels.

    Returns:
        (height, width, 3) uint8 sRGB, and how many units its width shows.
    """
    centres = np.concatenate([c2w[:, [0, 2], 3] for c2w, _ in paths]).astype(np.float64)
    middle = (centres.min(axis=0) + centres.max(axis=0)) / 2
    extent = np.maximum(np.ptp(centres, axis=0), _SMALLEST_EXTENT)
    inner = np.array([width, height]) * (1 - 2 * _MARGIN)
    pixels_per_unit = float((inner / extent).min())
    size = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    picture = Image.new("RGB", size, _GROUND)
    pen = ImageDraw.Draw(picture)

    def place(points: NDArray[np.floating]) -> list[tuple[float, float]]:
        offset = (np.asarray(points, np.float64) - middle) * pixels_per_unit * [1, -1] + [width / 2, height / 2]
        return [(float(x), float(y)) for x, y in offset * _OVERSAMPLING]

    for order, (c2w, colour) in enumerate(paths):
        thick = round(_OVERSAMPLING * width / (40 if order == 0 else 120))
        points = c2w[:, [0, 2], 3]
        for index in np.unique(np.linspace(0, len(c2w) - 1, 5).round().astype(int)):
            ahead = points[index] + c2w[index][[0, 2], 2] * 0.08 * width / pixels_per_unit
            pen.line(place(np.stack([points[index], ahead])), fill=_dimmed(colour), width=2 * _OVERSAMPLING)
        pen.line(place(points), fill=colour, width=thick, joint="curve")
        x, y = place(points[:1])[0]
        pen.rectangle((x - thick, y - thick, x + thick, y + thick), fill=colour)
    shown = picture.resize((width, height), Image.Resampling.BOX)
    return np.asarray(shown), width / pixels_per_unit


def _dimmed(colour: Colour) -> Colour:
    red, green, blue = colour
    return 2 * red // 3, 2 * green // 3, 2 * blue // 3

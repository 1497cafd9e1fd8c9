"""What a piece of furniture is, and the choices that all families share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .materials import WOOD_COLOURS, MaterialBook, Rgb
from .meshes import Surface, bevelled_box, bounds, cylinder, lathe, merged, translated, tube, turned
from .scene_model import TriangleMesh

_TAKES_ANY_COLOUR = {"wood": "painted", "planks": "painted"}


@dataclass(frozen=True, slots=True)
class Finish:
    """What a prompt says of an object's looks: a named colour, a kind of material, a factor on its size."""

    colour: str | None = None
    kind: str | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Top:
    """A level area on which small things can stand, in the object frame: height y and (x, z) corners, metres."""

    height: float
    low: tuple[float, float]
    high: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Lamp:
    """A horizontal light of a piece: centre in the object frame, half its side (metres), linear RGB radiance, and
    whether it shines up."""

    centre: tuple[float, float, float]
    half_side: float
    radiance: Rgb
    up: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """One object before it is placed.

    Attributes:
        family: registry name, e.g. "floor_lamp".
        looks: words for the record, e.g. "red fabric".
        mesh: closed, in the object frame (y up, bounding box centred on the origin), front towards +z.
        tops: areas for small things.
        lamps: lights it carries.
    """

    family: str
    looks: str
    mesh: TriangleMesh
    tops: tuple[Top, ...] = ()
    lamps: tuple[Lamp, ...] = ()


class Maker:
    """Choices for one piece: its generator, the scene's materials and what the prompt asked for."""

    def __init__(self, family: str, rng: np.random.Generator, book: MaterialBook, finish: Finish) -> None:
        self.family = family
        self.rng = rng
        self.book = book
        self.finish = finish
        self.looks = ""

    def between(self, low: float, high: float) -> float:
        """A uniform draw."""
        return float(self.rng.uniform(low, high))

    def pick(self, *options: str) -> str:
        """One of the options."""
        return str(self.rng.choice(options))

    def main(self, *kinds: str) -> Surface:
        """The material that the prompt's words are about; `kinds` are those that suit, the likeliest first."""
        kind = self.finish.kind if self.finish.kind in kinds else self.pick(*kinds)
        colour = self.finish.colour
        if colour is not None and kind in _TAKES_ANY_COLOUR and colour not in WOOD_COLOURS:
            kind = _TAKES_ANY_COLOUR[kind]
        surface = self.book.surface(kind, colour)
        self.looks = self.book.materials[surface.material].name
        return surface

    def other(self, *kinds: str) -> Surface:
        """A material for the parts that the prompt does not speak of."""
        return self.book.surface(self.pick(*kinds))

    def piece(self, parts: Sequence[TriangleMesh], *, tops: Sequence[Top] = (), lamps: Sequence[Lamp] = ()) -> Piece:
        """The finished piece of parts built with the base at y = 0 and the front towards +z."""
        mesh = merged(parts)
        x, y, z = (float(value) for value in bounds(mesh).mean(axis=0))
        return Piece(
            self.family,
            self.looks,
            translated(mesh, (-x, -y, -z)),
            tuple(
                Top(top.height - y, (top.low[0] - x, top.low[1] - z), (top.high[0] - x, top.high[1] - z))
                for top in tops
            ),
            tuple(
                Lamp(
                    (lamp.centre[0] - x, lamp.centre[1] - y, lamp.centre[2] - z), lamp.half_side, lamp.radiance, lamp.up
                )
                for lamp in lamps
            ),
        )


def top_of(width: float, depth: float, height: float) -> Top:
    """The top of a box-like piece, 3 cm from its edges."""
    half_width, half_depth = width / 2 - 0.03, depth / 2 - 0.03
    return Top(height, (-half_width, -half_depth), (half_width, half_depth))


def four_legs(
    make: Maker, width: float, depth: float, height: float, surface: Surface, *, thickness: float = 0.05
) -> list[TriangleMesh]:
    """Legs under the corners of a (width, depth) rectangle, from the floor to `height`: square, turned or splayed."""
    style = make.pick("square", "turned", "splayed")
    x, z = width / 2 - thickness, depth / 2 - thickness
    legs = []
    for sign_x, sign_z in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        if style == "square":
            leg = bevelled_box((thickness, height, thickness), 0.006, surface, centre=(0, height / 2, 0))
        elif style == "turned":
            leg = turned_post(height, thickness / 2, surface)
        else:
            lean = 0.12 * height
            path = [(sign_x * lean, 0, sign_z * lean), (0, height, 0)]
            leg = tube(path, (0.3 * thickness, 0.6 * thickness), surface, segments=12)
            legs.append(translated(leg, (sign_x * (x - lean), 0, sign_z * (z - lean))))
            continue
        legs.append(translated(leg, (sign_x * x, 0, sign_z * z)))
    return legs


def turned_post(height: float, radius: float, surface: Surface) -> TriangleMesh:
    """A post from a wood turner's lathe: beads and a taper."""
    knots = [(0.5, 0.0), (0.6, 0.04), (0.45, 0.1), (0.8, 0.5), (1.0, 0.68), (0.6, 0.74), (1.0, 0.8), (1.0, 1.0)]
    return lathe([(radius * r, height * y) for r, y in knots], surface, segments=14)


def knob(radius: float, surface: Surface) -> TriangleMesh:
    """A round handle that sticks out towards +z from the origin."""
    return turned(cylinder(radius * 0.8, radius * 1.6, surface, top_radius=radius, segments=12), 90.0, axis="x")

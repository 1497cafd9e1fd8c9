"""Small and decorative things: what stands on tables and shelves, lamps, pictures on stands, sculpture."""

from __future__ import annotations

import numpy as np

from .furniture_piece import Lamp, Maker, Piece
from .material_pictures import painting, screen_picture
from .meshes import (
    Surface,
    TriangleMesh,
    bevelled_box,
    box,
    cylinder,
    lathe,
    leaf,
    lumpy_sphere,
    picture_box,
    sphere,
    swept,
    translated,
    tube,
    turned,
)

LAMP_RADIANCE = (9.0, 6.6, 4.0)
"""Linear RGB of a lamp's light at full strength; a scene's mood scales it."""
SHADE_EMISSION = (0.46, 0.33, 0.17)


def floor_lamp(make: Maker) -> Piece:
    """Standing lamp with a fabric shade."""
    height = make.between(1.45, 1.7)
    metal = make.main("metal", "wood", "painted")
    shade_height, low, high = make.between(0.26, 0.34), make.between(0.2, 0.26), make.between(0.12, 0.18)
    base = lathe([(0, 0), (0.14, 0), (0.15, 0.012), (0.05, 0.03), (0.014, 0.05), (0, 0.05)], metal, segments=36)
    parts = [base]
    bottom = height - shade_height
    if make.rng.random() < 0.6:
        parts.append(translated(cylinder(0.012, bottom, metal, segments=14), (0, 0.03, 0)))
    else:
        for third in range(3):
            leg = tube([(0.24, 0, 0), (0.02, bottom - 0.1, 0)], (0.012, 0.016), metal, segments=10)
            parts.append(turned(leg, 120.0 * third))
        parts.append(translated(cylinder(0.03, 0.2, metal, segments=16), (0, bottom - 0.15, 0)))
    return _lit(make, parts, bottom, shade_height, low, high)


def table_lamp(make: Maker) -> Piece:
    """Lamp on a ceramic, metal or wooden foot."""
    body = make.main("ceramic", "metal", "wood", "marble")
    height, radius = make.between(0.2, 0.3), make.between(0.07, 0.1)
    knots = [(0.55, 0), (0.6, 0.05), (1.0, 0.35), (0.75, 0.62), (0.2, 0.85), (0.12, 1.1)]
    if make.rng.random() < 0.4:
        knots = [(0.8, 0), (0.8, 0.06), (0.16, 0.12), (0.13, 0.6), (0.24, 0.7), (0.12, 0.8), (0.12, 1.1)]
    parts = [lathe([(radius * r, height * y) for r, y in knots], body, segments=28)]
    return _lit(make, parts, height, make.between(0.16, 0.2), make.between(0.13, 0.17), make.between(0.08, 0.11))


def _lit(make: Maker, parts: list[TriangleMesh], bottom: float, height: float, low: float, high: float) -> Piece:
    """The stand with a glowing shade on it, and the light that leaves the shade below and above."""
    shade = make.book.glow("lamp shade", (0.93, 0.84, 0.68), SHADE_EMISSION)
    profile = [(0, 0), (low, 0), (high, height), (0, height)]
    parts.append(translated(lathe(profile, shade, segments=40), (0, bottom, 0)))
    lamps = [
        Lamp((0.0, bottom - 0.012, 0.0), 0.6 * low, LAMP_RADIANCE, up=False),
        Lamp((0.0, bottom + height + 0.012, 0.0), 0.6 * high, LAMP_RADIANCE, up=True),
    ]
    return make.piece(parts, lamps=lamps)


def vase(make: Maker) -> Piece:
    """Turned vase, often with twigs or flowers."""
    glaze = make.main("ceramic", "glass", "metal")
    height, radius = make.between(0.2, 0.34), make.between(0.07, 0.11)
    shapes = (
        [(0.55, 0), (0.9, 0.2), (1.0, 0.45), (0.5, 0.78), (0.4, 0.88), (0.6, 1.0)],
        [(0.5, 0), (0.6, 0.1), (1.0, 0.65), (0.8, 0.88), (0.45, 0.95), (0.5, 1.0)],
        [(0.75, 0), (0.8, 0.05), (0.6, 0.5), (0.75, 0.9), (0.85, 1.0)],
    )
    outer = shapes[int(make.rng.integers(len(shapes)))]
    rim = outer[-1][0]
    profile = [(0, 0), *outer, (rim - 0.12, 0.99), (rim - 0.2, 0.9), (0, 0.9)]
    parts = [lathe([(radius * r, height * y) for r, y in profile], glaze, segments=36)]
    if make.rng.random() < 0.7:
        parts += _bouquet(make, height, radius * rim)
    return make.piece(parts)


def _bouquet(make: Maker, height: float, opening: float) -> list[TriangleMesh]:
    stem = make.other("leaf")
    petal = make.book.surface("painted", make.pick("red", "pink", "yellow", "lavender", "white", "orange"))
    parts = []
    for _ in range(int(make.rng.integers(4, 9))):
        turn, lean, tall = make.between(0, 2 * np.pi), make.between(0.1, 0.55), make.between(0.6, 1.0) * height
        tip = np.array([np.sin(turn) * lean * tall, height + tall, np.cos(turn) * lean * tall])
        start = np.array([np.sin(turn) * opening * 0.4, height * 0.85, np.cos(turn) * opening * 0.4])
        middle = (start + tip) / 2 + np.array([-0.02 * np.sin(turn), 0.03, -0.02 * np.cos(turn)])
        parts.append(tube([start, middle, tip], 0.004, stem, segments=6))
        parts.append(translated(lumpy_sphere(make.between(0.02, 0.038), make.rng, petal, segments=12), tip))
        side = middle + np.array([0.06 * np.cos(turn), 0.04, -0.06 * np.sin(turn)])
        parts.append(
            leaf([middle, (middle + side) / 2 + [0, 0.02, 0], (middle + 2 * side) / 3 + [0, 0.02, 0], side], 0.03, stem)
        )
    return parts


def fruit_bowl(make: Maker) -> Piece:
    """Open bowl heaped with fruit."""
    radius, height = make.between(0.14, 0.19), make.between(0.07, 0.1)
    outer = [(0, 0), (0.4, 0), (0.45, 0.08), (0.8, 0.45), (1.0, 1.0), (0.96, 1.0), (0.74, 0.5), (0.4, 0.16), (0, 0.12)]
    parts = [lathe([(radius * r, height * y) for r, y in outer], make.main("ceramic", "wood", "metal"), segments=40)]
    skins = [make.book.surface("painted", name) for name in ("red", "orange", "yellow", "green")]
    for layer, (count, ring) in enumerate([(6, 0.55), (3, 0.26), (1, 0.0)]):
        for index in range(count):
            size = make.between(0.034, 0.042)
            angle = 2 * np.pi * index / count + layer
            skin = skins[int(make.rng.integers(len(skins)))]
            fruit = lumpy_sphere(size, make.rng, skin, roughness=0.05, segments=14)
            x, z = ring * radius * np.sin(angle), ring * radius * np.cos(angle)
            parts.append(translated(fruit, (x, height * 0.62 + 0.045 * layer, z)))
    return make.piece(parts)


def books(make: Maker) -> Piece:
    """A pile of books, each turned a little."""
    parts, y = [], 0.0
    paper = make.book.surface("painted", "cream")
    cover = make.main("painted", "leather", "fabric")
    for index in range(int(make.rng.integers(3, 7))):
        thick, width, depth = make.between(0.02, 0.045), make.between(0.17, 0.23), make.between(0.23, 0.3)
        skin = cover if index == 0 else make.other("painted", "leather")
        turn = make.between(-14, 14)
        for sheet in (0.0015, thick - 0.0015):
            board = box((width, 0.003, depth), skin, centre=(0, y + sheet, 0))
            parts.append(turned(board, turn))
        block = box((width - 0.008, thick - 0.006, depth - 0.014), paper, centre=(0.004, y + thick / 2, 0))
        spine = box((0.004, thick - 0.006, depth), skin, centre=(-width / 2 + 0.002, y + thick / 2, 0))
        parts += [turned(block, turn), turned(spine, turn)]
        y += thick + 0.0005
    return make.piece(parts)


def teapot(make: Maker) -> Piece:
    """Teapot with its lid, spout and handle."""
    glaze = make.main("ceramic", "metal")
    radius = make.between(0.075, 0.1)
    knots = [
        (0, 0),
        (0.6, 0),
        (0.95, 0.35),
        (1.0, 0.75),
        (0.7, 1.25),
        (0.42, 1.4),
        (0.4, 1.44),
        (0.2, 1.52),
        (0.12, 1.56),
    ]
    knots += [(0.16, 1.64), (0.1, 1.74), (0, 1.75)]
    parts = [lathe([(radius * r, radius * y) for r, y in knots], glaze, segments=32)]
    spout = [(0.8, 0.5, 0), (1.25, 0.7, 0), (1.45, 1.1, 0), (1.7, 1.3, 0)]
    parts.append(tube(np.array(spout) * radius, np.array([0.24, 0.18, 0.13, 0.11]) * radius, glaze, segments=14))
    arc = [(-0.85, 1.1, 0), (-1.3, 1.25, 0), (-1.6, 0.95, 0), (-1.45, 0.55, 0), (-0.9, 0.4, 0)]
    parts.append(tube(np.array(arc) * radius, 0.09 * radius, glaze, segments=12))
    return make.piece(parts)


def bottles(make: Maker) -> Piece:
    """A few bottles and jars together on a tray."""
    parts = [bevelled_box((0.36, 0.018, 0.22), 0.006, make.other("wood", "metal"), centre=(0, 0.009, 0))]
    first = make.main("glass", "ceramic")
    for index in range(int(make.rng.integers(3, 5))):
        skin = (
            first
            if index == 0
            else make.book.surface(make.pick("glass", "ceramic"), make.pick("green", "brown", "sky blue", "cream"))
        )
        tall, radius = make.between(0.14, 0.28), make.between(0.028, 0.042)
        knots = [(0, 0), (1, 0), (1, 0.6), (0.4, 0.78), (0.36, 0.96), (0.44, 1.0), (0, 1.0)]
        bottle = lathe([(radius * r, tall * y) for r, y in knots], skin, segments=24)
        parts.append(translated(bottle, (-0.12 + 0.085 * index, 0.018, 0.05 * (-1) ** index)))
    return make.piece(parts)


def candles(make: Maker) -> Piece:
    """Candlesticks of several heights with lit candles."""
    metal, wax = make.main("metal", "wood", "ceramic"), make.book.surface("painted", "cream")
    flame = make.book.glow("candle flame", (1.0, 0.8, 0.45), (3.0, 1.9, 0.7))
    parts = []
    for index in range(3):
        tall, x = make.between(0.1, 0.24), 0.1 * (index - 1)
        knots = [(0.045, 0), (0.045, 0.008), (0.012, 0.02), (0.009, tall * 0.8), (0.024, tall), (0, tall)]
        stick = lathe([(0, 0), *knots], metal, segments=22)
        candle = translated(cylinder(0.011, 0.12, wax, segments=14), (0, tall, 0))
        light = lathe([(0, 0), (0.007, 0.01), (0.005, 0.02), (0, 0.036)], flame, segments=10)
        z = 0.04 * (-1) ** index
        parts += [translated(part, (x, 0, z)) for part in (stick, candle, translated(light, (0, tall + 0.12, 0)))]
    return make.piece(parts)


def clock(make: Maker) -> Piece:
    """Mantel clock in a wooden case."""
    wood, brass = make.main("wood", "marble", "painted"), make.book.surface("metal", "gold")
    face = make.book.surface("painted", "white")
    width, height, depth = make.between(0.2, 0.26), make.between(0.26, 0.34), 0.12
    parts = [bevelled_box((width + 0.05, 0.03, depth + 0.04), 0.008, wood, centre=(0, 0.015, 0))]
    parts.append(bevelled_box((width, height, depth), 0.02, wood, centre=(0, 0.03 + height / 2, 0), steps=3))
    y, z = 0.03 + height * 0.6, depth / 2
    for radius, thick, skin in ((width * 0.42, 0.014, brass), (width * 0.37, 0.018, face)):
        parts.append(translated(turned(cylinder(radius, thick, skin, segments=36), 90, axis="x"), (0, y, z)))
    dark = make.book.surface("painted", "black")
    for length, angle in ((0.26, make.between(0, 360)), (0.18, make.between(0, 360))):
        hand = box((0.008, length * width, 0.004), dark, centre=(0, length * width / 2, 0))
        parts.append(translated(turned(hand, angle, axis="z"), (0, y, z + 0.02)))
    return make.piece(parts)


def television(make: Maker) -> Piece:
    """Flat television on its foot, showing a picture."""
    width = make.between(0.8, 1.15)
    height = width * 0.57
    black = make.book.surface("painted", "black")
    make.looks = "black"
    screen = make.book.picture("television picture", screen_picture(make.rng))
    parts = [
        box((width * 0.4, 0.015, 0.22), black, centre=(0, 0.0075, 0)),
        box((0.08, 0.08, 0.04), black, centre=(0, 0.05, 0)),
    ]
    parts.append(bevelled_box((width, height, 0.04), 0.006, black, centre=(0, 0.08 + height / 2, 0)))
    parts.append(picture_box((width - 0.03, height - 0.03, 0.006), black, screen, centre=(0, 0.08 + height / 2, 0.021)))
    return make.piece(parts)


def easel(make: Maker) -> Piece:
    """Painter's easel with a canvas."""
    wood = make.main("wood")
    canvas = make.book.picture("painting", painting(make.rng))
    white = make.book.surface("painted", "cream")
    parts = []
    for side in (-1, 1):
        parts.append(tube([(side * 0.32, 0, 0.28), (side * 0.05, 1.72, -0.06)], 0.018, wood, segments=10))
    parts.append(tube([(0, 0, -0.5), (0, 1.6, -0.06)], 0.016, wood, segments=10))
    parts.append(bevelled_box((0.72, 0.03, 0.07), 0.005, wood, centre=(0, 0.72, 0.19)))
    width, height = make.between(0.55, 0.75), make.between(0.6, 0.8)
    board = picture_box((width, height, 0.025), white, canvas)
    parts.append(translated(turned(board, -11, axis="x"), (0, 0.74 + height / 2, 0.13)))
    return make.piece(parts)


def sculpture(make: Maker) -> Piece:
    """Abstract sculpture on a plinth: a knot, a stack of stones, a twisted column or a bust of spheres."""
    plinth, side = make.between(0.6, 1.0), make.between(0.34, 0.46)
    stone = make.main("marble", "stone", "metal", "wood", "ceramic")
    base = make.book.surface("painted", make.pick("white", "charcoal", "cream"))
    parts = [bevelled_box((side, plinth, side), 0.008, base, centre=(0, plinth / 2, 0))]
    style = make.pick("knot", "stones", "twist", "figure")
    if style == "knot":
        parts.append(translated(_torus_knot(stone, 0.2, 0.045), (0, plinth + 0.27, 0)))
    elif style == "stones":
        y, radius = plinth, side * 0.42
        while radius > 0.05:
            rock = lumpy_sphere(radius, make.rng, stone, roughness=0.1, segments=20)
            parts.append(translated(rock, (make.between(-0.03, 0.03), y + radius * 0.85, make.between(-0.03, 0.03))))
            y, radius = y + radius * 1.55, radius * 0.74
    elif style == "twist":
        parts.append(translated(_twisted_column(stone, side * 0.3, make.between(0.55, 0.8)), (0, plinth, 0)))
    else:
        knots = [(0, 0), (0.15, 0), (0.17, 0.1), (0.13, 0.28), (0.06, 0.34), (0.06, 0.4), (0, 0.4)]
        parts.append(translated(lathe(knots, stone, segments=32), (0, plinth, 0)))
        parts.append(translated(lumpy_sphere(0.12, make.rng, stone, roughness=0.06, segments=24), (0, plinth + 0.5, 0)))
    return make.piece(parts)


def _torus_knot(surface: Surface, radius: float, thickness: float) -> TriangleMesh:
    """Trefoil opened by a hair where it meets itself, so that it is a bar with two flat ends."""
    t = np.linspace(0.0, 2 * np.pi * 0.998, 120)
    reach = radius * (1.0 + 0.45 * np.cos(3 * t)) / 1.45
    path = np.column_stack([reach * np.cos(2 * t), 0.55 * radius * np.sin(3 * t), reach * np.sin(2 * t)])
    return turned(tube(path, thickness, surface, segments=14), 70, axis="x")


def _twisted_column(surface: Surface, radius: float, height: float) -> TriangleMesh:
    levels = np.linspace(0.0, 1.0, 40)
    angles = np.arange(24) * (2 * np.pi / 24)
    rings = []
    for level in levels:
        reach = radius * (1.0 + 0.25 * np.cos(4 * angles)) * (1.0 - 0.35 * level)
        turn = angles + 2.4 * level
        rings.append(np.column_stack([reach * np.sin(turn), np.full(24, height * level), reach * np.cos(turn)]))
    return swept(np.stack(rings), surface)


def globe(make: Maker) -> Piece:
    """Globe on a wooden stand."""
    wood, ball = make.other("wood"), make.main("painted", "ceramic")
    brass = make.book.surface("metal", "gold")
    radius = make.between(0.13, 0.17)
    parts = [lathe([(0, 0), (0.11, 0), (0.12, 0.015), (0.03, 0.04), (0.02, 0.1), (0, 0.1)], wood, segments=28)]
    y = 0.1 + radius + 0.02
    arc = np.linspace(-np.pi / 2, np.pi / 2, 14)
    ring = np.column_stack([(radius + 0.012) * np.cos(arc), y + (radius + 0.012) * np.sin(arc), np.zeros(14)])
    parts += [translated(sphere(radius, ball, segments=32), (0, y, 0)), tube(ring, 0.006, brass, segments=8)]
    return make.piece(parts)


def toolbox(make: Maker) -> Piece:
    """Metal toolbox with a carrying bar."""
    paint = make.main("painted", "rusted metal")
    steel = make.book.surface("metal", "silver")
    width, height, depth = make.between(0.4, 0.5), make.between(0.16, 0.2), make.between(0.18, 0.22)
    parts = [bevelled_box((width, height, depth), 0.008, paint, centre=(0, height / 2, 0))]
    for side in (-1, 1):
        lid = turned(box((width - 0.01, 0.012, depth * 0.6), paint), 24 * side, axis="x")
        parts.append(translated(lid, (0, height + 0.028, side * depth * 0.26)))
        parts.append(box((0.02, 0.12, 0.02), steel, centre=(side * width * 0.42, height + 0.05, 0)))
    bar = tube([(-width * 0.42, height + 0.11, 0), (width * 0.42, height + 0.11, 0)], 0.011, steel, segments=10)
    return make.piece([*parts, bar])

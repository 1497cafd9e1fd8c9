"""Tables and storage. Each function gives a closed piece with its base centred and its front towards +z."""

from __future__ import annotations

import numpy as np

from .furniture_piece import Maker, Piece, Top, four_legs, knob, top_of
from .meshes import (
    Surface,
    TriangleMesh,
    bevelled_box,
    box,
    cushion,
    cylinder,
    lathe,
    lumpy_sphere,
    translated,
    tube,
    turned,
)


def table(make: Maker) -> Piece:
    """Dining table: rectangular on four legs or round on a pedestal."""
    height = make.between(0.72, 0.76)
    if make.rng.random() < 0.35:
        return _pedestal_table(make, make.between(0.45, 0.6), height)
    return _four_legged(make, make.between(1.2, 1.7), make.between(0.75, 0.9), height, shelf=False)


def coffee_table(make: Maker) -> Piece:
    """Low table for in front of a sofa."""
    height = make.between(0.36, 0.44)
    style = make.pick("legs", "legs", "round", "drum")
    if style == "round":
        return _pedestal_table(make, make.between(0.38, 0.5), height)
    if style == "drum":
        radius = make.between(0.32, 0.42)
        body = cylinder(radius, height, make.main("wood", "marble", "wicker", "metal"), segments=48, uv_layout="box")
        return make.piece([body], tops=[_round_top(radius, height)])
    return _four_legged(make, make.between(0.9, 1.2), make.between(0.5, 0.65), height, shelf=make.rng.random() < 0.5)


def side_table(make: Maker) -> Piece:
    """Small round table, for a lamp or a cup."""
    return _pedestal_table(make, make.between(0.22, 0.28), make.between(0.5, 0.62))


def _four_legged(make: Maker, width: float, depth: float, height: float, *, shelf: bool) -> Piece:
    board = make.main("wood", "wood", "painted", "marble")
    wood = board if make.rng.random() < 0.6 else make.other("wood", "painted", "metal")
    thick = make.between(0.028, 0.045)
    parts = four_legs(make, width - 0.08, depth - 0.08, height - thick, wood, thickness=make.between(0.05, 0.075))
    parts.append(bevelled_box((width, thick, depth), 0.01, board, centre=(0, height - thick / 2, 0), steps=2))
    rail, level = 0.07, height - thick - 0.035
    for side in (-1, 1):
        parts.append(box((width - 0.24, rail, 0.02), wood, centre=(0, level, side * (depth / 2 - 0.09))))
        parts.append(box((0.02, rail, depth - 0.24), wood, centre=(side * (width / 2 - 0.09), level, 0)))
    if shelf:
        parts.append(bevelled_box((width - 0.18, 0.02, depth - 0.18), 0.005, wood, centre=(0, height * 0.35, 0)))
    return make.piece(parts, tops=[top_of(width, depth, height)])


def _pedestal_table(make: Maker, radius: float, height: float) -> Piece:
    board = make.main("wood", "wood", "marble", "painted")
    stem = make.other("wood", "metal") if make.looks.endswith("marble") else board
    thick = 0.03
    foot = radius * 0.6
    profile = [(0, 0), (foot, 0), (foot, 0.02), (0.1, 0.05), (0.045, 0.14), (0.035, height * 0.5)]
    profile += [(0.055, height * 0.62), (0.04, height * 0.75), (0.09, height - thick), (0, height - thick)]
    parts = [
        lathe(profile, stem, segments=28),
        translated(cylinder(radius, thick, board, segments=56, uv_layout="box"), (0, height - thick, 0)),
    ]
    return make.piece(parts, tops=[_round_top(radius, height)])


def _round_top(radius: float, height: float) -> Top:
    half = radius * 0.62
    return Top(height, (-half, -half), (half, half))


def desk(make: Maker) -> Piece:
    """Writing desk with a drawer block on one side."""
    width, depth, height = make.between(1.1, 1.5), make.between(0.55, 0.7), make.between(0.73, 0.77)
    wood, metal = make.main("wood", "wood", "painted"), make.other("metal")
    parts = [bevelled_box((width, 0.035, depth), 0.008, wood, centre=(0, height - 0.0175, 0), steps=2)]
    side = 1 if make.rng.random() < 0.5 else -1
    block = 0.38
    parts += _drawers(
        (block, height - 0.1, depth - 0.06), 3, wood, metal, (side * (width / 2 - block / 2 - 0.02), 0.065, 0)
    )
    for z in (-1, 1):
        leg = bevelled_box((0.05, height - 0.035, 0.05), 0.006, wood)
        parts.append(translated(leg, (-side * (width / 2 - 0.05), (height - 0.035) / 2, z * (depth / 2 - 0.05))))
    parts.append(box((width - 0.1, 0.3, 0.018), wood, centre=(0, height - 0.2, -depth / 2 + 0.05)))
    return make.piece(parts, tops=[top_of(width, depth, height)])


def workbench(make: Maker) -> Piece:
    """Heavy joiner's bench with a vice and a lower shelf."""
    width, depth, height = make.between(1.4, 1.8), make.between(0.6, 0.72), make.between(0.84, 0.92)
    wood, metal = make.main("wood"), make.other("rusted metal", "metal")
    parts = [bevelled_box((width, 0.09, depth), 0.01, wood, centre=(0, height - 0.045, 0))]
    for x in (-1, 1):
        for z in (-1, 1):
            leg = bevelled_box((0.1, height - 0.09, 0.1), 0.008, wood)
            parts.append(translated(leg, (x * (width / 2 - 0.12), (height - 0.09) / 2, z * (depth / 2 - 0.08))))
    parts.append(box((width - 0.2, 0.03, depth - 0.12), wood, centre=(0, 0.22, 0)))
    parts.append(bevelled_box((0.24, 0.14, 0.05), 0.01, wood, centre=(-width * 0.28, height - 0.09, depth / 2 + 0.07)))
    screw = turned(cylinder(0.018, 0.24, metal, segments=12), 90, axis="x")
    parts.append(translated(screw, (-width * 0.28, height - 0.1, depth / 2 - 0.02)))
    parts.append(
        tube(
            [
                (-width * 0.28 - 0.13, height - 0.1, depth / 2 + 0.2),
                (-width * 0.28 + 0.13, height - 0.1, depth / 2 + 0.2),
            ],
            0.009,
            metal,
        )
    )
    for index in range(int(make.rng.integers(2, 5))):
        size = make.rng.uniform((0.15, 0.1, 0.15), (0.3, 0.22, 0.32))
        crate = bevelled_box(size, 0.008, make.other("painted", "metal", "wood"))
        parts.append(translated(crate, (-width * 0.36 + index * 0.36, 0.235 + size[1] / 2, 0)))
    return make.piece(parts, tops=[top_of(width, depth, height)])


def cabinet(make: Maker) -> Piece:
    """Sideboard or chest of drawers."""
    width, depth, height = make.between(0.9, 1.5), make.between(0.4, 0.5), make.between(0.7, 0.95)
    wood, metal, foot = make.main("wood", "painted"), make.other("metal"), make.between(0.06, 0.16)
    parts = four_legs(make, width - 0.04, depth - 0.04, foot + 0.01, wood, thickness=0.05)
    if make.rng.random() < 0.5:
        parts += _drawers((width, height - foot - 0.03, depth), int(make.rng.integers(3, 5)), wood, metal, (0, foot, 0))
    else:
        parts += _doors((width, height - foot - 0.03, depth), 2 if width < 1.2 else 3, wood, metal, (0, foot, 0))
    parts.append(bevelled_box((width + 0.04, 0.03, depth + 0.03), 0.01, wood, centre=(0, height - 0.015, 0), steps=2))
    return make.piece(parts, tops=[top_of(width, depth, height)])


def nightstand(make: Maker) -> Piece:
    """Bedside table with drawers."""
    width, depth, height = make.between(0.42, 0.5), make.between(0.36, 0.42), make.between(0.5, 0.6)
    wood, metal, foot = make.main("wood", "painted"), make.other("metal"), make.between(0.08, 0.2)
    parts = four_legs(make, width - 0.03, depth - 0.03, foot + 0.01, wood, thickness=0.04)
    parts += _drawers((width, height - foot - 0.02, depth), int(make.rng.integers(1, 4)), wood, metal, (0, foot, 0))
    parts.append(bevelled_box((width + 0.02, 0.02, depth + 0.02), 0.006, wood, centre=(0, height - 0.01, 0)))
    return make.piece(parts, tops=[top_of(width, depth, height)])


def wardrobe(make: Maker) -> Piece:
    """Tall two- or three-door wardrobe with a cornice."""
    doors = int(make.rng.integers(2, 4))
    width, depth, height = 0.5 * doors + make.between(0.0, 0.15), make.between(0.55, 0.62), make.between(1.9, 2.15)
    wood, metal = make.main("wood", "wood", "painted"), make.other("metal")
    parts = [box((width - 0.04, 0.08, depth - 0.05), wood, centre=(0, 0.04, 0))]
    parts += _doors((width, height - 0.16, depth), doors, wood, metal, (0, 0.08, 0))
    parts.append(bevelled_box((width + 0.1, 0.08, depth + 0.08), 0.03, wood, centre=(0, height - 0.04, 0), steps=2))
    return make.piece(parts)


def kitchen_counter(make: Maker) -> Piece:
    """Run of base units under a stone or wooden worktop, with a sink and a tap or a hob."""
    width, depth, height = make.between(1.5, 2.2), 0.62, 0.9
    front, metal = make.main("painted", "wood"), make.other("metal")
    slab = make.other("marble", "wood", "stone")
    parts = [box((width - 0.04, 0.1, depth - 0.1), make.book.surface("painted", "charcoal"), centre=(0, 0.05, -0.04))]
    parts += _doors((width, height - 0.14, depth - 0.04), max(3, round(width / 0.5)), front, metal, (0, 0.1, 0))
    parts.append(bevelled_box((width + 0.03, 0.04, depth), 0.008, slab, centre=(0, height - 0.02, 0.01), steps=2))
    steel = make.book.surface("metal", "silver")
    x = width * 0.22
    if make.rng.random() < 0.6:
        rim = bevelled_box((0.56, 0.012, 0.42), 0.005, steel, centre=(x, height + 0.004, 0.03))
        basin = box((0.5, 0.004, 0.36), make.book.surface("metal", "charcoal"), centre=(x, height + 0.011, 0.03))
        arc = [(x, height, -0.2), (x, height + 0.24, -0.2), (x, height + 0.31, -0.14), (x, height + 0.27, -0.06)]
        parts += [rim, basin, tube(arc, 0.013, steel, segments=12)]
    else:
        black = make.book.surface("painted", "black")
        parts.append(bevelled_box((0.58, 0.014, 0.5), 0.005, black, centre=(x, height + 0.006, 0.02)))
        for ring_x, ring_z, radius in ((-0.14, -0.1, 0.08), (0.14, -0.1, 0.1), (-0.14, 0.12, 0.1), (0.14, 0.12, 0.08)):
            ring = cylinder(radius, 0.006, steel, segments=24)
            parts.append(translated(ring, (x + ring_x, height + 0.012, 0.02 + ring_z)))
    return make.piece(parts, tops=[Top(height, (-width / 2 + 0.05, -depth / 2 + 0.1), (-0.1, depth / 2 - 0.08))])


def refrigerator(make: Maker) -> Piece:
    """Two-door refrigerator with rounded edges."""
    width, depth, height = make.between(0.6, 0.72), make.between(0.62, 0.7), make.between(1.6, 1.85)
    body, metal = make.main("painted", "metal"), make.book.surface("metal", "silver")
    split = height * make.between(0.6, 0.7)
    parts = [box((width - 0.06, 0.06, depth - 0.1), make.book.surface("painted", "black"), centre=(0, 0.03, 0))]
    for low, high in ((0.05, split - 0.006), (split + 0.006, height)):
        door = bevelled_box((width, high - low, depth), 0.04, body, centre=(0, (low + high) / 2, 0), steps=4)
        parts.append(door)
        reach = 0.2 * (high - low)
        middle = (split - reach - 0.12) if high < split else (split + reach + 0.1)
        x, z = -width / 2 + 0.07, depth / 2 + 0.035
        parts.append(tube([(x, middle - reach, z), (x, middle + reach, z)], 0.012, metal, segments=12))
        for end in (-0.8, 0.8):
            stub = turned(cylinder(0.009, 0.05, metal, segments=10), 90, axis="x")
            parts.append(translated(stub, (x, middle + end * reach, depth / 2 - 0.012)))
    return make.piece(parts)


def bookshelf(make: Maker) -> Piece:
    """Open shelves full of books, boxes and a few ornaments."""
    width, depth = make.between(0.8, 1.3), make.between(0.28, 0.34)
    levels = int(make.rng.integers(3, 6))
    spacing = make.between(0.33, 0.37)
    wood, board = make.main("wood", "painted"), 0.024
    height = 0.08 + levels * spacing + board
    parts = [box((width - 2 * board, height - 0.09, 0.012), wood, centre=(0, height / 2 + 0.03, -depth / 2 + 0.012))]
    for side in (-1, 1):
        upright = bevelled_box((board, height, depth), 0.003, wood)
        parts.append(translated(upright, (side * (width - board) / 2, height / 2, 0)))
    for level in range(levels + 1):
        y = 0.08 + level * spacing
        parts.append(box((width - 2 * board, board, depth - 0.006), wood, centre=(0, y, 0)))
        if level < levels:
            area = (-width / 2 + board + 0.012, width / 2 - board - 0.012, y + board / 2, spacing - board - 0.02)
            parts += _shelf_contents(make, area, depth)
    return make.piece(parts, tops=[top_of(width, depth, height)] if height < 1.4 else [])


def _shelf_contents(make: Maker, area: tuple[float, float, float, float], depth: float) -> list[TriangleMesh]:
    """Books in rows with gaps, and an ornament or a box here and there; `area` is left, right, floor y and height."""
    left, right, floor, height = area
    covers = [make.other("painted", "leather", "fabric") for _ in range(6)]
    parts: list[TriangleMesh] = []
    x = left
    while x < right - 0.06:
        choice = make.rng.random()
        if choice < 0.72:
            for _ in range(int(make.rng.integers(3, 9))):
                thick = make.between(0.016, 0.045)
                if x + thick > right:
                    break
                tall, deep = height * make.between(0.62, 0.96), make.between(0.6, 0.82) * depth
                cover = covers[int(make.rng.integers(len(covers)))]
                volume = box((thick - 0.002, tall, deep), cover)
                parts.append(translated(volume, (x + thick / 2, floor + tall / 2, 0.03 - (depth - deep) / 6)))
                x += thick
        elif choice < 0.84 and right - x > 0.2:
            size = (make.between(0.14, 0.19), height * make.between(0.4, 0.7), depth * 0.7)
            basket = bevelled_box(size, 0.012, make.other("wicker", "painted"), steps=2)
            parts.append(translated(basket, (x + size[0] / 2 + 0.005, floor + size[1] / 2, 0.0)))
            x += size[0] + 0.02
        elif right - x > 0.14:
            radius = make.between(0.04, 0.06)
            tall = height * make.between(0.45, 0.8)
            profile = [(0, 0), (0.5, 0), (1.0, 0.35), (0.45, 0.75), (0.6, 1.0), (0, 1.0)]
            pot = lathe([(radius * r, tall * y) for r, y in profile], make.other("ceramic", "metal"), segments=20)
            parts.append(translated(pot, (x + radius + 0.01, floor, 0.02)))
            x += 2 * radius + 0.03
        x += make.between(0.0, 0.05)
    return parts


def fireplace(make: Maker) -> Piece:
    """Mantelpiece with a dark hearth and glowing logs."""
    width, height, depth = make.between(1.25, 1.6), make.between(1.05, 1.25), make.between(0.32, 0.4)
    stone, hearth = make.main("marble", "brick", "stone", "wood"), make.book.surface("brick", "brown")
    soot = make.book.surface("stone", "black")
    pillar, opening = 0.22, height * 0.66
    parts = [box((width, 0.05, depth + 0.16), stone, centre=(0, 0.025, 0.08))]
    for side in (-1, 1):
        x = side * (width - pillar) / 2
        parts.append(
            bevelled_box((pillar, height - 0.1, depth), 0.012, stone, centre=(x, 0.05 + (height - 0.1) / 2, 0))
        )
        parts.append(bevelled_box((pillar + 0.05, 0.12, depth + 0.04), 0.012, stone, centre=(x, 0.11, 0.01)))
    lintel = height - 0.06 - opening
    parts.append(box((width - 2 * pillar + 0.02, lintel, depth - 0.02), stone, centre=(0, opening + lintel / 2, 0)))
    parts.append(
        bevelled_box((width + 0.16, 0.06, depth + 0.1), 0.015, stone, centre=(0, height - 0.03, 0.03), steps=3)
    )
    inside = width - 2 * pillar
    parts.append(box((inside, opening, 0.04), soot, centre=(0, opening / 2 + 0.04, -depth / 2 + 0.02)))
    parts.append(box((inside, 0.03, depth - 0.06), hearth, centre=(0, 0.06, 0)))
    fire = make.book.glow("embers", (0.9, 0.4, 0.12), (2.6, 0.9, 0.2))
    bark = make.other("bark")
    for index in range(4):
        log = turned(cylinder(0.045, inside * 0.55, bark, segments=14), 90, axis="z")
        tilted = turned(log, make.between(-25, 25))
        x = inside * 0.27 + make.between(-0.03, 0.03)
        parts.append(translated(tilted, (x, 0.12 + 0.055 * (index % 2 + index // 3), 0.05 - 0.07 * (index % 2))))
    for _ in range(7):
        ember = lumpy_sphere(make.between(0.025, 0.05), make.rng, fire, segments=10)
        parts.append(
            translated(ember, (make.between(-0.3, 0.3) * inside, make.between(0.1, 0.2), make.between(-0.06, 0.08)))
        )
    for _ in range(5):
        tall = make.between(0.14, 0.3)
        flame = lathe([(0, 0), (0.03, 0.2 * tall), (0.02, 0.6 * tall), (0, tall)], fire, segments=10)
        parts.append(translated(flame, (make.between(-0.25, 0.25) * inside, 0.16, make.between(-0.05, 0.04))))
    return make.piece(parts, tops=[Top(height, (-width / 2, -depth / 2 + 0.05), (width / 2, depth / 2))])


def stove(make: Maker) -> Piece:
    """Iron stove with a window on the fire, on short legs, with its pipe."""
    width, depth, height = make.between(0.5, 0.62), make.between(0.42, 0.5), make.between(0.62, 0.78)
    iron = make.main("metal", "painted") if make.finish.colour else make.book.surface("metal", "charcoal")
    make.looks = make.looks or "iron"
    fire = make.book.glow("fire", (0.95, 0.5, 0.18), (2.2, 0.8, 0.2))
    parts = four_legs(make, width, depth, 0.14, iron, thickness=0.05)
    parts.append(
        bevelled_box((width, height - 0.12, depth), 0.02, iron, centre=(0, 0.12 + (height - 0.12) / 2, 0), steps=2)
    )
    parts.append(bevelled_box((width + 0.06, 0.035, depth + 0.06), 0.012, iron, centre=(0, height, 0), steps=2))
    door_y, door = 0.14 + (height - 0.14) * 0.5, (width * 0.72, (height - 0.14) * 0.62)
    parts.append(bevelled_box((*door, 0.03), 0.01, iron, centre=(0, door_y, depth / 2 + 0.005)))
    parts.append(box((door[0] * 0.74, door[1] * 0.6, 0.01), fire, centre=(0, door_y, depth / 2 + 0.018)))
    parts.append(
        translated(knob(0.018, make.book.surface("metal", "gold")), (door[0] * 0.43, door_y, depth / 2 + 0.015))
    )
    pipe = cylinder(0.07, make.between(1.1, 1.3), iron, segments=24)
    parts.append(translated(pipe, (0, height, -depth * 0.15)))
    return make.piece(parts)


def piano(make: Maker) -> Piece:
    """Upright piano with its keyboard."""
    width, depth, height = 1.45, 0.6, make.between(1.12, 1.25)
    case = (
        make.main("wood", "painted")
        if make.finish.colour or make.finish.kind
        else make.book.surface("painted", "black")
    )
    make.looks = make.looks or "black"
    ivory, ebony = make.book.surface("painted", "white"), make.book.surface("painted", "charcoal")
    back = 0.34
    parts = [bevelled_box((width, height, back), 0.012, case, centre=(0, height / 2, -depth / 2 + back / 2), steps=2)]
    parts.append(bevelled_box((width + 0.04, 0.03, back + 0.04), 0.01, case, centre=(0, height, -depth / 2 + back / 2)))
    parts.append(bevelled_box((width, 0.1, depth - 0.02), 0.012, case, centre=(0, 0.65, 0)))
    for side in (-1, 1):
        parts.append(
            bevelled_box((0.07, 0.62, 0.07), 0.01, case, centre=(side * (width / 2 - 0.06), 0.31, depth / 2 - 0.06))
        )
        parts.append(bevelled_box((0.06, 0.14, depth - 0.04), 0.01, case, centre=(side * (width / 2 - 0.03), 0.72, 0)))
    keys, span = 36, width - 0.16
    for index in range(keys):
        x = (index + 0.5) / keys * span - span / 2
        parts.append(box((span / keys - 0.003, 0.02, 0.15), ivory, centre=(x, 0.712, depth / 2 - 0.11)))
        if index % 7 in (0, 1, 3, 4, 5) and index < keys - 1:
            parts.append(box((0.018, 0.016, 0.09), ebony, centre=(x + span / keys / 2, 0.726, depth / 2 - 0.14)))
    parts.append(box((0.6, 0.24, 0.02), case, centre=(0, 0.92, 0.06)))
    return make.piece(parts, tops=[Top(height + 0.015, (-width / 2, -depth / 2 + 0.05), (width / 2, -depth / 2 + 0.3))])


def _drawers(
    size: tuple[float, float, float], count: int, wood: Surface, metal: Surface, base: tuple[float, float, float]
) -> list[TriangleMesh]:
    """Carcass with `count` drawers above one another; `base` is the middle of its underside."""
    width, height, depth = size
    parts = [box(size, wood, centre=(0, height / 2, 0))]
    each = height / count
    for index in range(count):
        y = (index + 0.5) * each
        parts.append(bevelled_box((width - 0.03, each - 0.02, 0.022), 0.006, wood, centre=(0, y, depth / 2 + 0.006)))
        for x in (-0.25, 0.25) if width > 0.7 else (0.0,):
            parts.append(translated(knob(0.016, metal), (x * width, y, depth / 2 + 0.014)))
    return [translated(part, base) for part in parts]


def _doors(
    size: tuple[float, float, float], count: int, wood: Surface, metal: Surface, base: tuple[float, float, float]
) -> list[TriangleMesh]:
    """Carcass with `count` panelled doors side by side; `base` is the middle of its underside."""
    width, height, depth = size
    parts = [box(size, wood, centre=(0, height / 2, 0))]
    each = width / count
    for index in range(count):
        x = (index + 0.5) * each - width / 2
        parts.append(
            bevelled_box((each - 0.012, height - 0.02, 0.022), 0.005, wood, centre=(x, height / 2, depth / 2 + 0.006))
        )
        panel = bevelled_box((each * 0.62, height * 0.74, 0.014), 0.006, wood)
        parts.append(translated(panel, (x, height / 2, depth / 2 + 0.018)))
        side = 1 if index % 2 == 0 else -1
        parts.append(translated(knob(0.014, metal), (x + side * each * 0.4, height * 0.55, depth / 2 + 0.014)))
    return [translated(part, base) for part in parts]


def crate(make: Maker) -> Piece:
    """Wooden crate of slats."""
    size = np.array([make.between(0.4, 0.6), make.between(0.32, 0.5), make.between(0.36, 0.5)])
    wood = make.main("wood", "painted")
    width, height, depth = size
    parts = [box(size - 0.03, wood, centre=(0, height / 2, 0))]
    slats = int(make.rng.integers(3, 5))
    each = height / slats
    for index in range(slats):
        y = (index + 0.5) * each
        for side in (-1, 1):
            parts.append(box((width, each - 0.02, 0.016), wood, centre=(0, y, side * (depth / 2 - 0.008))))
            parts.append(box((0.016, each - 0.02, depth - 0.036), wood, centre=(side * (width / 2 - 0.008), y, 0)))
    for x in (-1, 1):
        for z in (-1, 1):
            parts.append(
                box((0.05, height, 0.05), wood, centre=(x * (width / 2 - 0.02), height / 2, z * (depth / 2 - 0.02)))
            )
    parts.append(bevelled_box((width, 0.02, depth), 0.004, wood, centre=(0, height - 0.005, 0)))
    return make.piece(parts, tops=[top_of(width, depth, height + 0.005)])


def chest(make: Maker) -> Piece:
    """Trunk with a rounded lid and metal bands."""
    width, height, depth = make.between(0.75, 1.0), make.between(0.26, 0.34), make.between(0.42, 0.5)
    wood, metal = make.main("wood", "leather", "painted"), make.other("metal", "rusted metal")
    parts = [bevelled_box((width, height, depth), 0.012, wood, centre=(0, height / 2, 0))]
    lid = turned(cylinder(depth / 2, width, wood, segments=32), 90, axis="z")
    parts.append(translated(lid, (width / 2, height, 0)))
    for x in (-0.36, 0.0, 0.36):
        band = turned(cylinder(depth / 2 + 0.008, 0.05, metal, segments=32), 90, axis="z")
        parts.append(translated(band, (x * width + 0.025, height, 0)))
        parts.append(box((0.05, height, depth + 0.016), metal, centre=(x * width, height / 2, 0)))
    parts.append(bevelled_box((0.1, 0.12, 0.03), 0.008, metal, centre=(0, height - 0.01, depth / 2 + 0.01)))
    return make.piece(parts)


def basket(make: Maker) -> Piece:
    """Round wicker basket with blankets."""
    radius, height = make.between(0.2, 0.28), make.between(0.28, 0.38)
    weave = make.main("wicker", "wicker", "fabric")
    rim = [(0, 0), (radius * 0.8, 0), (radius, height * 0.9), (radius * 1.03, height), (radius * 0.93, height)]
    parts = [lathe([*rim, (radius * 0.88, height * 0.7), (0, height * 0.7)], weave, segments=36)]
    for index in range(2):
        roll = cushion((radius * 1.3, 0.16, radius * 0.7), make.other("fabric"), softness=0.5, segments=16)
        parts.append(translated(turned(roll, 25.0), (0, height * 0.82, (index - 0.5) * radius * 0.72)))
    return make.piece(parts)

"""Things to sit and lie on. Each function gives a closed piece with its base centred and its front towards +z."""

from __future__ import annotations

from .furniture_piece import Maker, Piece, four_legs, top_of
from .meshes import (
    TriangleMesh,
    bevelled_box,
    box,
    cushion,
    cylinder,
    lathe,
    merged,
    translated,
    tube,
    turned,
)

_UPHOLSTERY = ("fabric", "velvet", "leather")


def chair(make: Maker) -> Piece:
    """Dining chair: slatted, ladder-backed or padded."""
    width, depth, seat = make.between(0.42, 0.5), make.between(0.42, 0.5), make.between(0.43, 0.47)
    back = make.between(0.42, 0.55)
    style = make.pick("slats", "ladder", "padded")
    frame = make.other("wood") if style == "padded" else make.main("wood", "painted")
    parts = four_legs(make, width, depth, seat - 0.03, frame, thickness=0.045)
    parts.append(bevelled_box((width, 0.035, depth), 0.012, frame, centre=(0, seat - 0.0175, 0), steps=2))
    if style == "padded":
        cloth = make.main(*_UPHOLSTERY)
        parts.append(cushion((width * 0.95, 0.08, depth * 0.95), cloth, softness=0.35, segments=16))
        parts[-1] = translated(parts[-1], (0, seat + 0.02, 0))
        pad = turned(cushion((width * 0.98, back, 0.08), cloth, softness=0.35, segments=16), -8, axis="x")
        parts.append(translated(pad, (0, seat + back / 2 + 0.05, -depth / 2 + 0.01)))
        return make.piece(parts)
    posts = []
    for side in (-1, 1):
        x = side * (width / 2 - 0.025)
        posts.append(tube([(x, 0, 0), (x, back * 0.6, -0.02), (x, back, -0.06)], 0.018, frame, segments=12))
    if style == "slats":
        count = int(make.rng.integers(3, 6))
        for index in range(count):
            x = (index + 1 - (count + 1) / 2) * (width - 0.09) / (count + 1) * 1.05
            posts.append(tube([(x, 0, 0), (x, back * 0.6, -0.02), (x, back * 0.9, -0.05)], 0.011, frame, segments=8))
        posts.append(bevelled_box((width, 0.07, 0.025), 0.01, frame, centre=(0, back - 0.02, -0.055), steps=2))
    else:
        for level in (0.35, 0.62, 0.9):
            rung = bevelled_box((width - 0.04, 0.055, 0.018), 0.006, frame)
            posts.append(translated(rung, (0, back * level, -0.06 * level)))
    if make.rng.random() < 0.4:
        parts.append(translated(_pad(make, width * 0.9, 0.05, depth * 0.9), (0, seat + 0.022, 0)))
    return make.piece([*parts, translated(merged(posts), (0, seat - 0.01, -depth / 2 + 0.025))])


def armchair(make: Maker) -> Piece:
    """Upholstered easy chair."""
    return _upholstered(make, seats=1, seat_width=make.between(0.55, 0.66))


def sofa(make: Maker) -> Piece:
    """Sofa of two or three seats with loose cushions."""
    return _upholstered(make, seats=int(make.rng.integers(2, 4)), seat_width=make.between(0.62, 0.74))


def _upholstered(make: Maker, *, seats: int, seat_width: float) -> Piece:
    cloth, legs = make.main(*_UPHOLSTERY), make.other("wood", "metal")
    arm, depth = make.between(0.12, 0.2), make.between(0.8, 0.92)
    foot, base, seat = make.between(0.08, 0.15), make.between(0.16, 0.22), make.between(0.14, 0.18)
    back_height, arm_height = make.between(0.78, 0.9), make.between(0.54, 0.64)
    inner = seats * seat_width
    width = inner + 2 * arm
    soft = make.between(0.18, 0.34)
    parts = four_legs(make, width - 0.06, depth - 0.06, foot + 0.02, legs, thickness=0.05)
    parts.append(bevelled_box((width, base, depth), 0.03, cloth, centre=(0, foot + base / 2, 0), steps=2))
    for side in (-1, 1):
        height = arm_height - foot
        rest = bevelled_box((arm, height, depth), min(0.07, 0.45 * arm), cloth, steps=4)
        parts.append(translated(rest, (side * (width - arm) / 2, foot + height / 2, 0)))
    thick = 0.2
    rear = bevelled_box((width, back_height - foot, thick), 0.07, cloth, steps=4)
    parts.append(translated(rear, (0, foot + (back_height - foot) / 2, -depth / 2 + thick / 2)))
    for index in range(seats):
        x = (index - (seats - 1) / 2) * seat_width
        pillow = cushion((seat_width, seat * 1.15, depth - thick + 0.03), cloth, softness=soft, segments=18)
        parts.append(translated(pillow, (x, foot + base + seat * 0.45, thick / 2)))
        lean = turned(cushion((seat_width * 0.98, 0.46, 0.2), cloth, softness=soft + 0.08, segments=18), -12, axis="x")
        parts.append(translated(lean, (x, foot + base + seat + 0.2, -depth / 2 + thick + 0.09)))
    accent = make.other("fabric", "velvet")
    for side in (-1, 1):
        if make.rng.random() < 0.7 and seats > 1:
            throw = turned(cushion((0.42, 0.42, 0.16), accent, softness=0.5, segments=16), -22, axis="x")
            throw = turned(throw, -18 * side)
            x = side * (inner / 2 - 0.24)
            parts.append(translated(throw, (x, foot + base + seat + 0.22, -depth / 2 + thick + 0.28)))
    return make.piece(parts)


def _pad(make: Maker, width: float, height: float, depth: float) -> TriangleMesh:
    return cushion((width, height, depth), make.other("fabric"), softness=0.3, segments=14)


def stool(make: Maker) -> Piece:
    """Round or square stool, low or bar height."""
    height = make.between(0.43, 0.48) if make.rng.random() < 0.7 else make.between(0.62, 0.72)
    radius = make.between(0.17, 0.21)
    wood = make.main("wood", "painted", "metal")
    parts = []
    for quarter in range(4):
        path = [(radius * 0.95, 0, radius * 0.95), (radius * 0.5, height - 0.03, radius * 0.5)]
        parts.append(turned(tube(path, (0.014, 0.02), wood, segments=10), 90.0 * quarter))
    ring_height = 0.3 * height
    reach = radius * (0.95 - 0.45 * 0.3) * 2
    for quarter in range(2):
        bar = tube([(-reach / 1.42, 0, -reach / 1.42), (reach / 1.42, 0, reach / 1.42)], 0.01, wood, segments=8)
        parts.append(translated(turned(bar, 90.0 * quarter), (0, ring_height, 0)))
    parts.append(translated(cylinder(radius, 0.035, wood, segments=36, uv_layout="box"), (0, height - 0.035, 0)))
    if make.rng.random() < 0.4:
        pad = [(0, 0), (radius * 0.96, 0), (radius, 0.025), (radius * 0.9, 0.05), (0, 0.055)]
        parts.append(translated(lathe(pad, make.other(*_UPHOLSTERY), segments=36), (0, height, 0)))
    return make.piece(parts)


def bench(make: Maker) -> Piece:
    """Slatted bench, with or without a back."""
    width, depth, height = make.between(1.1, 1.6), make.between(0.38, 0.46), make.between(0.43, 0.47)
    wood = make.main("wood", "painted", "stone")
    parts = []
    if make.looks.endswith("stone"):
        parts.append(bevelled_box((width, 0.09, depth), 0.015, wood, centre=(0, height - 0.045, 0)))
        for side in (-1, 1):
            block = bevelled_box((0.16, height - 0.09, depth * 0.8), 0.02, wood)
            parts.append(translated(block, (side * width * 0.33, (height - 0.09) / 2, 0)))
        return make.piece(parts, tops=[top_of(width, depth, height)])
    frame = make.other("metal", "wood")
    slats = int(make.rng.integers(4, 6))
    for index in range(slats):
        z = (index - (slats - 1) / 2) * depth / slats
        parts.append(bevelled_box((width, 0.028, depth / slats - 0.014), 0.006, wood, centre=(0, height - 0.014, z)))
    for side in (-1, 1):
        x = side * (width / 2 - 0.12)
        parts.append(box((0.045, 0.05, depth), frame, centre=(x, height - 0.053, 0)))
        for z in (-depth / 2 + 0.04, depth / 2 - 0.04):
            parts.append(bevelled_box((0.05, height - 0.05, 0.05), 0.006, frame, centre=(x, (height - 0.05) / 2, z)))
    if make.rng.random() < 0.6:
        for side in (-1, 1):
            x = side * (width / 2 - 0.12)
            post = tube([(x, height - 0.06, -depth / 2 + 0.03), (x, height + 0.42, -depth / 2 - 0.07)], 0.02, frame)
            parts.append(post)
        for level in (0.14, 0.25, 0.36):
            slat = turned(bevelled_box((width, 0.075, 0.022), 0.006, wood), -12, axis="x")
            parts.append(translated(slat, (0, height + level, -depth / 2 - 0.01 - 0.2 * level)))
    return make.piece(parts)


def pouf(make: Maker) -> Piece:
    """Soft round footstool."""
    radius, height = make.between(0.24, 0.34), make.between(0.3, 0.42)
    cloth = make.main("fabric", "velvet", "leather", "wicker")
    body = cushion((2 * radius, height, 2 * radius), cloth, softness=0.62, segments=24)
    base = cylinder(radius * 0.7, height * 0.5, cloth, segments=32)
    return make.piece([translated(body, (0, height / 2, 0)), base])


def bed(make: Maker) -> Piece:
    """Double or single bed, made up."""
    width, length = (make.between(1.4, 1.7) if make.rng.random() < 0.75 else make.between(0.9, 1.0)), 2.05
    frame_height, mattress = make.between(0.26, 0.34), make.between(0.2, 0.26)
    frame = make.other("wood", "painted")
    cloth = make.main("fabric", "velvet")
    linen = make.book.surface("fabric", make.pick("white", "cream", "sky blue", "beige"))
    parts = four_legs(make, width, length, frame_height - 0.1, frame, thickness=0.07)
    parts.append(bevelled_box((width, 0.16, length), 0.02, frame, centre=(0, frame_height - 0.08, 0)))
    pad = bevelled_box((width - 0.04, mattress, length - 0.08), 0.05, linen, steps=4)
    parts.append(translated(pad, (0, frame_height + mattress / 2, 0)))
    height, thick = make.between(0.95, 1.25), 0.08
    head = make.pick("plain", "padded", "bars")
    z = -length / 2 + thick / 2 - 0.05
    if head == "padded":
        panel = cushion((width + 0.06, height * 0.72, 0.14), make.other("velvet", "leather"), softness=0.2, segments=20)
        parts.append(translated(panel, (0, height * 0.62, z)))
    elif head == "plain":
        parts.append(bevelled_box((width + 0.04, height, thick), 0.02, frame, centre=(0, height / 2, z), steps=3))
    else:
        for side in (-1, 1):
            parts.append(box((0.06, height, 0.06), frame, centre=(side * width / 2, height / 2, z)))
        parts.append(bevelled_box((width + 0.1, 0.07, 0.07), 0.02, frame, centre=(0, height - 0.03, z), steps=2))
        count = 9
        for index in range(count):
            x = (index - (count - 1) / 2) * (width - 0.1) / count
            parts.append(translated(cylinder(0.014, height - 0.3, frame, segments=10), (x, 0.28, z)))
    top = frame_height + mattress
    quilt = cushion((width + 0.1, 0.24, length * 0.66), cloth, softness=0.16, segments=28)
    parts.append(translated(quilt, (0, top - 0.045, length * 0.165)))
    fold = cushion((width + 0.08, 0.09, 0.26), linen, softness=0.3, segments=18)
    parts.append(translated(fold, (0, top + 0.075, -length * 0.15)))
    for index in range(2 if width > 1.2 else 1):
        x = (index - 0.5) * width * 0.5 if width > 1.2 else 0.0
        pillow = turned(cushion((min(0.66, width * 0.46), 0.16, 0.42), linen, softness=0.45, segments=18), 14, axis="x")
        parts.append(translated(pillow, (x, top + 0.09, -length / 2 + 0.3)))
    if make.rng.random() < 0.6:
        throw = turned(
            cushion((0.4, 0.4, 0.15), make.other("fabric", "velvet"), softness=0.5, segments=16), -50, axis="x"
        )
        parts.append(translated(throw, (0.0, top + 0.2, -length / 2 + 0.52)))
    return make.piece(parts)

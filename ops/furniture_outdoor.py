"""Plants, and things that stand in courtyards and gardens."""

from __future__ import annotations

import numpy as np

from .furniture_piece import Maker, Piece, Top
from .meshes import (
    Surface,
    TriangleMesh,
    bevelled_box,
    cylinder,
    lathe,
    leaf,
    lumpy_sphere,
    scattered,
    sphere,
    swept,
    translated,
    tube,
)


def plant(make: Maker) -> Piece:
    """House plant in a pot: arching leaves, broad leaves on stems, or a bush."""
    clay = _container(make, "ceramic", "wicker", "stone", "metal")
    radius, height = make.between(0.14, 0.22), make.between(0.24, 0.38)
    parts = _pot(make, clay, radius, height)
    green = make.other("leaf")
    style = make.pick("arching", "broad", "bush")
    size = make.between(0.5, 1.0)
    if style == "arching":
        parts += _arching_leaves(make, green, (0, height * 0.9, 0), size, count=int(make.rng.integers(16, 28)))
    elif style == "broad":
        parts += _broad_leaves(make, green, height * 0.9, size)
    else:
        crown = make.other("foliage")
        parts.append(translated(cylinder(0.02, size * 0.5, make.other("bark"), segments=10), (0, height * 0.8, 0)))
        centre = np.array([0.0, height + size * 0.5, 0.0])
        parts += _crown(make, crown, green, centre, size * 0.38, leaves=260)
    return make.piece(parts)


def small_plant(make: Maker) -> Piece:
    """Little plant for a table or a sill."""
    clay = _container(make, "ceramic", "stone")
    parts = _pot(make, clay, make.between(0.06, 0.08), 0.11)
    parts += _arching_leaves(make, make.other("leaf"), (0, 0.1, 0), make.between(0.16, 0.26), count=18)
    return make.piece(parts)


def tree(make: Maker) -> Piece:
    """Young tree in a planter: a branching trunk under a crown of leaves."""
    planter = _container(make, "stone", "wood", "ceramic", "brick")
    side, box_height = make.between(0.6, 0.8), make.between(0.4, 0.55)
    parts = [bevelled_box((side, box_height, side), 0.02, planter, centre=(0, box_height / 2, 0), steps=2)]
    soil = make.book.surface("gravel", "brown")
    parts.append(bevelled_box((side - 0.1, 0.03, side - 0.1), 0.01, soil, centre=(0, box_height + 0.005, 0)))
    trunk_height = make.between(0.9, 1.3)
    bark, green, crown = make.other("bark"), make.other("leaf"), make.other("foliage")
    lean = make.rng.normal(0.0, 0.06, 2)
    top = np.array([lean[0], box_height + trunk_height, lean[1]])
    middle = np.array([-lean[1], box_height + trunk_height * 0.5, lean[0]])
    parts.append(tube(np.stack([(0.0, box_height, 0.0), middle, top]), (0.06, 0.045, 0.035), bark, segments=14))
    for index in range(int(make.rng.integers(3, 6))):
        angle = 2.4 * index + make.between(0, 1)
        reach = make.between(0.2, 0.42)
        centre = top + np.array([reach * np.sin(angle), make.between(0.05, 0.45), reach * np.cos(angle)])
        parts.append(tube([top - [0, 0.1, 0], (top + centre) / 2, centre], (0.03, 0.02, 0.01), bark, segments=8))
        parts += _crown(make, crown, green, centre, make.between(0.26, 0.38), leaves=170)
    return make.piece(parts)


def shrub(make: Maker) -> Piece:
    """Clipped evergreen in a tub: a ball, a cone or a spiral of balls."""
    tub = _container(make, "ceramic", "stone", "wood")
    radius = make.between(0.2, 0.28)
    parts = _pot(make, tub, radius, make.between(0.3, 0.42))
    base = float(max(part.vertices[:, 1].max() for part in parts))
    crown, green = make.other("foliage"), make.other("leaf")
    style = make.pick("ball", "cone", "tiers")
    if style == "cone":
        tall = make.between(0.7, 1.0)
        cone = lathe(
            [(0, 0), (radius * 1.2, 0.06), (radius * 0.9, 0.4 * tall), (0.03, tall), (0, tall)], crown, segments=24
        )
        parts.append(translated(cone, (0, base - 0.03, 0)))
        return make.piece(parts)
    sizes = [radius * 1.35] if style == "ball" else [radius * 1.2, radius * 0.9, radius * 0.6]
    y = base
    for size in sizes:
        parts += _crown(make, crown, green, np.array([0.0, y + size * 0.9, 0.0]), size, leaves=190)
        y += size * 1.75
    return make.piece(parts)


def _container(make: Maker, *kinds: str) -> Surface:
    """The pot's material: the prompt's, though it does not become part of the plant's name."""
    surface = make.main(*kinds)
    make.looks = ""
    return surface


def _pot(make: Maker, clay: Surface, radius: float, height: float) -> list[TriangleMesh]:
    bottom = make.between(0.62, 0.85)
    profile = [(0, 0), (bottom, 0), (0.98, 0.86), (1.08, 0.87), (1.08, 1.0), (0.94, 1.0), (0.92, 0.9), (0, 0.9)]
    pot = lathe([(radius * r, height * y) for r, y in profile], clay, segments=36)
    soil = cylinder(radius * 0.92, height * 0.04, make.book.surface("gravel", "brown"), segments=24)
    return [pot, translated(soil, (0, height * 0.89, 0))]


def _arching_leaves(
    make: Maker, green: Surface, origin: tuple[float, float, float], length: float, *, count: int
) -> list[TriangleMesh]:
    along = np.linspace(0.0, 1.0, 7)
    shapes = 4
    parts = []
    for shape in range(shapes):
        reach, rise = length * make.between(0.3, 0.75), length * make.between(0.55, 1.0)
        up = rise * (1.55 * along - 0.85 * along**2.4) / 0.75
        path = np.column_stack([np.zeros(7), up, reach * along**1.4])
        blade = leaf(path, length * make.between(0.07, 0.13), green)
        turns = 2.4 * np.arange(shape, count, shapes) + make.rng.uniform(-0.3, 0.3, len(range(shape, count, shapes)))
        forward = np.column_stack([np.sin(turns), np.zeros_like(turns), np.cos(turns)])
        parts.append(scattered(blade, _poses_along(forward, np.tile(origin, (len(turns), 1)))))
    return parts


def _broad_leaves(make: Maker, green: Surface, base: float, size: float) -> list[TriangleMesh]:
    parts = []
    for index in range(int(make.rng.integers(8, 14))):
        turn, tall = 2.4 * index, size * make.between(0.35, 1.0)
        out = 0.28 * size * make.between(0.4, 1.0)
        tip = np.array([out * np.sin(turn), base + tall, out * np.cos(turn)])
        root = np.array([0.0, base - 0.02, 0.0])
        parts.append(tube([root, (root + tip) / 2 + [0, 0.06, 0], tip], (0.009, 0.007, 0.005), green, segments=7))
        along = np.linspace(0.0, 1.0, 7)[:, None]
        forward = np.array([np.sin(turn), 0.0, np.cos(turn)]) * 0.34 * size
        path = tip + along * forward + np.array([0.0, 1.0, 0.0]) * (0.18 * along - 0.34 * along**2) * size
        parts.append(leaf(path, 0.24 * size * make.between(0.8, 1.15), green, thickness=0.006))
    return parts


def _crown(
    make: Maker, crown: Surface, green: Surface, centre: np.ndarray, radius: float, *, leaves: int
) -> list[TriangleMesh]:
    """A lumpy ball of foliage with single leaves standing out of it."""
    core = lumpy_sphere(radius * 0.9, make.rng, crown, roughness=0.16, segments=18)
    directions = make.rng.normal(size=(leaves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    bends = directions + make.rng.normal(0.0, 0.5, (leaves, 3)) - [0.0, 0.3, 0.0]
    roots = centre + directions * (radius * make.rng.uniform(0.72, 0.95, (leaves, 1)))
    length = 0.3 * radius
    blade = leaf([(0, 0, 0), (0, 0.1 * length, 0.5 * length), (0, 0, length)], 0.5 * length, green)
    return [translated(core, centre), scattered(blade, _poses_along(bends, roots))]


def _poses_along(directions: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """(N, 4, 4) rigid poses whose z axes run along (N, 3) directions."""
    forward = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    reference = np.where(np.abs(forward[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    side = np.cross(reference, forward)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (len(forward), 1, 1))
    poses[:, :3, 0], poses[:, :3, 1], poses[:, :3, 2] = side, np.cross(forward, side), forward
    poses[:, :3, 3] = origins
    return poses


def fountain(make: Maker) -> Piece:
    """Stone fountain: a basin, a column and an upper bowl with water."""
    stone, water = make.main("stone", "marble", "concrete"), make.book.surface("water")
    radius, rim = make.between(0.65, 0.85), make.between(0.36, 0.46)
    sides = int(make.rng.choice([8, 40]))
    basin = [
        (0, 0),
        (radius, 0),
        (radius, 0.06),
        (radius * 0.94, 0.1),
        (radius * 0.94, rim - 0.06),
        (radius * 1.02, rim - 0.05),
    ]
    basin += [(radius * 1.02, rim), (radius * 0.84, rim), (radius * 0.84, 0.1), (0, 0.1)]
    parts = [lathe(basin, stone, segments=sides)]
    parts.append(translated(cylinder(radius * 0.83, 0.03, water, segments=40), (0, rim - 0.09, 0)))
    tall = make.between(0.9, 1.15)
    column = [
        (0, 0.05),
        (0.2, 0.05),
        (0.2, 0.3),
        (0.1, 0.36),
        (0.08, tall * 0.5),
        (0.12, tall * 0.62),
        (0.07, tall * 0.7),
        (0.1, tall - 0.14),
        (0, tall - 0.14),
    ]
    parts.append(lathe(column, stone, segments=28))
    bowl = [
        (0, tall - 0.16),
        (0.08, tall - 0.16),
        (0.26, tall - 0.08),
        (0.36, tall),
        (0.33, tall),
        (0.24, tall - 0.05),
        (0, tall - 0.06),
    ]
    parts.append(lathe([(r * radius / 0.75, y) for r, y in bowl], stone, segments=40))
    parts.append(translated(cylinder(0.29 * radius / 0.75, 0.015, water, segments=36), (0, tall - 0.035, 0)))
    jet = tube([(0, tall - 0.04, 0), (0, tall + 0.16, 0)], (0.02, 0.008), water, segments=10)
    return make.piece([*parts, jet, translated(sphere(0.045, stone, segments=16), (0, tall - 0.01, 0))])


def barrel(make: Maker) -> Piece:
    """Stave barrel with iron hoops."""
    radius, height = make.between(0.26, 0.33), make.between(0.7, 0.9)
    wood, iron = make.main("wood", "painted"), make.other("rusted metal", "metal")
    levels = np.linspace(0.0, 1.0, 9)
    bulge = radius * (1.0 - 0.55 * (levels - 0.5) ** 2)
    staves = 20
    angles = np.arange(staves * 2) * (np.pi / staves)
    groove = np.where(np.arange(staves * 2) % 2 == 0, 1.0, 0.975)
    rings = np.stack(
        [
            np.column_stack(
                [reach * groove * np.sin(angles), np.full(len(angles), y * height), reach * groove * np.cos(angles)]
            )
            for reach, y in zip(bulge, levels, strict=True)
        ]
    )
    parts = [swept(rings, wood)]
    for level in (0.06, 0.3, 0.7, 0.94):
        reach = radius * (1.0 - 0.55 * (level - 0.5) ** 2) + 0.007
        parts.append(translated(cylinder(reach, 0.045, iron, segments=36), (0, level * height - 0.0225, 0)))
    half = radius * 0.5
    return make.piece(parts, tops=[Top(height, (-half, -half), (half, half))])


def parasol(make: Maker) -> Piece:
    """Open garden parasol on a heavy foot."""
    radius, height = make.between(0.95, 1.25), make.between(2.05, 2.3)
    cloth, wood = make.main("fabric"), make.other("wood", "metal")
    sides = 8
    drop = 0.34
    parts = [cylinder(0.24, 0.08, make.other("stone", "concrete"), segments=32)]
    parts.append(translated(cylinder(0.022, height - 0.02, wood, segments=16), (0, 0.03, 0)))
    outer = [(0, height), (radius, height - drop), (radius, height - drop - 0.05)]
    inner = [(radius - 0.02, height - drop - 0.05), (radius - 0.04, height - drop - 0.02), (0, height - 0.03)]
    parts.append(lathe([*outer, *inner], cloth, segments=sides))
    parts.append(translated(sphere(0.035, wood, segments=14), (0, height + 0.02, 0)))
    return make.piece(parts)


def planter(make: Maker) -> Piece:
    """Long trough with flowers."""
    width, height, depth = make.between(0.8, 1.2), make.between(0.32, 0.42), make.between(0.3, 0.38)
    body = make.main("wood", "stone", "concrete", "brick")
    parts = [bevelled_box((width, height, depth), 0.015, body, centre=(0, height / 2, 0), steps=2)]
    parts.append(
        bevelled_box(
            (width - 0.06, 0.03, depth - 0.06), 0.01, make.book.surface("gravel", "brown"), centre=(0, height, 0)
        )
    )
    green = make.other("leaf")
    count = int(width / 0.2)
    for index in range(count):
        x = (index + 0.5) / count * (width - 0.12) - (width - 0.12) / 2
        parts += _arching_leaves(make, green, (x, height, 0), make.between(0.16, 0.24), count=9)
        petal = make.book.surface("painted", make.pick("red", "pink", "yellow", "lavender", "orange", "white"))
        for _ in range(4):
            bloom = lumpy_sphere(make.between(0.022, 0.034), make.rng, petal, segments=10)
            spot = (x + make.between(-0.08, 0.08), height + make.between(0.14, 0.26), make.between(-0.1, 0.1))
            parts.append(translated(bloom, spot))
            parts.append(tube([(spot[0], height, spot[2]), spot], 0.004, green, segments=5))
    return make.piece(parts)


def rocks(make: Maker) -> Piece:
    """A group of boulders."""
    stone = make.main("stone", "concrete")
    parts = []
    for index in range(int(make.rng.integers(3, 5))):
        radius = make.between(0.14, 0.3) * (1.0 if index else 1.25)
        rock = lumpy_sphere(radius, make.rng, stone, roughness=0.22, segments=20)
        parts.append(
            translated(
                rock,
                (0.3 * np.sin(2.1 * index) * min(index, 1), radius * 0.7, 0.3 * np.cos(2.1 * index) * min(index, 1)),
            )
        )
    return make.piece(parts)

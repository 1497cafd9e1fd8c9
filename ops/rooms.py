"""Rooms, courtyards and gardens: the closed surroundings in which objects stand.

Every place lies inside a dome that shows the world outside without shading, so no ray meets the void: what is seen
through a window or over a wall is the dome. Scene frame: y up, metres, floor at y = 0, the camera looks towards -z.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .material_pictures import painting
from .materials import MaterialBook
from .meshes import Surface, TriangleMesh, bevelled_box, box, merged, picture_box, quad, sphere, transformed, translated
from .scene_model import Float64, Material, Texture, UInt8

DOME_RADIUS = 30.0


@dataclass(frozen=True, slots=True)
class Extent:
    """Inside of a place: x from -width/2 to width/2, z from -ahead to behind, y from 0 to height; metres. The camera
    stands near z = 0."""

    width: float
    ahead: float
    behind: float
    height: float


@dataclass(frozen=True, slots=True)
class Opening:
    """Rectangular hole in a wall: along the wall from its left end as seen from inside, and up from the floor."""

    left: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Window:
    """An opening's place in the scene: centre on the inner face of the wall and half-edge vectors whose cross product
    points into the room."""

    centre: Float64
    half_edge_u: Float64
    half_edge_v: Float64


@dataclass(frozen=True, slots=True)
class RoomStyle:
    """Surfaces of a room and what it has."""

    floor: Surface
    walls: Surface
    accent_wall: Surface
    ceiling: Surface
    trim: Surface
    window_walls: tuple[str, ...]
    rug: Surface | None
    pictures: int
    ceiling_style: str
    wainscot: Surface | None = None


@dataclass(frozen=True, slots=True)
class Shell:
    """A place without its objects: triangles, windows, and the surfaces of floor, walls (of a room: the wall that the
    camera looks at) and ceiling (of a court: its walls')."""

    mesh: TriangleMesh
    windows: tuple[Window, ...]
    floor: Surface
    walls: Surface
    ceiling: Surface


def build_room(
    rng: np.random.Generator,
    book: MaterialBook,
    extent: Extent,
    style: RoomStyle,
    panorama: UInt8,
    *,
    glow: float,
    sight: tuple[Float64, Float64],
) -> Shell:
    """Closed room: floor (with a rug laid flush), walls with windows, skirting, pictures, a door and a ceiling.

    Args:
        rng: source of every choice.
        book: takes the new materials.
        extent: inner size.
        style: surfaces and furnishings.
        panorama: view outside, see `material_pictures.outdoor_panorama`.
        glow: emission of the ceiling's lamp panel, 0 for none.
        sight: origin and direction of the camera's middle ray, which must meet the room and not the world outside.
    """
    parts = [dome(book, panorama)]
    parts += _floor(rng, extent, style)
    parts += _ceiling(book, extent, style, glow)
    windows: list[Window] = []
    for name in _WALLS:
        wall = _wall_frame(name, extent)
        surface = style.accent_wall if name == "ahead" else style.walls
        openings = _windows_in(rng, wall.length, extent.height) if name in style.window_walls else []
        openings = [opening for opening in openings if not _is_looked_through(wall, opening, sight)]
        parts += _wall(wall, surface, style, openings)
        windows += [_window(wall, opening) for opening in openings]
        parts += _joinery(rng, book, wall, style, openings, name)
    return Shell(merged(parts), tuple(windows), style.floor, style.accent_wall, style.ceiling)


def build_courtyard(
    rng: np.random.Generator,
    book: MaterialBook,
    extent: Extent,
    *,
    ground: Surface,
    walls: Surface,
    coping: Surface,
    panorama: UInt8,
    inlay: Surface | None,
) -> Shell:
    """Open court: ground, walls (or a hedge) with pilasters, niches and coping, sky above.

    Args:
        rng: source of every choice.
        book: takes the new materials.
        extent: inner size; `height` is the walls'.
        ground, walls, coping: surfaces.
        panorama: the sky and what is seen over the walls.
        inlay: surface of a rectangle laid into the ground (a lawn, a mosaic), or None.
    """
    parts = [dome(book, panorama)]
    if inlay is None:
        parts += _flat(_floor_frame(extent), [], ground)
    else:
        hole = Opening(extent.width / 2 - 1.7, extent.behind + 1.4, 3.4, 2.6)
        parts += _flat(_floor_frame(extent), [hole], ground)
        parts.append(_inlay(_floor_frame(extent), hole, inlay))
    thickness = 0.28
    bays = int(rng.integers(3, 6))
    masonry = book.materials[walls.material].kind != "foliage"
    pilasters, has_niches = masonry and rng.random() < 0.6, masonry and rng.random() < 0.5
    for name in _WALLS:
        wall = _wall_frame(name, extent)
        niches = _niches(wall.length, extent.height, bays) if has_niches and name != "behind" else []
        parts += _flat(wall, niches, walls)
        for niche in niches:
            parts += _reveal(wall, niche, coping, 0.22)
            parts.append(_inlay(wall, niche, walls, depth=0.22))
        cap = bevelled_box((wall.length + 2 * thickness, 0.09, thickness + 0.1), 0.015, coping)
        parts.append(_on_wall(wall, cap, wall.length / 2, extent.height + 0.03, -thickness / 2))
        foot = bevelled_box((wall.length, 0.18, 0.03), 0.01, coping)
        parts.append(_on_wall(wall, foot, wall.length / 2, 0.09, 0.0))
        if pilasters:
            for bay in range(bays + 1):
                along = min(max(bay / bays * wall.length, 0.16), wall.length - 0.16)
                post = bevelled_box((0.3, extent.height, 0.06), 0.012, coping)
                parts.append(_on_wall(wall, post, along, extent.height / 2, 0.0))
    return Shell(merged(parts), (), ground, walls, walls)


def dome(book: MaterialBook, panorama: UInt8) -> TriangleMesh:
    """Sphere of `DOME_RADIUS` seen from inside that shows an equirectangular panorama as it is; the picture's middle
    column lies ahead (-z), its middle row at eye height."""
    # It repeats, because the sphere's last strip runs from just below u = 1 to just above.
    surface = book.add(Material(name="view outside", kind="picture", texture=Texture(panorama), unlit=True))
    mesh = sphere(DOME_RADIUS, surface, segments=64)
    corners = mesh.vertices[mesh.faces].astype(np.float64) / DOME_RADIUS
    azimuth = np.arctan2(corners[..., 0], -corners[..., 2]) / (2 * np.pi) + 0.5
    # A pole has no azimuth of its own: its corner takes the mean of the other two.
    at_pole = np.abs(corners[..., 1]) > 1.0 - 1e-6
    azimuth = np.where(at_pole, np.where(at_pole, -1.0, azimuth).max(axis=1, keepdims=True), azimuth)
    crosses_seam = np.ptp(azimuth, axis=1, keepdims=True) > 0.5
    azimuth = np.where(crosses_seam & (azimuth < 0.5), azimuth + 1.0, azimuth)
    others = np.where(at_pole, 0.0, azimuth).sum(axis=1) / np.maximum((~at_pole).sum(axis=1), 1)
    azimuth = np.where(at_pole, others[:, None], azimuth)
    uv = np.stack([azimuth, np.arcsin(np.clip(corners[..., 1], -1, 1)) / np.pi + 0.5], axis=-1)
    inward = TriangleMesh(
        mesh.vertices,
        np.ascontiguousarray(mesh.faces[:, ::-1]),
        np.ascontiguousarray(uv[:, ::-1], dtype=np.float32),
        mesh.material,
    )
    return translated(inward, (0.0, 1.4, -1.5))


@dataclass(frozen=True, slots=True)
class _Plane:
    """A flat side of a place: corner, unit vectors along and up, unit normal into the place, length and height."""

    origin: Float64
    along: Float64
    up: Float64
    inward: Float64
    length: float
    height: float

    def point(self, along: float, up: float, out: float = 0.0) -> Float64:
        return self.origin + along * self.along + up * self.up + out * self.inward


_WALLS = ("ahead", "left", "right", "behind")


def _wall_frame(name: str, extent: Extent) -> _Plane:
    x, ahead, behind = extent.width / 2, -extent.ahead, extent.behind
    corner, along = {
        "ahead": ((-x, 0.0, ahead), (1.0, 0.0, 0.0)),
        "right": ((x, 0.0, ahead), (0.0, 0.0, 1.0)),
        "behind": ((x, 0.0, behind), (-1.0, 0.0, 0.0)),
        "left": ((-x, 0.0, behind), (0.0, 0.0, -1.0)),
    }[name]
    length = extent.width if name in {"ahead", "behind"} else extent.ahead + extent.behind
    up = np.array([0.0, 1.0, 0.0])
    return _Plane(np.array(corner), np.array(along), up, np.cross(along, up), length, extent.height)


def _floor_frame(extent: Extent) -> _Plane:
    """The floor as a plane whose "up" runs away from the camera."""
    return _Plane(
        np.array([-extent.width / 2, 0.0, extent.behind]),
        np.array([1.0, 0.0, 0.0]),
        np.array([0.0, 0.0, -1.0]),
        np.array([0.0, 1.0, 0.0]),
        extent.width,
        extent.ahead + extent.behind,
    )


def _flat(plane: _Plane, holes: Sequence[Opening], surface: Surface) -> list[TriangleMesh]:
    """The plane without its holes, as rectangles between the holes' edges; texture continues across them."""
    across = np.unique([0.0, plane.length, *(edge for h in holes for edge in (h.left, h.left + h.width))])
    levels = np.unique([0.0, plane.height, *(edge for h in holes for edge in (h.bottom, h.bottom + h.height))])
    parts = []
    for left, right in itertools.pairwise(across):
        for low, high in itertools.pairwise(levels):
            middle = ((left + right) / 2, (low + high) / 2)
            if any(h.left < middle[0] < h.left + h.width and h.bottom < middle[1] < h.bottom + h.height for h in holes):
                continue
            corners = [(left, low), (right, low), (right, high), (left, high)]
            uv = np.array(corners) / np.asarray(surface.texture_metres)
            parts.append(quad([plane.point(a, b) for a, b in corners], surface, uv=uv))
    return parts


def _inlay(
    plane: _Plane, hole: Opening, surface: Surface, *, depth: float = 0.0, whole_picture: bool = False
) -> TriangleMesh:
    """Rectangle that fills a hole, `depth` metres behind the plane."""
    corners = [
        plane.point(hole.left + a * hole.width, hole.bottom + b * hole.height, -depth)
        for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))
    ]
    uv = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)] if whole_picture else None
    return quad(corners, surface, uv=uv)


def _reveal(plane: _Plane, hole: Opening, surface: Surface, depth: float) -> list[TriangleMesh]:
    """The four sides of a hole, `depth` metres outwards."""
    left, right, low, high = hole.left, hole.left + hole.width, hole.bottom, hole.bottom + hole.height
    loop = [(left, low), (right, low), (right, high), (left, high)]
    sides = []
    for (a0, b0), (a1, b1) in zip(loop, loop[1:] + loop[:1], strict=True):
        corners = [plane.point(a0, b0), plane.point(a1, b1), plane.point(a1, b1, -depth), plane.point(a0, b0, -depth)]
        sides.append(quad(corners, surface))
    return sides


def _on_wall(plane: _Plane, mesh: TriangleMesh, along: float, up: float, out: float) -> TriangleMesh:
    """A mesh built with its front towards +z, hung on a wall with its centre at the given place."""
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = plane.along, plane.up, plane.inward
    pose[:3, 3] = plane.point(along, up, out)
    return transformed(mesh, pose)


def _floor(rng: np.random.Generator, extent: Extent, style: RoomStyle) -> list[TriangleMesh]:
    plane = _floor_frame(extent)
    if style.rug is None:
        return _flat(plane, [], style.floor)
    width, depth = float(rng.uniform(2.0, 2.9)), float(rng.uniform(1.5, 2.0))
    left = extent.width / 2 - width / 2 + float(rng.uniform(-0.3, 0.3))
    hole = Opening(left, extent.behind + float(rng.uniform(1.9, 2.5)), width, depth)
    return [*_flat(plane, [hole], style.floor), _inlay(plane, hole, style.rug, whole_picture=True)]


def _ceiling(book: MaterialBook, extent: Extent, style: RoomStyle, glow: float) -> list[TriangleMesh]:
    plane = _Plane(
        np.array([-extent.width / 2, extent.height, -extent.ahead]),
        np.array([1.0, 0.0, 0.0]),
        np.array([0.0, 0.0, 1.0]),
        np.array([0.0, -1.0, 0.0]),
        extent.width,
        extent.ahead + extent.behind,
    )
    parts = _flat(plane, [], style.ceiling)
    if style.ceiling_style == "beams":
        for position in np.arange(0.6, plane.height - 0.3, 1.25):
            beam = box((extent.width, 0.18, 0.16), style.trim)
            parts.append(translated(beam, (0.0, extent.height - 0.09, -extent.ahead + position)))
    if glow > 0.0:
        lamp = book.glow("ceiling lamp", (0.95, 0.93, 0.88), (glow, 0.95 * glow, 0.86 * glow))
        panel = bevelled_box((1.2, 0.05, 0.7), 0.01, lamp)
        parts.append(translated(panel, (0.0, extent.height - 0.026, ceiling_lamp_depth(extent))))
    return parts


def ceiling_lamp_depth(extent: Extent) -> float:
    """z of the ceiling lamp: over the middle of the group of objects."""
    return -0.55 * extent.ahead


def _windows_in(rng: np.random.Generator, length: float, height: float) -> list[Opening]:
    """One to three equal windows, away from the corners."""
    count = int(rng.integers(1, 4)) if length > 5.6 else int(rng.integers(1, 3))
    width = float(rng.uniform(0.9, min(1.6, (length - 1.2) / count - 0.4)))
    bottom = float(rng.choice([0.85, 0.95, 0.4]))
    tall = float(min(rng.uniform(1.25, 1.7), height - bottom - 0.4))
    pitch = (length - 0.8) / count
    return [Opening(0.4 + (index + 0.5) * pitch - width / 2, bottom, width, tall) for index in range(count)]


def _is_looked_through(plane: _Plane, opening: Opening, sight: tuple[Float64, Float64]) -> bool:
    """Whether a ray passes within 0.3 m of an opening."""
    origin, direction = sight
    approach = float(direction @ plane.inward)
    if approach > -1e-6:
        return False
    hit = origin + direction * (float((plane.origin - origin) @ plane.inward) / approach) - plane.origin
    along, up = float(hit @ plane.along) - opening.left, float(hit @ plane.up) - opening.bottom
    return -0.3 < along < opening.width + 0.3 and -0.3 < up < opening.height + 0.3


def _niches(length: float, height: float, bays: int) -> list[Opening]:
    pitch = length / bays
    width = min(0.9, 0.5 * pitch)
    return [Opening((bay + 0.5) * pitch - width / 2, 0.5, width, min(1.5, height - 1.0)) for bay in range(bays)]


def _window(plane: _Plane, opening: Opening) -> Window:
    centre = plane.point(opening.left + opening.width / 2, opening.bottom + opening.height / 2)
    return Window(centre, plane.along * opening.width / 2, plane.up * opening.height / 2)


def _wall(plane: _Plane, surface: Surface, style: RoomStyle, openings: Sequence[Opening]) -> list[TriangleMesh]:
    """The wall around its windows, with reveals, frames, bars and sills."""
    parts = _flat(plane, openings, surface)
    depth = 0.2
    for hole in openings:
        parts += _reveal(plane, hole, style.trim, depth)
        middle = (hole.left + hole.width / 2, hole.bottom + hole.height / 2)
        for offset in (-1, 1):
            upright = box((0.06, hole.height, 0.05), style.trim)
            parts.append(
                _on_wall(plane, upright, middle[0] + offset * (hole.width / 2 - 0.03), middle[1], -depth + 0.05)
            )
            rail = box((hole.width, 0.06, 0.05), style.trim)
            parts.append(_on_wall(plane, rail, middle[0], middle[1] + offset * (hole.height / 2 - 0.03), -depth + 0.05))
        parts.append(_on_wall(plane, box((0.035, hole.height, 0.04), style.trim), *middle, -depth + 0.05))
        cross = box((hole.width, 0.03, 0.035), style.trim)
        parts.append(_on_wall(plane, cross, middle[0], hole.bottom + hole.height * 0.66, -depth + 0.05))
        sill = bevelled_box((hole.width + 0.1, 0.03, 0.035), 0.006, style.trim)
        parts.append(_on_wall(plane, sill, middle[0], hole.bottom - 0.012, 0.0165))
        for offset in (-1, 1):
            casing = bevelled_box((0.07, hole.height + 0.14, 0.02), 0.005, style.trim)
            parts.append(_on_wall(plane, casing, middle[0] + offset * (hole.width / 2 + 0.035), middle[1], 0.01))
        head = bevelled_box((hole.width + 0.14, 0.08, 0.024), 0.006, style.trim)
        parts.append(_on_wall(plane, head, middle[0], hole.bottom + hole.height + 0.04, 0.012))
    return parts


def _joinery(
    rng: np.random.Generator,
    book: MaterialBook,
    plane: _Plane,
    style: RoomStyle,
    openings: Sequence[Opening],
    name: str,
) -> list[TriangleMesh]:
    """Skirting, cornice, wainscot, pictures and, on a wall without windows, perhaps a door."""
    parts = []
    skirting = bevelled_box((plane.length, 0.11, 0.036), 0.008, style.trim)
    parts.append(_on_wall(plane, skirting, plane.length / 2, 0.055, 0.0))
    cornice = bevelled_box((plane.length, 0.09, 0.16), 0.03, style.ceiling)
    parts.append(_on_wall(plane, cornice, plane.length / 2, plane.height - 0.045, 0.0))
    if style.wainscot is not None and not openings:
        panel = box((plane.length, 0.95, 0.016), style.wainscot)
        rail = bevelled_box((plane.length, 0.05, 0.032), 0.01, style.trim)
        parts.append(_on_wall(plane, panel, plane.length / 2, 0.475, 0.0))
        parts.append(_on_wall(plane, rail, plane.length / 2, 0.96, 0.0))
    taken = [(hole.left - 0.2, hole.left + hole.width + 0.2) for hole in openings]
    if not openings and name in {"left", "right"} and rng.random() < 0.5:
        along = float(rng.uniform(0.35, 0.65)) * plane.length
        parts += _door(book, plane, style, along)
        taken.append((along - 0.7, along + 0.7))
    if name != "behind":
        parts += _pictures(
            rng, book, plane, style, taken, style.pictures if name == "ahead" else min(style.pictures, 2)
        )
    return parts


def _door(book: MaterialBook, plane: _Plane, style: RoomStyle, along: float) -> list[TriangleMesh]:
    parts = []
    leaf_surface = book.surface("painted", "cream")
    leaf = bevelled_box((0.86, 2.04, 0.03), 0.005, leaf_surface)
    parts.append(_on_wall(plane, leaf, along, 1.02, 0.0))
    for level, tall in ((0.5, 0.6), (1.4, 0.95)):
        panel = bevelled_box((0.6, tall, 0.046), 0.015, leaf_surface)
        parts.append(_on_wall(plane, panel, along, level, 0.0))
    for side in (-1, 1):
        parts.append(
            _on_wall(plane, bevelled_box((0.1, 2.16, 0.06), 0.012, style.trim), along + side * 0.48, 1.08, 0.0)
        )
    parts.append(_on_wall(plane, bevelled_box((1.06, 0.1, 0.06), 0.012, style.trim), along, 2.1, 0.0))
    handle = sphere(0.028, book.surface("metal", "gold"), segments=14)
    parts.append(_on_wall(plane, handle, along + 0.36, 1.0, 0.03))
    return parts


def _pictures(
    rng: np.random.Generator,
    book: MaterialBook,
    plane: _Plane,
    style: RoomStyle,
    taken: Sequence[tuple[float, float]],
    count: int,
) -> list[TriangleMesh]:
    """Framed paintings at eye height wherever the wall is free."""
    parts = []
    busy = list(taken)
    for _ in range(count):
        width, tall = float(rng.uniform(0.45, 1.0)), float(rng.uniform(0.45, 0.85))
        along = float(rng.uniform(0.5, plane.length - 0.5))
        if any(low - width / 2 < along < high + width / 2 for low, high in busy):
            continue
        busy.append((along - width / 2 - 0.15, along + width / 2 + 0.15))
        frame = book.surface(str(rng.choice(["wood", "metal", "painted"])))
        canvas = book.picture("painting", painting(rng))
        level = float(rng.uniform(1.55, 1.8))
        parts.append(_on_wall(plane, bevelled_box((width + 0.09, tall + 0.09, 0.05), 0.01, frame), along, level, 0.0))
        parts.append(_on_wall(plane, picture_box((width, tall, 0.056), frame, canvas), along, level, 0.0))
    return parts

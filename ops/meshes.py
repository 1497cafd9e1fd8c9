"""Building blocks of procedural objects: closed triangle meshes in metres, y up.

Every block is a closed surface of its own (each directed edge is met once by its reverse), with faces counter-clockwise
seen from outside, so an object merged from blocks stays closed and has a volume. Texture coordinates are laid out in
metres and divided by the size of the material's tile: a wall and a matchbox of one material share one scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .mesh_normals import face_normals
from .scene_model import Float32, Float64, TriangleMesh

UvLayout = Literal["box", "wrap"]


class Surface(NamedTuple):
    """A material of the scene as a mesh needs it: its index and the (u, v) size of its tile in metres."""

    material: int
    texture_metres: tuple[float, float]


def box(size: ArrayLike, surface: Surface, *, centre: ArrayLike = (0.0, 0.0, 0.0)) -> TriangleMesh:
    """Axis-aligned box of `size` (x, y, z) metres: 8 vertices, 12 triangles."""
    half = np.asarray(size, dtype=np.float64) / 2.0
    vertices = _BOX_CORNERS * half + np.asarray(centre, dtype=np.float64)
    return _with_box_uv(vertices, _BOX_FACES, surface)


def bevelled_box(
    size: ArrayLike, bevel: float, surface: Surface, *, centre: ArrayLike = (0.0, 0.0, 0.0), steps: int = 1
) -> TriangleMesh:
    """Box whose twelve edges are rounded by `bevel` metres; `steps` = 1 gives chamfers, more gives arcs."""
    width, height, depth = np.asarray(size, dtype=np.float64)
    bevel = min(bevel, 0.499 * min(width, height, depth))
    angles = np.linspace(0.0, np.pi / 2.0, steps + 1)
    rings = []
    for inset, level in [
        *((bevel * (1.0 - np.sin(angle)), -height / 2 + bevel * (1.0 - np.cos(angle))) for angle in angles),
        *((bevel * (1.0 - np.cos(angle)), height / 2 - bevel * (1.0 - np.sin(angle))) for angle in angles),
    ]:
        outline = _rounded_rectangle(width - 2 * inset, depth - 2 * inset, max(bevel - inset, 0.02 * bevel), angles)
        rings.append(np.column_stack([outline[:, 0], np.full(len(outline), level), outline[:, 1]]))
    mesh = swept(np.stack(rings), surface, uv_layout="box")
    return translated(mesh, centre)


def lathe(profile: ArrayLike, surface: Surface, *, segments: int = 32, uv_layout: UvLayout = "wrap") -> TriangleMesh:
    """Surface of revolution about y.

    Args:
        profile: (N, 2) of (radius, y). It is closed over the axis: its first and last points are joined to (0, y).
        surface: the material.
        segments: corners around.
        uv_layout: see `swept`; "box" suits what is sawn from boards.
    """
    points = np.asarray(profile, dtype=np.float64)
    start, end = points[0, 1], points[-1, 1]
    inner = points[points[:, 0] > 1e-6]
    angles = np.arange(segments) * (2.0 * np.pi / segments)
    rings = np.stack(
        [
            np.outer(inner[:, 0], np.sin(angles)),
            np.repeat(inner[:, 1:], segments, axis=1),
            np.outer(inner[:, 0], np.cos(angles)),
        ],
        axis=-1,
    )
    return swept(rings, surface, apexes=((0.0, start, 0.0), (0.0, end, 0.0)), uv_layout=uv_layout)


def cylinder(
    radius: float,
    height: float,
    surface: Surface,
    *,
    top_radius: float | None = None,
    segments: int = 24,
    uv_layout: UvLayout = "wrap",
) -> TriangleMesh:
    """Cylinder or truncated cone about y, base at y = 0, with chamfered rims."""
    top = radius if top_radius is None else top_radius
    rim = 0.08 * min(radius, top, height)
    profile = [(radius - rim, 0.0), (radius, rim), (top, height - rim), (top - rim, height)]
    return lathe(profile, surface, segments=segments, uv_layout=uv_layout)


def sphere(radius: float, surface: Surface, *, segments: int = 24) -> TriangleMesh:
    """Sphere about the origin of `segments` × `segments`/2 facets."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    return lathe(np.column_stack([radius * np.cos(angles), radius * np.sin(angles)]), surface, segments=segments)


def cushion(size: ArrayLike, surface: Surface, *, softness: float = 0.45, segments: int = 20) -> TriangleMesh:
    """Superellipsoid of `size` metres about the origin: 1.0 an ellipsoid, towards 0.0 a box with round edges.

    Source: A. Barr, "Superquadrics and angle-preserving transformations", IEEE CG&A 1981.
    """
    latitudes = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)[1:-1, None]
    longitudes = (np.arange(segments * 2) * (np.pi / segments))[None, :]

    def power(value: Float64) -> Float64:
        return np.sign(value) * np.abs(value) ** softness

    half = np.asarray(size, dtype=np.float64) / 2.0
    rings = np.stack(
        [
            half[0] * power(np.cos(latitudes)) * power(np.sin(longitudes)),
            half[1] * np.broadcast_to(power(np.sin(latitudes)), (segments // 2 - 1, segments * 2)),
            half[2] * power(np.cos(latitudes)) * power(np.cos(longitudes)),
        ],
        axis=-1,
    )
    return swept(rings, surface, apexes=((0.0, -half[1], 0.0), (0.0, half[1], 0.0)), uv_layout="box")


def lumpy_sphere(
    radius: float, rng: np.random.Generator, surface: Surface, *, roughness: float = 0.12, segments: int = 20
) -> TriangleMesh:
    """Sphere whose radius varies by about ±`roughness` of itself (foliage, boulders, loaves)."""
    mesh = sphere(radius, surface, segments=segments)
    directions = mesh.vertices.astype(np.float64) / radius
    waves = rng.normal(size=(6, 3)) * np.linspace(2.0, 6.0, 6)[:, None]
    phases = rng.uniform(0.0, 2.0 * np.pi, 6)
    bumps = np.sin(directions @ waves.T + phases) @ (1.0 / np.linspace(1.5, 3.5, 6))
    scale = 1.0 + roughness * bumps / 1.6
    return TriangleMesh((mesh.vertices * scale[:, None]).astype(np.float32), mesh.faces, mesh.uv, mesh.material)


def tube(path: ArrayLike, radii: ArrayLike, surface: Surface, *, segments: int = 10) -> TriangleMesh:
    """Round bar along an (N, 3) path with a radius (N,) or one for all; its ends are flat."""
    points = np.asarray(path, dtype=np.float64)
    radius = np.broadcast_to(np.asarray(radii, dtype=np.float64), (len(points),))
    side, up = _frames_along(points)
    angles = np.arange(segments) * (2.0 * np.pi / segments)
    circle = np.cos(angles)[:, None] * side[:, None, :] + np.sin(angles)[:, None] * up[:, None, :]
    rings = points[:, None, :] + radius[:, None, None] * circle
    return swept(rings, surface, apexes=(tuple(points[0]), tuple(points[-1])))


def leaf(path: ArrayLike, width: float, surface: Surface, *, thickness: float = 0.004) -> TriangleMesh:
    """Thin closed blade along an (N, 3) midrib, widest before its middle, `thickness` metres at the rib."""
    points = np.asarray(path, dtype=np.float64)
    side, up = _frames_along(points)
    along = np.linspace(0.0, 1.0, len(points))[1:-1]
    half = width / 2.0 * np.sin(np.pi * along**0.8) ** 0.8
    centre, side, up = points[1:-1], side[1:-1], up[1:-1]
    lift, edge = up * thickness / 2.0, side * half[:, None]
    droop = -up * (0.25 * half)[:, None]
    rings = np.stack([centre + edge + droop, centre + lift, centre - edge + droop, centre - lift], axis=1)
    return swept(rings, surface, apexes=(tuple(points[0]), tuple(points[-1])))


def swept(
    rings: ArrayLike,
    surface: Surface,
    *,
    apexes: tuple[Sequence[float], Sequence[float]] | None = None,
    uv_layout: UvLayout = "wrap",
) -> TriangleMesh:
    """Closed skin over a stack of rings with as many points each.

    Args:
        rings: (M, N, 3), each ring a loop of N points, all in the same sense.
        surface: material of every face.
        apexes: points that close the first and the last ring by a fan; by default their means.
        uv_layout: "wrap" runs u around in whole tiles and v along; "box" projects each face on its main plane.
    """
    stack = np.asarray(rings, dtype=np.float64)
    count, around = stack.shape[:2]
    ends = np.array([stack[0].mean(axis=0), stack[-1].mean(axis=0)] if apexes is None else apexes, dtype=np.float64)
    vertices = np.concatenate([stack.reshape(-1, 3), ends])
    faces = _sweep_faces(count, around)
    inside_out = _signed_volume(vertices, faces) < 0.0
    if uv_layout == "box":
        return _with_box_uv(vertices, faces[:, ::-1] if inside_out else faces, surface)
    uv = _wrap_uv(stack, ends, surface)
    if inside_out:
        faces, uv = faces[:, ::-1], uv[:, ::-1]
    return _mesh(vertices, faces, uv, surface.material)


def quad(corners: ArrayLike, surface: Surface, *, uv: ArrayLike | None = None) -> TriangleMesh:
    """One-sided rectangle (not closed; for shells). `corners` (4, 3) counter-clockwise seen from its front, from bottom
    left; `uv` (4, 2), by default metres along its edges over the tile's size."""
    points = np.asarray(corners, dtype=np.float64)
    if uv is None:
        edges = np.linalg.norm(points[[1, 3]] - points[0], axis=1)
        uv = _UNIT_SQUARE * edges / np.asarray(surface.texture_metres)
    corner_uv = np.asarray(uv, dtype=np.float64)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return _mesh(points, faces, corner_uv[faces], surface.material)


def picture_box(
    size: ArrayLike, body: Surface, picture: Surface, *, centre: ArrayLike = (0.0, 0.0, 0.0)
) -> TriangleMesh:
    """Box whose front (+z) face shows the whole of `picture` once, upright; the other faces are `body`."""
    mesh = box(size, body, centre=centre)
    front = face_normals(mesh)[:, 2] > 0.9
    low, high = bounds(mesh)
    uv, material = mesh.uv.copy(), mesh.material.copy()
    corners = mesh.vertices[mesh.faces[front]]
    uv[front] = (corners[..., :2] - low[:2]) / (high[:2] - low[:2])
    material[front] = picture.material
    return TriangleMesh(mesh.vertices, mesh.faces, uv, material)


def transformed(mesh: TriangleMesh, matrix: ArrayLike) -> TriangleMesh:
    """Mesh under a (4, 4) affine matrix (column vectors); mirrorings keep faces counter-clockwise from outside."""
    affine = np.asarray(matrix, dtype=np.float64)
    vertices = (mesh.vertices @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)
    if np.linalg.det(affine[:3, :3]) >= 0.0:
        return TriangleMesh(vertices, mesh.faces, mesh.uv, mesh.material)
    return TriangleMesh(
        vertices, np.ascontiguousarray(mesh.faces[:, ::-1]), np.ascontiguousarray(mesh.uv[:, ::-1]), mesh.material
    )


def translated(mesh: TriangleMesh, offset: ArrayLike) -> TriangleMesh:
    """Mesh moved by (3,) metres."""
    vertices = (mesh.vertices + np.asarray(offset, dtype=np.float64)).astype(np.float32)
    return TriangleMesh(vertices, mesh.faces, mesh.uv, mesh.material)


def turned(mesh: TriangleMesh, degrees: float, *, axis: Literal["x", "y", "z"] = "y") -> TriangleMesh:
    """Mesh turned by a right-handed angle about an axis through the origin."""
    return transformed(mesh, rotation(degrees, axis))


def rotation(degrees: float, axis: Literal["x", "y", "z"] = "y") -> Float64:
    """(4, 4) right-handed rotation about an axis."""
    angle = np.deg2rad(degrees)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def merged(meshes: Sequence[TriangleMesh]) -> TriangleMesh:
    """One mesh of several; vertices are not welded, so closed parts stay closed."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return TriangleMesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)]).astype(np.int32),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.material for mesh in meshes]),
    )


def scattered(mesh: TriangleMesh, poses: ArrayLike) -> TriangleMesh:
    """One mesh of N copies under (N, 4, 4) affine matrices without mirroring."""
    matrices = np.asarray(poses, dtype=np.float64)
    count = len(matrices)
    vertices = np.einsum("nij,vj->nvi", matrices[:, :3, :3], mesh.vertices) + matrices[:, None, :3, 3]
    faces = mesh.faces[None] + (np.arange(count) * len(mesh.vertices))[:, None, None]
    return TriangleMesh(
        vertices.reshape(-1, 3).astype(np.float32),
        faces.reshape(-1, 3).astype(np.int32),
        np.tile(mesh.uv, (count, 1, 1)),
        np.tile(mesh.material, count),
    )


def bounds(mesh: TriangleMesh) -> Float64:
    """(2, 3) lowest and highest corner of the axis-aligned bounding box, metres."""
    return np.stack([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)]).astype(np.float64)


def signed_volume(mesh: TriangleMesh) -> float:
    """Volume in cubic metres of a closed mesh (divergence theorem); negative when it is inside out."""
    return _signed_volume(mesh.vertices.astype(np.float64), mesh.faces)


def is_closed(mesh: TriangleMesh) -> bool:
    """Whether each directed edge occurs once and is met once by its reverse: no holes, consistent winding."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]).astype(np.int64)
    count = len(mesh.vertices)
    forward = np.sort(edges[:, 0] * count + edges[:, 1])
    backward = np.sort(edges[:, 1] * count + edges[:, 0])
    return bool(np.all(np.diff(forward) > 0) and np.array_equal(forward, backward))


def box_projected_uv(vertices: ArrayLike, faces: ArrayLike, texture_metres: tuple[float, float]) -> Float32:
    """(F, 3, 2) coordinates of each face projected along its dominant normal axis.

    u follows the longest side of the part (a plank's grain runs along the plank) wherever the face contains it.
    """
    points, corners = np.asarray(vertices, dtype=np.float64), np.asarray(faces)
    extent = points.max(axis=0) - points.min(axis=0)
    along = np.argsort(-extent, kind="stable")
    dominant = np.abs(_face_crosses(points, corners)).argmax(axis=1)
    uv = np.empty((len(corners), 3, 2), dtype=np.float32)
    for axis in range(3):
        chosen = dominant == axis
        first, second = (int(other) for other in along if other != axis)
        uv[chosen] = points[corners[chosen]][..., [first, second]] / np.asarray(texture_metres)
    return uv


def _with_box_uv(vertices: Float64, faces: np.ndarray, surface: Surface) -> TriangleMesh:
    return _mesh(vertices, faces, box_projected_uv(vertices, faces, surface.texture_metres), surface.material)


def _mesh(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, material: int) -> TriangleMesh:
    return TriangleMesh(
        np.ascontiguousarray(vertices, dtype=np.float32),
        np.ascontiguousarray(faces, dtype=np.int32),
        np.ascontiguousarray(uv, dtype=np.float32),
        np.full(len(faces), material, dtype=np.int32),
    )


def _rounded_rectangle(width: float, depth: float, radius: float, angles: Float64) -> Float64:
    """(4 · len(angles), 2) outline in (x, z) with the corners' centres `radius` inside the sides."""
    arc = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
    corners = []
    for quarter, (sign_x, sign_z) in enumerate([(1, 1), (-1, 1), (-1, -1), (1, -1)]):
        turn = np.deg2rad(90.0 * quarter)
        rotated = arc @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        centre = np.array([sign_x * (width / 2 - radius), sign_z * (depth / 2 - radius)])
        corners.append(rotated + centre)
    return np.concatenate(corners)


def _sweep_faces(count: int, around: int) -> np.ndarray:
    """Side quads of `count` rings as triangles, then the fans that close both ends."""
    row = np.arange(count - 1)[:, None] * around
    here = np.arange(around)[None, :]
    there = (here + 1) % around
    first, second = row + here, row + there
    third, fourth = second + around, first + around
    sides = np.stack([first, second, third, first, third, fourth], axis=-1).reshape(-1, 3)
    bottom_apex, top_apex = count * around, count * around + 1
    last = (count - 1) * around
    bottom = np.stack([there[0], here[0], np.full(around, bottom_apex)], axis=-1)
    top = np.stack([last + here[0], last + there[0], np.full(around, top_apex)], axis=-1)
    return np.concatenate([sides, bottom, top])


def _wrap_uv(stack: Float64, ends: Float64, surface: Surface) -> Float32:
    """Texture coordinates in the face order of `_sweep_faces`: u around in whole tiles, v along the skin."""
    count, around = stack.shape[:2]
    girth = np.linalg.norm(np.roll(stack, -1, axis=1) - stack, axis=-1).sum(axis=1).max()
    tiles = max(1.0, np.round(girth / surface.texture_metres[0]))
    steps = np.linalg.norm(np.diff(stack, axis=0), axis=-1).mean(axis=1)
    caps = [np.linalg.norm(stack[row] - ends[row], axis=-1).mean() for row in (0, -1)]
    v = np.concatenate([[0.0], np.cumsum(steps)]) / surface.texture_metres[1]
    u = np.arange(around + 1) * tiles / around
    left, right = (np.broadcast_to(side, (count - 1, around)) for side in (u[:-1], u[1:]))
    low, high = (np.broadcast_to(level[:, None], (count - 1, around)) for level in (v[:-1], v[1:]))
    corners = [(left, low), (right, low), (right, high), (left, low), (right, high), (left, high)]
    sides = np.stack([np.stack(pair, axis=-1) for pair in corners], axis=2).reshape(-1, 3, 2)
    middle = (u[:-1] + u[1:]) / 2.0
    bottom_v = np.full(around, v[0] - caps[0] / surface.texture_metres[1])
    top_v = np.full(around, v[-1] + caps[1] / surface.texture_metres[1])
    first, last = np.full(around, v[0]), np.full(around, v[-1])
    bottom = np.stack(
        [np.stack(pair, axis=-1) for pair in ((u[1:], first), (u[:-1], first), (middle, bottom_v))], axis=1
    )
    top = np.stack([np.stack(pair, axis=-1) for pair in ((u[:-1], last), (u[1:], last), (middle, top_v))], axis=1)
    return np.concatenate([sides, bottom, top]).astype(np.float32)


def _frames_along(points: Float64) -> tuple[Float64, Float64]:
    """(N, 3) sideways and upward unit vectors across a path, carried along it without twist."""
    tangents = _unit(np.gradient(points, axis=0))
    reference = np.array([0.0, 1.0, 0.0]) if abs(tangents[0, 1]) < 0.9 else np.array([0.0, 0.0, 1.0])
    sides = np.empty_like(points)
    side = _unit(np.cross(tangents[0], reference))
    for index, tangent in enumerate(tangents):
        side = _unit(side - tangent * (side @ tangent))
        sides[index] = side
    return sides, np.cross(sides, tangents)


def _face_crosses(vertices: Float64, faces: np.ndarray) -> Float64:
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    return np.cross(second - first, third - first)


def _signed_volume(vertices: Float64, faces: np.ndarray) -> float:
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->", first, np.cross(second, third)) / 6.0)


def _unit(vectors: Float64) -> Float64:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


_UNIT_SQUARE = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
_BOX_CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_BOX_FACES = np.array(
    [
        [0, 1, 3],
        [0, 3, 2],
        [4, 6, 7],
        [4, 7, 5],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [0, 2, 6],
        [0, 6, 4],
        [1, 5, 7],
        [1, 7, 3],
    ]
)

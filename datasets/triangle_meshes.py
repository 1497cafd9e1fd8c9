"""Triangle meshes for the layouts that describe objects: read from OBJ files, sampled, and put into a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptFileError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_REMEDY = "The mesh was cut short or changed after it was written: make the scene's objects again."


@dataclass(frozen=True, slots=True)
class ObjMesh:
    """Shape of a Wavefront OBJ, without materials.

    Attributes:
        vertices: (V, 3) float64.
        faces: (F, 3) int64, counted from 0; polygons are split into fans.
    """

    vertices: Float64
    faces: Int64


def read_obj(content: bytes, where: str) -> ObjMesh:
    """Vertices and faces of a Wavefront OBJ file.

    Raises:
        CorruptFileError: there are no faces, a number cannot be read, or a face names a vertex that does not exist.
    """
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    try:
        for line in content.decode().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "v":
                vertices.append([float(number) for number in rest.split()[:3]])
            elif kind == "f":
                faces += _fan([_vertex_of(corner, len(vertices)) for corner in rest.split()])
        mesh = ObjMesh(np.array(vertices, np.float64).reshape(-1, 3), np.array(faces, np.int64).reshape(-1, 3))
    except ValueError as error:
        raise CorruptFileError(f"not a Wavefront OBJ ({error})", where=where, remedy=_REMEDY) from error
    whole = len(mesh.faces) > 0 and mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)
    if not whole or not np.isfinite(mesh.vertices).all():
        raise CorruptFileError(
            f"{len(mesh.vertices)} vertices and {len(mesh.faces)} faces that do not fit together",
            where=where,
            remedy=_REMEDY,
        )
    return mesh


def _vertex_of(corner: str, count: int) -> int:
    index = int(corner.split("/")[0])
    return index - 1 if index > 0 else count + index


def _fan(corners: Sequence[int]) -> list[list[int]]:
    return [[corners[0], corners[place], corners[place + 1]] for place in range(1, len(corners) - 1)]


def sample_surface(mesh: ObjMesh, count: int, seed: int) -> tuple[Float64, Float64]:
    """Points spread evenly over a mesh's area, with the normals of their faces.

    Returns:
        points (count, 3) and unit normals (count, 3); the normals follow the faces' winding.

    Raises:
        CorruptFileError: no face has an area.
    """
    rng = np.random.default_rng(seed)
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1)
    if not area.sum() > 0:
        raise CorruptFileError("no face of the mesh has an area", where="mesh", remedy=_REMEDY)
    chosen = rng.choice(len(area), count, p=area / area.sum())
    # The square root spreads points evenly over a triangle (Turk, Graphics Gems I, 1990).
    first, second = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    points = (1 - first) * a[chosen] + first * (1 - second) * b[chosen] + first * second * c[chosen]
    return points, normal[chosen] / area[chosen, None]


def canonical_vertices(vertices: Float64) -> Float64:
    """TRELLIS' frame of an asset: z up ((x, y, z) → (x, -z, y)), centred on its box, longest side 1."""
    turned = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], axis=1)
    low, high = turned.min(axis=0), turned.max(axis=0)
    return (turned - (low + high) / 2) / (high - low).max()


def occupied_cells(vertices: Float64, faces: Int64, resolution: int) -> Int64:
    """Cells of a cubic grid over [-0.5, 0.5]³ that a surface passes through.

    Every triangle is covered with points no farther apart than half a cell, so a cell whose corner it merely grazes
    may be missed.

    Returns:
        (N, 3) distinct cells, ordered.
    """
    corners = vertices[faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    parts = np.maximum(np.ceil(longest * resolution * 2).astype(np.int64), 1)
    occupied = np.zeros((resolution,) * 3, bool)
    for count in np.unique(parts):
        first, second = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
        inside = first + second <= count
        u, v = first[inside] / count, second[inside] / count
        weights = np.stack([1 - u - v, u, v], axis=1)
        points = (weights @ corners[parts == count]).reshape(-1, 3)
        cells = np.clip(np.floor((points + 0.5) * resolution).astype(np.int64), 0, resolution - 1)
        occupied[tuple(cells.T)] = True
    return np.argwhere(occupied)

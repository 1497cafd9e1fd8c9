"""Normals of triangle meshes: flat ones of faces, and smooth ones that keep sharp edges sharp."""

from __future__ import annotations

import numpy as np

from .scene_model import Float32, Float64, TriangleMesh

CREASE_DEGREES = 40.0
"""Faces that meet at a smaller angle are shaded as one curved surface: a cylinder of ten sides is round."""

_LARGEST_FAN = 512
"""Corners at one point up to which they are compared pair by pair; a larger fan keeps its faces' own normals."""

_WELD_CELLS = (1 << 20) - 1


def face_normals(mesh: TriangleMesh) -> Float64:
    """(F, 3) unit normals of the faces as their winding turns; zero for a face without area."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]].astype(np.float64) for corner in range(3))
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)


def corner_normals(mesh: TriangleMesh) -> Float32:
    """(F, 3, 3) float32 unit normal at each face's corners.

    A corner's normal is the mean, weighted by corner angle, of the faces that share its position and whose normals
    differ from its own face's by less than `CREASE_DEGREES` (Thürmer & Wüthrich, "Computing vertex normals from
    polygonal facets", 1998). Positions are compared to a millionth of the mesh's extent.
    """
    normals = face_normals(mesh)
    weighted = normals[:, None] * _corner_angles(mesh)[..., None]
    point = _weld(mesh.vertices)[mesh.faces].reshape(-1)
    order = np.argsort(point, kind="stable")
    _, start, count = np.unique(point[order], return_index=True, return_counts=True)
    small = count <= _LARGEST_FAN
    start, count = start[small], count[small]
    member, partner = _pairs_within_groups(start, count)
    corner, other = order[member], order[partner]
    alike = np.einsum("ij,ij->i", normals[corner // 3], normals[other // 3]) > np.cos(np.radians(CREASE_DEGREES))
    corner, other = corner[alike], other[alike]
    corners = len(point)
    total = np.stack(
        [np.bincount(corner, weighted.reshape(-1, 3)[other, axis], minlength=corners) for axis in range(3)], axis=1
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    own = np.repeat(normals, 3, axis=0)
    return np.divide(total, length, out=own, where=length > 1e-9).reshape(-1, 3, 3).astype(np.float32)


def _corner_angles(mesh: TriangleMesh) -> Float64:
    """(F, 3) inner angles in radians."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    following = np.roll(corners, -1, axis=1) - corners
    preceding = np.roll(corners, 1, axis=1) - corners
    sine = np.linalg.norm(np.cross(following, preceding), axis=2)
    return np.arctan2(sine, np.einsum("fcx,fcx->fc", following, preceding))


def _weld(vertices: Float32) -> np.ndarray:
    """(V,) int64 number of each vertex's position; equal positions have equal numbers."""
    lowest = vertices.min(axis=0).astype(np.float64)
    extent = max(float(np.max(vertices - lowest)), 1e-12)
    cell = np.rint((vertices - lowest) * (_WELD_CELLS / extent)).astype(np.int64)
    return (cell[:, 0] << 40) | (cell[:, 1] << 20) | cell[:, 2]


def _pairs_within_groups(start: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every ordered pair of members of the groups start[g] … start[g] + count[g] - 1, a member with itself included."""
    group = np.repeat(np.arange(len(count)), count * count)
    place = np.arange(len(group)) - np.repeat(np.cumsum(count * count) - count * count, count * count)
    return start[group] + place // count[group], start[group] + place % count[group]

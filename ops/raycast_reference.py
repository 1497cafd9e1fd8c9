"""What a ray hits, by testing every triangle in float64: the definition that the ray caster is held against.

Slow on purpose and independent of the kernels: no hierarchy, and the intersection is Möller & Trumbore's ("Fast,
minimum storage ray/triangle intersection", 1997) where the kernels use Plücker coordinates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .scene_model import Float64, Int32, SceneModel

_EDGE_SLACK = 1e-9
"""How far, in barycentric weight, a hit may lie outside a triangle: no ray is lost between two."""


def world_triangles(scene: SceneModel) -> Float64:
    """(F, 3, 3) float64 corners in the world frame, the shell's first, then each instance's in order."""
    world_from_scene = np.linalg.inv(np.asarray(scene.scene_from_camera, np.float64))
    placed = [(scene.shell, world_from_scene)]
    placed += [(instance.mesh, world_from_scene @ instance.scene_from_object) for instance in scene.instances]
    corners = [mesh.vertices.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3] for mesh, pose in placed]
    return np.concatenate([points[mesh.faces] for points, (mesh, _) in zip(corners, placed, strict=True)])


def closest_hits(triangles: ArrayLike, origins: ArrayLike, directions: ArrayLike) -> tuple[Float64, Int32, Float64]:
    """First hit of each of N rays on (F, 3, 3) triangles, both sides of which count.

    Returns:
        (N,) distance in lengths of the direction, inf for a miss; (N,) int32 face, -1 for a miss; (N, 2) weights of the
        face's second and third corner.
    """
    corners = np.asarray(triangles, np.float64)
    a, edge1, edge2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    starts, ways = np.asarray(origins, np.float64), np.asarray(directions, np.float64)
    distance = np.full(len(starts), np.inf)
    face = np.full(len(starts), -1, np.int32)
    weights = np.zeros((len(starts), 2))
    for ray, (start, way) in enumerate(zip(starts, ways, strict=True)):
        t, u, v = _intersections(a, edge1, edge2, start, way)
        nearest = int(np.argmin(t))
        if np.isfinite(t[nearest]):
            distance[ray], face[ray], weights[ray] = t[nearest], nearest, (u[nearest], v[nearest])
    return distance, face, weights


def depth_map(triangles: ArrayLike, c2w: ArrayLike, intrinsics: ArrayLike, height: int, width: int) -> Float64:
    """(H, W) z-depth of the ray through each pixel's centre, 0 where it hits nothing."""
    pose, (fx, fy, cx, cy) = np.asarray(c2w, np.float64), np.asarray(intrinsics, np.float64)
    row, column = np.indices((height, width)) + 0.5
    # With z = 1 in the camera's axes a ray's parameter is its z-depth.
    local = np.stack([(column - cx) / fx, (row - cy) / fy, np.ones((height, width))], axis=-1).reshape(-1, 3)
    origins = np.broadcast_to(pose[:3, 3], local.shape)
    depth, _, _ = closest_hits(triangles, origins, local @ pose[:3, :3].T)
    return np.where(np.isfinite(depth), depth, 0.0).reshape(height, width)


def closest_distances(triangles: ArrayLike, points: ArrayLike) -> Float64:
    """(N,) distance from each point to the nearest triangle: over its face, its edges and so its corners."""
    corners = np.asarray(triangles, np.float64)
    return np.array([_distance_to_triangles(corners, point) for point in np.asarray(points, np.float64)])


def _intersections(
    a: Float64, edge1: Float64, edge2: Float64, start: Float64, way: Float64
) -> tuple[Float64, Float64, Float64]:
    p = np.cross(way, edge2)
    determinant = np.einsum("fi,fi->f", edge1, p)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = start - a
        u = np.einsum("fi,fi->f", offset, p) / determinant
        q = np.cross(offset, edge1)
        v = q @ way / determinant
        t = np.einsum("fi,fi->f", edge2, q) / determinant
        hit = (determinant != 0) & (u >= -_EDGE_SLACK) & (v >= -_EDGE_SLACK) & (u + v <= 1 + _EDGE_SLACK) & (t > 0)
    return np.where(hit, t, np.inf), u, v


def _distance_to_triangles(corners: Float64, point: Float64) -> float:
    nearest = np.inf
    for k in range(3):
        start, edge = corners[:, k], corners[:, (k + 1) % 3] - corners[:, k]
        along = np.einsum("fi,fi->f", point - start, edge) / np.maximum(np.einsum("fi,fi->f", edge, edge), 1e-300)
        foot = start + np.clip(along, 0, 1)[:, None] * edge
        nearest = min(nearest, float(np.linalg.norm(point - foot, axis=1).min()))
    a, edge1, edge2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(edge1, edge2)
    length = np.linalg.norm(normal, axis=1)
    for index in np.flatnonzero(length > 0):
        unit = normal[index] / length[index]
        height = float((point - a[index]) @ unit)
        above, _, _ = _intersections(
            a[index, None], edge1[index, None], edge2[index, None], point, -np.sign(height) * unit
        )
        if np.isfinite(above[0]):
            nearest = min(nearest, abs(height))
    return nearest

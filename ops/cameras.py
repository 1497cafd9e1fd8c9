"""Camera geometry: look-at poses, rays, projection, resampling of poses, and intrinsics under resize and crop.

Axes are OpenCV's (x right, y down, z forward), poses camera-to-world, intrinsics `[fx, fy, cx, cy]` in pixels with
pixel centres at +0.5: the pixel in column u and row v is the square [u, u+1] × [v, v+1] and its ray goes through
(u + 0.5, v + 0.5). Everything is computed and returned in float64; leading axes broadcast. Checks and conversions to
and from other conventions live in `datasets.camera_conventions`, where training code finds them too, and are offered
here as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..datasets.camera_conventions import (
    Float64,
    QuaternionOrder,
    check_c2w,
    check_intrinsics,
    field_of_view_from_focal,
    focal_from_field_of_view,
    intrinsics_from_matrix,
    invert_rigid,
    matrix_from_intrinsics,
    nearest_rotation,
    opencv_from_opengl,
    opengl_from_opencv,
    quaternion_from_rotation,
    resize_intrinsics,
    rotation_from_quaternion,
)
from ..datasets.errors import ContractError

__all__ = [
    "CoverCrop",
    "QuaternionOrder",
    "centred_intrinsics",
    "check_c2w",
    "check_intrinsics",
    "cover_crop",
    "crop_intrinsics",
    "field_of_view_from_focal",
    "focal_from_field_of_view",
    "interpolate_poses",
    "intrinsics_from_matrix",
    "invert_rigid",
    "look_at",
    "matrix_from_intrinsics",
    "nearest_rotation",
    "opencv_from_opengl",
    "opengl_from_opencv",
    "pixel_rays",
    "plucker_coordinates",
    "poses_relative_to_first",
    "project",
    "quaternion_from_rotation",
    "resize_intrinsics",
    "rotation_angle",
    "rotation_from_quaternion",
    "rotation_from_vector",
    "unproject",
    "vector_from_rotation",
]

WORLD_DOWN = (0.0, 1.0, 0.0)
"""Down in the world frame: the conditioning camera's y axis."""


def look_at(position: ArrayLike, target: ArrayLike) -> Float64:
    """Poses of cameras at `position` whose optical axes pass through `target`, without roll (`WORLD_DOWN` is down).

    The rotation's columns are right = down × forward, down' = forward × right and forward = target − position.

    Args:
        position: (…, 3) camera centres, world frame.
        target: (…, 3) points looked at.

    Returns:
        (…, 4, 4) c2w.

    Raises:
        ContractError: a target coincides with its camera or lies straight up or down, which leaves the roll open.
    """
    centre, aim = np.broadcast_arrays(np.asarray(position, dtype=np.float64), np.asarray(target, dtype=np.float64))
    forward = _unit(aim - centre, "the target coincides with the camera")
    right = _unit(np.cross(WORLD_DOWN, forward), "the target lies straight up or down")
    pose = np.zeros((*centre.shape[:-1], 4, 4))
    pose[..., :3, 0], pose[..., :3, 1], pose[..., :3, 2] = right, np.cross(forward, right), forward
    pose[..., :3, 3] = centre
    pose[..., 3, 3] = 1.0
    return pose


def _unit(vectors: Float64, fault: str) -> Float64:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (length > 1e-9).all():
        raise ContractError(fault, where="look_at", remedy="Choose a target that is apart from the camera's vertical.")
    return vectors / length


def poses_relative_to_first(c2w: ArrayLike) -> Float64:
    """(T, 4, 4) poses in the first camera's frame: inverse(c2w₀)·c2wᵢ; the first is exactly the identity."""
    poses = np.asarray(c2w, dtype=np.float64)
    relative = invert_rigid(poses[0]) @ poses
    relative[0] = np.eye(4)
    return relative


def vector_from_rotation(rotation: ArrayLike) -> Float64:
    """(…, 3) rotation vectors (axis times angle in [0, π]) of (…, 3, 3) rotations: the logarithm map of SO(3).

    Through the quaternion: angle 2·atan2(|v|, w), which keeps full precision near 0 and near π.
    """
    quaternion = quaternion_from_rotation(rotation, order="wxyz")
    w, v = quaternion[..., :1], quaternion[..., 1:]
    sine = np.linalg.norm(v, axis=-1, keepdims=True)
    small = sine < 1e-12
    factor = np.where(small, 2.0, 2.0 * np.arctan2(sine, w) / np.where(small, 1.0, sine))
    return v * factor


def rotation_from_vector(vector: ArrayLike) -> Float64:
    """(…, 3, 3) rotations of (…, 3) rotation vectors: the exponential map, inverse of `vector_from_rotation`."""
    given = np.asarray(vector, dtype=np.float64)
    half = np.linalg.norm(given, axis=-1, keepdims=True) / 2.0
    # np.sinc(x) is sin(πx)/(πx), so this is sin(half)/half without a division by zero.
    quaternion = np.concatenate([np.cos(half), given / 2.0 * np.sinc(half / np.pi)], axis=-1)
    return rotation_from_quaternion(quaternion, order="wxyz")


def rotation_angle(rotation: ArrayLike) -> Float64:
    """(…,) angles in radians, [0, π], of (…, 3, 3) rotations: their geodesic distance from the identity."""
    return np.linalg.norm(vector_from_rotation(rotation), axis=-1)


def interpolate_poses(c2w: ArrayLike, times: ArrayLike, at: ArrayLike) -> Float64:
    """Poses between key poses: camera centres linearly, rotations at constant angular speed (slerp, Shoemake 1985).

    Args:
        c2w: (K, 4, 4) key poses.
        times: (K,) strictly increasing.
        at: (T,) times within [times[0], times[-1]].

    Returns:
        (T, 4, 4) c2w.

    Raises:
        ContractError: `times` does not increase or `at` leaves its range.
    """
    keys, knots, wanted = (np.asarray(values, dtype=np.float64) for values in (c2w, times, at))
    if knots.shape != (len(keys),) or not (np.diff(knots) > 0.0).all():
        raise ContractError("times do not increase", where="interpolate_poses", remedy="Give one time a key pose.")
    if wanted.size and (wanted.min() < knots[0] or wanted.max() > knots[-1]):
        raise ContractError("times outside the key poses", where="interpolate_poses", remedy="Stay within the keys.")
    if len(keys) == 1:
        return np.repeat(keys, len(wanted), axis=0)
    before = np.clip(np.searchsorted(knots, wanted, side="right") - 1, 0, len(keys) - 2)
    fraction = ((wanted - knots[before]) / (knots[before + 1] - knots[before]))[:, None]
    start, end = keys[before], keys[before + 1]
    turn = vector_from_rotation(np.swapaxes(start[:, :3, :3], 1, 2) @ end[:, :3, :3])
    poses = np.zeros((len(wanted), 4, 4))
    poses[:, :3, :3] = start[:, :3, :3] @ rotation_from_vector(fraction * turn)
    poses[:, :3, 3] = (1.0 - fraction) * start[:, :3, 3] + fraction * end[:, :3, 3]
    poses[:, 3, 3] = 1.0
    return poses


def centred_intrinsics(height: int, width: int, *, horizontal_field_of_view: float) -> Float64:
    """(4,) `[fx, fy, cx, cy]` of a centred lens with square pixels; the field of view is in radians."""
    focal = float(focal_from_field_of_view(horizontal_field_of_view, width))
    return np.array([focal, focal, width / 2.0, height / 2.0])


def crop_intrinsics(intrinsics: ArrayLike, *, top: float, left: float) -> Float64:
    """(…, 4) intrinsics after `top` rows and `left` columns are cut away (negative values: a border is added)."""
    return np.asarray(intrinsics, dtype=np.float64) - np.array([0.0, 0.0, left, top])


@dataclass(frozen=True, slots=True)
class CoverCrop:
    """A resize that just covers the target and the centred crop to it.

    Attributes:
        source: (height, width) before.
        resized: (height, width) after the resize, before the crop.
        top, left: rows and columns cut away at the start.
        target: (height, width) after the crop.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    top: int
    left: int
    target: tuple[int, int]

    def intrinsics(self, intrinsics: ArrayLike) -> Float64:
        """(…, 4) intrinsics of the cropped picture. They follow the resized picture's true, rounded size, so that
        pixel and ray agree exactly; fx and fy may differ by that rounding."""
        resized = resize_intrinsics(intrinsics, source=self.source, target=self.resized)
        return crop_intrinsics(resized, top=self.top, left=self.left)


def cover_crop(source: tuple[int, int], target: tuple[int, int]) -> CoverCrop:
    """Plan of resize-and-centre-crop from `source` to `target`, both (height, width): aspect kept, nothing padded."""
    ratio = max(target[0] / source[0], target[1] / source[1])
    resized = (max(round(source[0] * ratio), target[0]), max(round(source[1] * ratio), target[1]))
    return CoverCrop(source, resized, (resized[0] - target[0]) // 2, (resized[1] - target[1]) // 2, target)


def pixel_rays(c2w: ArrayLike, intrinsics: ArrayLike, height: int, width: int) -> tuple[Float64, Float64]:
    """Rays through the pixel centres of one camera or of T cameras.

    Args:
        c2w: (…, 4, 4).
        intrinsics: (…, 4) pixels of the (height, width) picture.

    Returns:
        origins (…, H, W, 3) and unit directions (…, H, W, 3), world frame. The z-depth of a point at distance s along
        a ray is s times the direction's component along the camera's forward axis.
    """
    poses = np.asarray(c2w, dtype=np.float64)
    fx, fy, cx, cy = (value[..., None, None] for value in np.moveaxis(np.asarray(intrinsics, dtype=np.float64), -1, 0))
    u, v = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    x, y = np.broadcast_arrays((u - cx) / fx, (v - cy) / fy)
    local = np.stack([x, y, np.ones_like(x)], axis=-1)
    directions = np.einsum("...ij,...hwj->...hwi", poses[..., :3, :3], local)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = np.broadcast_to(poses[..., None, None, :3, 3], directions.shape)
    return origins, directions


def plucker_coordinates(c2w: ArrayLike, intrinsics: ArrayLike, height: int, width: int) -> Float64:
    """(…, H, W, 6) Plücker coordinates (moment o × d, direction d) of the pixel rays, d of unit length.

    The order is that of LVSM and Gen3R; the moment does not depend on which point of the ray is taken as o.
    """
    origins, directions = pixel_rays(c2w, intrinsics, height, width)
    return np.concatenate([np.cross(origins, directions), directions], axis=-1)


def project(points: ArrayLike, c2w: ArrayLike, intrinsics: ArrayLike) -> tuple[Float64, Float64]:
    """Pixel coordinates and z-depth of world points.

    Args:
        points: (…, N, 3) world frame.
        c2w: (…, 4, 4).
        intrinsics: (…, 4).

    Returns:
        coordinates (…, N, 2) as (u, v), NaN for points at or behind the camera's plane, and z-depth (…, N).
    """
    w2c = invert_rigid(c2w)
    local = np.einsum("...ij,...nj->...ni", w2c[..., :3, :3], np.asarray(points, dtype=np.float64))
    local = local + w2c[..., None, :3, 3]
    depth = local[..., 2]
    values = np.asarray(intrinsics, dtype=np.float64)[..., None, :]
    in_front = np.where(depth > 0.0, depth, np.nan)
    return local[..., :2] / in_front[..., None] * values[..., :2] + values[..., 2:], depth


def unproject(coordinates: ArrayLike, depth: ArrayLike, c2w: ArrayLike, intrinsics: ArrayLike) -> Float64:
    """(…, N, 3) world points at pixel coordinates (…, N, 2) and z-depth (…, N): inverse of `project`."""
    values = np.asarray(intrinsics, dtype=np.float64)[..., None, :]
    poses, distance = np.asarray(c2w, dtype=np.float64), np.asarray(depth, dtype=np.float64)[..., None]
    plane = (np.asarray(coordinates, dtype=np.float64) - values[..., 2:]) / values[..., :2]
    local = np.concatenate([plane * distance, distance], axis=-1)
    return np.einsum("...ij,...nj->...ni", poses[..., :3, :3], local) + poses[..., None, :3, 3]

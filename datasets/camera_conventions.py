"""The one place where camera conventions are checked and converted into each other.

Stored cameras use OpenCV axes (x right, y down, z forward), camera-to-world poses, `[fx, fy, cx, cy]` in pixels and
pixel centres at +0.5. Every function here takes any floating dtype, computes in float64 and returns float64, so that
conversions can be chained without loss; what is stored is cast to float32 once, at the end. Leading axes broadcast.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ContractError

Float64 = NDArray[np.float64]
QuaternionOrder = Literal["wxyz", "xyzw"]

_FLIP_Y_AND_Z = np.diag([1.0, -1.0, -1.0, 1.0])
_POSE_REMEDY = (
    "Give camera-to-world poses with OpenCV axes: a rotation (orthonormal, determinant +1) and a translation."
)
_INTRINSICS_REMEDY = "Give [fx, fy, cx, cy] in pixels of the stored resolution."


def check_c2w(c2w: NDArray[Any], *, where: str = "c2w", tolerance: float = 1e-4) -> None:
    """Require poses: shape (T, 4, 4), finite, bottom row 0 0 0 1, rotation orthonormal with determinant +1.

    Args:
        c2w: (T, 4, 4) camera-to-world poses.
        where: named in the error.
        tolerance: largest |RᵀR − I| entry accepted; the default passes float32 rounding, not a scaled or sheared pose.

    Raises:
        ContractError: names the first frame that breaks the contract and how far off it is.
    """
    if c2w.ndim != 3 or c2w.shape[1:] != (4, 4) or len(c2w) == 0:
        raise ContractError(f"shape {c2w.shape}, expected (T, 4, 4) with T ≥ 1", where=where, remedy=_POSE_REMEDY)
    poses = np.asarray(c2w, dtype=np.float64)
    finite = np.isfinite(poses).all(axis=(1, 2))
    _require_frames(finite, "is not finite", where, _POSE_REMEDY)
    bottom = np.abs(poses[:, 3] - [0.0, 0.0, 0.0, 1.0]).max(axis=1)
    _require_frames(bottom <= tolerance, "has a bottom row other than 0 0 0 1", where, _POSE_REMEDY)
    rotation = poses[:, :3, :3]
    error = np.abs(np.swapaxes(rotation, 1, 2) @ rotation - np.eye(3)).max(axis=(1, 2))
    _require_frames(error <= tolerance, f"is not orthonormal (|RᵀR − I| up to {error.max():.3g})", where, _POSE_REMEDY)
    _require_frames(np.linalg.det(rotation) > 0.0, "is a reflection (determinant −1)", where, _POSE_REMEDY)


def check_intrinsics(
    intrinsics: NDArray[Any], *, where: str = "intrinsics", size: tuple[int, int] | None = None
) -> None:
    """Require `[fx, fy, cx, cy]`: shape (T, 4), finite, focal lengths positive.

    Args:
        intrinsics: (T, 4) pixels.
        where: named in the error.
        size: (height, width) of the picture; when given, the principal point must lie inside it and the focal lengths
            must be those of a field of view between 1° and 179°, which catches normalised or resized intrinsics.

    Raises:
        ContractError: names the first frame that breaks the contract.
    """
    if intrinsics.ndim != 2 or intrinsics.shape[1] != 4 or len(intrinsics) == 0:
        raise ContractError(f"shape {intrinsics.shape}, expected (T, 4)", where=where, remedy=_INTRINSICS_REMEDY)
    values = np.asarray(intrinsics, dtype=np.float64)
    _require_frames(np.isfinite(values).all(axis=1), "is not finite", where, _INTRINSICS_REMEDY)
    _require_frames((values[:, :2] > 0.0).all(axis=1), "has a focal length ≤ 0", where, _INTRINSICS_REMEDY)
    if size is None:
        return
    extent = np.array([size[1], size[0]], dtype=np.float64)
    inside = ((values[:, 2:] >= 0.0) & (values[:, 2:] <= extent)).all(axis=1)
    picture = f"{size[1]}×{size[0]} picture"
    _require_frames(inside, f"has its principal point outside the {picture}", where, _INTRINSICS_REMEDY)
    field_of_view = np.degrees(field_of_view_from_focal(values[:, :2], extent))
    plausible = ((field_of_view >= 1.0) & (field_of_view <= 179.0)).all(axis=1)
    _require_frames(plausible, f"has no focal length of a {picture}", where, _INTRINSICS_REMEDY)


def _require_frames(holds: ArrayLike, fault: str, where: str, remedy: str) -> None:
    frames = np.asarray(holds)
    if not frames.all():
        raise ContractError(f"frame {int(np.argmin(frames))} {fault}", where=where, remedy=remedy)


def invert_rigid(poses: ArrayLike) -> Float64:
    """Inverse of rigid transforms, [Rᵀ | −Rᵀt], without a matrix factorisation: c2w → w2c and back.

    Args:
        poses: (…, 4, 4).

    Returns:
        (…, 4, 4) float64.
    """
    given = np.asarray(poses, dtype=np.float64)
    transposed = np.swapaxes(given[..., :3, :3], -1, -2)
    inverse = np.zeros_like(given)
    inverse[..., :3, :3] = transposed
    inverse[..., :3, 3] = -(transposed @ given[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def opencv_from_opengl(c2w: ArrayLike) -> Float64:
    """Poses whose camera axes are OpenGL's or Blender's (x right, y up, z backward) with OpenCV axes instead.

    Only the camera's axes turn (right factor diag(1, −1, −1, 1)); the world stays as it is.
    """
    return np.asarray(c2w, dtype=np.float64) @ _FLIP_Y_AND_Z


def opengl_from_opencv(c2w: ArrayLike) -> Float64:
    """Inverse of `opencv_from_opengl` (the flip is its own inverse)."""
    return opencv_from_opengl(c2w)


def rotation_from_quaternion(quaternion: ArrayLike, *, order: QuaternionOrder) -> Float64:
    """Rotation matrices of quaternions, which need not be of unit length.

    Args:
        quaternion: (…, 4). COLMAP writes wxyz; TUM, ROS and SciPy write xyzw.
        order: which component comes first; there is no default because both are common.

    Returns:
        (…, 3, 3) float64.

    Raises:
        ContractError: a quaternion is zero or not finite.
    """
    given = np.asarray(quaternion, dtype=np.float64)
    length = np.linalg.norm(given, axis=-1, keepdims=True)
    if not (np.isfinite(length).all() and (length > 1e-12).all()):
        raise ContractError("zero or not finite", where="quaternion", remedy="Give quaternions of unit length.")
    unit = given / length
    w, x, y, z = np.moveaxis(unit if order == "wxyz" else np.roll(unit, 1, axis=-1), -1, 0)
    rows = [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_rotation(rotation: ArrayLike, *, order: QuaternionOrder) -> Float64:
    """Unit quaternions (w ≥ 0) of rotation matrices.

    Of the four products q·qᵢ (one for each component i), the one with the largest qᵢ is normalised, which is stable
    at every angle (Shepperd 1978, "Quaternion from rotation matrix").

    Args:
        rotation: (…, 3, 3).
        order: "wxyz" (COLMAP) or "xyzw" (TUM, ROS, SciPy).

    Returns:
        (…, 4) float64.
    """
    r = np.asarray(rotation, dtype=np.float64)
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    xy, xz, yz = r[..., 1, 0] + r[..., 0, 1], r[..., 0, 2] + r[..., 2, 0], r[..., 2, 1] + r[..., 1, 2]
    products = np.stack(
        [
            np.stack([1.0 + xx + yy + zz, wx, wy, wz], axis=-1),
            np.stack([wx, 1.0 + xx - yy - zz, xy, xz], axis=-1),
            np.stack([wy, xy, 1.0 - xx + yy - zz, yz], axis=-1),
            np.stack([wz, xz, yz, 1.0 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    largest = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    quaternion = np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    quaternion = np.where(quaternion[..., :1] < 0.0, -quaternion, quaternion)
    return quaternion if order == "wxyz" else np.roll(quaternion, -1, axis=-1)


def nearest_rotation(matrix: ArrayLike) -> Float64:
    """Rotation closest to each (…, 3, 3) matrix in the Frobenius norm: UVᵀ of its SVD with the sign of the smallest
    singular direction chosen for determinant +1 (Umeyama 1991, lemma)."""
    u, _, vt = np.linalg.svd(np.asarray(matrix, dtype=np.float64))
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt


def matrix_from_intrinsics(intrinsics: ArrayLike) -> Float64:
    """(…, 3, 3) calibration matrices K of (…, 4) `[fx, fy, cx, cy]`, without skew."""
    values = np.asarray(intrinsics, dtype=np.float64)
    matrix = np.zeros((*values.shape[:-1], 3, 3))
    matrix[..., 0, 0], matrix[..., 1, 1] = values[..., 0], values[..., 1]
    matrix[..., 0, 2], matrix[..., 1, 2] = values[..., 2], values[..., 3]
    matrix[..., 2, 2] = 1.0
    return matrix


def intrinsics_from_matrix(matrix: ArrayLike) -> Float64:
    """(…, 4) `[fx, fy, cx, cy]` of (…, 3, 3) calibration matrices.

    Raises:
        ContractError: not 3×3, or with skew or a last row other than 0 0 1, which four numbers cannot hold.
    """
    values = np.asarray(matrix, dtype=np.float64)
    pinhole = values.shape[-2:] == (3, 3)
    if pinhole:
        lost = [values[..., 0, 1], values[..., 1, 0], values[..., 2, 0], values[..., 2, 1], values[..., 2, 2] - 1.0]
        pinhole = bool(np.all(np.abs(lost) < 1e-6))
    if not pinhole:
        raise ContractError(
            "not of the form [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]",
            where="calibration matrix",
            remedy="Undistort the pictures to a camera without skew.",
        )
    return np.stack([values[..., 0, 0], values[..., 1, 1], values[..., 0, 2], values[..., 1, 2]], axis=-1)


def resize_intrinsics(intrinsics: ArrayLike, *, source: tuple[float, float], target: tuple[float, float]) -> Float64:
    """Intrinsics after the picture is resized from `source` to `target`, both (height, width).

    With pixel centres at +0.5 a resize is a pure scale of the plane, so focal lengths and principal point scale alike.
    Normalised intrinsics (RealEstate10K) are those of a 1×1 picture.
    """
    across, down = target[1] / source[1], target[0] / source[0]
    return np.asarray(intrinsics, dtype=np.float64) * np.array([across, down, across, down])


def field_of_view_from_focal(focal: ArrayLike, extent: ArrayLike) -> Float64:
    """Full angle in radians seen across `extent` pixels (width with fx, height with fy): 2·atan(extent / 2f)."""
    return 2.0 * np.arctan2(np.asarray(extent, dtype=np.float64), 2.0 * np.asarray(focal, dtype=np.float64))


def focal_from_field_of_view(angle: ArrayLike, extent: ArrayLike) -> Float64:
    """Focal length in pixels of a full angle in radians across `extent` pixels: extent / (2·tan(angle / 2))."""
    return np.asarray(extent, dtype=np.float64) / (2.0 * np.tan(np.asarray(angle, dtype=np.float64) / 2.0))

"""Cameras of one path as every camera file gives and takes them, and what all the file formats share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .camera_conventions import (
    Float64,
    QuaternionOrder,
    check_c2w,
    check_intrinsics,
    nearest_rotation,
    resize_intrinsics,
    rotation_from_quaternion,
)
from .errors import InputError, SceneloomError

UNDISTORT = "Undistort the pictures and give a pinhole camera."
CORRECT_FILE = "Correct the camera file."

_USER_TOLERANCE = 1e-3
"""|RᵀR − I| accepted in a user's file and repaired: text files round matrices to four or five digits."""


@dataclass(frozen=True, slots=True, eq=False)
class CameraSequence:
    """Cameras of one path, in order.

    Attributes:
        c2w: (T, 4, 4) float32, OpenCV axes, world frame and unit of the file.
        intrinsics: (T, 4) float32 `[fx, fy, cx, cy]` in pixels of `size`; None where the format has none.
        size: (height, width) that the intrinsics belong to; (1, 1) for normalised ones; None where it is not known.
        times: (T,) float64 strictly increasing: seconds (TUM, RealEstate10K) or frame numbers (all others).
        names: T image names, or empty.
    """

    c2w: NDArray[np.float32]
    intrinsics: NDArray[np.float32] | None
    size: tuple[int, int] | None
    times: Float64
    names: tuple[str, ...] = ()

    def resized(self, height: int, width: int) -> CameraSequence:
        """The same cameras for pictures of (height, width), resized without a crop.

        Raises:
            InputError: there are no intrinsics, or it is not known which size they belong to.
        """
        if self.intrinsics is None or self.size is None:
            raise InputError(
                "no intrinsics with a known picture size",
                where="camera path",
                remedy="Use a format that holds intrinsics and the picture's size, or give a field of view.",
            )
        resized = resize_intrinsics(self.intrinsics, source=self.size, target=(height, width))
        return CameraSequence(self.c2w, resized.astype(np.float32), (height, width), self.times, self.names)


def camera_sequence(
    c2w: ArrayLike,
    intrinsics: ArrayLike | None,
    size: tuple[int, int] | None,
    *,
    where: str,
    times: ArrayLike | None = None,
    names: tuple[str, ...] = (),
) -> CameraSequence:
    """Check what a file held, repair rounded rotations and cast to the stored types; times default to 0, 1, 2, ….

    Raises:
        InputError: poses or intrinsics break their contract, their numbers differ, the picture's size is not positive,
            or times do not increase.
    """
    poses = repaired_poses(c2w, where=where)
    try:
        pixels = None
        if intrinsics is not None:
            pixels = np.array(intrinsics, dtype=np.float64)
            check_intrinsics(pixels, where=where)
            if len(pixels) != len(poses):
                raise ValueError(f"{len(poses)} poses but {len(pixels)} intrinsics")
        if size is not None and min(size) < 1:
            raise ValueError(f"pictures of {size[1]}×{size[0]}")
        moments = np.arange(len(poses), dtype=np.float64) if times is None else np.array(times, dtype=np.float64)
        if moments.shape != (len(poses),) or not (np.diff(moments) > 0.0).all():
            raise ValueError("times or frame numbers do not increase")
    except (ValueError, TypeError) as error:
        raise _input_error(error, where) from error
    stored = None if pixels is None else pixels.astype(np.float32)
    return CameraSequence(poses.astype(np.float32), stored, size, moments, names)


def repaired_poses(poses: ArrayLike, *, where: str) -> Float64:
    """(T, 4, 4) rigid transforms of a user's file, either direction, their rotations made exactly orthonormal.

    Raises:
        InputError: they are not rigid beyond the rounding of a text file.
    """
    try:
        given = np.array(poses, dtype=np.float64)
        check_c2w(given, where=where, tolerance=_USER_TOLERANCE)
    except (ValueError, TypeError) as error:
        raise _input_error(error, where) from error
    given[:, :3, :3] = nearest_rotation(given[:, :3, :3])
    given[:, 3] = [0.0, 0.0, 0.0, 1.0]
    return given


def poses_from_quaternions(
    quaternion: ArrayLike, translation: ArrayLike, *, order: QuaternionOrder, where: str
) -> Float64:
    """(T, 4, 4) transforms of (T, 4) quaternions and (T, 3) translations. Raises InputError for a zero quaternion."""
    moved = np.asarray(translation, dtype=np.float64)
    poses = np.tile(np.eye(4), (len(moved), 1, 1))
    try:
        poses[:, :3, :3] = rotation_from_quaternion(quaternion, order=order)
    except SceneloomError as error:
        raise InputError(f"a quaternion is {error.found}", where=where, remedy=error.remedy) from error
    poses[:, :3, 3] = moved
    return poses


def _input_error(error: Exception, where: str) -> InputError:
    found = error.found if isinstance(error, SceneloomError) else str(error)
    return InputError(found, where=where, remedy=CORRECT_FILE)


def require_intrinsics(cameras: CameraSequence, camera_format: str) -> tuple[Float64, tuple[int, int]]:
    """(T, 4) float64 intrinsics and the (height, width) they belong to. Raises InputError where either is missing."""
    if cameras.intrinsics is None or cameras.size is None:
        raise InputError(
            "the cameras have no intrinsics with a known picture size",
            where=f"camera file, format {camera_format}",
            remedy="Add intrinsics and size, or write a format without them (tum).",
        )
    return cameras.intrinsics.astype(np.float64), cameras.size


def image_names(cameras: CameraSequence) -> tuple[str, ...]:
    """The sequence's image names, or `images/frame_00000.png` and so on; sorted order is frame order."""
    return cameras.names or tuple(f"images/frame_{index:05d}.png" for index in range(len(cameras.c2w)))


def decode_text(content: bytes, where: str) -> str:
    """UTF-8 text. Raises InputError for other bytes."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", where=where, remedy=CORRECT_FILE) from error


def number_text(values: ArrayLike) -> str:
    """Numbers between blanks, with the digits that give the same float64 back."""
    return " ".join(repr(value) for value in np.asarray(values, dtype=np.float64).tolist())

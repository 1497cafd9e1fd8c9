"""Aligning an estimated camera path with the commanded one, and measuring what remains.

Estimators report poses in a world frame and a unit of their own. A similarity (scale, rotation, translation) brings
them onto the commanded cameras; the rest is the estimator's, or the video's, error.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.errors import ContractError
from . import cameras
from .cameras import Float64

MINIMUM_EXTENT = 1e-4
"""Root mean square spread of camera centres, in each path's own unit, below which they count as one point. In metres a
tenth of a millimetre, a hundred times the float32 rounding of a centre at 10 m."""

LINE_RATIO = 0.1
"""Second to first spread of the centres below which they count as a line: the turn about it is then known from the
centres ten times less well than the rest, while the cameras' own rotations know it as well as any other."""


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """Estimated → commanded: x ↦ scale · rotation · x + translation.

    Attributes:
        scale: metres per unit of the estimate; 1 where it is not determined.
        rotation: (3, 3) float64.
        translation: (3,) float64, metres.
        rotation_from: "centres" where the camera centres fix the rotation, "orientations" where they lie on a line or
            in one point and the cameras' rotations had to.
        scale_determined: false where either path stands still, or where the estimate moves against its own orientation.
        position_rmse: root mean square distance of the aligned centres from the commanded ones, metres (ATE).
        rotation_rmse_degrees: root mean square angle between aligned and commanded orientations.
    """

    scale: float
    rotation: Float64
    translation: Float64
    rotation_from: Literal["centres", "orientations"]
    scale_determined: bool
    position_rmse: float
    rotation_rmse_degrees: float

    def apply(self, c2w: ArrayLike) -> NDArray[np.float32]:
        """(T, 4, 4) float32 estimated poses in the commanded frame; rotations stay rotations, only centres scale."""
        return _transform(np.asarray(c2w, dtype=np.float64), self.scale, self.rotation, self.translation).astype(
            np.float32
        )


@dataclass(frozen=True, slots=True, eq=False)
class RelativePoseError:
    """Error of the motion over a fixed number of frames.

    Attributes:
        translation: (T − delta,) metres.
        rotation_degrees: (T − delta,).
    """

    translation: Float64
    rotation_degrees: Float64

    @property
    def translation_rmse(self) -> float:
        """Root mean square over the frames, metres."""
        return _rms(self.translation)

    @property
    def rotation_rmse_degrees(self) -> float:
        """Root mean square over the frames, degrees."""
        return _rms(self.rotation_degrees)


def umeyama(source: ArrayLike, target: ArrayLike) -> tuple[float, Float64, Float64]:
    """Similarity that brings points onto points with the least squared error, in closed form.

    S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 13(4), 1991,
    equations 40–43: with the covariance UDVᵀ of target and source, R = USVᵀ, scale = tr(DS) / variance of the source,
    where S flips the smallest direction when UVᵀ would be a reflection.

    Args:
        source, target: (N, 3), N ≥ 1. The rotation is unique only if the points do not lie on one line.

    Returns:
        scale, rotation (3, 3) and translation (3,): target ≈ scale · rotation · source + translation.

    Raises:
        ContractError: shapes differ, a value is not finite, or all source points coincide.
    """
    x, y = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] != 3 or len(x) == 0:
        raise ContractError(f"shapes {x.shape} and {y.shape}, expected (N, 3) twice", where="umeyama", remedy=_PAIRS)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ContractError("a coordinate is not finite", where="umeyama", remedy=_PAIRS)
    centred_x, centred_y = x - x.mean(axis=0), y - y.mean(axis=0)
    u, d, vt = np.linalg.svd(centred_y.T @ centred_x / len(x))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * signs) @ vt
    variance = (centred_x**2).sum(axis=1).mean()
    if variance == 0.0:
        raise ContractError("all source points coincide", where="umeyama", remedy="Give points that are apart.")
    scale = float((d * signs).sum() / variance)
    return scale, rotation, y.mean(axis=0) - scale * rotation @ x.mean(axis=0)


_PAIRS = "Give the same number of finite points on both sides."


def align_cameras(estimated: NDArray[np.floating], commanded: NDArray[np.floating]) -> Similarity:
    """Similarity from the estimated cameras to the commanded ones, for any path that a camera can take.

    Where the centres spread over a plane or space, it is `umeyama` of the centres. Where they lie on a line or in one
    point the centres leave the rotation open, and it is the one that brings the cameras' orientations together:
    argmin Σ|R·Aᵢ − Bᵢ|² = the rotation nearest to Σ BᵢAᵢᵀ (the chordal mean; Hartley et al., "Rotation averaging", IJCV
    2013). Scale and translation then follow by least squares. Where one path stands still no scale can be told; it is
    1 and `scale_determined` is false.

    Args:
        estimated: (T, 4, 4) c2w, OpenCV axes, any world and unit.
        commanded: (T, 4, 4) c2w, OpenCV axes, metres.

    Raises:
        ContractError: the poses break their contract or their numbers differ.
    """
    _check_pair(estimated, commanded)
    a, b = np.asarray(estimated, dtype=np.float64), np.asarray(commanded, dtype=np.float64)
    source, target = a[:, :3, 3], b[:, :3, 3]
    spread_source, spread_target = _spread(source), _spread(target)
    moves = min(spread_source[0], spread_target[0]) > MINIMUM_EXTENT
    wide = all(spread[1] > LINE_RATIO * spread[0] for spread in (spread_source, spread_target))
    if moves and wide:
        scale, rotation, translation = umeyama(source, target)
        determined = True
    else:
        rotation = cameras.nearest_rotation(np.einsum("tij,tkj->ik", b[:, :3, :3], a[:, :3, :3]))
        scale, determined = _scale_for_rotation(source, target, rotation) if moves else (1.0, False)
        translation = target.mean(axis=0) - scale * rotation @ source.mean(axis=0)
    aligned = _transform(a, scale, rotation, translation)
    angles = cameras.rotation_angle(np.swapaxes(b[:, :3, :3], 1, 2) @ aligned[:, :3, :3])
    return Similarity(
        scale=scale,
        rotation=rotation,
        translation=translation,
        rotation_from="centres" if moves and wide else "orientations",
        scale_determined=determined,
        position_rmse=_rms(np.linalg.norm(aligned[:, :3, 3] - target, axis=1)),
        rotation_rmse_degrees=float(np.degrees(_rms(angles))),
    )


def with_scale(
    similarity: Similarity, estimated: NDArray[np.floating], commanded: NDArray[np.floating], scale: float
) -> Similarity:
    """The similarity with a scale that is known from elsewhere, as from depth, where the cameras determine none.

    The rotation stays; the translation brings the paths' mean centres together.

    Args:
        similarity: of `align_cameras`.
        estimated, commanded: (T, 4, 4) c2w, as it was given them.
        scale: metres per unit of the estimate.
    """
    a, b = np.asarray(estimated, dtype=np.float64), np.asarray(commanded, dtype=np.float64)
    translation = b[:, :3, 3].mean(axis=0) - scale * similarity.rotation @ a[:, :3, 3].mean(axis=0)
    aligned = _transform(a, scale, similarity.rotation, translation)
    rmse = _rms(np.linalg.norm(aligned[:, :3, 3] - b[:, :3, 3], axis=1))
    return dataclasses.replace(similarity, scale=scale, translation=translation, position_rmse=rmse)


def path_length(c2w: NDArray[np.floating]) -> float:
    """Way of the camera's centre along (T, 4, 4) poses, in their unit."""
    centres = np.asarray(c2w, dtype=np.float64)[:, :3, 3]
    return float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())


def _scale_for_rotation(source: Float64, target: Float64, rotation: Float64) -> tuple[float, bool]:
    """Least-squares scale for a known rotation; a motion against its orientation (scale ≤ 0) determines none."""
    turned = (source - source.mean(axis=0)) @ rotation.T
    scale = float((turned * (target - target.mean(axis=0))).sum() / (turned**2).sum())
    return (scale, True) if scale > 0.0 else (1.0, False)


def _spread(points: Float64) -> Float64:
    """(3,) root mean square extents along the principal axes, largest first."""
    values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    spread = np.zeros(3)
    spread[: len(values)] = values
    return spread / np.sqrt(len(points))


def _transform(c2w: Float64, scale: float, rotation: Float64, translation: Float64) -> Float64:
    moved = c2w.copy()
    moved[:, :3, :3] = rotation @ c2w[:, :3, :3]
    moved[:, :3, 3] = scale * c2w[:, :3, 3] @ rotation.T + translation
    return moved


def absolute_trajectory_error(aligned: NDArray[np.floating], commanded: NDArray[np.floating]) -> float:
    """Root mean square distance between the camera centres of two paths in one frame, metres.

    J. Sturm et al., "A benchmark for the evaluation of RGB-D SLAM systems", IROS 2012.

    Raises:
        ContractError: the poses break their contract or their numbers differ.
    """
    _check_pair(aligned, commanded)
    difference = np.asarray(aligned, dtype=np.float64)[:, :3, 3] - np.asarray(commanded, dtype=np.float64)[:, :3, 3]
    return _rms(np.linalg.norm(difference, axis=1))


def relative_pose_error(
    aligned: NDArray[np.floating], commanded: NDArray[np.floating], *, delta: int = 1
) -> RelativePoseError:
    """Error of the motion from frame i to i + delta, which no choice of world frame changes; the unit's scale does.

    E = (Q⁻¹ᵢQᵢ₊δ)⁻¹(P⁻¹ᵢPᵢ₊δ) with P estimated and Q commanded; the length of its translation and the angle of its
    rotation (Sturm et al. 2012).

    Args:
        aligned: (T, 4, 4) c2w, scaled to metres.
        commanded: (T, 4, 4) c2w.
        delta: frames between the compared poses, 1 … T − 1.

    Raises:
        ContractError: the poses break their contract, their numbers differ or `delta` does not fit.
    """
    _check_pair(aligned, commanded)
    if not 1 <= delta < len(commanded):
        found = f"delta {delta} with {len(commanded)} frames"
        raise ContractError(found, where="relative pose error", remedy="Give 1 … T − 1.")
    p, q = np.asarray(aligned, dtype=np.float64), np.asarray(commanded, dtype=np.float64)
    step_p, step_q = (cameras.invert_rigid(poses[:-delta]) @ poses[delta:] for poses in (p, q))
    error = cameras.invert_rigid(step_q) @ step_p
    angle = cameras.rotation_angle(error[:, :3, :3])
    return RelativePoseError(np.linalg.norm(error[:, :3, 3], axis=1), np.degrees(angle))


def _check_pair(estimated: NDArray[np.floating], commanded: NDArray[np.floating]) -> None:
    cameras.check_c2w(estimated, where="estimated cameras", tolerance=1e-3)
    cameras.check_c2w(commanded, where="commanded cameras")
    if len(estimated) != len(commanded):
        raise ContractError(
            f"{len(estimated)} estimated and {len(commanded)} commanded cameras",
            where="alignment",
            remedy="Compare the same frames of both.",
        )


def _rms(values: ArrayLike) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values, dtype=np.float64)))))

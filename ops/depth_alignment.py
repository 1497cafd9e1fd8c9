"""Bringing an estimated depth into the unit of a reference: scale alone, or scale and shift, in depth or inverse depth.

Networks for relative depth give it up to an unknown scale and shift, most of them of inverse depth (Ranftl et al.,
"Towards robust monocular depth estimation", PAMI 2022, section 5); metric networks err mostly by a scale. Both are
found here against a reference that is known at some pixels, so that a share of wrong pixels does not move them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.errors import ContractError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Space = Literal["depth", "inverse_depth"]

MINIMUM_PIXELS = 32
"""Fewer pixels in common are refused: a handful of wrong ones would decide."""
MINIMUM_SPREAD = 1e-3
"""Median absolute deviation of the estimate, as a share of its median magnitude, below which it counts as constant and
tells nothing about a scale."""
SCALED_RESIDUAL = 0.05
"""Median relative depth error up to which a depth that was only scaled onto its reference is taken."""

_SAMPLES = 400
_ITERATIONS = 50
_TUKEY = 4.685
"""Of Tukey's biweight, in standard deviations: 95 % efficiency for normal errors (Holland and Welsch 1977)."""
_MAD_TO_SIGMA = 1.4826
_INLIER = 0.1
"""Relative depth error of a pixel that counts as aligned."""


@dataclass(frozen=True, slots=True)
class DepthAlignment:
    """Estimate → reference: scale · value + shift, of depth or of inverse depth.

    Attributes:
        space: what is scaled and shifted: the depth, or one over it.
        scale: of the estimate's value, > 0.
        shift: in the reference's unit (or one over it).
        pixels: compared pixels.
        residual: median of |aligned − reference| / reference over the compared pixels, in depth whatever the space; a
            pixel whose aligned depth is not positive counts as infinitely wrong.
        inliers: share of the compared pixels whose relative depth error is below 10 %.
    """

    space: Space
    scale: float
    shift: float
    pixels: int
    residual: float
    inliers: float

    def apply(self, values: ArrayLike) -> Float32:
        """(…,) float32 depth in the reference's unit.

        Args:
            values: (…,) of the estimate, in the space that was aligned: depth, or inverse depth. Values that are not
                finite, and depths of 0, stay invalid (0), as do those whose aligned depth is not positive.
        """
        given = np.asarray(values, dtype=np.float64)
        usable = np.isfinite(given) & ((given > 0.0) | (self.space == "inverse_depth"))
        return _depth_of(self.scale * np.where(usable, given, 0.0) + self.shift, usable, self.space)

    def apply_to_depth(self, depth: ArrayLike) -> Float32:
        """(…,) float32 depth in the reference's unit, whatever the space.

        Args:
            depth: (…,) of the estimate, any unit; 0 and what is not finite stay invalid (0).
        """
        return self.apply(depth if self.space == "depth" else _inverse(depth))

    def record(self) -> dict[str, float | int | str]:
        """The numbers for a stage's notes, JSON."""
        return {
            "space": self.space,
            "scale": self.scale,
            "shift": self.shift,
            "pixels": self.pixels,
            "residual": self.residual,
            "inliers": self.inliers,
        }


def align_scale(estimate: ArrayLike, reference: ArrayLike, *, where: ArrayLike | None = None) -> DepthAlignment:
    """Scale of a depth that has no shift: the median of the ratios reference / estimate.

    The median scaling of T. Zhou et al., "Unsupervised learning of depth and ego-motion from video", CVPR 2017,
    section 4.3, taken pixel by pixel so that a change of either side's unit changes the scale alone.

    Args:
        estimate: (H, W) depth, any unit, 0 or not finite = invalid.
        reference: (H, W) depth, 0 or not finite = invalid.
        where: (H, W) bool, pixels that may be compared; None: all.

    Raises:
        ContractError: shapes differ, or fewer than `MINIMUM_PIXELS` are valid in both.
    """
    source, target = _pairs(estimate, reference, where, "depth")
    scale = float(np.median(target / source))
    return _measured("depth", scale, 0.0, source, target)


def align_affine(
    estimate: ArrayLike,
    reference: ArrayLike,
    *,
    space: Space,
    where: ArrayLike | None = None,
) -> DepthAlignment:
    """Scale and shift that bring an estimate onto a reference, whatever a third of the pixels say.

    It starts from Siegel's repeated medians ("Robust regression using repeated medians", Biometrika 69, 1982: half of
    the points may be wrong) over at most 400 evenly spaced pixels, and goes on over all of them by iteratively
    reweighted least squares of Σ w (s·x + t − y)², the objective of Ranftl et al. 2022, equation 4, with Tukey's
    biweight, its width from the median absolute residual of the start.

    Args:
        estimate: (H, W) depth or, with `space` "inverse_depth", what is affine in inverse depth: a disparity, which
            may also be 0 or negative.
        reference: (H, W) depth, 0 or not finite = invalid; always depth, whatever the space.
        space: whether the estimate is affine in depth or in inverse depth. Errors are weighed in that space.
        where: (H, W) bool, pixels that may be compared; None: all.

    Raises:
        ContractError: shapes differ, fewer than `MINIMUM_PIXELS` are valid in both, the estimate is constant over them,
            or the two run against each other (the scale is not positive).
    """
    source, depth = _pairs(estimate, reference, where, space)
    target = depth if space == "depth" else 1.0 / depth
    centre = float(np.median(source))
    spread = float(np.median(np.abs(source - centre)))
    if spread <= MINIMUM_SPREAD * float(np.median(np.abs(source))):
        raise ContractError(
            f"the estimate is constant over the {len(source)} pixels in common (median {centre:.4g}, median absolute "
            f"deviation {spread:.2g})",
            where=_WHERE,
            remedy="Align the scale alone, or compare more of the picture.",
        )
    # Centred and in units of its own spread, so that the products below keep their digits.
    x = (source - centre) / spread
    scale, shift = _reweighted(x, target, *_repeated_medians(x, target))
    if not scale > 0.0:
        raise ContractError(
            f"estimate and reference run against each other (scale {scale / spread:.3g})",
            where=_WHERE,
            remedy="Check which of the two is depth and which inverse depth.",
        )
    return _measured(space, scale / spread, shift - scale * centre / spread, source, depth)


def align_relative_depth(
    estimate: ArrayLike, reference: ArrayLike, *, where: ArrayLike | None = None
) -> DepthAlignment:
    """Scale and shift of the inverse depth, as relative estimates are off by; of one plain surface, such as a wall
    that faces the camera, where one cannot be told from the other, the scale alone, if it fits.

    Args:
        estimate: (H, W) depth, any unit, 0 or not finite = invalid.
        reference: (H, W) depth, 0 or not finite = invalid.
        where: (H, W) bool, pixels that may be compared; None: all.

    Raises:
        ContractError: too few pixels to align on, or estimate and reference contradict each other: no scale and shift
            is found, and the scale alone leaves a median error above `SCALED_RESIDUAL`.
    """
    try:
        return align_affine(_inverse(estimate), reference, space="inverse_depth", where=where)
    except ContractError:
        alignment = align_scale(estimate, reference, where=where)
        if alignment.residual > SCALED_RESIDUAL:
            raise
        return alignment


_WHERE = "depth alignment"


def _pairs(estimate: ArrayLike, reference: ArrayLike, where: ArrayLike | None, space: Space) -> tuple[Float64, Float64]:
    """(N,) values of the estimate and depths of the reference at the pixels valid in both."""
    x, y = np.asarray(estimate, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    allowed = np.ones(x.shape, bool) if where is None else np.asarray(where, dtype=bool)
    if x.shape != y.shape or x.shape != allowed.shape:
        raise ContractError(
            f"shapes {x.shape}, {y.shape} and {allowed.shape}", where=_WHERE, remedy="Give one size for all."
        )
    usable = allowed & np.isfinite(x) & np.isfinite(y) & (y > 0.0)
    if space == "depth":
        usable &= x > 0.0
    count = int(usable.sum())
    if count < MINIMUM_PIXELS:
        raise ContractError(
            f"{count} pixels are valid in both, {MINIMUM_PIXELS} are needed",
            where=_WHERE,
            remedy="Compare more of the picture.",
        )
    return x[usable], y[usable]


def _inverse(depth: ArrayLike) -> Float64:
    """Inverse depth, NaN where there is none."""
    values = np.asarray(depth, dtype=np.float64)
    return np.divide(1.0, values, out=np.full_like(values, np.nan), where=values > 0.0)


def _repeated_medians(x: Float64, y: Float64) -> tuple[float, float]:
    """Siegel's slope, median over points of the median slope to all others, and the median offset."""
    chosen = np.unique(np.linspace(0, len(x) - 1, _SAMPLES).round().astype(np.intp))
    u, v = x[chosen], y[chosen]
    run, rise = u[:, None] - u, v[:, None] - v
    slopes = np.divide(rise, run, out=np.full_like(rise, np.nan), where=run != 0.0)
    # A value that all others share has no slope to any of them.
    sloped = ~np.isnan(slopes).all(axis=1)
    slope = float(np.median(np.nanmedian(slopes[sloped], axis=1)))
    return slope, float(np.median(v - slope * u))


def _reweighted(x: Float64, y: Float64, scale: float, shift: float) -> tuple[float, float]:
    """Weighted least squares with Tukey's biweight, from a start that wrong points have not moved."""
    errors = np.abs(scale * x + shift - y)
    # A perfect fit would give a width of 0; rounding of the values is then the width.
    width = _TUKEY * max(_MAD_TO_SIGMA * float(np.median(errors)), 1e-9 * float(np.median(np.abs(y))))
    for _ in range(_ITERATIONS):
        weights = np.square(np.maximum(1.0 - np.square((scale * x + shift - y) / width), 0.0))
        before = scale, shift
        total, mean_x, mean_y = weights.sum(), weights @ x, weights @ y
        if total == 0.0:
            break
        mean_x, mean_y = mean_x / total, mean_y / total
        variance = weights @ np.square(x - mean_x)
        if variance <= 1e-12 * total:
            break
        scale = float(weights @ ((x - mean_x) * (y - mean_y)) / variance)
        shift = float(mean_y - scale * mean_x)
        if abs(scale - before[0]) + abs(shift - before[1]) <= 1e-12 * (abs(scale) + abs(shift)):
            break
    return scale, shift


def _measured(space: Space, scale: float, shift: float, source: Float64, depth: Float64) -> DepthAlignment:
    aligned = _depth_of(scale * source + shift, np.ones(source.shape, bool), space).astype(np.float64)
    errors = np.where(aligned > 0.0, np.abs(aligned - depth) / depth, np.inf)
    return DepthAlignment(space, scale, shift, len(source), float(np.median(errors)), float((errors < _INLIER).mean()))


def _depth_of(value: Float64, usable: NDArray[np.bool_], space: Space) -> Float32:
    """Depth from a value in `space`; 0 where it is not usable or not positive."""
    valid = usable & (value > 0.0)
    safe = np.where(valid, value, 1.0)
    return np.where(valid, safe if space == "depth" else 1.0 / safe, 0.0).astype(np.float32)

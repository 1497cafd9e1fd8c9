"""Quality of a clip: are the frames real pictures, do depth and cameras agree with them, does time flow.

`measure_clip` gives numbers, `judge` compares them with thresholds. Frames are looked at one and two at a time, so
memory stays at a few frames whatever the clip's length.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..datasets.errors import ContractError
from . import cameras
from .warping import Reprojection, ReprojectionState, View, reproject

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Weights of R, G, B in luma (ITU-R BT.709), applied to sRGB levels."""

DARK_LEVEL, BRIGHT_LEVEL = 4, 251
"""Luma levels of 0..255 at and beyond which a pixel holds no detail: codecs keep 1-2 levels of noise at either end."""

DUPLICATE_LEVELS = 0.1
"""Mean difference of 8-bit levels up to which two frames are the same picture; coding alone makes up to 0.05."""

MOVED_PIXELS = 0.5
"""Image motion in pixels from which a camera counts as moved between two frames."""

_SHARPNESS_BLOCK = 4

_HISTOGRAM_EDGES = np.concatenate([[0.0], np.geomspace(1e-6, 1.0, 1201)])


@dataclass(frozen=True, slots=True)
class ClipMetrics:
    """What was measured on one clip. A number that could not be measured (nothing covisible) is NaN.

    Attributes:
        frames: T.
        depth_coverage: fraction of pixels with valid depth, over the clip.
        depth_coverage_minimum: the same in the worst frame.
        depth_invalid_values: number of depth values that are NaN, infinite or negative.
        depth_minimum, depth_maximum: smallest and largest valid depth, in the depth's unit.
        covisibility: fraction of valid target pixels that both frames of a pair see.
        photometric_error: mean |ΔsRGB| over covisible pixels after reprojection, 0..1.
        photometric_psnr: the same as PSNR of the pooled squared error, dB.
        depth_error_median, depth_error_p95: relative depth disagreement between frames, over covisible and
            contradictory pixels (occluded ones are left out).
        depth_conflict: fraction of those pixels where one frame sees past the other's surface: contradictions that no
            occlusion explains.
        sharpness: median over frames of `sharpness`; 0 for a flat frame, 20 for white noise.
        exposure_mean: mean luma, 0..1.
        clipped_dark, clipped_bright: fraction of pixels without detail at either end, over the clip.
        flicker: mean |change of mean luma| between neighbouring frames over covisible pixels, 0..1.
        duplicate_fraction: fraction of frames that repeat the one before although the camera moved.
        clearance: smallest distance from a camera centre to a surface; NaN when not given.
    """

    frames: int
    depth_coverage: float
    depth_coverage_minimum: float
    depth_invalid_values: int
    depth_minimum: float
    depth_maximum: float
    covisibility: float
    photometric_error: float
    photometric_psnr: float
    depth_error_median: float
    depth_error_p95: float
    depth_conflict: float
    sharpness: float
    exposure_mean: float
    clipped_dark: float
    clipped_bright: float
    flicker: float
    duplicate_fraction: float
    clearance: float

    def as_dict(self) -> dict[str, float]:
        """All numbers by name, for tables and shards."""
        return {name: float(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class CameraMetrics:
    """How far the estimated cameras of a clip are from the commanded ones, once a similarity has aligned them. A number
    that means nothing for the clip is NaN.

    Attributes:
        trajectory_error: root mean square distance of the centres, relative to the commanded path's length; to half of
            the median depth where the path is shorter than that, as when the camera only turns.
        camera_rotation_error: root mean square angle between the orientations, degrees.
        relative_translation_error: root mean square error of the motion from frame to frame, relative to the mean step
            of the commanded path; NaN for a camera that stands still.
        relative_rotation_error: the same of the rotation, degrees.
        focal_error: largest relative error of the focal length.
        vertical_field_of_view_lowest, vertical_field_of_view_highest: of the estimated cameras, degrees.
        camera_scale: commanded metres per metre of the estimate; NaN where one of the two is not metric.
        depth_scale_error: |1 − s|, s the scale that the depth would need in addition to that of the cameras to be what
            the commanded cameras should see; NaN where nothing is known of that, or depth gave the scale.
    """

    trajectory_error: float
    camera_rotation_error: float
    relative_translation_error: float
    relative_rotation_error: float
    focal_error: float
    vertical_field_of_view_lowest: float
    vertical_field_of_view_highest: float
    camera_scale: float
    depth_scale_error: float

    def as_dict(self) -> dict[str, float]:
        """All numbers by name."""
        return {name: float(value) for name, value in asdict(self).items()}


class QualityThresholds(BaseModel):
    """Limits that a clip has to keep to enter training data. A limit set to None is not applied.

    The defaults are loose enough for generated video with estimated depth, and catch what is broken rather than what
    is merely modest; engines with exact truth can be held to far tighter ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum_depth_coverage: float | None = Field(
        default=0.5, ge=0, le=1, description="Below half, depth supervision has more holes than surface."
    )
    maximum_depth_invalid_values: int | None = Field(
        default=0, ge=0, description="NaN, infinity and negative depth are faults."
    )
    minimum_covisibility: float | None = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Below a tenth the reprojection errors speak of a corner of the picture only.",
    )
    maximum_photometric_error: float | None = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Exact cameras give 0.002 on ray-cast clips; pictures of another place exceed it.",
    )
    maximum_depth_error_median: float | None = Field(
        default=0.03, ge=0, description="Video depth estimators agree with themselves to 1-2 % from frame to frame."
    )
    maximum_depth_conflict: float | None = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Poses that stand still or run at twice the speed of the picture give 0.12 to 0.15.",
    )
    minimum_sharpness: float | None = Field(
        default=2e-3,
        ge=0,
        description="Plain rooms have 0.04 to 0.4; a blur with a sigma of 8 to 12 pixels takes them below.",
    )
    maximum_sharpness: float | None = Field(
        default=5.0, ge=0, description="Pictures stay below 1; a generator that diverged to noise comes near 20."
    )
    maximum_clipped_dark: float | None = Field(
        default=0.5, ge=0, le=1, description="Half of the picture black: no scene."
    )
    maximum_clipped_bright: float | None = Field(
        default=0.5, ge=0, le=1, description="Half of the picture white: no scene."
    )
    maximum_flicker: float | None = Field(
        default=0.02, ge=0, le=1, description="Five of 255 levels of global change each frame is visible pulsing."
    )
    maximum_duplicate_fraction: float | None = Field(
        default=0.05, ge=0, le=1, description="Frozen frames contradict the commanded camera."
    )
    minimum_clearance: float | None = Field(
        default=0.05, ge=0, description="Nearer than 5 cm (units) to a surface the picture is one blurred patch."
    )
    maximum_trajectory_error: float | None = Field(
        default=0.05,
        ge=0,
        description="Of estimated cameras, relative to the path. Good estimates stay below 0.01; those of another path "
        "come to 0.2 and more.",
    )
    maximum_camera_rotation_error: float | None = Field(
        default=5.0, ge=0, description="Of estimated cameras, degrees: a fifteenth of a usual field of view."
    )
    maximum_relative_translation_error: float | None = Field(
        default=0.5, ge=0, description="Of estimated cameras, relative to a mean step: beyond half of it paths jump."
    )
    maximum_relative_rotation_error: float | None = Field(
        default=1.0, ge=0, description="Of estimated cameras, degrees from frame to frame: more is visible shaking."
    )
    maximum_focal_error: float | None = Field(
        default=0.2, ge=0, description="Of estimated cameras, relative: beyond it depth is bent visibly."
    )
    minimum_vertical_field_of_view_lowest: float | None = Field(
        default=15.0, ge=0, le=180, description="Of estimated cameras, degrees: below it the estimate diverged."
    )
    maximum_vertical_field_of_view_highest: float | None = Field(
        default=120.0, ge=0, le=180, description="Of estimated cameras, degrees: above it the estimate diverged."
    )
    minimum_camera_scale: float | None = Field(
        default=0.5, gt=0, description="Of estimates that say they are metric, for commanded cameras that are."
    )
    maximum_camera_scale: float | None = Field(
        default=2.0, gt=0, description="Of estimates that say they are metric, for commanded cameras that are."
    )
    maximum_depth_scale_error: float | None = Field(
        default=0.15, ge=0, description="Of estimated depth: beyond it depth and cameras have two scales."
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """One limit that was not kept: `found` against `limit`, which is a bound from the side that `rule` names."""

    metric: str
    rule: str
    found: float
    limit: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a clip may enter training data, and why not."""

    passed: bool
    failures: tuple[Failure, ...]


def measure_clip(
    rgb: UInt8,
    depth: NDArray[np.floating],
    c2w: Float32,
    intrinsics: Float32,
    *,
    clearance: NDArray[np.floating] | None = None,
    dynamic: NDArray[np.bool_] | None = None,
    baseline: int = 4,
    stride: int = 4,
    device: str = "cpu",
) -> ClipMetrics:
    """Measure one clip.

    Reprojection compares frame i with frame i + baseline, in both directions, for every `stride`-th i; flicker and
    duplicates compare neighbours. When the clip is shorter than the baseline, its first and last frame are compared.

    Args:
        rgb: (T, H, W, 3) uint8 sRGB; a memory map will do.
        depth: (T, H, W) float16 or float32 z-depth at the size of `rgb`, 0 = invalid; a memory map will do.
        c2w: (T, 4, 4) camera-to-world, OpenCV axes.
        intrinsics: (T, 4) pixels.
        clearance: (T,) distance from each camera centre to the nearest surface, when known.
        dynamic: (T, H, W) where something is seen that moves by itself: no camera explains its motion, so these pixels
            enter no comparison between frames, neither as target nor as source.
        baseline: frames between the two of a compared pair.
        stride: frames between one compared pair and the next; 1 for all.
        device: Warp device of the reprojection.

    Raises:
        ContractError: the arrays are not of one clip.
    """
    _require_one_clip(rgb, depth, c2w, intrinsics, dynamic)
    frames = len(rgb)
    pictures, depths = _PictureSums(), _DepthSums()
    for index in range(frames):
        pictures.add(rgb[index])
        depths.add(depth[index])

    def view(index: int) -> View:
        compared = _valid_depth(depth[index])
        if dynamic is not None:
            compared[dynamic[index]] = 0
        return View(rgb[index], compared, c2w[index], intrinsics[index])

    apart, neighbours = _PairSums(), _NeighbourSums()
    distance = min(baseline, frames - 1)
    for index in range(0, frames - distance if distance else 0, stride):
        for target, source in ((index, index + distance), (index + distance, index)):
            apart.add(rgb[target], reproject(view(target), view(source), device=device))
    for index in range(1, frames):
        if index % stride == 0 or frames <= stride:
            seen = reproject(view(index), view(index - 1), device=device)
            neighbours.add_flicker(rgb[index], seen)
        neighbours.add_duplicate(view(index), view(index - 1))
    return ClipMetrics(
        frames=frames,
        depth_invalid_values=depths.faults,
        **depths.metrics(),
        **apart.metrics(),
        **pictures.metrics(),
        **neighbours.metrics(frames),
        clearance=math.nan if clearance is None else float(np.min(clearance)),
    )


def judge(metrics: ClipMetrics, thresholds: QualityThresholds, cameras: CameraMetrics | None = None) -> Verdict:
    """Compare a clip's numbers with the limits.

    A number that could not be measured fails its limit, except the clearance, which only some engines know, and those
    of estimated cameras, which may mean nothing for a clip.

    Args:
        metrics: of the clip.
        thresholds: the limits.
        cameras: of estimated cameras; None where the cameras are the commanded ones.
    """
    failures = []
    values = metrics.as_dict() | (dict.fromkeys(_CAMERA_METRICS, math.nan) if cameras is None else cameras.as_dict())
    for name, limit in thresholds.model_dump().items():
        if limit is None:
            continue
        rule, metric = name.split("_", 1)
        found = values[metric]
        if math.isnan(found) and metric in _OPTIONAL_METRICS:
            continue
        kept = found >= limit if rule == "minimum" else found <= limit
        if not kept:
            failures.append(Failure(metric=metric, rule=rule, found=found, limit=float(limit)))
    return Verdict(passed=not failures, failures=tuple(failures))


_CAMERA_METRICS = tuple(field.name for field in fields(CameraMetrics))
_OPTIONAL_METRICS = frozenset({"clearance", *_CAMERA_METRICS})


def _require_one_clip(
    rgb: UInt8,
    depth: NDArray[np.floating],
    c2w: Float32,
    intrinsics: Float32,
    dynamic: NDArray[np.bool_] | None,
) -> None:
    frames = rgb.shape[0]
    expected = {
        "rgb": (rgb.shape, (*rgb.shape[:3], 3)),
        "depth": (depth.shape, rgb.shape[:3]),
        "c2w": (c2w.shape, (frames, 4, 4)),
        "intrinsics": (intrinsics.shape, (frames, 4)),
    }
    if dynamic is not None:
        expected["dynamic"] = (dynamic.shape, rgb.shape[:3])
    wrong = [
        f"{name} has the shape {found}, not {wanted}" for name, (found, wanted) in expected.items() if found != wanted
    ]
    if wrong or frames == 0:
        raise ContractError(
            "; ".join(wrong) or "the clip has no frame",
            where="quality measurement",
            remedy="Give rgb (T, H, W, 3), depth (T, H, W), c2w (T, 4, 4) and intrinsics (T, 4) of one clip.",
        )


def _valid_depth(depth: NDArray[np.floating]) -> Float32:
    """Depth as float32 with everything that is no distance set to 0."""
    metres = depth.astype(np.float32)
    metres[~(np.isfinite(depth) & (depth > 0))] = 0
    return metres


def _luma(rgb: NDArray[np.generic]) -> Float32:
    """(…, 3) levels 0..255 to luma 0..1."""
    return np.matmul(rgb.astype(np.float32), LUMA / np.float32(255), dtype=np.float32)


def sharpness(rgb: UInt8) -> float:
    """Variance of the 4-neighbour Laplacian of luma, divided by the variance of luma; 0 for a flat frame.

    The variance of the Laplacian is the focus measure LAPV (Pech-Pacheco et al. 2000, ICPR); dividing by the variance
    makes it independent of contrast and exposure. Luma is averaged over 4 × 4 pixels before: at full resolution the
    rounding to 8 bits outweighs what is left of a picture blurred with a sigma of 3 pixels, so that more blur would
    no longer give a smaller number. White noise has 20, the kernel's sum of squares (4² + 4 · 1²).

    Args:
        rgb: (H, W, 3) uint8 sRGB, at least 12 pixels on each side.
    """
    luma = _luma(rgb)
    rows, columns = luma.shape[0] // _SHARPNESS_BLOCK, luma.shape[1] // _SHARPNESS_BLOCK
    cropped = luma[: rows * _SHARPNESS_BLOCK, : columns * _SHARPNESS_BLOCK]
    means = cropped.reshape(rows, _SHARPNESS_BLOCK, columns, _SHARPNESS_BLOCK).mean(axis=(1, 3))
    variance = float(means.var())
    if variance < 1e-8:
        return 0.0
    neighbours = means[:-2, 1:-1] + means[2:, 1:-1] + means[1:-1, :-2] + means[1:-1, 2:]
    return float((neighbours - 4 * means[1:-1, 1:-1]).var()) / variance


def image_motion(target: View, source: View) -> float:
    """Largest motion in pixels between two cameras of points on a 9 × 9 grid, at the target's own depth.

    Where the target has no depth, its median depth stands in; without any, points at infinity show the rotation only.
    Infinite where a point lies behind the source camera.
    """
    height, width = target.depth.shape
    rows = np.linspace(0, height - 1, 9).astype(int)
    columns = np.linspace(0, width - 1, 9).astype(int)
    sparse = np.asarray(target.depth[np.ix_(rows, columns)], np.float64)
    sparse[sparse <= 0] = np.median(sparse[sparse > 0]) if (sparse > 0).any() else 1e6
    pixels = np.stack(np.broadcast_arrays(columns + 0.5, rows[:, None] + 0.5), axis=-1).reshape(-1, 2)
    points = cameras.unproject(pixels, sparse.ravel(), target.c2w, target.intrinsics)
    moved, depth = cameras.project(points, source.c2w, source.intrinsics)
    if not (depth > 1e-6 * sparse.ravel()).all():
        return math.inf
    return float(np.linalg.norm(moved - pixels, axis=1).max())


class _PictureSums:
    def __init__(self) -> None:
        self._sharpness: list[float] = []
        self._mean: list[float] = []
        self._dark: list[float] = []
        self._bright: list[float] = []

    def add(self, rgb: UInt8) -> None:
        luma = _luma(rgb)
        self._sharpness.append(sharpness(rgb))
        self._mean.append(float(luma.mean()))
        self._dark.append(float((luma <= DARK_LEVEL / 255).mean()))
        self._bright.append(float((luma >= BRIGHT_LEVEL / 255).mean()))

    def metrics(self) -> dict[str, float]:
        return {
            "sharpness": float(np.median(self._sharpness)),
            "exposure_mean": float(np.mean(self._mean)),
            "clipped_dark": float(np.mean(self._dark)),
            "clipped_bright": float(np.mean(self._bright)),
        }


class _DepthSums:
    def __init__(self) -> None:
        self._coverage: list[float] = []
        self.faults = 0
        self._lowest, self._highest = math.inf, -math.inf

    def add(self, depth: NDArray[np.floating]) -> None:
        sound = np.isfinite(depth) & (depth >= 0)
        valid = depth[sound & (depth > 0)]
        self.faults += int(depth.size - sound.sum())
        self._coverage.append(valid.size / depth.size)
        if valid.size:
            self._lowest = min(self._lowest, float(valid.min()))
            self._highest = max(self._highest, float(valid.max()))

    def metrics(self) -> dict[str, float]:
        measured = self._highest > 0
        return {
            "depth_coverage": float(np.mean(self._coverage)),
            "depth_coverage_minimum": float(np.min(self._coverage)),
            "depth_minimum": self._lowest if measured else math.nan,
            "depth_maximum": self._highest if measured else math.nan,
        }


class _PairSums:
    """Reprojection errors pooled over all pairs: sums, and a histogram for the quantiles."""

    def __init__(self) -> None:
        self._valid = self._covisible = self._conflict = 0
        self._absolute = self._squared = 0.0
        self._histogram = np.zeros(len(_HISTOGRAM_EDGES), np.int64)

    def add(self, target_rgb: UInt8, seen: Reprojection) -> None:
        covisible = seen.covisible
        conflict = seen.state == ReprojectionState.CONFLICT
        self._valid += int((seen.state != ReprojectionState.NO_DEPTH).sum())
        self._covisible += int(covisible.sum())
        self._conflict += int(conflict.sum())
        difference = (target_rgb[covisible].astype(np.float32) - seen.colour[covisible]) / np.float32(255)
        self._absolute += float(np.abs(difference).sum(dtype=np.float64)) / 3
        self._squared += float(np.square(difference).sum(dtype=np.float64)) / 3
        compared = covisible | conflict
        error = np.abs(seen.expected_depth[compared] / seen.depth[compared] - 1)
        bins = np.searchsorted(_HISTOGRAM_EDGES, error, side="right") - 1
        self._histogram += np.bincount(bins, minlength=len(self._histogram))

    def metrics(self) -> dict[str, float]:
        count, compared = self._covisible, self._covisible + self._conflict
        squared = self._squared / count if count else math.nan
        return {
            "covisibility": count / self._valid if self._valid else math.nan,
            "photometric_error": self._absolute / count if count else math.nan,
            # Below the rounding of 8-bit levels a higher PSNR means nothing.
            "photometric_psnr": -10 * math.log10(max(squared, 1e-10)) if count else math.nan,
            "depth_error_median": self._quantile(0.5),
            "depth_error_p95": self._quantile(0.95),
            "depth_conflict": self._conflict / compared if compared else math.nan,
        }

    def _quantile(self, fraction: float) -> float:
        """Upper edge of the bin that holds the quantile: bins are 1.2 % wide, errors below 1e-6 count as 1e-6."""
        total = int(self._histogram.sum())
        if not total:
            return math.nan
        index = int(np.searchsorted(np.cumsum(self._histogram), fraction * total))
        return float(_HISTOGRAM_EDGES[min(index + 1, len(_HISTOGRAM_EDGES) - 1)])


class _NeighbourSums:
    def __init__(self) -> None:
        self._changes: list[float] = []
        self._duplicates = 0

    def add_flicker(self, rgb: UInt8, seen: Reprojection) -> None:
        covisible = seen.covisible
        if covisible.any():
            self._changes.append(abs(float(_luma(rgb[covisible]).mean()) - float(_luma(seen.colour[covisible]).mean())))

    def add_duplicate(self, current: View, former: View) -> None:
        difference = np.abs(current.rgb.astype(np.int16) - former.rgb).mean()
        if difference <= DUPLICATE_LEVELS and image_motion(current, former) >= MOVED_PIXELS:
            self._duplicates += 1

    def metrics(self, frames: int) -> dict[str, float]:
        return {
            "flicker": float(np.mean(self._changes)) if self._changes else math.nan,
            "duplicate_fraction": self._duplicates / max(frames - 1, 1),
        }

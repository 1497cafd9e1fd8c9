"""Engines `depth_pro` and `depth_anything`: depth behind a single picture, metric or relative, with intrinsics.

What is metric: Depth Pro's depth, in metres for the focal length that it was computed with (its own estimate, or the
view's); Depth Anything's where the model's files say so, or where a Depth Pro model gave it scale and shift. All else
is relative: depth 1 is that of the nearest surfaces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ConfigError, EngineError
from .engines import EngineIdentity, Part, Scaffold, View
from .model_engine import ModelEngine, load_processor
from .model_loading import load_model
from .picture_tensors import Preparation, picture_tensor, read_preparation
from .resident_models import ResidentModels
from .transformers_settings import DepthAnythingScaffoldSettings, DepthProModelSettings, DepthProScaffoldSettings

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

NEAREST_DEPTH, FARTHEST_DEPTH = 1e-4, 1e4
"""Metres; Depth Pro's canonical inverse depth is kept between their inverses, so the sky is at 10 km."""
FIELD_OF_VIEW_LIMITS = (1.0, 179.0)
"""Degrees; a field of view outside is no camera's that takes pictures, and the focal length would not be finite."""
_DEPTH_PRO = Preparation(1536, 1536, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), resize_first=False)
_RELIEF_QUANTILES = (0.02, 0.98)


@dataclass(frozen=True, slots=True)
class MetricDepth:
    """What Depth Pro says of a picture.

    Attributes:
        depth: (H, W) float32 metres.
        intrinsics: (4,) float64 that it is computed with.
        field_of_view_degrees: horizontal, as the model estimates it; None for a model without that part.
    """

    depth: Float32
    intrinsics: Float64
    field_of_view_degrees: float | None


class DepthPro(ModelEngine):
    """Metric depth and focal length of single pictures (Bochkovskii et al., "Depth Pro: sharp monocular metric depth in
    less than a second", ICLR 2025)."""

    name: ClassVar[str] = "depth_pro"
    needs: ClassVar[frozenset[Part]] = frozenset({"view"})
    gives: ClassVar[frozenset[Part]] = frozenset({"scaffold", "depth"})
    model_class: ClassVar[str] = "DepthProForDepthEstimation"

    def __init__(self, settings: DepthProModelSettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self.focal = settings.focal

    def estimate(self, view: View) -> MetricDepth:
        """Depth of the view at its size.

        Raises:
            ConfigError: the focal length is to be estimated by a model without a field-of-view part.
            EngineError: the model cannot be loaded, or gave what no camera sees.
        """
        height, width = view.picture.shape[:2]
        preparation = read_preparation(self.source.folder, _DEPTH_PRO)
        with self.model() as model:
            pixels = picture_tensor(view.picture, preparation, device=self.device, dtype=model.dtype)
            output = model(pixel_values=pixels)
            degrees = None if output.field_of_view is None else float(output.field_of_view.float().item())
            intrinsics = self._intrinsics(view, degrees)
            depth = metric_depth(output.predicted_depth.float(), (height, width), float(intrinsics[0])).cpu().numpy()
        if not np.isfinite(depth).all():
            raise _not_finite(self.place)
        return MetricDepth(depth, intrinsics, degrees)

    def _intrinsics(self, view: View, degrees: float | None) -> Float64:
        if self.focal == "view":
            return np.asarray(view.intrinsics, np.float64)
        if degrees is None:
            raise ConfigError(
                "the model has no part that estimates the field of view",
                where=self.place,
                remedy="Set focal to view, or choose weights with use_fov_model.",
            )
        low, high = FIELD_OF_VIEW_LIMITS
        if not low <= degrees <= high:
            raise EngineError(
                f"a horizontal field of view of {degrees:.3g} degrees, outside {low:g} … {high:g}",
                where=self.place,
                remedy="Set focal to view where the camera is known, or take another picture.",
            )
        from ..ops.cameras import centred_intrinsics

        height, width = view.picture.shape[:2]
        return centred_intrinsics(height, width, horizontal_field_of_view=math.radians(degrees))


class DepthProScaffold(DepthPro):
    """Engine `depth_pro`: the view's depth in metres, with edges marked invalid, and the camera's intrinsics."""

    def __init__(self, settings: DepthProScaffoldSettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self.settings = settings

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        """Depth in metres; nothing is drawn, so every seed gives the same.

        Raises:
            ConfigError, EngineError: as `estimate`.
        """
        found = self.estimate(view)
        depth, edges = without_edges(found.depth, self.settings.edge_bend, where=self.place)
        notes = {
            "engine": self.name,
            "unit": "metre",
            **focal_notes(found, self.focal),
            **edges,
            "farthest": float((found.depth >= FARTHEST_DEPTH).mean()),
            "model": self.facts(),
        }
        return Scaffold(depth, found.intrinsics, True, None, notes)


@dataclass(frozen=True, slots=True)
class _DepthAnythingParts:
    model: Any
    processor: Any


class DepthAnythingScaffold(ModelEngine):
    """Engine `depth_anything`: metric depth from a metric model; of a relative one, depth up to a scale and a shift,
    or in metres where a Depth Pro model fixes both (L. Yang et al., "Depth Anything V2", NeurIPS 2024)."""

    name: ClassVar[str] = "depth_anything"
    needs: ClassVar[frozenset[Part]] = frozenset({"view"})
    gives: ClassVar[frozenset[Part]] = frozenset({"scaffold", "depth"})
    model_class: ClassVar[str] = "DepthAnythingForDepthEstimation"

    def __init__(self, settings: DepthAnythingScaffoldSettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self.settings = settings
        self.reference = DepthPro(settings.reference, self._models) if settings.reference is not None else None

    @property
    def identity(self) -> EngineIdentity:
        """The engine with the digests of its model's files, and of the reference's."""
        own = super().identity
        if self.reference is None:
            return own
        other = self.reference.identity
        licence = own.licence if other.licence == own.licence else f"{own.licence} AND {other.licence}"
        return EngineIdentity(
            own.name, licence, {**own.weights, **{f"reference/{name}": value for name, value in other.weights.items()}}
        )

    def load(self) -> _DepthAnythingParts:
        """The model and its image processor, in Pillow's version, which every machine has."""
        processor = load_processor("AutoImageProcessor", self.source.folder, backend="pil")
        return _DepthAnythingParts(load_model(self.model_class, self._model_settings), processor)

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        """Depth at the view's size; nothing is drawn, so every seed gives the same.

        Raises:
            ConfigError: a metric model is given a reference.
            ContractError: the reference shows nothing that the depth can be aligned with.
            EngineError: a model cannot be loaded, or gave no depth.
        """
        value, metric = self._estimate(view)
        notes: dict[str, Any] = {
            "engine": self.name,
            "estimate": "metric depth" if metric else "relative inverse depth",
        }
        intrinsics = np.asarray(view.intrinsics, np.float64)
        if metric:
            depth = np.maximum(value, 0.0)
        elif self.reference is None:
            depth = relative_depth(value, self.settings.relief, where=self.place)
            notes["relief"] = self.settings.relief
        else:
            depth, intrinsics, alignment = self._aligned(value, view)
            notes |= alignment
        in_metres = metric or self.reference is not None
        depth, edges = without_edges(depth, self.settings.edge_bend, where=self.place)
        notes |= {"unit": "metre" if in_metres else "arbitrary", **edges, "model": self.facts()}
        return Scaffold(depth, intrinsics, in_metres, None, notes)

    def _estimate(self, view: View) -> tuple[Float32, bool]:
        """(H, W) what the model says, and whether that is metric depth (else relative inverse depth)."""
        from PIL import Image

        height, width = view.picture.shape[:2]
        with self.model() as parts:
            metric = parts.model.config.depth_estimation_type == "metric"
            if metric and self.reference is not None:
                raise ConfigError(
                    "a reference for a model whose depth is metric already",
                    where=self.place,
                    remedy="Remove reference, or choose a relative model.",
                )
            inputs = parts.processor(images=Image.fromarray(view.picture), return_tensors="pt")
            pixels = inputs["pixel_values"].to(self.device, parts.model.dtype)
            output = parts.model(pixel_values=pixels)
            output.predicted_depth = output.predicted_depth.float()
            (found,) = parts.processor.post_process_depth_estimation(output, target_sizes=[(height, width)])
            value = found["predicted_depth"].cpu().numpy()
        if not np.isfinite(value).all():
            raise _not_finite(self.place)
        return value, metric

    def _aligned(self, inverse: Float32, view: View) -> tuple[Float32, Float64, dict[str, Any]]:
        """Depth in metres: the relative inverse depth brought onto the reference's."""
        from ..ops.depth_alignment import align_affine

        assert self.reference is not None
        reference = self.reference.estimate(view)
        # Where the reference only says "far away" it gives no depth to align with.
        near_enough = reference.depth < FARTHEST_DEPTH
        alignment = align_affine(inverse, reference.depth, space="inverse_depth", where=near_enough)
        notes = {
            "alignment": alignment.record(),
            **focal_notes(reference, self.reference.focal),
            "reference": self.reference.facts(),
        }
        return alignment.apply(inverse), reference.intrinsics, notes


def metric_depth(canonical_inverse_depth: Any, size: tuple[int, int], focal: float) -> Any:
    """(H, W) tensor of depth in metres from Depth Pro's output.

    Depth Pro predicts canonical inverse depth C, that of a camera whose focal length is the picture's width; for a
    focal length of f pixels of W, 1/depth = C·W/f (Bochkovskii et al. 2025).

    Args:
        canonical_inverse_depth: (1, h, w) float32.
        size: (H, W) of the picture, pixels.
        focal: of the picture, pixels.
    """
    import torch

    inverse = canonical_inverse_depth[None] * (size[1] / focal)
    resized = torch.nn.functional.interpolate(inverse, size, mode="bilinear", align_corners=False)[0, 0]
    return 1.0 / resized.clamp(1.0 / FARTHEST_DEPTH, 1.0 / NEAREST_DEPTH)


def relative_depth(inverse: Float32, relief: float, *, where: str) -> Float32:
    """(H, W) depth from relative inverse depth, whose scale and shift are free: the nearest surfaces get depth 1.

    The shift is the one that puts the farthest surfaces `relief` times as far as the nearest; both are quantiles (2 and
    98 %), beyond which the mapping goes on, but never past ten times the farthest.

    Raises:
        EngineError: the inverse depth does not vary.
    """
    values = inverse.astype(np.float64)
    low, high = np.quantile(values, _RELIEF_QUANTILES)
    if not high > low:
        raise EngineError(
            f"the model gave the same inverse depth ({low:.4g}) nearly everywhere",
            where=where,
            remedy="Check the weights; a blank picture has no depth either.",
        )
    far = 1.0 / relief
    mapped = far + (values - low) * ((1.0 - far) / (high - low))
    return (1.0 / np.maximum(mapped, far / 10.0)).astype(np.float32)


def without_edges(depth: Float32, bend: float | None, *, where: str) -> tuple[Float32, dict[str, Any]]:
    """The depth with its edges set to 0 (invalid), and the share that they take, for notes.

    Raises:
        EngineError: no pixel keeps a depth.
    """
    from ..ops.depth_edges import depth_edges

    edges = np.zeros(depth.shape, bool) if bend is None else depth_edges(depth, bend=bend)
    kept = np.where(edges, np.float32(0.0), depth)
    if not (kept > 0.0).any():
        raise EngineError(
            f"no pixel has a depth: {edges.mean():.0%} of them are depth edges",
            where=where,
            remedy="Raise edge_bend, or take a picture of a place.",
        )
    return kept, {"edges": None if bend is None else float(edges.mean())}


def focal_notes(found: MetricDepth, focal: str) -> dict[str, Any]:
    """Which focal length the depth was computed with, JSON."""
    return {
        "focal": focal,
        "focal_pixels": float(found.intrinsics[0]),
        "estimated_horizontal_field_of_view": found.field_of_view_degrees,
    }


def _not_finite(where: str) -> EngineError:
    return EngineError(
        "depth is not finite", where=where, remedy="Choose float32 or bfloat16 as the precision, and check the weights."
    )

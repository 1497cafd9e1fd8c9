"""Engines `sam2` and `sam3`: masks of the objects that a real view shows, at points or by noun phrases.

Pictures and prompts are prepared as the models' own processors prepare them: the view is stretched to the model's
square, points with it, and masks are stretched back bilinearly before the threshold is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import EngineError, InputError
from .engines import Part, View
from .model_engine import ModelEngine, load_processor
from .model_loading import load_model
from .picture_tensors import Preparation, picture_tensor, read_preparation
from .resident_models import ResidentModels
from .transformers_settings import Sam2ObjectsSettings, Sam3ObjectsSettings

PROMPT_TOKENS = 32
"""Of a noun phrase; what SAM 3's text encoder takes."""
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STABILITY_OFFSET = 1.0
_STANDARD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class MaskedObject:
    """One object of a view.

    Attributes:
        instance_id: in the id image, from 1.
        label: the noun phrase that found it; None for objects found by points.
        score: how sure the model is of it, 0 … 1.
        box: (left, top, right, bottom) of its pixels, right and bottom exclusive.
        pixels: how many it has.
    """

    instance_id: int
    label: str | None
    score: float
    box: tuple[int, int, int, int]
    pixels: int


@dataclass(frozen=True, slots=True)
class ObjectMasks:
    """The objects of a view.

    Attributes:
        instance_ids: (H, W) uint16, 0 = background; every pixel has one object at most.
        objects: in the order of their ids, the surest first.
        notes: how they were found, JSON.
    """

    instance_ids: NDArray[np.uint16]
    objects: tuple[MaskedObject, ...]
    notes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A mask that may be an object: logits or probabilities at the model's own size, and from where they count."""

    values: NDArray[np.float32]
    threshold: float
    score: float
    label: str | None = None


class Sam2Masks(ModelEngine):
    """Engine `sam2`: objects at given points, or wherever a grid of points finds one (Ravi et al., "SAM 2: segment
    anything in images and videos", ICLR 2025; the grid as in Kirillov et al., "Segment anything", ICCV 2023)."""

    name: ClassVar[str] = "sam2"
    needs: ClassVar[frozenset[Part]] = frozenset({"view"})
    gives: ClassVar[frozenset[Part]] = frozenset()
    model_class: ClassVar[str] = "Sam2Model"

    def __init__(self, settings: Sam2ObjectsSettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self.settings = settings

    def find_objects(self, view: View, *, minimum_pixels: int = 1) -> ObjectMasks:
        """Masks at the view's size; nothing is drawn.

        Args:
            view: the picture.
            minimum_pixels: objects with fewer are left out.

        Raises:
            EngineError: the model cannot be loaded, or gave values that are not finite.
        """
        height, width = view.picture.shape[:2]
        chosen = self.settings
        with self.model() as model:
            side = int(model.config.prompt_encoder_config.image_size)
            preparation = read_preparation(self.source.folder, Preparation(side, side, *_IMAGENET))
            pixels = picture_tensor(view.picture, preparation, device=self.device, dtype=model.dtype)
            embeddings = model.get_image_embeddings(pixels)
            points = np.array(chosen.points or point_grid(chosen.points_per_side), np.float32) * side
            predictions = self._predict(model, embeddings, points)
            if chosen.points:
                proposals = [_surest(masks, scores) for masks, scores in predictions]
            else:
                proposals = [each for masks, scores in predictions for each in self._good(masks, scores)]
        limits = {"part_overlap": None} if chosen.points else {"part_overlap": chosen.part_overlap}
        found = _resolved(
            proposals,
            (height, width),
            duplicate_overlap=chosen.duplicate_overlap,
            minimum_pixels=minimum_pixels,
            **limits,
        )
        notes = {"engine": self.name, "points": len(points), "proposals": len(proposals), "model": self.facts()}
        return ObjectMasks(*found, notes)

    def _predict(
        self, model: Any, embeddings: Any, points: NDArray[np.float32]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """For each point (3, h, w) mask logits, whole, part and subpart, and (3,) predicted scores."""
        import torch

        for start in range(0, len(points), self.settings.points_at_once):
            batch = torch.from_numpy(points[start : start + self.settings.points_at_once])
            # In float32 whatever the model's precision: bfloat16 cannot tell neighbouring pixels apart.
            coordinates = batch.to(self.device)[None, :, None]
            output = model(
                image_embeddings=embeddings,
                input_points=coordinates,
                input_labels=torch.ones(coordinates.shape[:3], dtype=torch.int64, device=self.device),
                multimask_output=True,
            )
            masks, scores = output.pred_masks[0].float().cpu().numpy(), output.iou_scores[0].float().cpu().numpy()
            _require_finite(masks, scores, where=self.place)
            yield from zip(masks, scores, strict=True)

    def _good(self, masks: NDArray[np.float32], scores: NDArray[np.float32]) -> Iterator[_Proposal]:
        """Those of a grid point's masks that the model is sure of, that hang on no threshold, and that are objects."""
        for values, score in zip(masks, scores, strict=True):
            share = float((values > 0.0).mean())
            if (
                score >= self.settings.minimum_score
                and 0.0 < share <= self.settings.maximum_share
                and stability(values) >= self.settings.minimum_stability
            ):
                yield _Proposal(values, 0.0, float(score))


@dataclass(frozen=True, slots=True)
class _Sam3Parts:
    model: Any
    tokenizer: Any


class Sam3Masks(ModelEngine):
    """Engine `sam3`: every object that fits one of the prompts ("SAM 3: segment anything with concepts", 2025)."""

    name: ClassVar[str] = "sam3"
    needs: ClassVar[frozenset[Part]] = frozenset({"view"})
    gives: ClassVar[frozenset[Part]] = frozenset()
    model_class: ClassVar[str] = "Sam3Model"

    def __init__(self, settings: Sam3ObjectsSettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self.settings = settings

    def load(self) -> _Sam3Parts:
        """The model and its tokenizer."""
        tokenizer = load_processor("AutoTokenizer", self.source.folder)
        return _Sam3Parts(load_model(self.model_class, self._model_settings), tokenizer)

    def find_objects(self, view: View, *, minimum_pixels: int = 1) -> ObjectMasks:
        """Masks at the view's size; nothing is drawn. The view is encoded once for all prompts.

        Args:
            view: the picture.
            minimum_pixels: objects with fewer are left out.

        Raises:
            InputError: a prompt is longer than the text encoder takes.
            EngineError: the model cannot be loaded, or gave values that are not finite.
        """
        height, width = view.picture.shape[:2]
        with self.model() as parts:
            side = int(parts.model.config.vision_config.image_size)
            preparation = read_preparation(self.source.folder, Preparation(side, side, *_STANDARD))
            pixels = picture_tensor(view.picture, preparation, device=self.device, dtype=parts.model.dtype)
            encoded = parts.model.get_vision_features(pixel_values=pixels)
            proposals = [
                proposal for prompt in self.settings.prompts for proposal in self._proposals(parts, encoded, prompt)
            ]
        found = _resolved(
            proposals,
            (height, width),
            duplicate_overlap=self.settings.duplicate_overlap,
            part_overlap=None,
            minimum_pixels=minimum_pixels,
        )
        notes = {
            "engine": self.name,
            "prompts": list(self.settings.prompts),
            "proposals": len(proposals),
            "model": self.facts(),
        }
        return ObjectMasks(*found, notes)

    def _proposals(self, parts: _Sam3Parts, encoded: Any, prompt: str) -> Iterator[_Proposal]:
        tokens = parts.tokenizer(prompt, return_tensors="pt", padding="max_length", max_length=PROMPT_TOKENS)
        if tokens["input_ids"].shape[1] > PROMPT_TOKENS:
            raise InputError(
                f"the prompt takes {tokens['input_ids'].shape[1]} tokens, {PROMPT_TOKENS} are read",
                where=f"{self.place}: {prompt[:40]!r}",
                remedy="Write a noun phrase.",
            )
        output = parts.model(
            vision_embeds=encoded,
            input_ids=tokens["input_ids"].to(self.device),
            attention_mask=tokens["attention_mask"].to(self.device),
        )
        # An object's own probability counts only as far as anything in the view fits the prompt at all.
        sure = (output.pred_logits.float().sigmoid() * output.presence_logits.float().sigmoid())[0].cpu().numpy()
        masks = output.pred_masks[0].float().sigmoid().cpu().numpy()
        _require_finite(masks, sure, where=self.place)
        for values, score in zip(masks, sure, strict=True):
            if score > self.settings.minimum_score:
                yield _Proposal(values, self.settings.mask_threshold, float(score), prompt)


def point_grid(points_per_side: int) -> list[tuple[float, float]]:
    """Centres (x, y) of the cells of a square grid over the view, as shares of its sides, row by row."""
    centres = ((np.arange(points_per_side) + 0.5) / points_per_side).tolist()
    return [(x, y) for y in centres for x in centres]


def stability(values: NDArray[np.float32]) -> float:
    """How little a mask hangs on its threshold: pixels with logits above 1 over those above −1 (Kirillov et al. 2023,
    "Segment anything", section B.1), 0 for an empty mask."""
    wide = int((values > -_STABILITY_OFFSET).sum())
    return float((values > _STABILITY_OFFSET).sum() / wide) if wide else 0.0


def _surest(masks: NDArray[np.float32], scores: NDArray[np.float32]) -> _Proposal:
    best = int(scores.argmax())
    return _Proposal(masks[best], 0.0, float(scores[best]))


def _resolved(
    proposals: Sequence[_Proposal],
    size: tuple[int, int],
    *,
    duplicate_overlap: float,
    part_overlap: float | None,
    minimum_pixels: int,
) -> tuple[NDArray[np.uint16], tuple[MaskedObject, ...]]:
    """One object a pixel at the view's size, and the objects."""
    from ..ops.mask_selection import one_object_a_pixel, select_masks
    from ..ops.object_poses import mask_box

    if not proposals:
        return np.zeros(size, np.uint16), ()
    order = select_masks(
        np.stack([each.values > each.threshold for each in proposals]),
        [each.score for each in proposals],
        duplicate_overlap=duplicate_overlap,
        part_overlap=part_overlap,
    )
    chosen = [proposals[index] for index in order]
    ids, kept = one_object_a_pixel(_at_size(chosen, size), size, minimum_pixels=minimum_pixels)
    objects = []
    for number, index in enumerate(kept.tolist(), start=1):
        mask = ids == number
        objects.append(MaskedObject(number, chosen[index].label, chosen[index].score, mask_box(mask), int(mask.sum())))
    return ids, tuple(objects)


def _at_size(proposals: Iterable[_Proposal], size: tuple[int, int]) -> Iterator[NDArray[np.bool_]]:
    """(H, W) bool of each, its values resized before the threshold is taken."""
    import torch

    for each in proposals:
        values = torch.from_numpy(each.values)[None, None]
        resized = torch.nn.functional.interpolate(values, size, mode="bilinear", align_corners=False)
        yield (resized[0, 0] > each.threshold).numpy()


def _require_finite(*values: NDArray[np.float32], where: str) -> None:
    if not all(np.isfinite(each).all() for each in values):
        raise EngineError(
            "masks or scores are not finite",
            where=where,
            remedy="Choose float32 or bfloat16 as the precision, and check the weights.",
        )

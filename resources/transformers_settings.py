"""Profile sections of the engines that run transformers models."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from .model_settings import ModelSettings, Precision
from .profile_sections import EngineSettings, EveryPositive, Fraction, refusal, require_overlap_within

EdgeBend = Annotated[float, Field(gt=0, le=1)]
Point = Annotated[tuple[Fraction, Fraction], Field(strict=False)]


class DepthProModelSettings(ModelSettings):
    """A Depth Pro model (DepthProForDepthEstimation), such as apple/DepthPro-hf."""

    precision: Precision = "float32"
    """Of weights and activations; depth is rounded to the activations' precision."""
    focal: Literal["estimated", "view"] = "estimated"
    """estimated: the model's own field of view, for pictures whose camera is not known; view: the view's intrinsics."""


class DepthProScaffoldSettings(EngineSettings, DepthProModelSettings):
    """Depth Pro: metric depth and focal length of a single picture."""

    engine: Literal["depth_pro"] = "depth_pro"
    edge_bend: EdgeBend | None = 0.05
    """Depth where inverse depth bends by more than this share of itself lies on an edge and is marked invalid; null:
    nothing is marked."""


class DepthAnythingScaffoldSettings(EngineSettings, ModelSettings):
    """Depth Anything: depth of a single picture, relative or metric as the model's files say."""

    engine: Literal["depth_anything"] = "depth_anything"
    precision: Precision = "float32"
    """Of weights and activations; depth is rounded to the activations' precision."""
    reference: DepthProModelSettings | None = None
    """Depth Pro model that gives a relative model's depth its scale and shift, in metres, and the focal length; null:
    depth stays relative and the view's intrinsics are taken."""
    relief: Annotated[float, Field(gt=1, le=1000)] = 10.0
    """How many times as far as the nearest surfaces the farthest are taken to lie where nothing else tells: a relative
    model without a reference leaves the shift of inverse depth open."""
    edge_bend: EdgeBend | None = 0.05
    """Depth where inverse depth bends by more than this share of itself lies on an edge and is marked invalid; null:
    nothing is marked."""


class _MaskModelSettings(ModelSettings):
    """A model whose parts are called one by one: what it sees is encoded once for many prompts."""

    precision: Precision = "float32"
    """Of weights and activations; in bfloat16 SAM 2 tells points apart to some four pixels of 1024 only."""

    @model_validator(mode="after")
    def _parts_are_where_they_are_called(self) -> Self:
        if self.offload == "model":
            raise refusal(
                "offload model for a single model, whose parts are called one by one",
                "Set offload to none, or to sequential.",
                ("offload",),
            )
        return self


class Sam2ObjectsSettings(EngineSettings, _MaskModelSettings):
    """SAM 2: masks of the objects of a view, at given points or wherever a grid of points finds one."""

    engine: Literal["sam2"] = "sam2"
    points: Annotated[tuple[Point, ...], Field(strict=False)] = ()
    """Points (x, y), as shares of the view's width and height, each on an object; none: a grid of points."""
    points_per_side: Annotated[int, Field(ge=1, le=128)] = 32
    """Points of the grid along each side of the view."""
    points_at_once: EveryPositive = 64
    """Points that the model sees at once; fewer take less memory."""
    minimum_score: Fraction = 0.8
    """Of the grid's masks: intersection over union with the truth, as the model predicts it."""
    minimum_stability: Fraction = 0.95
    """Of the grid's masks: intersection over union of the masks at mask logits 1 above and 1 below the threshold."""
    duplicate_overlap: Fraction = 0.7
    """Of two masks with a larger intersection over union one is a duplicate."""
    part_overlap: Fraction = 0.8
    """Of the grid's masks: one that lies in a larger one by this share is its part and is left out."""
    maximum_share: Fraction = 0.5
    """Of the grid's masks: one that covers more of the view is taken for a wall, a floor or the sky."""


class Sam3ObjectsSettings(EngineSettings, _MaskModelSettings):
    """SAM 3: masks of all objects of a view that fit a noun phrase."""

    engine: Literal["sam3"] = "sam3"
    prompts: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    """Noun phrases, such as chair or red sofa; every object that fits one is masked."""
    minimum_score: Fraction = 0.5
    """Of an object, as the model predicts it: that it fits, times that anything in the view does."""
    mask_threshold: Fraction = 0.5
    """Probability from which a pixel belongs to the object."""
    duplicate_overlap: Fraction = 0.7
    """Of two masks with a larger intersection over union one is a duplicate, also of two prompts."""

    @field_validator("prompts")
    @classmethod
    def _words(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            if not prompt.strip():
                raise refusal("an empty prompt", "Write what to look for, such as chair.")
        if len(set(prompts)) < len(prompts):
            raise refusal("a prompt is listed twice", "List each once.")
        return prompts


class CaptionSettings(EngineSettings, ModelSettings):
    """Captions of clips by a vision-language model (AutoModelForImageTextToText) that reads frames as pictures."""

    engine: Literal["vlm"] = "vlm"
    instruction: Annotated[str, Field(min_length=1)] = (
        "These pictures are frames of one video, in order. Describe in one paragraph the place, its objects with their "
        "colours and materials, the light, and how the camera moves. Write only the description."
    )
    """What the model is asked."""
    window_frames: EveryPositive = 80
    """Frames of a clip that one caption is about; Lyra-2 captions 80 at a time."""
    overlap_frames: Annotated[int, Field(ge=0)] = 0
    """Frames that a window shares with the one before it."""
    pictures: Annotated[int, Field(ge=1, le=64)] = 8
    """Frames of a window that the model sees, evenly spaced."""
    longest_side: Annotated[int, Field(ge=32, le=4096)] = 640
    """Longest side in pixels of the frames that the model sees; larger ones are made smaller."""
    maximum_tokens: Annotated[int, Field(ge=1, le=4096)] = 200
    """Of a caption; a longer one ends with its last whole sentence."""

    @model_validator(mode="after")
    def _moves_on(self) -> Self:
        require_overlap_within(self.overlap_frames, self.window_frames)
        return self


class TextEncoderSettings(ModelSettings):
    """The encoder of a T5 or UMT5 model: a folder of its own, or the part of a pipeline such as Wan's."""

    subfolder: str | None = None
    """Part of a pipeline that holds the encoder, such as text_encoder; null: the folder itself."""
    tokenizer_subfolder: str | None = None
    """Part of a pipeline that holds the tokenizer, such as tokenizer; null: beside the encoder's weights."""
    maximum_tokens: Annotated[int, Field(ge=2, le=512)] = 512
    """Of a text, its end mark included; longer texts are cut. Lyra-2 and Wan read 512."""

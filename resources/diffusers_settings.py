"""Profile sections of the engines that run diffusers pipelines."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .model_settings import ModelSettings, Precision
from .profile_sections import EngineSettings, EveryPositive, Section, refusal, require_overlap_within
from .quantities import Length

Guidance = Annotated[float, Field(ge=1, le=100)]
Percent = Annotated[float, Field(ge=0, le=100)]

SANA_WM_SIDE_MULTIPLE = 32
"""Spatial stride of the LTX-2 autoencoder that SANA-WM works in."""
SANA_WM_STRIDE = 8
"""Its temporal stride."""
WAN_STRIDE = 4
"""Temporal stride of Wan's autoencoder."""


class PipelineSettings(ModelSettings):
    """A model that is run as a diffusers pipeline."""

    refuse_flagged: bool = True
    """Refuse what the pipeline's safety checker flags, where it has one; false: the verdict is only recorded."""


class FluxViewSettings(EngineSettings, PipelineSettings):
    """A picture that a Flux model paints from the prompt: FluxPipeline or Flux2KleinPipeline, as the files say."""

    engine: Literal["flux"] = "flux"
    steps: EveryPositive | None = None
    """Denoising steps; null: 28 for FLUX.1 dev, 50 for FLUX.2 klein base, 4 for step-distilled models."""
    guidance: Guidance | None = None
    """Guidance scale; null: 3.5 for FLUX.1 dev, 4 for FLUX.2 klein base. Step-distilled models take none."""
    negative_prompt: str = ""
    """What the picture should not show. FLUX.1 takes it with true_guidance, FLUX.2 klein base with guidance."""
    true_guidance: Guidance = 1.0
    """FLUX.1: classifier-free guidance away from the negative prompt, at twice the time; 1: none."""
    prompt_tokens: Annotated[int, Field(ge=1, le=512)] | None = None
    """Tokens of a prompt that are read; null: 256 for FLUX.1 schnell, else 512."""


class ExpansionPercent(Section):
    """How much is added on each side of a picture; one number stands for all four sides."""

    left: Percent = 0.0
    """Percent of the picture's width added on its left."""
    right: Percent = 0.0
    """Percent of the picture's width added on its right."""
    top: Percent = 0.0
    """Percent of the picture's height added above it."""
    bottom: Percent = 0.0
    """Percent of the picture's height added below it."""

    @model_validator(mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return dict.fromkeys(("left", "right", "top", "bottom"), value)
        return value

    @model_validator(mode="after")
    def _adds_something(self) -> Self:
        if not (self.left or self.right or self.top or self.bottom):
            raise refusal("nothing is added on any side", "Give a percentage, or choose the engine picture.")
        return self


class FluxFillViewSettings(EngineSettings, PipelineSettings):
    """The picture with what may lie beyond its borders painted by FluxFillPipeline (VistaDream's first step)."""

    engine: Literal["flux_fill"] = "flux_fill"
    expansion_percent: ExpansionPercent = ExpansionPercent(left=15.0, right=15.0, top=15.0, bottom=15.0)
    """Added on each side, in percent of the picture's width or height: one number, or left, right, top and bottom."""
    prompt: str = ""
    """What to paint where a picture comes without words of its own."""
    steps: EveryPositive = 50
    """Denoising steps."""
    guidance: Guidance = 30.0
    """Guidance scale."""
    prompt_tokens: Annotated[int, Field(ge=1, le=512)] = 512
    """Tokens of a prompt that are read."""


class GuidedVideoSettings(PipelineSettings):
    """A video model that is told in words what to show and what not, with an autoencoder in a precision of its own."""

    guidance: Guidance = 5.0
    """Classifier-free guidance scale; 1: none, at half the time."""
    negative_prompt: str = ""
    """What the clips should not show."""
    prompt: str = ""
    """What to show where a scene comes without words."""
    vae_precision: Precision = "float32"
    """Of the autoencoder."""

    @model_validator(mode="after")
    def _negative_prompt_counts(self) -> Self:
        if self.negative_prompt and self.guidance <= 1.0:
            raise refusal(
                "a negative prompt that would have no effect",
                "Set guidance above 1, or remove the setting negative_prompt.",
                ("negative_prompt",),
            )
        return self


class SanaWMVideoSettings(EngineSettings, GuidedVideoSettings):
    """SANA-WM: the view in motion along the cameras, from picture and prompt."""

    engine: Literal["sana_wm"] = "sana_wm"
    steps: EveryPositive = 60
    """Denoising steps."""
    prompt_tokens: EveryPositive = 300
    """Tokens of a prompt that are read."""
    window_frames: Annotated[int, Field(ge=9, le=961)] = 161
    """Frames made at once, 8k + 1; longer paths are made in chunks, each going on from the last frame before it."""
    scene_depth: Annotated[Length, Field(gt=0)] = 4.0
    """Median depth that a scene is taken to have where its scaffold is not metric; the model moves in metres."""

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        _require_groups("window_frames", self.window_frames, SANA_WM_STRIDE)
        return self

    def require_frames(self, count: int, height: int, width: int) -> None:
        """Refuse clips of a length or size that the model cannot take; for the profile's validation.

        Raises:
            PydanticCustomError: the count is not 8k + 1, or a side is not a multiple of 32.
        """
        extra = (count - 1) % SANA_WM_STRIDE
        if extra:
            raise refusal(
                f"SANA-WM makes clips of {SANA_WM_STRIDE}k + 1 frames, and frames.count is {count}",
                f"Set frames.count to {count - extra} or {count - extra + SANA_WM_STRIDE}.",
                ("frames", "count"),
            )
        for name, side in (("height", height), ("width", width)):
            if side % SANA_WM_SIDE_MULTIPLE:
                below = max(side // SANA_WM_SIDE_MULTIPLE, 1) * SANA_WM_SIDE_MULTIPLE
                raise refusal(
                    f"SANA-WM takes sides that are multiples of {SANA_WM_SIDE_MULTIPLE}, and frames.{name} is {side}",
                    f"Set frames.{name} to {below} or {below + SANA_WM_SIDE_MULTIPLE}.",
                    ("frames", name),
                )


class WanVaceVideoSettings(EngineSettings, GuidedVideoSettings):
    """Wan VACE: the 3D cache seen along the cameras, with what it does not show painted by the model."""

    engine: Literal["wan_vace"] = "wan_vace"
    steps: EveryPositive = 50
    """Denoising steps."""
    prompt_tokens: EveryPositive = 512
    """Tokens of a prompt that are read."""
    conditioning_scale: Annotated[float, Field(ge=0, le=2)] = 1.0
    """Weight of what the cache shows."""
    reference_image: bool = True
    """Give the model the view as a reference image too."""
    window_frames: Annotated[int, Field(ge=5)] = 81
    """Frames made at once, 4k + 1; longer paths are made in chunks, before each of which the cache is added to."""
    overlap_frames: Annotated[int, Field(ge=1)] = 5
    """Frames that a chunk shares with the one before it, 4k + 1."""
    edge_threshold: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Relative depth spread in a 5 × 5 neighbourhood above which a pixel is an edge and is left out of the cache."""
    foreground_masking: bool = True
    """Leave out what would shine through from behind a nearer surface."""

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        _require_groups("window_frames", self.window_frames, WAN_STRIDE)
        _require_groups("overlap_frames", self.overlap_frames, WAN_STRIDE)
        require_overlap_within(self.overlap_frames, self.window_frames)
        return self


def _require_groups(name: str, count: int, stride: int) -> None:
    extra = (count - 1) % stride
    if extra:
        remedy = f"The nearest possible counts are {count - extra} and {count - extra + stride}."
        raise refusal(f"{name} is {count}, not {stride}k + 1", remedy, (name,))

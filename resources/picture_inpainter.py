"""What paints the holes of a picture: OpenCV (embedded), FLUX.1 Fill and Stable Diffusion's inpainting (diffusers)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..ops.picture_inpainting import inpaint_classically
from .diffusers_settings import FluxFillViewSettings
from .engines import EngineContract, Part
from .pipeline_engine import Made, PipelineEngine, make_checked, picture_of, require_size, seeded
from .resident_models import ResidentModels
from .vistadream_settings import (
    FluxFillInpaintingSettings,
    OpenCvInpaintingSettings,
    StableDiffusionInpaintingSettings,
)

Bool = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]
Painted = tuple[Any, None, dict[str, Any]]
"""(1, 3, H, W) tensor of 0 to 1, no latents, and the notes."""


@dataclass(frozen=True, slots=True)
class InpaintedPicture:
    """A picture without holes.

    Attributes:
        picture: (H, W, 3) uint8 sRGB; outside the holes the very pixels that were given.
        notes: how it was made, JSON.
    """

    picture: UInt8
    notes: Mapping[str, Any]


class PictureInpainter(Protocol):
    """Paints holes of pictures."""

    @property
    def contract(self) -> EngineContract:
        """What it is."""
        ...

    def inpaint(self, picture: UInt8, holes: Bool, *, prompt: str | None, seed: int) -> InpaintedPicture:
        """Paint the holes.

        Args:
            picture: (H, W, 3) uint8 sRGB; what is in the holes does not matter.
            holes: (H, W) bool.
            prompt: what the picture shows; None: the profile's words.
            seed: equal seeds give equal pictures.

        Raises:
            InputError: everything is a hole.
            ConfigError: the model does not take the size.
            EngineError: the model cannot be loaded.
            StageFailed: memory ran out, or two seeds gave a broken picture.
        """
        ...


class OpenCvInpainter:
    """Engine `opencv`: goes on with what lies around a hole; nothing is drawn, and words have no effect."""

    contract: EngineContract = EngineContract(
        "opencv", "embedded", frozenset({"view"}), frozenset({"view"}), "Apache-2.0"
    )

    def __init__(self, settings: OpenCvInpaintingSettings) -> None:
        self.settings = settings

    def inpaint(self, picture: UInt8, holes: Bool, *, prompt: str | None, seed: int) -> InpaintedPicture:
        """Fill the holes from their borders inwards. Raises InputError where everything is one."""
        settings = self.settings
        filled = inpaint_classically(picture, holes, method=settings.method, radius=settings.radius)
        return InpaintedPicture(filled, {"engine": "opencv", "method": settings.method, "radius": settings.radius})


class PipelineInpainter(PipelineEngine):
    """An inpainting pipeline of diffusers. What it repaints outside the holes is replaced by the given pixels."""

    needs: ClassVar[frozenset[Part]] = frozenset({"view"})
    gives: ClassVar[frozenset[Part]] = frozenset({"view"})
    default_prompt: str

    def inpaint(self, picture: UInt8, holes: Bool, *, prompt: str | None, seed: int) -> InpaintedPicture:
        """As `PictureInpainter.inpaint`."""
        given = np.where(holes[..., None], np.uint8(0), picture)
        paint = functools.partial(self._paint, prompt or self.default_prompt, given, holes)
        made = make_checked(paint, seed=seed, where=f"inpainting, engine {self.name}")
        painted = np.where(holes[..., None], made.output.frames[0], picture)
        return InpaintedPicture(painted, {**made.output.notes, **made.for_record(), "memory": made.output.memory})

    def _paint(self, prompt: str, picture: UInt8, holes: Bool, seed: int) -> Made:
        return self.made(lambda pipeline: self.call(pipeline, prompt, picture, holes, seed))

    def call(self, pipeline: Any, prompt: str, picture: UInt8, holes: Bool, seed: int) -> Painted:
        """What the pipeline paints."""
        raise NotImplementedError


class FluxFillInpainter(PipelineInpainter):
    """Engine `flux_fill`: FluxFillPipeline."""

    name: ClassVar[str] = "flux_fill"

    def __init__(self, settings: FluxFillInpaintingSettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self.settings = settings
        self.default_prompt = settings.prompt

    def class_name(self) -> str:
        """FluxFillPipeline."""
        return "FluxFillPipeline"

    def call(self, pipeline: Any, prompt: str, picture: UInt8, holes: Bool, seed: int) -> Painted:
        """As the base's."""
        return fill_picture(self, pipeline, self.settings, prompt, picture, holes, seed=seed)


class StableDiffusionInpainter(PipelineInpainter):
    """Engine `sd_inpaint`: StableDiffusionInpaintPipeline."""

    name: ClassVar[str] = "sd_inpaint"

    def __init__(self, settings: StableDiffusionInpaintingSettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self.settings = settings
        self.default_prompt = settings.prompt

    def class_name(self) -> str:
        """StableDiffusionInpaintPipeline."""
        return "StableDiffusionInpaintPipeline"

    def call(self, pipeline: Any, prompt: str, picture: UInt8, holes: Bool, seed: int) -> Painted:
        """As the base's."""
        settings = self.settings
        height, width = holes.shape
        require_size(height, width, pipeline.vae_scale_factor, where=f"engine {self.name}")
        embeddings, negative = self.embeddings(
            (prompt, settings.negative_prompt), pipeline, lambda: self._encode(pipeline, prompt)
        )
        output = pipeline(
            prompt_embeds=embeddings,
            negative_prompt_embeds=negative,
            image=picture_of(picture),
            mask_image=picture_of(holes.astype(np.uint8) * 255),
            height=height,
            width=width,
            strength=1.0,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=seeded(seed),
            output_type="pt",
        )
        notes = self.notes(
            pipeline,
            output,
            steps=settings.steps,
            guidance=settings.guidance,
            prompt=prompt,
            negative_prompt=settings.negative_prompt,
        )
        return output.images, None, notes

    def _encode(self, pipeline: Any, prompt: str) -> tuple[Any, ...]:
        return pipeline.encode_prompt(
            prompt, pipeline._execution_device, 1, True, negative_prompt=self.settings.negative_prompt
        )


def fill_picture(
    engine: PipelineEngine,
    pipeline: Any,
    settings: FluxFillInpaintingSettings | FluxFillViewSettings,
    prompt: str,
    picture: UInt8,
    holes: Bool,
    *,
    seed: int,
) -> Painted:
    """What FluxFillPipeline paints.

    Args:
        engine: whose embeddings are remembered and whose notes are written.
        pipeline: FluxFillPipeline.
        settings: steps, guidance and length of the prompt.
        prompt: what to paint.
        picture: (H, W, 3) uint8 sRGB.
        holes: (H, W) bool, what is painted.
        seed: of the noise.

    Raises:
        ConfigError: the model does not take the size.
    """
    height, width = holes.shape
    require_size(height, width, 2 * pipeline.vae_scale_factor, where=f"engine {engine.name}")

    def encode() -> tuple[Any, ...]:
        return pipeline.encode_prompt(prompt, prompt_2=None, max_sequence_length=settings.prompt_tokens)[:2]

    embeddings, pooled = engine.embeddings((prompt,), pipeline, encode)
    output = pipeline(
        prompt_embeds=embeddings,
        pooled_prompt_embeds=pooled,
        image=picture_of(picture),
        mask_image=picture_of(holes.astype(np.uint8) * 255),
        height=height,
        width=width,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        generator=seeded(seed),
        output_type="pt",
    )
    notes = engine.notes(
        pipeline,
        output,
        steps=settings.steps,
        guidance=settings.guidance,
        prompt=prompt,
        prompt_tokens=settings.prompt_tokens,
    )
    return output.images, None, notes


def make_inpainter(
    settings: OpenCvInpaintingSettings | FluxFillInpaintingSettings | StableDiffusionInpaintingSettings,
    models: ResidentModels | None = None,
) -> PictureInpainter:
    """The inpainter that the settings name."""
    if isinstance(settings, OpenCvInpaintingSettings):
        return OpenCvInpainter(settings)
    if isinstance(settings, FluxFillInpaintingSettings):
        return cast(PictureInpainter, FluxFillInpainter(settings, models))
    return cast(PictureInpainter, StableDiffusionInpainter(settings, models))

"""Engine `flux`: the first view of a scene, painted from its prompt by a Flux model."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..datasets.catalog import SceneEntry
from ..datasets.errors import ConfigError, EngineError, InputError
from .diffusers_settings import FluxViewSettings
from .engines import Part, View
from .model_files import PIPELINE_INDEX, model_folder, read_json
from .pipeline_engine import Made, PipelineEngine, make_checked, require_size, seeded
from .resident_models import ResidentModels


@dataclass(frozen=True, slots=True)
class _Run:
    """What one model is run with, the settings' nulls filled in.

    Attributes:
        guidance: None for a step-distilled model.
        classifier_free: whether the negative prompt takes part.
    """

    steps: int
    guidance: float | None
    tokens: int
    classifier_free: bool


class FluxView(PipelineEngine):
    """A picture of the prompt by FLUX.1 [dev], FLUX.1 [schnell] or FLUX.2 [klein], seen through a lens of given width.

    Args:
        settings: the profile's.
        horizontal_field_of_view_degrees: of the camera that the picture is taken to come from; a painted picture has
            none of its own.
        models: where the pipeline stays loaded.
    """

    name: ClassVar[str] = "flux"
    needs: ClassVar[frozenset[Part]] = frozenset({"prompt"})
    gives: ClassVar[frozenset[Part]] = frozenset({"view"})

    def __init__(
        self,
        settings: FluxViewSettings,
        horizontal_field_of_view_degrees: float,
        models: ResidentModels | None = None,
    ) -> None:
        super().__init__(settings, models)
        self.settings = settings
        self.horizontal_field_of_view_degrees = horizontal_field_of_view_degrees

    def class_name(self) -> Literal["FluxPipeline", "Flux2KleinPipeline"]:
        """The class that the model's files are of. Raises EngineError for any other than the two."""
        return self._class_name

    @functools.cached_property
    def _class_name(self) -> Literal["FluxPipeline", "Flux2KleinPipeline"]:
        index = model_folder(self.settings).path / PIPELINE_INDEX
        found = read_json(index).get("_class_name") if index.exists() else None
        if found == "FluxPipeline" or found == "Flux2KleinPipeline":
            return found
        raise EngineError(
            f"the files are of the class {found}" if found else f"{PIPELINE_INDEX} is missing",
            where=str(index),
            remedy="Give a model of the class FluxPipeline or Flux2KleinPipeline.",
        )

    @property
    def _is_klein(self) -> bool:
        return self._class_name == "Flux2KleinPipeline"

    def make_view(self, scene: SceneEntry, *, height: int, width: int, seed: int) -> View:
        """Paint the prompt.

        Raises:
            InputError: the scene has no prompt.
            ConfigError: the settings ask for what the model does not take.
            EngineError: the model cannot be loaded.
            StageFailed: memory ran out, or two seeds gave a broken picture.
        """
        from ..ops.cameras import centred_intrinsics

        if not scene.prompt:
            raise InputError(
                "the scene has no prompt",
                where=scene.scene_id,
                remedy="Choose the engine picture for scenes of pictures.",
            )
        paint = functools.partial(self._paint, scene.prompt, height, width)
        made = make_checked(paint, seed=seed, where=f"{scene.scene_id}, engine {self.name}")
        intrinsics = centred_intrinsics(
            height, width, horizontal_field_of_view=math.radians(self.horizontal_field_of_view_degrees)
        )
        return View(
            made.output.frames[0],
            intrinsics,
            None,
            {**made.output.notes, **made.for_record(), "memory": made.output.memory},
        )

    def _paint(self, prompt: str, height: int, width: int, seed: int) -> Made:
        return self.made(functools.partial(self._call, prompt, height, width, seed))

    def _call(self, prompt: str, height: int, width: int, seed: int, pipeline: Any) -> tuple[Any, None, dict[str, Any]]:
        """(1, 3, H, W) tensor, no latents, and the notes."""
        require_size(height, width, 2 * pipeline.vae_scale_factor, where=f"engine {self.name}")
        run = self._run_with(pipeline)
        output = pipeline(
            **self._text(pipeline, prompt, run),
            height=height,
            width=width,
            num_inference_steps=run.steps,
            generator=seeded(seed),
            output_type="pt",
            **self._guidance(run),
        )
        notes = self.notes(
            pipeline,
            output,
            steps=run.steps,
            guidance=run.guidance,
            true_guidance=self.settings.true_guidance,
            prompt=prompt,
            negative_prompt=self.settings.negative_prompt if run.classifier_free else None,
            prompt_tokens=run.tokens,
        )
        return output.images, None, notes

    def _run_with(self, pipeline: Any) -> _Run:
        """The settings with their nulls filled in, refused where the model does not take them."""
        settings, klein = self.settings, self._is_klein
        distilled = pipeline.config.is_distilled if klein else not pipeline.transformer.config.guidance_embeds
        if distilled and settings.guidance is not None:
            raise self._refusal(f"a guidance of {settings.guidance} for a step-distilled model", "guidance")
        if klein and settings.true_guidance != 1.0:
            raise self._refusal("true_guidance for FLUX.2 klein, whose guidance is the true one", "true_guidance")
        guidance = None if distilled else settings.guidance or (4.0 if klein else 3.5)
        classifier_free = (guidance or 1.0) > 1.0 if klein else settings.true_guidance > 1.0
        if settings.negative_prompt and not classifier_free:
            setting = "negative_prompt" if distilled or klein else "negative_prompt, or set true_guidance above 1"
            raise self._refusal("a negative prompt that would have no effect", setting)
        steps = settings.steps or (4 if distilled else 50 if klein else 28)
        tokens = settings.prompt_tokens or (256 if distilled and not klein else 512)
        return _Run(steps, guidance, tokens, classifier_free)

    def _refusal(self, found: str, setting: str) -> ConfigError:
        where = f"engine {self.name}, {self.settings.weights}"
        return ConfigError(found, where=where, remedy=f"Remove the setting {setting}.")

    def _guidance(self, run: _Run) -> dict[str, float]:
        """Arguments of the call. A guidance that the model does not take is set to what switches it off."""
        if self._is_klein:
            return {"guidance_scale": run.guidance or 1.0}
        return {"guidance_scale": run.guidance or 0.0, "true_cfg_scale": self.settings.true_guidance}

    def _text(self, pipeline: Any, prompt: str, run: _Run) -> dict[str, Any]:
        """Embeddings of prompt and negative prompt as arguments of the call."""
        wanted = {"": prompt} | ({"negative_": self.settings.negative_prompt} if run.classifier_free else {})
        arguments: dict[str, Any] = {}
        for prefix, text in wanted.items():
            embedded = self.embeddings((text,), pipeline, functools.partial(self._encode, pipeline, text, run.tokens))
            names = ("prompt_embeds", "pooled_prompt_embeds")[: len(embedded)]
            arguments |= {prefix + name: part for name, part in zip(names, embedded, strict=True)}
        return arguments

    def _encode(self, pipeline: Any, text: str, tokens: int) -> tuple[Any, ...]:
        """(1, tokens, d) embeddings and, of FLUX.1, the (1, p) pooled ones. Ids follow from the shapes."""
        if self._is_klein:
            return pipeline.encode_prompt(text, max_sequence_length=tokens)[:1]
        return pipeline.encode_prompt(text, prompt_2=None, max_sequence_length=tokens)[:2]

"""Engine `flux_fill`: a scene's own picture, with what may lie beyond its borders painted around it."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalog import SceneEntry
from ..ops.outpainting_canvas import Expansion, OutpaintingCanvas
from .diffusers_settings import ExpansionPercent, FluxFillViewSettings
from .embedded_engines import PictureView
from .engines import Part, View
from .picture_inpainter import Painted, fill_picture
from .pipeline_engine import Made, PipelineEngine, make_checked
from .resident_models import ResidentModels

_RING = 8
"""Width, in pixels, of the frame around the picture's inner border where the painting is compared with the picture."""


class FluxFillView(PipelineEngine):
    """The picture on a larger canvas, outpainted by FLUX.1 Fill: VistaDream's first step.

    The picture is scaled once, to the room that the expansion leaves on a canvas of the view's size, and lies there
    pixel for pixel: what the model repainted of it is replaced by its own pixels. The lens is that of the picture,
    with the principal point moved by its offset.

    Args:
        settings: the profile's.
        picture: reads and fits scenes' pictures; its field of view is the picture's own, before the expansion.
        models: where the pipeline stays loaded.
    """

    name: ClassVar[str] = "flux_fill"
    needs: ClassVar[frozenset[Part]] = frozenset({"image"})
    gives: ClassVar[frozenset[Part]] = frozenset({"view"})

    def __init__(
        self, settings: FluxFillViewSettings, picture: PictureView, models: ResidentModels | None = None
    ) -> None:
        super().__init__(settings, models)
        self.settings = settings
        self.picture = picture

    def class_name(self) -> str:
        """FluxFillPipeline."""
        return "FluxFillPipeline"

    def make_view(self, scene: SceneEntry, *, height: int, width: int, seed: int) -> View:
        """Paint around the picture.

        Raises:
            InputError: the picture is gone, was changed, or cannot be used.
            ConfigError: the model does not take the size.
            EngineError: the model cannot be loaded.
            StageFailed: memory ran out, or two seeds gave a broken picture.
        """
        settings = self.settings
        canvas = OutpaintingCanvas.within(height, width, _shares(settings.expansion_percent))
        original = self.picture.make_view(scene, height=canvas.picture_height, width=canvas.picture_width, seed=seed)
        prompt = scene.prompt or settings.prompt
        paint = functools.partial(self._paint, prompt, canvas, original.picture)
        made = make_checked(paint, seed=seed, where=f"{scene.scene_id}, engine {self.name}")
        painted = made.output.frames[0]
        notes = {
            **made.output.notes,
            **made.for_record(),
            "memory": made.output.memory,
            "outpainting": {
                **canvas.record(),
                "expansion_percent": settings.expansion_percent.model_dump(mode="json"),
                "repainted_border_difference": _border_difference(canvas, original.picture, painted),
            },
            "picture": dict(original.notes),
        }
        whole = canvas.place(original.picture, onto=painted)
        return View(whole, canvas.intrinsics(original.intrinsics), None, notes)

    def _paint(self, prompt: str, canvas: OutpaintingCanvas, picture: NDArray[np.uint8], seed: int) -> Made:
        return self.made(functools.partial(self._call, prompt, canvas, picture, seed))

    def _call(
        self, prompt: str, canvas: OutpaintingCanvas, picture: NDArray[np.uint8], seed: int, pipeline: Any
    ) -> Painted:
        return fill_picture(self, pipeline, self.settings, prompt, canvas.place(picture), canvas.unpainted(), seed=seed)


def _shares(percent: ExpansionPercent) -> Expansion:
    return Expansion(percent.left / 100, percent.right / 100, percent.top / 100, percent.bottom / 100)


def _border_difference(canvas: OutpaintingCanvas, picture: NDArray[np.uint8], painted: NDArray[np.uint8]) -> float:
    """Mean absolute difference, 8-bit levels, between the picture and what the model made of it just inside its border:
    how well the painting goes on from the picture."""
    difference = np.abs(picture.astype(np.int16) - canvas.crop(painted).astype(np.int16))
    ring = np.ones(difference.shape[:2], bool)
    ring[_RING:-_RING, _RING:-_RING] = False
    return float(difference[ring].mean())

"""Profile sections of VistaDream's scaffold, its inpainting and refinement, and of clips rendered from Gaussians."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .diffusers_settings import PipelineSettings
from .engine_choice import EngineChoice
from .profile_sections import Device, EngineSettings, EveryPositive, Fraction, refusal
from .transformers_settings import DepthAnythingScaffoldSettings, DepthProScaffoldSettings

Guidance = Annotated[float, Field(ge=1, le=100)]
Count = Annotated[int, Field(ge=0)]
LoopTrajectory = Literal["vistadream_spiral", "vistadream_wobble"]


class OpenCvInpaintingSettings(EngineSettings):
    """OpenCV's classical inpainting, which goes on with what lies around a hole: a stand-in for a generative model."""

    engine: Literal["opencv"] = "opencv"
    method: Literal["telea", "navier_stokes"] = "telea"
    """Telea's fast marching, or Bertalmio's Navier-Stokes."""
    radius: Annotated[float, Field(gt=0, le=64)] = 5.0
    """Neighbourhood that a pixel is made from, pixels."""


class FluxFillInpaintingSettings(EngineSettings, PipelineSettings):
    """Holes painted by FluxFillPipeline."""

    engine: Literal["flux_fill"] = "flux_fill"
    prompt: str = ""
    """What to paint where a view comes without words."""
    steps: EveryPositive = 50
    """Denoising steps."""
    guidance: Guidance = 30.0
    """Guidance scale."""
    prompt_tokens: Annotated[int, Field(ge=1, le=512)] = 512
    """Tokens of a prompt that are read."""


class StableDiffusionInpaintingSettings(EngineSettings, PipelineSettings):
    """Holes painted by StableDiffusionInpaintPipeline."""

    engine: Literal["sd_inpaint"] = "sd_inpaint"
    prompt: str = ""
    """What to paint where a view comes without words."""
    negative_prompt: str = ""
    """What the painting should not show."""
    steps: EveryPositive = 50
    """Denoising steps."""
    guidance: Guidance = 7.5
    """Classifier-free guidance scale; 1: none, at half the time."""


class MultiviewConsistencySettings(PipelineSettings):
    """Multi-view Consistency Sampling: StableDiffusionPipeline or LatentConsistencyModelPipeline, as the files say."""

    steps: Annotated[int, Field(ge=2, le=1000)] = 50
    """Steps of the whole schedule."""
    used_steps: EveryPositive = 9
    """Last steps of the schedule that are taken; VistaDream advises 8 to 15. More change the views more."""
    views: Annotated[int, Field(ge=2, le=64)] = 10
    """Views that are denoised together."""
    weight: Fraction = 0.5
    """Of the scene's own rendering in each step, against the model's prediction; VistaDream advises 0.3 to 0.8."""
    iterations: EveryPositive = 192
    """Steps of the fit of the Gaussians to the predictions, in each denoising step."""
    guidance: Guidance = 1.0
    """Guidance scale: classifier-free for Stable Diffusion (1: none), embedded for latent consistency models."""
    prompt: str = ""
    """What the scene shows, where a view comes without words."""
    negative_prompt: str = ""
    """What the views should not show."""
    views_at_once: EveryPositive = 4
    """Views that the models see at once; fewer take less memory."""

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.used_steps > self.steps:
            raise refusal(
                f"{self.used_steps} used steps of {self.steps}", "Let used_steps be at most steps.", ("used_steps",)
            )
        if self.offload != "none":
            raise refusal(
                f"offload {self.offload} for a pipeline whose parts are called one by one",
                "Set offload to none.",
                ("offload",),
            )
        return self


class BoxDepth(EngineSettings):
    """Depth of the box behind the view (Tour into the Picture), also for every further camera: a stand-in for an
    estimator of depth."""

    engine: Literal["tour_into_picture"] = "tour_into_picture"


class VistaDreamScaffoldSettings(EngineSettings):
    """VistaDream: Gaussians behind the view, grown along a path by painting what they leave open."""

    engine: Literal["vistadream"] = "vistadream"
    depth: Annotated[BoxDepth | DepthProScaffoldSettings | DepthAnythingScaffoldSettings, EngineChoice()] = BoxDepth()
    """What finds the depth of the view and of painted views."""
    inpainting: Annotated[
        OpenCvInpaintingSettings | FluxFillInpaintingSettings | StableDiffusionInpaintingSettings, EngineChoice()
    ] = OpenCvInpaintingSettings()
    """What paints holes."""
    refinement: MultiviewConsistencySettings | None = None
    """Multi-view Consistency Sampling of the grown scene; null: none."""
    trajectories: Annotated[tuple[LoopTrajectory, ...], Field(strict=False, min_length=1)] = ("vistadream_spiral",)
    """Paths along which holes are looked for: those that the clips will take."""
    movement_factor: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Factor on the distance that they cover."""
    poses: Annotated[int, Field(ge=3, le=1000)] = 60
    """Cameras along each path."""
    views: Count = 8
    """Most views that are painted and added."""
    smallest_hole: Fraction = 0.03
    """Share of a view that its holes take, below which it is not painted."""
    largest_hole: Fraction = 0.6
    """Share of a view that its holes take, above which it tells too little to paint the rest."""
    margin: Count = 16
    """Pixels added on each side of the views that are painted, so that what lies just outside a frame is there too."""
    iterations: EveryPositive = 256
    """Steps of the fit of the Gaussians of each view."""
    largest_residual: Annotated[float, Field(gt=0)] = 0.2
    """Median relative error of a painted view's depth against what is known, above which the view is left out."""
    repairs: Count = 10
    """Views whose last small holes are closed with what lies nearest, the worst first."""
    repair_iterations: EveryPositive = 64
    """Steps of the fit of the Gaussians of each repair."""
    device: Device = "cpu"
    """Of the Gaussians: cpu, or cuda (which takes gsplat)."""

    @model_validator(mode="after")
    def _window_of_holes(self) -> Self:
        if self.smallest_hole > self.largest_hole:
            raise refusal(
                f"no hole is larger than {self.smallest_hole} and smaller than {self.largest_hole}",
                "Let smallest_hole be at most largest_hole.",
                ("smallest_hole",),
            )
        return self


class GaussianVideoSettings(EngineSettings):
    """Frames rendered from the scaffold's Gaussians."""

    engine: Literal["gaussians"] = "gaussians"
    device: Device = "cpu"
    """cpu, or cuda (which takes gsplat)."""


class RenderedDepthSettings(EngineSettings):
    """Depth of the scaffold's Gaussians as the frames show them, and the cameras that these were rendered with. Exact
    for the frames, but the Gaussians themselves are estimated."""

    engine: Literal["rendered"] = "rendered"
    smallest_coverage: Fraction = 0.5
    """Pixels of which the Gaussians cover less have no depth."""

"""Multi-view Consistency Sampling: views of a scene denoised together, held to what one scene of Gaussians can show.

H. Wang et al., "VistaDream: Sampling multiview consistent images for single-view scene reconstruction", ICCV 2025,
section 3.2. Renderings of the coarse scene are noised and denoised by an image diffusion model. In each step the model
predicts every view without noise; a copy of the scene is fitted to all predictions at once; its renderings say what
noise a consistent scene would have had, and the step is taken along a blend of that and the predicted noise. The scene
fitted to the last predictions is the result. The published seed repository leaves this part out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ConfigError
from ..ops.cameras import crop_intrinsics
from ..ops.gaussian_optimisation import TargetView, optimise, target_view
from ..ops.gaussian_rasteriser import rasterise
from ..ops.gaussian_scene import Gaussians
from ..ops.gaussian_views import camera_tensors
from ..ops.hole_selection import spread_views
from .engines import Part, View
from .failures import Reason, StageFailed
from .model_files import PIPELINE_INDEX, read_json
from .pipeline_engine import PipelineEngine, require_size, seeded
from .resident_models import ResidentModels
from .vistadream_settings import MultiviewConsistencySettings

if TYPE_CHECKING:
    import torch

Float64 = NDArray[np.float64]

CANDIDATE_STRIDE = 3
"""Every so many poses of the path one may become a view."""

LATENT_CONSISTENCY = "LatentConsistencyModelPipeline"


class Denoiser(Protocol):
    """An image diffusion model with its autoencoder and a scheduler whose steps are set.

    Attributes:
        scheduler: of diffusers: `timesteps`, `alphas_cumprod`, `config.prediction_type` and `step`.
    """

    scheduler: Any

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(V, 3, H, W) of 0 to 1 into (V, C, h, w) latents, float32, without gradients."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(V, C, h, w) latents into (V, 3, H, W) pictures of 0 to 1, float32, without gradients."""
        ...

    def predict(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """What the model says of (V, C, h, w) noisy latents, float32, as the scheduler's prediction type means it."""
        ...


@dataclass(frozen=True, slots=True)
class ViewCameras:
    """The cameras of the views that are denoised together: V poses (4, 4), one lens (4,) and one size."""

    c2w: Sequence[Float64]
    intrinsics: Float64
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Sampled:
    """What the sampling gave.

    Attributes:
        gaussians: the scene fitted to the last predictions.
        disagreements: of each step, mean absolute difference (0..1) between the predicted views and the scene fitted to
            them: what no single scene can show.
    """

    gaussians: Gaussians
    disagreements: tuple[float, ...]


def sample_consistent_views(
    coarse: Gaussians,
    cameras: ViewCameras,
    denoiser: Denoiser,
    *,
    kept: Sequence[TargetView],
    used_steps: int,
    weight: float,
    iterations: int,
    scale: float,
    seed: int,
) -> Sampled:
    """Denoise views of a scene together, and fit the scene to them.

    With predicted noise ε, x₀ = (x_t − σε)/α gives the views; the scene fitted to them is rendered and encoded to z,
    and ε' = (x_t − αz)/σ, brought to the deviation of ε view by view. The step is taken along (1 − w)·ε + w·ε'.

    Args:
        coarse: the scene; every fit starts from it.
        cameras: of the views.
        denoiser: its scheduler's steps are set; the last `used_steps` of them are taken.
        kept: pictures that the scene must go on showing, in every fit.
        used_steps: at least 1.
        weight: w, 0..1.
        iterations: of each fit.
        scale: depth of the scene, for the fit.
        seed: of the noise and the fits' draws.

    Raises:
        StageFailed: the model predicts what is not finite.
    """
    import torch

    generator = seeded(seed)
    timesteps = denoiser.scheduler.timesteps[-used_steps:]
    latents = denoiser.encode(_rendered(coarse, cameras))
    noise = torch.randn(latents.shape, generator=generator, dtype=torch.float32).to(latents.device)
    alpha, sigma = _amplitudes(denoiser.scheduler, timesteps[0])
    noisy = alpha * latents + sigma * noise
    disagreements: list[float] = []
    for step, timestep in enumerate(timesteps):
        alpha, sigma = _amplitudes(denoiser.scheduler, timestep)
        predicted = _noise_of(denoiser, denoiser.predict(noisy, timestep), noisy, alpha, sigma)
        pictures = denoiser.decode((noisy - sigma * predicted) / alpha)
        if not torch.isfinite(pictures).all():
            raise StageFailed(
                Reason.CONTRACT_VIOLATION,
                f"multi-view consistency: the views predicted in step {step + 1} are not finite. Check the model's "
                "precision (bfloat16 or float32) and its files.",
            )
        targets = [
            TargetView(picture.permute(1, 2, 0), pose, cameras.intrinsics)
            for picture, pose in zip(pictures, cameras.c2w, strict=True)
        ]
        fitted = optimise(coarse, [*kept, *targets], steps=iterations, seed=_drawn(seed, step), scale=scale).gaussians
        seen = _rendered(fitted, cameras)
        disagreements.append(float((seen - pictures).abs().mean()))
        if step == len(timesteps) - 1:
            return Sampled(fitted, tuple(disagreements))
        rectified = (noisy - alpha * denoiser.encode(seen)) / sigma
        rectified = rectified * (_deviation(predicted) / _deviation(rectified).clamp(min=1e-8))
        blended = (1 - weight) * predicted + weight * rectified
        output = _output_of(denoiser, blended, noisy, alpha, sigma)
        noisy = denoiser.scheduler.step(output, timestep, noisy, generator=generator, return_dict=False)[0]
    raise ConfigError("no step is taken", where="multi-view consistency", remedy="Let used_steps be 1 or more.")


class MultiviewConsistency(PipelineEngine):
    """Multi-view Consistency Sampling with Stable Diffusion or a latent consistency model.

    A latent consistency model is sampled with its own scheduler and its embedded guidance; Stable Diffusion with DDIM,
    as the last steps of a schedule are taken and the multistep schedulers that it may come with need all of them.

    Args:
        settings: the profile's.
        models: where the pipeline stays loaded.
    """

    name: ClassVar[str] = "multiview_consistency"
    needs: ClassVar[frozenset[Part]] = frozenset({"gaussians", "view"})
    gives: ClassVar[frozenset[Part]] = frozenset({"gaussians"})

    def __init__(self, settings: MultiviewConsistencySettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self.settings = settings

    def class_name(self) -> str:
        """LatentConsistencyModelPipeline where the files are of one, else StableDiffusionPipeline."""
        found = read_json(self.source.folder / PIPELINE_INDEX).get("_class_name")
        return LATENT_CONSISTENCY if found == LATENT_CONSISTENCY else "StableDiffusionPipeline"

    def refine(
        self,
        gaussians: Gaussians,
        view: View,
        path: Sequence[Float64],
        *,
        made_up: NDArray[np.bool_],
        intrinsics: Float64,
        margin: int,
        scale: float,
        prompt: str | None,
        seed: int,
    ) -> tuple[Gaussians, dict[str, Any]]:
        """The scene with its views made consistent.

        Args:
            gaussians: the coarse scene, in the view's frame.
            view: the picture that the scene must go on showing from the identity pose.
            path: (4, 4) poses, from which views are chosen: those that show most of what the view does not.
            made_up: (N,) bool, Gaussians of what the view does not show.
            intrinsics: (4,) pixels of the view.
            margin: pixels added on each side of the views.
            scale: depth of the scene.
            prompt: what the scene shows; None: the profile's words.
            seed: equal seeds give equal scenes on the CPU.

        Returns:
            The refined Gaussians on the same device, and how they were made, JSON.

        Raises:
            ConfigError: the model does not take the views' size, or the schedule has fewer steps than are asked for.
            EngineError: the model cannot be loaded.
            StageFailed: memory ran out, or the model predicts what is not finite.
        """
        height, width = (side + 2 * margin for side in view.picture.shape[:2])
        lens = crop_intrinsics(intrinsics, top=-margin, left=-margin)
        candidates = ViewCameras(list(path)[::CANDIDATE_STRIDE], lens, height, width)
        shares = made_up_shares(gaussians, made_up, candidates)
        chosen = spread_views(shares, self.settings.views)
        cameras = replace(candidates, c2w=[candidates.c2w[index] for index in chosen])
        kept = target_view(view.picture, np.eye(4), intrinsics, odds=float(len(chosen)), device=gaussians.means.device)
        words = prompt or self.settings.prompt
        work = functools.partial(self._sample, gaussians, cameras, kept, words, scale, seed)
        outcome = self.run(work)
        sampled, notes = outcome.output
        return sampled.gaussians, {
            **notes,
            "seed": seed,
            "poses": [index * CANDIDATE_STRIDE for index in chosen],
            "made_up_shares": [shares[index] for index in chosen],
            "disagreements": list(sampled.disagreements),
            "memory": outcome.for_record(),
        }

    def _sample(
        self,
        gaussians: Gaussians,
        cameras: ViewCameras,
        kept: TargetView,
        prompt: str,
        scale: float,
        seed: int,
        pipeline: Any,
    ) -> tuple[Sampled, dict[str, Any]]:
        settings = self.settings
        require_size(cameras.height, cameras.width, pipeline.vae_scale_factor, where=f"engine {self.name}")
        guided = settings.guidance > 1 and pipeline.unet.config.time_cond_proj_dim is None
        key = (prompt, settings.negative_prompt)
        words = self.embeddings(key, pipeline, lambda: self._encode(pipeline, prompt))
        denoiser = PipelineDenoiser(pipeline, settings, words[: 2 if guided else 1])
        sampled = sample_consistent_views(
            gaussians,
            cameras,
            denoiser,
            kept=[kept],
            used_steps=settings.used_steps,
            weight=settings.weight,
            iterations=settings.iterations,
            scale=scale,
            seed=seed,
        )
        made_with = settings.model_dump(
            mode="json", include={"steps", "used_steps", "views", "weight", "iterations", "guidance"}
        )
        notes = self.notes(pipeline, None, **made_with, prompt=prompt, negative_prompt=settings.negative_prompt)
        return sampled, notes | {"scheduler": type(denoiser.scheduler).__name__}

    def _encode(self, pipeline: Any, prompt: str) -> tuple[Any, ...]:
        """Embeddings of the prompt and of the negative prompt."""
        return pipeline.encode_prompt(
            prompt, pipeline._execution_device, 1, True, negative_prompt=self.settings.negative_prompt
        )


class PipelineDenoiser:
    """The parts of a Stable Diffusion or latent consistency pipeline, with a scheduler of its own.

    Args:
        pipeline: loaded; its own scheduler is not touched.
        settings: steps, guidance, and views at once.
        words: embeddings of the prompt; for classifier-free guidance also of the negative prompt.
    """

    def __init__(self, pipeline: Any, settings: MultiviewConsistencySettings, words: tuple[Any, ...]) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.words = words
        self.scheduler = _scheduler_for(pipeline)
        try:
            self.scheduler.set_timesteps(settings.steps, device=pipeline._execution_device)
        except ValueError as error:
            raise ConfigError(
                f"{settings.steps} steps, which the scheduler refuses: {error}",
                where=settings.weights,
                remedy="Set refinement.steps to the steps that the model was distilled with, or fewer.",
            ) from error

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """The autoencoder's most likely latents."""
        vae = self.pipeline.vae

        def encoded(part: torch.Tensor) -> torch.Tensor:
            return vae.encode(part * 2 - 1).latent_dist.mode() * vae.config.scaling_factor

        return self._in_parts(encoded, pictures, vae)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures of latents."""
        vae = self.pipeline.vae

        def decoded(part: torch.Tensor) -> torch.Tensor:
            return (vae.decode(part / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)

        return self._in_parts(decoded, latents, vae)

    def predict(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The denoiser's output, guided where that is asked for."""
        import torch

        unet, guidance = self.pipeline.unet, self.settings.guidance
        condition = None
        if unet.config.time_cond_proj_dim is not None:
            scales = torch.full((1,), guidance - 1)
            condition = self.pipeline.get_guidance_scale_embedding(scales, unet.config.time_cond_proj_dim)

        def said(part: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
            given = {} if condition is None else {"timestep_cond": condition.expand(len(part), -1).to(part)}
            text = words.expand(len(part), -1, -1).to(part.dtype)
            return unet(part, timestep, encoder_hidden_states=text, return_dict=False, **given)[0]

        scaled = self.scheduler.scale_model_input(latents, timestep)
        outputs = [self._in_parts(functools.partial(said, words=words), scaled, unet) for words in self.words]
        return outputs[0] if len(outputs) == 1 else outputs[1] + guidance * (outputs[0] - outputs[1])

    def _in_parts(self, work: Any, batch: torch.Tensor, model: Any) -> torch.Tensor:
        """`work` on a few views at once in the model's precision; float32 again."""
        import torch

        parts = batch.split(self.settings.views_at_once)
        with torch.no_grad():
            return torch.cat([work(part.to(model.device, model.dtype)).to(batch) for part in parts])


def made_up_shares(gaussians: Gaussians, made_up: NDArray[np.bool_], cameras: ViewCameras) -> list[float]:
    """Of each camera's picture, the share that the view does not vouch for: made-up Gaussians, and what is open."""
    import torch

    flags = torch.from_numpy(np.ascontiguousarray(made_up)).to(gaussians.means)
    flagged = replace(gaussians, colours=flags[:, None].expand(-1, 3))
    return [1.0 - float((alpha - picture[0]).mean()) for picture, alpha in _renderings(flagged, cameras)]


def _renderings(gaussians: Gaussians, cameras: ViewCameras) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(3, H, W) colours on black and (H, W) alphas of each view, without gradients."""
    import torch

    found = []
    with torch.no_grad():
        for pose in cameras.c2w:
            viewmats, matrices = camera_tensors(pose, cameras.intrinsics, gaussians.means.device)
            pictures, alphas = rasterise(gaussians, viewmats, matrices, cameras.width, cameras.height)
            found.append((pictures[0].permute(2, 0, 1), alphas[0, ..., 0]))
    return found


def _rendered(gaussians: Gaussians, cameras: ViewCameras) -> torch.Tensor:
    """(V, 3, H, W) pictures of 0 to 1."""
    import torch

    return torch.stack([picture for picture, _ in _renderings(gaussians, cameras)]).clamp(0, 1)


def _scheduler_for(pipeline: Any) -> Any:
    if type(pipeline).__name__ == LATENT_CONSISTENCY:
        return type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)


def _amplitudes(scheduler: Any, timestep: torch.Tensor) -> tuple[float, float]:
    """α and σ of x_t = α·x₀ + σ·ε."""
    cumulative = float(scheduler.alphas_cumprod[int(timestep)])
    return cumulative**0.5, (1 - cumulative) ** 0.5


def _noise_of(
    denoiser: Denoiser, output: torch.Tensor, noisy: torch.Tensor, alpha: float, sigma: float
) -> torch.Tensor:
    """The noise that a model's output means."""
    kind = denoiser.scheduler.config.prediction_type
    if kind == "epsilon":
        return output
    if kind == "v_prediction":
        return alpha * output + sigma * noisy
    return (noisy - alpha * output) / sigma


def _output_of(
    denoiser: Denoiser, noise: torch.Tensor, noisy: torch.Tensor, alpha: float, sigma: float
) -> torch.Tensor:
    """The model's output that means a noise: the inverse of `_noise_of`."""
    kind = denoiser.scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return (noise - sigma * noisy) / alpha
    return (noisy - sigma * noise) / alpha


def _deviation(latents: torch.Tensor) -> torch.Tensor:
    """(V, 1, 1, 1) standard deviation of each view."""
    return latents.flatten(1).std(dim=1)[:, None, None, None]


def _drawn(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]) >> 1

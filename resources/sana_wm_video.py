"""Engine `sana_wm`: clips of the view in motion along our cameras, by the SANA-WM world model.

What the model takes was read from diffusers' `pipelines/sana_wm`: camera-to-world poses with OpenCV axes, in metres
(the model was trained on metric poses; its keyboard moves 0.05 a frame at 16 frames per second), in any world frame, as
each pose is brought into the first one's; `[fx, fy, cx, cy]` in pixels of the picture for every frame. Ours are the
same but for the unit, which is the scaffold's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import EngineError
from ..ops.video_chunks import plan_chunks
from .chunked_clip import ChunkedClip
from .diffusers_settings import SANA_WM_STRIDE, SanaWMVideoSettings
from .engines import Camera, GeneratedClip, Part, Scaffold, View
from .pipeline_engine import (
    Made,
    VideoPipelineEngine,
    Window,
    chunk_seeds,
    picture_of,
    require_size,
    require_view_size,
    seeded,
)
from .resident_models import ResidentModels

VAE_RUN, VAE_RUN_STRIDE = 96, 64
"""Frames that the autoencoder takes at once, and from one such run to the next."""
LEAST_WINDOW = 41
"""Frames below which the window is not halved when memory runs out: 2.5 s, for the model to know where things move."""


class SanaWMVideo(VideoPipelineEngine):
    """Clips from the view, the prompt and the cameras; the model's own latents come with them.

    Args:
        settings: the profile's.
        models: where the pipeline stays loaded.
    """

    name: ClassVar[str] = "sana_wm"
    needs: ClassVar[frozenset[Part]] = frozenset({"view", "prompt", "depth", "cameras"})
    gives: ClassVar[frozenset[Part]] = frozenset({"frames", "latents"})
    autoencoder: ClassVar[str] = "AutoencoderKLLTX2Video"
    part_licences: ClassVar[tuple[str, ...]] = ("LTX-2 Community License",)

    def __init__(self, settings: SanaWMVideoSettings, models: ResidentModels | None = None) -> None:
        super().__init__(settings, models)
        self.settings = settings
        self.window = Window(
            settings.window_frames,
            stride=SANA_WM_STRIDE,
            least=LEAST_WINDOW,
            device=settings.device,
            where=settings.weights,
        )

    def class_name(self) -> str:
        """SanaWMPipeline."""
        return "SanaWMPipeline"

    def load(self) -> Any:
        """The pipeline, with an autoencoder that takes long clips in overlapping runs of frames.

        The model was trained on latents that were made so (huggingface/diffusers,
        docs/source/en/api/pipelines/sana_wm.md); it bounds the memory that a long clip takes, too.
        """
        pipeline = super().load()
        vae = pipeline.vae
        vae.use_framewise_encoding = vae.use_framewise_decoding = True
        vae.tile_sample_min_num_frames, vae.tile_sample_stride_num_frames = VAE_RUN, VAE_RUN_STRIDE
        return pipeline

    def open_scene(self, scaffold: Scaffold, view: View, prompt: str) -> SanaWMScene:
        """Find the scene's scale and get the view ready.

        Raises:
            EngineError: the scaffold is not metric and has no depth to take a scale from.
        """
        return SanaWMScene(self, scaffold, view, prompt or self.settings.prompt, self._metres_per_unit(scaffold))

    def _metres_per_unit(self, scaffold: Scaffold) -> float:
        if scaffold.metric:
            return 1.0
        depth = scaffold.depth[scaffold.depth > 0]
        if not len(depth):
            raise EngineError(
                "the scaffold has no valid depth", where=f"engine {self.name}", remedy="Check the scaffold's engine."
            )
        return self.settings.scene_depth / float(np.median(depth))


@dataclass(frozen=True, slots=True)
class SanaWMScene:
    """One scene, ready for its clips.

    Attributes:
        metres_per_unit: length in metres of the unit that the scaffold and the cameras are in.
    """

    engine: SanaWMVideo
    scaffold: Scaffold
    view: View
    prompt: str
    metres_per_unit: float

    def generate(self, cameras: Sequence[Camera], *, seed: int) -> GeneratedClip:
        """The view in motion along the cameras, of which the first or the last must be the view's own.

        A path that ends at the view is made backwards from it, and its frames are then turned round. A path longer than
        the model's window is made in chunks, each from the last frame of the one before. Latents are given where they
        show exactly the clip's frames: of a clip made forwards and at once.

        Raises:
            ConfigError: the model does not take the size or the count of frames.
            EngineError: the path neither starts nor ends at the view.
            StageFailed: memory ran out, or two seeds gave a broken chunk.
        """
        require_view_size(cameras, self.view, where=f"engine {self.engine.name}")
        backwards = self._runs_backwards(cameras)
        path = list(cameras)[::-1] if backwards else list(cameras)
        with self.engine.pipeline() as pipeline:
            multiple = pipeline.vae_spatial_compression_ratio
            require_size(path[0].height, path[0].width, multiple, where=f"engine {self.engine.name}")
        clip = self.engine.window.run(functools.partial(self._generate, path, seed))
        notes = {**clip.notes, "made_backwards": backwards, "metres_per_unit": self.metres_per_unit}
        if backwards:
            return GeneratedClip(np.ascontiguousarray(clip.frames[::-1]), None, None, notes)
        return dataclasses.replace(clip, notes=notes)

    def _generate(self, path: Sequence[Camera], seed: int, window: int) -> GeneratedClip:
        """The clip forwards from the view, with `window` frames made at once."""
        chunks = plan_chunks(len(path), window=window, overlap=1, stride=SANA_WM_STRIDE)
        clip = ChunkedClip(self.engine, self.view.picture[None])
        for chunk, chunk_seed in zip(chunks, chunk_seeds(seed, len(chunks)), strict=True):
            make = functools.partial(self._make, path[chunk.start : chunk.stop], clip.frames[-1])
            clip.add(chunk, make, seed=chunk_seed)
        return clip.finished(seed=seed, window_frames=window)

    def _make(self, cameras: Sequence[Camera], first: NDArray[np.uint8], seed: int) -> Made:
        """A chunk that starts at the frame `first`."""
        return self.engine.made(functools.partial(self._call, cameras, first, seed))

    def _call(
        self, cameras: Sequence[Camera], first: NDArray[np.uint8], seed: int, pipeline: Any
    ) -> tuple[Any, Any, dict[str, Any]]:
        """(T, 3, H, W) tensor, (1, C, t, h, w) latents, and the notes."""
        engine, settings = self.engine, self.engine.settings
        c2w, intrinsics = self.model_cameras(cameras)
        embeddings, mask = engine.embeddings(
            ("prompt", self.prompt), pipeline, functools.partial(self._encode, pipeline, self.prompt)
        )
        negative, negative_mask = engine.embeddings(
            ("negative", settings.negative_prompt), pipeline, functools.partial(self._encode_negative, pipeline)
        )
        output = pipeline(
            image=picture_of(first),
            prompt=self.prompt,
            prompt_embeds=embeddings,
            prompt_attention_mask=mask,
            negative_prompt_embeds=negative,
            negative_prompt_attention_mask=negative_mask,
            c2w=c2w,
            intrinsics=intrinsics,
            height=cameras[0].height,
            width=cameras[0].width,
            num_frames=len(cameras),
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
            prompt=self.prompt,
            negative_prompt=settings.negative_prompt if settings.guidance > 1.0 else None,
            prompt_tokens=settings.prompt_tokens,
            vae_precision=settings.vae_precision,
        )
        return output.frames, output.latent, notes

    def model_cameras(self, cameras: Sequence[Camera]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(T, 4, 4) poses in metres and (T, 4) intrinsics in pixels, as the pipeline takes them."""
        c2w = np.stack([camera.c2w for camera in cameras]).astype(np.float32)
        c2w[:, :3, 3] *= np.float32(self.metres_per_unit)
        return c2w, np.stack([camera.intrinsics for camera in cameras]).astype(np.float32)

    def _encode(self, pipeline: Any, text: str) -> tuple[Any, Any]:
        """(1, 1, L, d) embeddings and (1, L) mask of a prompt, after the instruction that belongs to the model."""
        import torch
        from diffusers.pipelines.sana_wm.pipeline_sana_wm import DEFAULT_CHI_PROMPT

        none = torch.empty(0)
        return pipeline.encode_prompt(
            text,
            max_sequence_length=self.engine.settings.prompt_tokens,
            chi_prompt=DEFAULT_CHI_PROMPT,
            negative_prompt_embeds=none,
            negative_prompt_attention_mask=none,
        )[:2]

    def _encode_negative(self, pipeline: Any) -> tuple[Any, Any]:
        import torch

        none = torch.empty(0)
        settings = self.engine.settings
        return pipeline.encode_prompt(
            "",
            settings.negative_prompt,
            max_sequence_length=settings.prompt_tokens,
            prompt_embeds=none,
            prompt_attention_mask=none,
        )[2:]

    def _runs_backwards(self, cameras: Sequence[Camera]) -> bool:
        if cameras[0].sees_as(self.scaffold.intrinsics):
            return False
        if cameras[-1].sees_as(self.scaffold.intrinsics):
            return True
        raise EngineError(
            "the path neither starts nor ends at the view's own camera, from which the model goes on",
            where=f"engine {self.engine.name}",
            remedy="Choose trajectories that do, or another engine for video_latents.",
        )

"""Lyra's pipeline with its real signature: what is warped becomes the clip, and seeded noise what is not.

Faults are chosen by the prompt.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


class Gen3cPipeline:
    def __init__(
        self,
        inference_type: str,
        checkpoint_dir: str,
        checkpoint_name: str,
        prompt_upsampler_dir: str | None = None,
        enable_prompt_upsampler: bool = True,
        has_text_input: bool = True,
        offload_network: bool = False,
        offload_tokenizer: bool = False,
        offload_text_encoder_model: bool = False,
        offload_prompt_upsampler: bool = False,
        offload_guardrail_models: bool = False,
        disable_guardrail: bool = False,
        disable_prompt_encoder: bool = False,
        guidance: float = 7.0,
        num_steps: int = 35,
        height: int = 704,
        width: int = 1280,
        fps: int = 24,
        num_video_frames: int = 121,
        seed: int = 0,
    ) -> None:
        assert inference_type == "video2world"
        assert not enable_prompt_upsampler
        assert disable_guardrail
        # Lyra's config is named by a path from the checkout.
        assert Path("cosmos_predict1/diffusion/config/config.py").exists()
        weights = Path(checkpoint_dir, checkpoint_name, "model.pt")
        print(f"loading {weights}", flush=True)
        if not weights.exists():
            raise FileNotFoundError(2, "LocalEntryNotFoundError: no weights", str(weights))
        chunk = int(weights.read_text())
        self.model = SimpleNamespace(frame_buffer_max=2, chunk_size=chunk)
        self.height, self.width, self.seed = height, width, seed

    def generate(
        self,
        prompt: str,
        image_path: str | torch.Tensor,
        rendered_warp_images: torch.Tensor,
        rendered_warp_masks: torch.Tensor,
        negative_prompt: str | None = None,
        return_latents: bool = False,
    ) -> tuple[np.ndarray, str, torch.Tensor]:
        count, height, width = self.model.chunk_size, self.height, self.width
        assert isinstance(image_path, torch.Tensor)
        assert image_path.shape == (1, 3, 1, height, width)
        assert rendered_warp_images.shape == (1, count, 1, 3, height, width)
        assert rendered_warp_masks.shape == (1, count, 1, 1, height, width)
        assert negative_prompt == "The video is of poor quality."
        assert return_latents
        break_off(prompt)
        noise = np.random.RandomState(self.seed).randint(0, 256, (count, height, width, 3)).astype(np.uint8)
        mask = rendered_warp_masks[0, :, 0, 0, :, :, None].numpy() > 0
        seen = ((rendered_warp_images[0, :, 0].permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255)
        frames = np.where(mask, seen.numpy().astype(np.uint8), noise)
        shape = (1, 16, (count - 1) // 8 + 1, height // 8, width // 8)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed)).bfloat16()
        if prompt == "black" or (prompt == "black once" and not Path("was_black").exists()):
            Path("was_black").touch()
            frames[:] = 0
        if prompt == "a frame less":
            frames = frames[:-1]
        if prompt == "nan":
            latents[0, 3] = torch.nan
        return frames, prompt, latents


def break_off(prompt: str) -> None:
    if prompt == "out of memory":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 74.00 GiB")
    if prompt == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    while prompt == "hang":
        time.sleep(3600)

"""Tiny Stable Diffusion pipelines of the real classes with random weights, as save_pretrained writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .tiny_pipelines import LICENCE, clip_text_encoder, clip_tokenizer


def write_stable_diffusion(folder: Path, *, inpainting: bool = False) -> Path:
    """A StableDiffusionPipeline, or a StableDiffusionInpaintPipeline: pictures of any multiple of 4."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import StableDiffusionInpaintPipeline
    from diffusers.schedulers.scheduling_pndm import PNDMScheduler

    scheduler = PNDMScheduler(skip_prk_steps=True, steps_offset=1)
    pipeline = StableDiffusionInpaintPipeline if inpainting else StableDiffusionPipeline
    return _write(folder, pipeline, scheduler, seed=6 if inpainting else 5, in_channels=9 if inpainting else 4)


def write_latent_consistency(folder: Path) -> Path:
    """A LatentConsistencyModelPipeline, to which guidance is told as a number: pictures of any multiple of 4."""
    from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_text2img import (
        LatentConsistencyModelPipeline,
    )
    from diffusers.schedulers.scheduling_lcm import LCMScheduler

    return _write(folder, LatentConsistencyModelPipeline, LCMScheduler(), seed=7, time_cond_proj_dim=8)


def _write(folder: Path, make_pipeline: Any, scheduler: Any, *, seed: int, **unet_configuration: Any) -> Path:
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(seed)
    # diffusers' annotations give this class narrower arguments than its own configuration holds.
    make_vae: Any = AutoencoderKL
    vae = make_vae(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=1,
        sample_size=32,
    )
    unet = UNet2DConditionModel(
        sample_size=32,
        out_channels=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
        **unet_configuration,
    )
    pipeline = make_pipeline(
        vae=vae,
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    (folder / "README.md").write_text(f"---\nlicense: {LICENCE}\n---\n")
    return folder

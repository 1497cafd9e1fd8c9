"""Folders of tiny, untrained video autoencoders of the library's classes, as save_pretrained writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_wan(folder: Path, **changes: Any) -> Any:
    """An AutoencoderKLWan with 4 channels and strides 4 × 8 × 8; returns the model."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    torch.manual_seed(1)
    configuration: dict[str, Any] = {
        "base_dim": 8,
        "z_dim": 4,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "latents_mean": [0.1, -0.2, 0.3, 0.0],
        "latents_std": [0.5, 0.6, 0.7, 0.8],
    }
    model = AutoencoderKLWan(**(configuration | changes)).eval()
    model.save_pretrained(folder)
    return model


def save_ltx2(folder: Path, **changes: Any) -> Any:
    """An AutoencoderKLLTX2Video with 8 channels and strides 8 × 32 × 32; returns the model."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video

    torch.manual_seed(2)
    configuration: dict[str, Any] = {
        "latent_channels": 8,
        "block_out_channels": (8, 16, 16, 32),
        "decoder_block_out_channels": (8, 16, 32),
        "layers_per_block": (1, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1, 1),
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
        "scaling_factor": 1.5,
    }
    model = AutoencoderKLLTX2Video(**(configuration | changes)).eval()
    model.latents_mean.copy_(torch.linspace(-0.5, 0.5, model.latents_mean.numel()))
    model.latents_std.copy_(torch.linspace(0.5, 2.0, model.latents_std.numel()))
    model.save_pretrained(folder)
    return model


def save_cosmos(folder: Path, **changes: Any) -> Any:
    """An AutoencoderKLCosmos with 16 channels and strides 8 × 8 × 8, as Lyra's; returns the model."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_cosmos import AutoencoderKLCosmos

    torch.manual_seed(0)
    configuration: dict[str, Any] = {
        "encoder_block_out_channels": (8, 8, 8),
        "decode_block_out_channels": (8, 8, 8, 8),
        "attention_resolutions": (),
        "num_layers": 1,
        "latents_mean": [0.0] * 16,
        "latents_std": [1.0] * 16,
    }
    model = AutoencoderKLCosmos(**(configuration | changes)).eval()
    model.save_pretrained(folder)
    return model

"""The video autoencoder of LTX-2, which SANA-WM uses too: a whole clip at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import EngineError


class Ltx2Network:
    """Encoder and decoder of one `diffusers.AutoencoderKLLTX2Video`; each pass is one call with the whole clip.

    Raises:
        EngineError: the decoder asks for a noise level (`timestep_conditioning`), which a codec has none of.
    """

    streams = False

    def __init__(self, model: Any) -> None:
        if model.config.timestep_conditioning:
            raise EngineError(
                "the decoder is conditioned on a noise level",
                where="AutoencoderKLLTX2Video",
                remedy="Give weights whose config.json has timestep_conditioning false, as LTX-2's has.",
            )
        self.model = model

    def encode(self, frames: Any, history: dict[Any, Any]) -> Any:
        """Encodes a batch of clips.

        Args:
            frames: (1 + 8k, B, H, W, 3) in -1..1, in the model's dtype.
            history: not used: nothing is looked back on.

        Returns:
            (1 + k, B, C, h, w) latents as the model gives them, not normalised: the posterior's mode.
        """
        return self.model.encode(frames.permute(1, 4, 0, 2, 3)).latent_dist.mode().permute(2, 0, 1, 3, 4)

    def decode(self, latents: Any, history: dict[Any, Any]) -> Any:
        """Decodes a batch of clips: (1 + k, B, C, h, w) to (1 + 8k, B, H, W, 3), about -1..1 (not clipped)."""
        return self.model.decode(latents.permute(1, 2, 0, 3, 4)).sample.permute(2, 0, 3, 4, 1)


def space_fields(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a folder says of the latent space: stored = (z - mean) · scaling_factor / std, as the LTX-2 pipelines
    normalise; mean and std are buffers among the weights."""
    scaling = config["spatio_temporal_scaling"]
    count = sum(scaling) if isinstance(scaling, list | tuple) else scaling * (len(config["layers_per_block"]) - 1)
    return {
        "channels": config["latent_channels"],
        "mean": _buffer(folder, "latents_mean"),
        "std": _buffer(folder, "latents_std"),
        "scale": config["scaling_factor"],
        "temporal_stride": config["temporal_compression_ratio"] or config["patch_size_t"] * 2**count,
        "spatial_stride": config["spatial_compression_ratio"] or config["patch_size"] * 2**count,
    }


def _buffer(folder: Path, name: str) -> NDArray[np.float32]:
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118 - not a mapping
                return tensors.get_tensor(name).float().numpy()
    raise EngineError(
        f"the weights hold no {name}", where=str(folder), remedy="Download the model again: the buffer belongs to it."
    )

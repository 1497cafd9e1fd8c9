"""The video autoencoder of Wan 2.1 and 2.2, a group of frames at a time."""

from __future__ import annotations

from typing import Any

import numpy as np


class WanNetwork:
    """Encoder and decoder of one `diffusers.AutoencoderKLWan`.

    The model is causal in time and keeps what its convolutions look back on in a list that the caller may hold: here
    the pass's `history` holds it, so that any number of threads may share the model. The diffusers class keeps it on
    itself, and otherwise does the same.
    """

    streams = True

    def __init__(self, model: Any) -> None:
        self.model = model
        self._patch_size: int | None = model.config.patch_size

    def encode(self, frames: Any, history: dict[Any, Any]) -> Any:
        """Encodes the next frames of a batch of clips.

        Args:
            frames: (T, B, H, W, 3) in -1..1, in the model's dtype: one in a pass's first call, then as many as the
                temporal stride.
            history: the pass's memory, changed in place.

        Returns:
            (t, B, C, h, w) latents as the model gives them, not normalised: the posterior's mode.
        """
        from diffusers.models.autoencoders import autoencoder_kl_wan

        video = frames.permute(1, 4, 0, 2, 3).contiguous()
        if self._patch_size is not None:
            video = autoencoder_kl_wan.patchify(video, patch_size=self._patch_size)
        moments = self.model.encoder(video, feat_cache=self._memory(history, "encoder"), feat_idx=[0])
        mode = self.model.quant_conv(moments).chunk(2, dim=1)[0]
        return mode.permute(2, 0, 1, 3, 4)

    def decode(self, latents: Any, history: dict[Any, Any]) -> Any:
        """Decodes the next latent frame of a batch of clips.

        Args:
            latents: (1, B, C, h, w), not normalised, in the model's dtype.
            history: the pass's memory, changed in place.

        Returns:
            (T, B, H, W, 3) frames in -1..1: one in the first call of a pass, then as many as the temporal stride.
        """
        from diffusers.models.autoencoders import autoencoder_kl_wan

        first = not history
        video = self.model.decoder(
            self.model.post_quant_conv(latents.permute(1, 2, 0, 3, 4)),
            feat_cache=self._memory(history, "decoder"),
            feat_idx=[0],
            first_chunk=first,
        )
        if self._patch_size is not None:
            video = autoencoder_kl_wan.unpatchify(video, patch_size=self._patch_size)
        return video.clamp(-1, 1).permute(2, 0, 3, 4, 1)

    def _memory(self, history: dict[Any, Any], part: str) -> list[Any]:
        from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

        if part not in history:
            convolutions = sum(isinstance(module, WanCausalConv3d) for module in getattr(self.model, part).modules())
            history[part] = [None] * convolutions
        return history[part]


def space_fields(config: dict[str, Any]) -> dict[str, Any]:
    """What config.json says of the latent space: stored = (z - mean) / std, as the Wan pipelines normalise."""
    return {
        "channels": config["z_dim"],
        "mean": np.asarray(config["latents_mean"], np.float32),
        "std": np.asarray(config["latents_std"], np.float32),
        "temporal_stride": 2 ** sum(config["temperal_downsample"]),
        "spatial_stride": config["scale_factor_spatial"],
    }

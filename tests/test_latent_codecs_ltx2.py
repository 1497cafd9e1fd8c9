"""The LTX-2 codec: the diffusers class over a whole clip, with mean and std from its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sceneloom.datasets.errors import ConfigError, EngineError
from sceneloom.resources.latent_codec import LatentCodec, latent_space

from .tiny_autoencoders import save_ltx2


def clip(frames: int = 17, height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3)).astype(np.uint8)


def test_a_saved_model_gives_the_classes_own_latents_and_frames(tmp_path: Path) -> None:
    model = save_ltx2(tmp_path)
    codec = LatentCodec.load(tmp_path)
    video = torch.from_numpy(clip()).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.inference_mode():
        raw = model.encode(video).latent_dist.mode()
        pixels = (model.decode(raw).sample[0].permute(1, 2, 3, 0) + 1) * 127.5
    mean = np.linspace(-0.5, 0.5, 8)[:, None, None, None]
    std = np.linspace(0.5, 2.0, 8)[:, None, None, None]
    expected = (raw[0].numpy() - mean) * 1.5 / std
    latents = codec.encode(iter(clip()))
    assert latents.shape == codec.space.latent_shape(17, 64, 96) == (8, 3, 2, 3)
    np.testing.assert_allclose(latents, expected, rtol=2e-3, atol=2e-3)
    decoded = codec.decode(expected.astype(np.float32))
    assert decoded.shape == (17, 64, 96, 3)
    assert np.abs(decoded - np.clip(np.rint(pixels.numpy()), 0, 255)).max() <= 1


def test_the_space_is_read_without_the_model_and_refuses_sides_that_do_not_fit(tmp_path: Path) -> None:
    save_ltx2(tmp_path)
    space = latent_space(tmp_path)
    assert (space.channels, space.temporal_stride, space.spatial_stride, space.scale) == (8, 8, 32, 1.5)
    np.testing.assert_allclose(space.mean[:, 0], np.linspace(-0.5, 0.5, 8), rtol=1e-6)
    with pytest.raises(ConfigError, match="height is 80, not a multiple of 32"):
        LatentCodec.load(tmp_path).encode(clip(9, 80, 96))
    with pytest.raises(ConfigError, match="Use 9 or 17 frames"):
        LatentCodec.load(tmp_path).encode(clip(12))


def test_strides_that_the_configuration_leaves_open_are_those_of_the_class(tmp_path: Path) -> None:
    model = save_ltx2(tmp_path, spatial_compression_ratio=None, temporal_compression_ratio=None)
    space = latent_space(tmp_path)
    assert space.spatial_stride == model.spatial_compression_ratio
    assert space.temporal_stride == model.temporal_compression_ratio


def test_tiles_give_frames_of_the_same_size(tmp_path: Path) -> None:
    save_ltx2(tmp_path)
    codec = LatentCodec.load(tmp_path, tiling=True)
    frames = clip(25, 64, 576)
    latents = codec.encode(frames)
    assert latents.shape == codec.space.latent_shape(25, 64, 576)
    assert codec.decode(latents).shape == frames.shape


def test_a_decoder_that_wants_a_noise_level_is_refused(tmp_path: Path) -> None:
    save_ltx2(tmp_path, timestep_conditioning=True)
    with pytest.raises(EngineError, match="conditioned on a noise level"):
        LatentCodec.load(tmp_path)


def test_weights_without_the_normalisation_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_ltx2(tmp_path)
    file = next(tmp_path.glob("*.safetensors"))
    tensors = load_file(file)
    del tensors["latents_std"]
    save_file(tensors, file)
    with pytest.raises(EngineError, match="the weights hold no latents_std"):
        latent_space(tmp_path)

"""The Wan codec: streaming with a memory of its own equals the diffusers class, threads may share it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sceneloom.datasets.errors import ConfigError
from sceneloom.resources.latent_codec import LatentCodec, latent_space
from sceneloom.resources.latent_codecs_wan import WanNetwork

from .tiny_autoencoders import save_wan

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "Wan 2.1": {},
    "Wan 2.2 5B": {
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
    },
}


def clip(frames: int = 13, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 32, 48, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_saved_model_gives_the_classes_own_latents_and_frames(name: str, tmp_path: Path) -> None:
    model = save_wan(tmp_path, **CONFIGURATIONS[name])
    codec = LatentCodec.load(tmp_path)
    video = torch.from_numpy(clip()).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.inference_mode():
        raw = model.encode(video).latent_dist.mode()
        pixels = (model.decode(raw).sample[0].permute(1, 2, 3, 0) + 1) * 127.5
    mean, std = np.array([0.1, -0.2, 0.3, 0.0]), np.array([0.5, 0.6, 0.7, 0.8])
    expected = (raw[0].numpy() - mean[:, None, None, None]) / std[:, None, None, None]
    latents = codec.encode(clip())
    assert latents.shape == codec.space.latent_shape(13, 32, 48) == expected.shape
    np.testing.assert_allclose(latents, expected, rtol=2e-3, atol=2e-3)
    decoded = codec.decode(expected.astype(np.float32))
    assert decoded.shape == (13, 32, 48, 3)
    assert np.abs(decoded - np.rint(pixels.numpy())).max() <= 1


def test_frames_come_out_in_groups_of_four(tmp_path: Path) -> None:
    save_wan(tmp_path)
    codec = LatentCodec.load(tmp_path)
    groups = list(codec.decode_groups(codec.encode(clip())))
    assert [len(group) for group in groups] == [1, 4, 4, 4]


def test_the_space_is_the_configurations_and_takes_4k_plus_1_frames(tmp_path: Path) -> None:
    save_wan(tmp_path)
    space = latent_space(tmp_path)
    assert (space.channels, space.temporal_stride, space.spatial_stride, space.scale) == (4, 4, 8, 1.0)
    np.testing.assert_allclose(space.std[:, 0], [0.5, 0.6, 0.7, 0.8])
    with pytest.raises(ConfigError, match="Use 9 or 13 frames"):
        LatentCodec.load(tmp_path).encode(clip(11))


def test_threads_that_share_a_model_do_not_mix_their_clips(tmp_path: Path) -> None:
    network = WanNetwork(save_wan(tmp_path))
    codec = LatentCodec(network, latent_space(tmp_path))
    clips = [clip(seed=seed) for seed in range(3)]
    alone = [codec.encode(each) for each in clips]
    together: list[Any] = [None] * 3

    def encode(index: int) -> None:
        together[index] = codec.encode(clips[index])

    threads = [threading.Thread(target=encode, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)

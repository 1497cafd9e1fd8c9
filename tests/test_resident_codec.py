"""The codec of a profile: known by its files before it is loaded, loaded once, and within the device's budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sceneloom.datasets.errors import ConfigError, EngineError
from sceneloom.resources.latent_codec import LatentCodec
from sceneloom.resources.profiles import LatentCodecSettings
from sceneloom.resources.resident_codec import ResidentCodec
from sceneloom.resources.resident_models import ResidentModels

from .tiny_autoencoders import save_ltx2, save_wan


def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3)).astype(np.uint8)


def test_the_space_is_known_without_loading_and_the_model_is_loaded_once(tmp_path: Path) -> None:
    save_wan(tmp_path)
    models = ResidentModels(None)
    codec = ResidentCodec(LatentCodecSettings(path=str(tmp_path), architecture="wan"), models)
    assert codec.space == LatentCodec.load(tmp_path).space
    assert models.counters()["loads"] == {}
    latents = codec.encode(clip())
    np.testing.assert_array_equal(latents, LatentCodec.load(tmp_path).encode(clip()))
    np.testing.assert_array_equal(codec.round_trip(latents), codec.encode(codec.decode(latents)))
    assert list(models.counters()["loads"].values()) == [1]


def test_weights_of_another_architecture_are_refused_before_any_work(tmp_path: Path) -> None:
    save_ltx2(tmp_path)
    codec = ResidentCodec(LatentCodecSettings(path=str(tmp_path), architecture="wan"), ResidentModels(None))
    with pytest.raises(ConfigError, match=r"architecture ltx2, the profile says wan.*to ltx2"):
        codec.encode(clip())


def test_memory_is_that_of_the_weights_in_their_precision_or_as_declared(tmp_path: Path) -> None:
    model = save_wan(tmp_path)
    elements = sum(parameter.numel() for parameter in model.parameters())
    sizes = [
        ResidentCodec(
            LatentCodecSettings(path=str(tmp_path), architecture="wan", precision=precision), ResidentModels(None)
        ).device_memory_bytes
        for precision in ("float32", "bfloat16")
    ]
    assert sizes == [4 * elements, 2 * elements]
    declared = LatentCodecSettings(path=str(tmp_path), architecture="wan", device_memory=2.0)
    codec = ResidentCodec(declared, ResidentModels(10**9))
    assert codec.device_memory_bytes == 2 * 10**9
    with pytest.raises(EngineError, match="the model takes 2 GB, the budget of cpu is 1 GB"):
        codec.encode(clip())

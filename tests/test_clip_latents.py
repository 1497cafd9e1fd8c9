"""Latents of a generated clip: the generator's own where they fit, encoded ones else, and how far they drift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sceneloom.assets.clip_latents import latents_of, relative_difference
from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.resources.engines import GeneratedClip
from sceneloom.resources.latent_codec import LatentCodec

from .tiny_autoencoders import save_wan


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> LatentCodec:
    folder = tmp_path_factory.mktemp("wan")
    save_wan(folder)
    return LatentCodec.load(folder)


def clip(latents: NDArray[np.float16] | None, space: LatentSpace | None) -> GeneratedClip:
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3)).astype(np.uint8)
    return GeneratedClip(frames, latents, space, {})


def test_frames_are_encoded_where_the_generator_gives_no_latents(codec: LatentCodec) -> None:
    found = latents_of(clip(None, None), codec, measure_drift=False)
    np.testing.assert_array_equal(found.latents, codec.encode(clip(None, None).frames))
    assert (found.source, found.drift, found.space) == ("codec", None, codec.space)


def test_the_generators_latents_of_the_same_space_are_taken_as_they_are(codec: LatentCodec) -> None:
    own = np.full(codec.space.latent_shape(5, 32, 48), 0.5, np.float16)
    found = latents_of(clip(own, codec.space), codec, measure_drift=False)
    assert found.latents is own
    assert found.source == "generator"


def test_latents_of_another_space_are_not(codec: LatentCodec, tmp_path: Path) -> None:
    save_wan(tmp_path, latents_mean=[0.0] * 4)
    other = LatentCodec.load(tmp_path).space
    own = np.full(codec.space.latent_shape(5, 32, 48), 0.5, np.float16)
    assert latents_of(clip(own, other), codec, measure_drift=False).source == "codec"


def test_drift_is_what_decoding_and_encoding_again_changes(codec: LatentCodec) -> None:
    encoded = latents_of(clip(None, None), codec, measure_drift=True)
    again = codec.encode(codec.decode(encoded.latents))
    expected = np.linalg.norm(again.astype(float) - encoded.latents) / np.linalg.norm(encoded.latents.astype(float))
    assert encoded.drift == pytest.approx(expected, rel=1e-6)
    assert expected > 0
    # A generator's latents have been decoded already: its frames are encoded once more.
    own = codec.encode(clip(None, None).frames) * np.float16(0.5)
    found = latents_of(clip(own, codec.space), codec, measure_drift=True)
    assert found.drift == pytest.approx(1.0, abs=2e-3)


def test_a_difference_is_relative() -> None:
    expected = np.array([3.0, 4.0])
    assert relative_difference(expected, expected) == 0
    assert relative_difference(expected * 1.1, expected) == pytest.approx(0.1)
    assert relative_difference(np.ones(3), np.zeros(3)) > 1e5

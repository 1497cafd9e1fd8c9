"""Latent spaces: shapes, normalisation and their way through JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ConfigError, ContractError
from sceneloom.datasets.latent_spaces import LatentSpace


def space(**changes: object) -> LatentSpace:
    rng = np.random.default_rng(0)
    fields: dict[str, object] = {
        "id": "test",
        "channels": 16,
        "mean": rng.normal(size=16),
        "std": rng.uniform(0.5, 2, 16),
        "weights_digest": "sha256:00",
        "licence": "Apache-2.0",
    }
    return LatentSpace(**(fields | changes))  # pyright: ignore[reportArgumentType]


def lyra_space() -> LatentSpace:
    rng = np.random.default_rng(1)
    return space(mean=rng.normal(size=(16, 16)), std=rng.uniform(0.5, 2, (16, 16)), scale=0.5)


def test_lyras_clip_has_sixteen_latent_frames() -> None:
    assert space().latent_shape(121, 704, 1280) == (16, 16, 88, 160)


def test_a_space_that_is_not_causal_has_no_frame_of_its_own_in_front() -> None:
    plain = space(causal=False, temporal_stride=4)
    assert plain.latent_shape(16, 64, 32) == (16, 4, 8, 4)
    assert plain.frames(4) == 16


@given(st.integers(1, 40))
def test_frames_and_latent_frames_are_inverse(latent_frames: int) -> None:
    for each in (space(), space(causal=False), space(temporal_stride=4)):
        assert each.latent_frames(each.frames(latent_frames)) == latent_frames


@pytest.mark.parametrize(
    ("frames", "remedy"), [(0, "Use 1 or 9 frames"), (8, "Use 1 or 9 frames"), (120, "Use 113 or 121 frames")]
)
def test_wrong_numbers_of_frames_name_the_neighbours(frames: int, remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        space().latent_frames(frames)


def test_no_frames_of_a_space_that_is_not_causal() -> None:
    with pytest.raises(ConfigError, match="Use 8 or 16 frames"):
        space(causal=False).latent_frames(0)


@pytest.mark.parametrize(("height", "width", "remedy"), [(700, 1280, "688 or 704"), (704, 8, "16 or 32")])
def test_wrong_sizes_name_the_neighbours(height: int, width: int, remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        space().latent_shape(121, height, width)


def test_lyras_normalisation_is_its_formula() -> None:
    declared = lyra_space()
    raw = np.random.default_rng(2).normal(size=(16, 16, 3, 5)).astype(np.float32)
    expected = (raw - declared.mean[:, :, None, None]) / declared.std[:, :, None, None] * 0.5
    np.testing.assert_allclose(declared.normalise(raw), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_denormalise_undoes_normalise(frames: int, seed: int) -> None:
    raw = np.random.default_rng(seed).normal(0, 3, (16, frames, 2, 3)).astype(np.float32)
    for each in (space(), lyra_space()):
        np.testing.assert_allclose(each.denormalise(each.normalise(raw)), raw, rtol=1e-4, atol=1e-4)


def test_a_table_by_frame_is_read_from_its_start_and_has_an_end() -> None:
    declared = lyra_space()
    raw = np.ones((16, 17, 1, 1), np.float32)
    np.testing.assert_array_equal(declared.normalise(raw[:, :3]), declared.normalise(raw[:, :16])[:, :3])
    with pytest.raises(ContractError, match="at most 121 frames"):
        declared.normalise(raw)


def test_a_batch_axis_is_refused() -> None:
    with pytest.raises(ContractError, match="Drop the batch axis"):
        space().normalise(np.zeros((1, 16, 3, 2, 2)))


@pytest.mark.parametrize("each", [space(), lyra_space(), space(causal=False)])
def test_json_round_trip_is_exact(each: LatentSpace) -> None:
    read = LatentSpace.from_json(json.loads(json.dumps(each.to_json())))
    assert read == each
    assert hash(read) == hash(each)
    np.testing.assert_array_equal(read.mean, each.mean)
    assert read != space(scale=0.25)


def test_unknown_and_missing_fields_are_refused_with_the_file() -> None:
    fields = space().to_json()
    with pytest.raises(ConfigError, match=r"a\.json.*sigma"):
        LatentSpace.from_json(fields | {"sigma": 1}, where="a.json")
    with pytest.raises(ConfigError, match="mean"):
        LatentSpace.from_json({key: value for key, value in fields.items() if key != "mean"})


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": np.zeros(4)},
        {"mean": np.zeros((16, 2)), "std": np.ones((16, 3))},
        {"std": np.zeros(16)},
        {"mean": np.full(16, np.nan)},
        {"scale": 0.0},
        {"channels": 0},
        {"temporal_stride": 0},
    ],
)
def test_impossible_spaces_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        space(**changes)


def test_the_tables_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="read-only"):
        space().mean[0] = 1


def test_a_space_under_another_name_holds_the_same_latents_and_other_weights_do_not() -> None:
    assert space().holds_latents_of(space(id="another name", licence="MIT"))
    assert not space().holds_latents_of(space(weights_digest="sha256:01"))
    assert not space().holds_latents_of(space(scale=0.5))
    assert not space(weights_digest="").holds_latents_of(space(weights_digest=""))


def test_what_only_speaks_of_the_weights_is_not_among_the_numbers() -> None:
    assert space().numbers() == space(id="another name", licence="MIT").numbers()
    for changes in ({"weights_digest": "sha256:01"}, {"scale": 0.5}, {"mean": np.ones(16)}, {"spatial_stride": 16}):
        assert space().numbers() != space(**changes).numbers()
    # Without a digest the name is all there is.
    unknown = space(weights_digest="")
    assert unknown.numbers() == space(weights_digest="", licence="MIT").numbers()
    assert unknown.numbers() != space(weights_digest="", id="another name").numbers()

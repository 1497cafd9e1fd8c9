"""Procedural textures: seamless, detailed, varied, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from sceneloom.datasets.errors import InputError
from sceneloom.ops import material_pictures
from sceneloom.ops.materials import PALETTE, RECIPES, MaterialBook, noise
from sceneloom.ops.scene_model import Material


def _drawn(kind: str, seed: int = 0) -> Material:
    book = MaterialBook(np.random.default_rng(seed))
    book.surface(kind)
    return book.materials[0]


@pytest.mark.parametrize("kind", RECIPES)
def test_tiles_continue_without_a_seam(kind: str) -> None:
    """The step across the tile's border is no larger than the largest of the steps inside it."""
    image = _drawn(kind).texture.image.astype(np.int16)
    for axis in (0, 1):
        inside = np.abs(np.diff(image, axis=axis)).mean(axis=(1 - axis, 2))
        across = np.abs(np.take(image, 0, axis) - np.take(image, -1, axis)).mean()
        assert across <= inside.max() * 1.25 + 1.0


@pytest.mark.parametrize("kind", RECIPES)
def test_tiles_have_detail_in_the_pigments_range(kind: str) -> None:
    material = _drawn(kind)
    image = material.texture.image
    assert image.dtype == np.uint8
    assert image.shape in {(256, 256, 3), (512, 512, 3)}
    assert image.astype(float).mean(axis=2).std() > 1.0
    assert 0.0 <= material.specular <= 1.0
    assert min(material.texture_metres) > 0.0


@pytest.mark.parametrize("kind", ["wood", "fabric", "tiles", "flagstones", "ceramic"])
def test_the_seed_decides(kind: str) -> None:
    np.testing.assert_array_equal(_drawn(kind).texture.image, _drawn(kind).texture.image)
    assert np.abs(_drawn(kind, 1).texture.image.astype(int) - _drawn(kind, 2).texture.image).mean() > 5.0


@pytest.mark.parametrize("colour", ["red", "navy", "white", "green"])
def test_a_named_colour_is_the_texture_s_colour(colour: str) -> None:
    book = MaterialBook(np.random.default_rng(4))
    book.surface("painted", colour)
    mean = book.materials[0].texture.image.reshape(-1, 3).mean(axis=0) / 255.0
    np.testing.assert_allclose(mean, PALETTE[colour], atol=0.12)
    assert book.materials[0].name == f"{colour} painted"


def test_a_scene_has_few_colours_a_kind_and_draws_each_once() -> None:
    book = MaterialBook(np.random.default_rng(0))
    surfaces = {book.surface("wood").material for _ in range(30)}
    assert len(surfaces) == len(book.materials) <= 2
    assert book.surface("fabric", "red") == book.surface("fabric", "red")


def test_unknown_kinds_and_colours_are_refused() -> None:
    book = MaterialBook(np.random.default_rng(0))
    with pytest.raises(InputError, match="no material 'plasma'"):
        book.surface("plasma")
    with pytest.raises(InputError, match="no colour 'octarine'"):
        book.surface("wood", "octarine")


def test_noise_is_periodic_and_smoother_for_a_greater_exponent() -> None:
    def roughness(exponent: float) -> float:
        field = noise(np.random.default_rng(0), 128, exponent=exponent)
        assert field.std() == pytest.approx(1.0, abs=1e-4)
        return float(np.abs(field - np.roll(field, 1, axis=0)).mean())

    assert roughness(2.0) < roughness(1.0) < roughness(0.0)


def test_stretched_noise_runs_along_x() -> None:
    field = noise(np.random.default_rng(0), 128, exponent=1.0, stretch=(10.0, 1.0))
    assert np.abs(np.diff(field, axis=1)).mean() < 0.5 * np.abs(np.diff(field, axis=0)).mean()


def test_the_panorama_closes_and_has_sky_above_ground() -> None:
    blue, pale, green = np.array((0.3, 0.5, 0.9)), np.array((0.8, 0.9, 0.95)), np.array((0.4, 0.55, 0.3))
    image = material_pictures.outdoor_panorama(
        np.random.default_rng(0), zenith=blue, horizon=pale, ground=green, night=False
    )
    assert image.shape == (512, 1024, 3)
    step = np.abs(image[:, 0].astype(int) - image[:, -1]).mean()
    assert step < 3.0 * np.abs(np.diff(image.astype(int), axis=1)).mean() + 1.0
    assert image[:40, :, 2].mean() > image[:40, :, 0].mean() + 20
    below = image[-100:].reshape(-1, 3).mean(axis=0)
    assert below.argmax() == 1


def test_pictures_differ_between_seeds_and_not_within() -> None:
    for draw in (material_pictures.painting, material_pictures.screen_picture, material_pictures.rug_picture):
        first, again, other = (draw(np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert np.abs(first.astype(int) - other).mean() > 5.0

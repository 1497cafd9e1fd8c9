from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import InputError
from sceneloom.ops import texture_pyramid
from sceneloom.ops.scene_model import Texture


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_every_level_keeps_the_mean_light(height: int, width: int, seed: int):
    image = _picture(height, width, seed)
    levels = texture_pyramid.build_pyramid(image)
    mean = texture_pyramid.srgb_to_linear(image).mean(axis=(0, 1)) * 65535
    for depth, level in enumerate(levels):
        assert level.shape == (max(height >> depth, 1), max(width >> depth, 1), 3)
        # Each halving of a side rounds to the nearest unit.
        np.testing.assert_allclose(level.mean(axis=(0, 1)), mean, atol=1 + 2 * depth)
    assert levels[-1].shape == (1, 1, 3)


def test_an_odd_side_is_averaged_by_exact_overlap():
    row = np.array([0, 100, 200], np.uint8)
    image = np.repeat(row[None, :, None], 3, axis=-1)
    linear = texture_pyramid.build_pyramid(image)[0][0, :, 0].astype(float)
    assert texture_pyramid.build_pyramid(image)[1][0, 0, 0] == round(linear.mean())
    five = np.repeat(np.array([10, 20, 90, 160, 250], np.uint8)[None, :, None], 3, axis=-1)
    a, b, c, d, e = texture_pyramid.build_pyramid(five)[0][0, :, 0].astype(float)
    halves = texture_pyramid.build_pyramid(five)[1][0, :, 0]
    np.testing.assert_allclose(halves, [(a + b + c / 2) / 2.5, (c / 2 + d + e) / 2.5], atol=0.5)


def test_every_srgb_code_survives_the_sixteen_bits():
    codes = np.arange(256, dtype=np.uint8)
    image = np.repeat(codes[None, :, None], 3, axis=-1)
    linear = texture_pyramid.build_pyramid(image)[0][0, :, 0] / 65535.0
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_array_equal(np.rint(encoded * 255), codes)


def test_textures_lie_one_behind_the_other():
    textures = [Texture(_picture(4, 6, 1)), Texture(_picture(5, 3, 2), wrap="clamp"), Texture(_picture(1, 1, 3))]
    packed = texture_pyramid.pack_pyramids(textures)
    np.testing.assert_array_equal(packed.size, [[6, 4], [3, 5], [1, 1]])
    np.testing.assert_array_equal(packed.level_count, [3, 3, 1])
    np.testing.assert_array_equal(packed.repeat, [1, 0, 1])
    for number, texture in enumerate(textures):
        for depth, level in enumerate(texture_pyramid.build_pyramid(texture.image)):
            start = packed.level_start[number, depth]
            stored = packed.texels[start : start + level.shape[0] * level.shape[1], :3]
            np.testing.assert_array_equal(stored, level.reshape(-1, 3))
    assert (packed.level_start[2] == packed.level_start[2, 0]).all()
    assert len(packed.texels) == 24 + 6 + 1 + 15 + 2 + 1 + 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 1 << 16, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(image: np.ndarray):
    with pytest.raises(InputError, match="texture 1"):
        texture_pyramid.pack_pyramids([Texture(_picture(2, 2)), Texture(image)])

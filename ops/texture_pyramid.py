"""Mip pyramids of many textures packed into one array, for kernels that read texels by number.

A level holds linear light as 16-bit fractions, so that filtering mixes light and not sRGB code values. 65535 stands for
1.0; the darkest sRGB step (1/255, linear 0.0003) is 20 of these units, so each of the 256 codes comes back unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import InputError
from .scene_model import Int32, Texture, UInt8

MAX_LEVELS = 16
"""Levels a texture can have: enough for a side of 32,767 texels."""

UInt16 = NDArray[np.uint16]
UInt32 = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class TexturePyramids:
    """Every level of every texture in one run of texels.

    Attributes:
        texels: (N, 4) uint16 linear RGB, 65535 = 1.0; the fourth entry pads a texel to eight bytes and is 0. A level's
            rows follow each other from the top of the picture (v = 1).
        level_start: (K, MAX_LEVELS) int32 first texel of each level; levels that a texture lacks repeat its last.
        size: (K, 2) int32 width and height of level 0; level l has max(1, width >> l) × max(1, height >> l) texels.
        level_count: (K,) int32 number of levels, the last of which is 1 × 1.
        repeat: (K,) int32, 1 where the texture continues past its edge, 0 where its border is held.
    """

    texels: UInt16
    level_start: Int32
    size: Int32
    level_count: Int32
    repeat: Int32


def pack_pyramids(textures: Sequence[Texture]) -> TexturePyramids:
    """Build each texture's pyramid and lay them all in one array.

    Raises:
        InputError: an image is not (H, W, 3) uint8, is empty, or is larger than MAX_LEVELS allow.
    """
    levels: list[UInt16] = []
    level_start = np.zeros((len(textures), MAX_LEVELS), np.int32)
    size = np.zeros((len(textures), 2), np.int32)
    level_count = np.zeros(len(textures), np.int32)
    start = 0
    for number, texture in enumerate(textures):
        _check_image(texture.image, number)
        pyramid = build_pyramid(texture.image)
        size[number] = texture.image.shape[1], texture.image.shape[0]
        level_count[number] = len(pyramid)
        for index, level in enumerate(pyramid):
            level_start[number, index:] = start
            start += level.shape[0] * level.shape[1]
            levels.append(level.reshape(-1, 3))
    texels = np.zeros((max(start, 1), 4), np.uint16)
    if levels:
        np.concatenate(levels, axis=0, out=texels[:, :3])
    repeat = np.array([texture.wrap == "repeat" for texture in textures], np.int32)
    return TexturePyramids(texels, level_start, size, level_count, repeat)


def build_pyramid(image: UInt8) -> list[UInt16]:
    """Levels of one (H, W, 3) uint8 sRGB image as (h, w, 3) uint16 linear light, from full size down to 1 × 1.

    A level is the area average of the one above; where a side is odd each texel takes its exact share of three
    (Guthe & Heckbert, "Non-power-of-two mipmapping", NVIDIA 2005), so a pyramid's mean is the picture's mean.
    """
    levels = [_LINEAR_OF_SRGB[image]]
    while levels[-1].shape[0] > 1 or levels[-1].shape[1] > 1:
        finer = levels[-1].astype(np.uint32)
        levels.append(_halve(_halve(finer, axis=0), axis=1).astype(np.uint16))
    return levels


def srgb_to_linear(code: UInt8) -> NDArray[np.float32]:
    """Linear light in 0..1 of 8-bit sRGB codes (IEC 61966-2-1)."""
    fraction = np.asarray(code, np.float64) / 255.0
    linear = np.where(fraction <= 0.04045, fraction / 12.92, ((fraction + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def _linear_table() -> UInt16:
    return np.rint(srgb_to_linear(np.arange(256, dtype=np.uint8)) * 65535.0).astype(np.uint16)


_LINEAR_OF_SRGB = _linear_table()


def _halve(level: UInt32, *, axis: int) -> UInt32:
    """Average neighbours along one axis so that floor(n / 2) texels remain; a side of 1 stays."""
    count = level.shape[axis]
    if count == 1:
        return level
    texels = np.moveaxis(level, axis, 0)
    half = count // 2
    even, odd = texels[0 : 2 * half : 2], texels[1 : 2 * half : 2]
    if count % 2 == 0:
        mean = (even + odd + 1) >> 1
        return np.moveaxis(mean.astype(np.uint32), 0, axis)
    shape = (half,) + (1,) * (texels.ndim - 1)
    place = np.arange(half, dtype=np.uint64).reshape(shape)
    following = texels[2 : 2 * half + 1 : 2]
    total = (half - place) * even + half * odd.astype(np.uint64) + (place + 1) * following
    mean = (total + count // 2) // count
    return np.moveaxis(mean.astype(np.uint32), 0, axis)


def _check_image(image: UInt8, number: int) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InputError(
            f"a texture is {image.dtype} {image.shape}, expected uint8 (height, width, 3)",
            where=f"texture {number}",
            remedy="Convert the picture to 8-bit RGB.",
        )
    if max(image.shape) >= 1 << MAX_LEVELS:
        raise InputError(
            f"a texture is {image.shape[1]} × {image.shape[0]} texels, the longest side is {(1 << MAX_LEVELS) - 1}",
            where=f"texture {number}",
            remedy="Make the picture smaller.",
        )

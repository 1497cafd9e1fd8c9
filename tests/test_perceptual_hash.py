from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from sceneloom.ops.perceptual_hash import first_alike, perceptual_hash

IMAGES = Path(__file__).parents[1] / "examples" / "images"
NAMES = ["corridor", "street", "gallery", "pagoda", "coffee"]


def hamming_distance(first: int, second: int) -> int:
    return (first ^ second).bit_count()


def picture(name: str) -> Image.Image:
    return Image.open(IMAGES / f"{name}.jpg").convert("RGB")


def fingerprint(image: Image.Image) -> int:
    return perceptual_hash(np.asarray(image))


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file)


@pytest.mark.parametrize("name", NAMES)
def test_copies_of_a_picture_stay_within_the_default_distance(name: str) -> None:
    original = picture(name)
    half = original.resize((original.width // 2, original.height // 2), Image.Resampling.LANCZOS)
    brighter = ImageEnhance.Brightness(original).enhance(1.1)
    for copy in (compressed(original), half, brighter):
        assert hamming_distance(fingerprint(original), fingerprint(copy)) <= 6


def test_different_pictures_are_far_apart() -> None:
    hashes = [fingerprint(picture(name)) for name in NAMES]
    distances = [hamming_distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(distances) >= 16


def test_the_mirror_image_is_another_picture() -> None:
    original = picture("pagoda")
    mirrored = original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert hamming_distance(fingerprint(original), fingerprint(mirrored)) >= 16


def test_flat_pictures_hash_alike_without_noise() -> None:
    assert {perceptual_hash(np.full((70, 90, 3), value, np.uint8)) for value in (0, 3, 128, 255)} == {0}


def test_half_the_bits_are_set() -> None:
    noise = np.random.default_rng(5).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert perceptual_hash(noise).bit_count() == 32


def greedy(hashes: list[int], distance: int) -> list[int]:
    kept: list[int] = []
    result = []
    for index, value in enumerate(hashes):
        match = next((k for k in kept if hamming_distance(hashes[k], value) <= distance), index)
        if match == index:
            kept.append(index)
        result.append(match)
    return result


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(-1, 40), st.data())
def test_search_equals_the_plain_loop(hashes: list[int], distance: int, data: st.DataObject) -> None:
    if hashes:
        flips = data.draw(st.lists(st.tuples(st.sampled_from(hashes), st.integers(0, 63)), max_size=20))
        hashes = hashes + [value ^ (1 << bit) for value, bit in flips]
    assert first_alike(np.array(hashes, dtype=np.uint64), distance).tolist() == greedy(hashes, distance)


def clustered(count: int) -> NDArray[np.uint64]:
    """Fingerprints around 400 centres with up to five bits flipped."""
    generator = np.random.default_rng(1)
    centres = generator.integers(0, 2**64, 400, dtype=np.uint64)
    flips = np.bitwise_or.reduce(np.uint64(1) << generator.integers(0, 64, (count, 5)).astype(np.uint64), axis=1)
    return centres[generator.integers(0, 400, count)] ^ flips


def test_search_equals_the_plain_loop_across_blocks() -> None:
    hashes = clustered(1_500)
    assert first_alike(hashes, 6).tolist() == greedy([int(value) for value in hashes], 6)


def test_each_repeats_an_earlier_kept_one() -> None:
    found = first_alike(clustered(10_000), 6)
    assert (found <= np.arange(10_000)).all()
    assert (found[found] == found).all()

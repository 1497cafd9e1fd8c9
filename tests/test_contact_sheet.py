from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sceneloom.datasets.errors import ContractError
from sceneloom.ops.contact_sheet import MAXIMUM_BYTES, contact_sheet

RED, GREEN, BLUE = (200, 30, 30), (30, 180, 40), (40, 50, 210)


def flat(colour: tuple[int, int, int], height: int = 88, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def open_sheet(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "WEBP"
        return np.array(image.convert("RGB"))


def test_frames_stand_in_rows_by_trajectory() -> None:
    sheet = open_sheet(contact_sheet({"left": [flat(RED), flat(GREEN)], "zoom_in": [flat(BLUE)]}))
    height, width, _ = sheet.shape
    assert width == 2 * 160 + 2
    for (row, column), colour in {(0.3, 0.25): RED, (0.3, 0.75): GREEN, (0.8, 0.25): BLUE}.items():
        np.testing.assert_allclose(sheet[int(row * height), int(column * width)], colour, atol=12)
    # The second row has one frame only; ground shows beside it.
    assert sheet[int(0.8 * height), int(0.75 * width)].max() < 60


def test_rows_carry_their_names() -> None:
    plain, named = (open_sheet(contact_sheet({name: [flat(RED)]})) for name in ("", "clockwise"))
    assert np.abs(plain[:14].astype(int) - named[:14]).max() > 100
    np.testing.assert_allclose(plain[20:].astype(int), named[20:], atol=12)


def test_noise_of_full_size_frames_stays_small_and_is_deterministic() -> None:
    rng = np.random.default_rng(5)
    clips = {name: [rng.integers(0, 256, (352, 640, 3), np.uint8) for _ in range(5)] for name in "abcdef"}
    content = contact_sheet(clips)
    assert len(content) <= MAXIMUM_BYTES
    assert contact_sheet(clips) == content


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ContractError, match="no frames"):
        contact_sheet({"left": []})
    with pytest.raises(ContractError, match="float64"):
        contact_sheet({"left": [np.zeros((4, 4, 3))]})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ContractError, match="do not fit 100 bytes"):
        contact_sheet({"left": [flat(RED)]}, maximum_bytes=100)

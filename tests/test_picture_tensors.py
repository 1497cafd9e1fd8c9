"""Picture tensors: prepared by the numbers in a model's files, against Pillow and NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sceneloom.datasets.errors import ContractError, EngineError
from sceneloom.resources.picture_tensors import Preparation, picture_tensor, read_preparation

USUAL = Preparation(24, 24, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
FLOAT32: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@given(st.integers(0, 2**32 - 1), st.integers(8, 80), st.integers(8, 80))
@settings(deadline=None, max_examples=25)
def test_resizing_first_is_pillows_bilinear_filter(seed: int, height: int, width: int) -> None:
    given_picture = picture(seed, height, width)
    found = picture_tensor(given_picture, USUAL, **FLOAT32)
    square = np.asarray(Image.fromarray(given_picture).resize((24, 24), Image.Resampling.BILINEAR), np.float64)
    levels = found[0].permute(1, 2, 0).double().numpy() * USUAL.std + USUAL.mean
    # Both round to 8 bits; Pillow's weights are integers.
    assert np.abs(levels * 255 - square).max() < 1.01
    assert np.abs(levels * 255 - np.round(levels * 255)).max() < 1e-3
    assert found.shape == (1, 3, 24, 24)


def test_normalising_first_keeps_fractions_and_does_not_antialias() -> None:
    stripes = np.zeros((48, 48, 3), np.uint8)
    stripes[:, ::2] = 255
    half = (0.5, 0.5, 0.5)
    plain = Preparation(24, 24, half, half, resize_first=False)
    # Every pixel of the half size lies between a black and a white one.
    assert picture_tensor(stripes, plain, **FLOAT32).abs().max() < 1e-6
    third = Preparation(16, 16, half, half, resize_first=False)
    # A third of the size meets the centre of every third pixel, black or white in turn; antialiasing would mix.
    assert set(picture_tensor(stripes, third, **FLOAT32).unique().tolist()) == {-1.0, 1.0}


def test_the_tensor_has_the_models_type() -> None:
    found = picture_tensor(picture(0, 30, 40), USUAL, device="cpu", dtype=torch.bfloat16)
    assert found.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)]
)
def test_other_arrays_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ContractError, match="a picture of shape"):
        picture_tensor(wrong, USUAL, **FLOAT32)


def write(folder: Path, name: str, values: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(values))


def test_the_models_own_numbers_are_taken(tmp_path: Path) -> None:
    values = {"size": {"height": 32, "width": 48}, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "resample": 2}
    write(tmp_path, "preprocessor_config.json", values)
    expected = Preparation(32, 48, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert read_preparation(tmp_path, USUAL) == expected
    (tmp_path / "preprocessor_config.json").unlink()
    write(tmp_path, "processor_config.json", {"processor_class": "Sam2Processor", "image_processor": values})
    assert read_preparation(tmp_path, USUAL) == expected


def test_what_the_files_do_not_say_is_as_usual(tmp_path: Path) -> None:
    assert read_preparation(tmp_path, USUAL) == USUAL
    write(tmp_path, "preprocessor_config.json", {"size": {"height": 32}})
    assert read_preparation(tmp_path, USUAL) == Preparation(32, 24, USUAL.mean, USUAL.std)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resample": 3}, "resampling filter 3"),
        ({"size": {"height": "large"}}, "cannot be used"),
        ({"size": 24}, "cannot be used"),
        ({"image_mean": [0.5]}, "cannot be used"),
        ({"image_std": None}, "cannot be used"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    write(tmp_path, "preprocessor_config.json", values)
    with pytest.raises(EngineError, match=message):
        read_preparation(tmp_path, USUAL)

"""Tensor contracts: sound arrays pass, and each way of breaking one is named with what was expected and found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ContractError
from sceneloom.datasets.tensors import (
    C2W,
    CONTRACTS,
    DEPTH,
    FLOAT16_LARGEST,
    FLOAT16_RELATIVE_ERROR,
    FLOAT16_SMALLEST,
    INSTANCE_MASK,
    INTRINSICS,
    LATENTS,
    RGB,
    TensorContract,
)

T, H, W = 3, 4, 6


def poses() -> np.ndarray:
    return np.tile(np.eye(4, dtype=np.float32), (T, 1, 1))


SOUND: list[tuple[TensorContract, np.ndarray]] = [
    (RGB, np.zeros((T, H, W, 3), np.uint8)),
    (DEPTH, np.ones((T, H, W), np.float16)),
    (C2W, poses()),
    (INTRINSICS, np.ones((T, 4), np.float32)),
    (LATENTS, np.zeros((16, 2, 3, 4), np.float16)),
    (INSTANCE_MASK, np.zeros((T, H, W), np.uint16)),
]


@pytest.mark.parametrize(("contract", "array"), SOUND, ids=lambda value: getattr(value, "name", ""))
def test_sound_arrays_pass_and_bind_their_sizes(contract: TensorContract, array: np.ndarray) -> None:
    dims: dict[str, int] = {}
    assert contract.check(array, dims) == []
    contract.require(array, dims, where="test")
    assert all(dims[size] == found for size, found in zip(contract.shape, array.shape, strict=True) if size in dims)
    assert set(dims) == {size for size in contract.shape if isinstance(size, str)}


def with_value(array: np.ndarray, index: tuple[int, ...], value: Any) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("contract", "array", "expected", "found"),
    [
        (RGB, np.zeros((T, H, W), np.uint8), "shape (T, H, W, 3)", "shape (3, 4, 6)"),
        (RGB, np.zeros((T, H, W, 4), np.uint8), "shape (T, H, W, 3)", "shape (3, 4, 6, 4)"),
        (RGB, np.zeros((T, H, W, 3), np.float32), "dtype uint8", "dtype float32"),
        (
            DEPTH,
            with_value(np.ones((T, H, W), np.float16), (1, 0, 0), np.inf),
            "finite values",
            "1 NaN or infinite values at [1]",
        ),
        (DEPTH, with_value(np.ones((T, H, W), np.float16), (2, 1, 1), -2), "values >= 0", "-2 at [2]"),
        (
            LATENTS,
            with_value(np.zeros((2, 2, 2, 2), np.float16), (0, 0, 0, 0), np.nan),
            "finite values",
            "1 NaN or infinite values at [0]",
        ),
        (C2W, poses() * np.float32(1.01), "rigid", "bottom row"),
        (C2W, with_value(poses(), (1, 0, 0), 1.01), "rigid", "frame 1"),
        (C2W, with_value(poses(), (2, 0, 0), -1), "rigid", "reflection"),
        (INTRINSICS, with_value(np.ones((T, 4), np.float32), (1, 1), 0), "positive focal", "focal length"),
    ],
)
def test_each_violation_says_what_was_expected_and_found(
    contract: TensorContract, array: np.ndarray, expected: str, found: str
) -> None:
    (violation,) = contract.check(array)
    assert expected in violation.expected
    assert found in violation.found
    with pytest.raises(ContractError, match=contract.name) as caught:
        contract.require(array, where="shard-3")
    assert caught.value.where == "shard-3"
    assert contract.dtype in caught.value.remedy


def test_arrays_of_one_clip_have_to_agree_on_symbolic_sizes() -> None:
    dims: dict[str, int] = {}
    RGB.require(np.zeros((T, H, W, 3), np.uint8), dims, where="clip")
    (violation,) = DEPTH.check(np.ones((T, H, W + 1), np.float16), dims)
    assert (violation.expected, violation.found) == ("shape (3, 4, 6)", "shape (3, 4, 7)")
    assert dims == {"T": T, "H": H, "W": W}


def test_a_size_named_twice_has_to_be_one_size() -> None:
    square = TensorContract("square", ("n", "n"), "float32", "none", "any")
    assert square.check(np.zeros((3, 3), np.float32)) == []
    assert square.check(np.zeros((3, 4), np.float32))[0].expected == "one size for n"


def test_empty_arrays_have_no_values_to_break_a_rule() -> None:
    assert RGB.check(np.zeros((0, H, W, 3), np.uint8)) == []


def test_every_stored_array_is_described() -> None:
    assert len({each.name for each in CONTRACTS}) == len(CONTRACTS)
    assert all(each.unit and each.convention for each in CONTRACTS)


@settings(deadline=None, max_examples=200)
@given(value=st.floats(FLOAT16_SMALLEST, FLOAT16_LARGEST, width=32))
def test_the_stated_rounding_error_of_float16_holds(value: float) -> None:
    assert abs(float(np.float16(value)) - value) <= FLOAT16_RELATIVE_ERROR * value

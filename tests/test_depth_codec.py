"""Depth codes keep their bound, and residuals come back: against the predictor written pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sceneloom.datasets.depth_codec import (
    BOUNDED_RELATIVE_ERROR,
    DepthCode,
    bounded_values,
    codes_of,
    exact_values,
    residuals,
)
from sceneloom.datasets.tensors import FLOAT16_LARGEST, FLOAT16_SMALLEST

WHOLE = (FLOAT16_SMALLEST, FLOAT16_LARGEST)
BOUNDED = DepthCode(bounded_values(*WHOLE))
EXACT = DepthCode(exact_values(*WHOLE))


def pixel_by_pixel(codes: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Residuals from their definition, in Python's integers."""
    result = np.zeros_like(codes)
    for (row, column), code in np.ndenumerate(codes):
        above = [int(codes[row - 1, at]) for at in (column - 1, column, column + 1) if 0 <= at < codes.shape[1]]
        if row == 0:
            predicted = int(codes[0, column - 1]) if column else 0
        else:
            predicted = sorted(above)[1] if len(above) == 3 else int(codes[row - 1, column])
        change = (int(code) - predicted + 2**15) % 2**16 - 2**15
        result[row, column] = 2 * change if change >= 0 else -2 * change - 1
    return result


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_residuals_are_as_defined_and_come_back(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 7)))
    values = st.lists(st.integers(0, 2**16 - 1), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    codes = np.array(data.draw(values), np.uint16).reshape(shape)
    folded = residuals(codes)
    np.testing.assert_array_equal(folded, pixel_by_pixel(codes))
    folded.flags.writeable = False
    np.testing.assert_array_equal(codes_of(folded), codes)


def test_several_frames_are_coded_each_alone() -> None:
    codes = np.random.default_rng(0).integers(0, 2**16, (3, 5, 6), dtype=np.uint16)
    folded = residuals(codes)
    for index in range(3):
        np.testing.assert_array_equal(folded[index], residuals(codes[index]))
    np.testing.assert_array_equal(codes_of(folded), codes)


@settings(deadline=None)
@given(st.lists(st.floats(FLOAT16_SMALLEST, FLOAT16_LARGEST, width=32), min_size=1, max_size=50))
def test_the_bounded_code_keeps_any_depth_within_a_thousandth(depths: list[float]) -> None:
    given_depth = np.array(depths, np.float32)
    stored = BOUNDED.decode(BOUNDED.encode(given_depth)).astype(np.float64)
    assert (np.abs(stored - given_depth) <= BOUNDED_RELATIVE_ERROR * given_depth).all()


def test_every_float16_is_exact_or_bounded() -> None:
    every = exact_values(*WHOLE)
    assert len(every) == 1 + 30 * 1024
    np.testing.assert_array_equal(EXACT.decode(EXACT.encode(every)), every)
    stored = BOUNDED.decode(BOUNDED.encode(every))[1:].astype(np.float64)
    assert np.abs(stored / every[1:].astype(np.float64) - 1).max() <= BOUNDED_RELATIVE_ERROR


def test_the_bounded_table_has_no_value_to_spare() -> None:
    values = BOUNDED.values[1:].astype(np.float64)
    assert values[0] == FLOAT16_SMALLEST
    assert values[-1] == FLOAT16_LARGEST
    # Without a value, the middle between its neighbours would be too far from both.
    assert ((values[2:-1] - values[:-3]) / (values[2:-1] + values[:-3]) > 0.999 * BOUNDED_RELATIVE_ERROR).all()


@pytest.mark.parametrize("code", [EXACT, BOUNDED])
def test_invalid_depth_stays_invalid(code: DepthCode) -> None:
    for dtype in (np.float16, np.float32):
        codes = code.encode(np.array([[0, 1.5], [-0.0, 0]], dtype))
        np.testing.assert_array_equal(codes > 0, [[False, True], [False, False]])
        np.testing.assert_allclose(code.decode(codes), [[0, 1.5], [0, 0]], rtol=BOUNDED_RELATIVE_ERROR)


def test_float16_and_float32_get_the_same_codes() -> None:
    depth = np.random.default_rng(0).uniform(0.1, 80, 1000).astype(np.float16)
    np.testing.assert_array_equal(BOUNDED.encode(depth), BOUNDED.encode(depth.astype(np.float32)))


def test_twelve_bits_hold_a_room_and_its_street() -> None:
    assert len(bounded_values(0.1, 100)) <= 2**12 + 2**8
    assert len(bounded_values(0.2, 100)) <= 2**12

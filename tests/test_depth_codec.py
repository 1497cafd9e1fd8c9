"""Depth codes keep their bound, and residuals come back: against the coder written pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sceneloom.datasets.depth_codec import (
    BOUNDED_RELATIVE_ERROR,
    PREDICTIONS,
    DepthCode,
    Prediction,
    decode_residuals,
    exact_values,
)
from sceneloom.datasets.tensors import FLOAT16_LARGEST, FLOAT16_SMALLEST

WHOLE = (FLOAT16_SMALLEST, FLOAT16_LARGEST)
BOUNDED = DepthCode.bounded(*WHOLE)
EXACT = DepthCode.exact(*WHOLE)


def predicted(above: list[int], column: int, prediction: Prediction) -> int:
    """A code's prediction from the row above, from its definition, in Python's integers."""
    centre = above[column]
    if prediction == "above" or not 2 <= column < len(above) - 2:
        return centre

    def wrapped(value: int) -> int:
        return (value + 2**15) % 2**16 - 2**15

    differences = [wrapped(above[column + offset] - centre) for offset in (-2, -1, 1, 2)]
    correction = wrapped(sum(w * d for w, d in zip((1, 2, 2, 1), differences, strict=True)) + 4) >> 3
    return (centre + correction) % 2**16 if abs(correction) < 4 else centre


def decoded_pixel_by_pixel(folded: NDArray[np.uint16], prediction: Prediction, steps: int) -> NDArray[np.int64]:
    codes = np.zeros(folded.shape, np.int64)
    for row, column in np.ndindex(folded.shape):
        value = int(folded[row, column])
        change = value // 2 if value % 2 == 0 else -(value + 1) // 2
        if row:
            start = predicted(codes[row - 1].tolist(), column, prediction)
        else:
            start = int(codes[0, column - 1]) if column else 0
        codes[row, column] = (start + steps * change) % 2**16
    return codes


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_residuals_decode_as_defined(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 9)))
    prediction = data.draw(st.sampled_from(PREDICTIONS))
    steps = data.draw(st.sampled_from([1, 4]))
    number = st.one_of(st.integers(0, 9), st.integers(0, 2**16 - 1))
    values = st.lists(number, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    folded = np.array(data.draw(values), np.uint16).reshape(shape)
    folded.flags.writeable = False
    places = np.arange(2**16, dtype=np.float32)
    found = decode_residuals(folded, prediction, places, steps)
    np.testing.assert_array_equal(found, decoded_pixel_by_pixel(folded, prediction, steps))
    pair = np.stack([folded, folded[::-1]])
    np.testing.assert_array_equal(decode_residuals(pair, prediction, places, steps)[0], found)


depths = st.one_of(
    st.just(0.0), st.floats(FLOAT16_SMALLEST, FLOAT16_LARGEST, width=32), st.floats(1, 1.015625, width=32)
)


@settings(deadline=None, max_examples=80)
@given(st.lists(depths, min_size=24, max_size=24), st.sampled_from(PREDICTIONS))
def test_the_bounded_code_keeps_any_depth_within_a_thousandth(given: list[float], prediction: Prediction) -> None:
    depth = np.array(given, np.float32).reshape(4, 6)
    stored = BOUNDED.decode(BOUNDED.encode(depth, prediction), prediction).astype(np.float64)
    np.testing.assert_array_equal(stored > 0, depth > 0)
    assert (np.abs(stored - depth) <= BOUNDED_RELATIVE_ERROR * depth).all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_float16_is_exact_or_bounded(prediction: Prediction) -> None:
    every = exact_values(*WHOLE)
    assert len(every) == 1 + 30 * 1024
    given = np.concatenate([every, every[::-1]]).reshape(2, -1)
    np.testing.assert_array_equal(EXACT.decode(EXACT.encode(given, prediction), prediction), given)
    stored = BOUNDED.decode(BOUNDED.encode(given, prediction), prediction).astype(np.float64)
    valid = given > 0
    assert np.abs(stored[valid] / given[valid].astype(np.float64) - 1).max() <= BOUNDED_RELATIVE_ERROR


def test_all_of_float16s_range_fits_into_sixteen_bits() -> None:
    assert len(BOUNDED.values) == 41_664
    assert BOUNDED.values[BOUNDED.steps] < FLOAT16_SMALLEST
    assert BOUNDED.values[-1] > FLOAT16_LARGEST


def test_float32_depth_is_rounded_by_the_exact_code() -> None:
    depth = np.random.default_rng(0).uniform(0.1, 80, (7, 9)).astype(np.float32)
    stored = EXACT.decode(EXACT.encode(depth, "smooth"), "smooth")
    np.testing.assert_array_equal(stored, depth.astype(np.float16))


@pytest.mark.parametrize("code", [EXACT, BOUNDED])
def test_invalid_depth_stays_invalid(code: DepthCode) -> None:
    for dtype in (np.float16, np.float32):
        depth = np.array([[0, 1.5, 0], [-0.0, 0, 2]], dtype)
        stored = code.decode(code.encode(depth, "above"), "above")
        np.testing.assert_array_equal(stored > 0, depth > 0)
        np.testing.assert_allclose(stored, depth, rtol=BOUNDED_RELATIVE_ERROR)


def test_depth_that_stays_within_the_bound_of_the_row_above_costs_nothing() -> None:
    rng = np.random.default_rng(1)
    depth = (5 * (1 + rng.uniform(-4e-4, 4e-4, (20, 64)))).astype(np.float32)
    folded = BOUNDED.encode(depth, "above")
    assert np.count_nonzero(folded[1:]) < 0.05 * folded[1:].size


def test_smoothing_takes_the_noise_of_neighbours_off() -> None:
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[:80, :120]
    depth = (4 + 0.002 * rows + 0.001 * columns) * (1 + 5e-4 * rng.normal(size=(80, 120)))
    nonzero = {each: np.count_nonzero(BOUNDED.encode(depth.astype(np.float32), each)) for each in PREDICTIONS}
    assert nonzero["smooth"] < 0.95 * nonzero["above"]


def test_residuals_that_leave_the_table_are_refused() -> None:
    with pytest.raises(IndexError, match="not in the table"):
        EXACT.decode(np.full((1, 1), 65_000, np.uint16), "above")

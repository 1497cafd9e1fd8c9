"""Depth alignment: known scales and shifts are found again, with many wrong pixels, in depth and in inverse depth."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ContractError
from sceneloom.ops.depth_alignment import MINIMUM_PIXELS, Space, align_affine, align_relative_depth, align_scale

SEEDS = st.integers(0, 2**32 - 1)
SPACES = st.sampled_from(["depth", "inverse_depth"])
SHAPE = (40, 56)


def slanted_depth(generator: np.random.Generator) -> np.ndarray:
    """(H, W) depth of a slanted plane with a nearer square before it, 1 to 12 units away."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    depth = 4.0 + generator.uniform(0.01, 0.1) * rows + generator.uniform(-0.05, 0.1) * columns
    depth[10:24, 8:30] = generator.uniform(1.0, 3.0)
    return depth


def estimate_of(depth: np.ndarray, space: Space, scale: float, shift: float) -> np.ndarray:
    """What an estimator would give whose alignment is `scale` and `shift`."""
    return ((depth if space == "depth" else 1.0 / depth) - shift) / scale


@given(SEEDS, SPACES, st.floats(0.01, 100.0), st.floats(-0.05, 0.05))
@settings(deadline=None, max_examples=40)
def test_a_known_scale_and_shift_are_found_again(seed: int, space: Space, scale: float, shift: float) -> None:
    depth = slanted_depth(np.random.default_rng(seed))
    found = align_affine(estimate_of(depth, space, scale, shift), depth, space=space)
    assert found.scale == pytest.approx(scale, rel=1e-6)
    assert found.shift == pytest.approx(shift, abs=1e-6)
    assert found.residual < 1e-6
    assert (found.inliers, found.pixels) == (1.0, depth.size)
    np.testing.assert_allclose(found.apply(estimate_of(depth, space, scale, shift)), depth, rtol=1e-5)


@given(SEEDS, SPACES)
@settings(deadline=None, max_examples=40)
def test_wrong_pixels_do_not_move_the_alignment(seed: int, space: Space) -> None:
    # A third of the pixels is wrong, all to the same side: worse than noise, like a sky that one side sees and the
    # other does not.
    generator = np.random.default_rng(seed)
    depth = slanted_depth(generator)
    estimate = estimate_of(depth, space, 2.0, 0.02)
    noisy = depth * generator.normal(1.0, 0.01, SHAPE)
    wrong = generator.random(SHAPE) < 0.33
    noisy[wrong] = generator.uniform(30.0, 60.0, wrong.sum())
    found = align_affine(estimate, noisy, space=space)
    # The noise is 1 %, of two thousand pixels: the fit is better than that but at the ends of the range.
    error = np.abs(found.apply(estimate) - depth) / depth
    assert np.median(error) < 0.01
    assert error.max() < 0.06
    assert found.residual < 0.05
    assert found.inliers == pytest.approx(1.0 - wrong.mean(), abs=0.02)


def test_plain_least_squares_would_be_moved() -> None:
    # Shows that the test above asks for something: the same fit without robustness is far off.
    generator = np.random.default_rng(3)
    depth = slanted_depth(generator)
    estimate = estimate_of(depth, "depth", 2.0, 0.02)
    wrong = generator.random(SHAPE) < 0.33
    noisy = np.where(wrong, 45.0, depth)
    scale, shift = np.polyfit(estimate.ravel(), noisy.ravel(), 1)
    assert np.median(np.abs(scale * estimate + shift - depth) / depth) > 0.5
    assert align_affine(estimate, noisy, space="depth").scale == pytest.approx(2.0)


@given(SEEDS, SPACES)
@settings(deadline=None, max_examples=20)
def test_without_wrong_pixels_it_is_as_good_as_least_squares(seed: int, space: Space) -> None:
    generator = np.random.default_rng(seed)
    depth = slanted_depth(generator)
    estimate = estimate_of(depth, space, 1.5, 0.01)
    # Errors of one size in the space that is aligned, which is what plain least squares is best for.
    target = (depth if space == "depth" else 1.0 / depth) + generator.normal(0.0, 0.01, SHAPE)
    reference = target if space == "depth" else 1.0 / target
    best = float(np.square(np.polyval(np.polyfit(estimate.ravel(), target.ravel(), 1), estimate) - target).mean())
    found = align_affine(estimate, reference, space=space)
    assert np.square(found.scale * estimate + found.shift - target).mean() <= 1.05 * best


@given(SEEDS, st.floats(0.01, 100.0))
@settings(deadline=None, max_examples=20)
def test_a_scale_alone_is_the_median_ratio(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    depth = slanted_depth(generator)
    reference = scale * depth
    reference[generator.random(SHAPE) < 0.4] *= 7.0
    found = align_scale(depth, reference)
    assert found.scale == pytest.approx(scale)
    assert (found.shift, found.space) == (0.0, "depth")
    np.testing.assert_allclose(found.apply(depth), scale * depth, rtol=1e-5)


def test_only_valid_and_allowed_pixels_are_compared() -> None:
    depth = slanted_depth(np.random.default_rng(0))
    estimate = depth / 3.0
    estimate[:5], depth[5:9] = 0.0, 0.0
    estimate[9], depth[10] = np.nan, np.inf
    where = np.ones(SHAPE, bool)
    where[30:] = False
    depth[30:] = 99.0
    found = align_affine(estimate, depth, space="depth", where=where)
    assert found.scale == pytest.approx(3.0)
    assert found.pixels == (30 - 11) * SHAPE[1]


def test_invalid_values_stay_invalid() -> None:
    depth = slanted_depth(np.random.default_rng(0))
    of_depth = align_affine(estimate_of(depth, "depth", 2.0, 0.5), depth, space="depth")
    np.testing.assert_array_equal(of_depth.apply([0.0, -1.0, np.nan, np.inf]), np.zeros(4, np.float32))
    inverse = align_affine(estimate_of(depth, "inverse_depth", 2.0, -0.1), depth, space="inverse_depth")
    # 2·0.04 − 0.1 is behind infinity; 2·0.1 − 0.1 is a depth of 10.
    applied = inverse.apply([0.04, 0.1])
    assert applied.dtype == np.float32
    np.testing.assert_allclose(applied, [0.0, 10.0], rtol=1e-5)


@given(SEEDS, SPACES, st.floats(0.1, 10.0))
@settings(deadline=None, max_examples=20)
def test_another_unit_of_the_reference_scales_the_result(seed: int, space: Space, unit: float) -> None:
    generator = np.random.default_rng(seed)
    depth = slanted_depth(generator)
    estimate = estimate_of(depth, space, 1.3, 0.02) * generator.normal(1.0, 0.02, SHAPE)
    one, other = align_affine(estimate, depth, space=space), align_affine(estimate, unit * depth, space=space)
    np.testing.assert_allclose(other.apply(estimate), unit * one.apply(estimate), rtol=1e-4)
    assert other.residual == pytest.approx(one.residual, rel=1e-3)


def test_a_perfect_fit_of_few_pixels_is_exact() -> None:
    depth = np.linspace(1.0, 2.0, MINIMUM_PIXELS)[None]
    assert align_affine(depth / 2.0, depth, space="depth").scale == pytest.approx(2.0)


def test_degenerate_cases_are_refused() -> None:
    depth = slanted_depth(np.random.default_rng(0))
    with pytest.raises(ContractError, match="shapes"):
        align_affine(depth[:5], depth, space="depth")
    few = np.zeros(SHAPE, bool)
    few.flat[: MINIMUM_PIXELS - 1] = True
    with pytest.raises(ContractError, match="31 pixels are valid in both, 32 are needed"):
        align_affine(depth, depth, space="depth", where=few)
    with pytest.raises(ContractError, match="31 pixels are valid in both, 32 are needed"):
        align_scale(depth * few, depth)
    with pytest.raises(ContractError, match="constant"):
        align_affine(np.full(SHAPE, 2.0), depth, space="depth")
    with pytest.raises(ContractError, match="constant"):
        align_affine(np.full(SHAPE, 2.0) + 1e-9 * depth, depth, space="inverse_depth")
    with pytest.raises(ContractError, match="run against each other"):
        align_affine(depth, depth, space="inverse_depth")


def test_a_relative_depth_is_brought_into_the_unit_of_the_reference() -> None:
    depth = slanted_depth(np.random.default_rng(0))
    estimate = 1.0 / estimate_of(depth, "inverse_depth", 2.0, -0.1)
    estimate[3] = 0.0
    found = align_relative_depth(estimate, depth)
    assert (found.space, found.scale) == ("inverse_depth", pytest.approx(2.0))
    aligned = found.apply_to_depth(estimate)
    assert not aligned[3].any()
    np.testing.assert_allclose(np.delete(aligned, 3, 0), np.delete(depth, 3, 0), rtol=1e-5)


def test_a_plain_surface_is_scaled_alone_and_a_contradiction_is_refused() -> None:
    wall = np.full(SHAPE, 4.0)
    found = align_relative_depth(wall / 8.0, wall)
    assert (found.space, found.scale) == ("depth", 8.0)
    np.testing.assert_array_equal(found.apply_to_depth(wall / 8.0), wall)
    depth = slanted_depth(np.random.default_rng(0))
    with pytest.raises(ContractError, match="run against each other"):
        align_relative_depth(20.0 - depth, depth)
    with pytest.raises(ContractError, match="constant"):
        align_relative_depth(wall, depth)


def test_the_record_is_json_of_all_numbers() -> None:
    depth = slanted_depth(np.random.default_rng(0))
    found = align_affine(depth / 2.0, depth, space="depth")
    assert found.record() == dataclasses.asdict(found)
    assert all(math.isfinite(value) for value in found.record().values() if not isinstance(value, str))

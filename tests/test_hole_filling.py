from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.ops.hole_filling import SAME_SURFACE, fill_from_background

NEAR, FAR = (200, 10, 10), (10, 10, 200)


def test_a_hole_beside_a_silhouette_takes_the_background() -> None:
    rgb, depth = np.empty((9, 12, 3), np.uint8), np.empty((9, 12), np.float32)
    rgb[:, :6], depth[:, :6] = NEAR, 1
    rgb[:, 6:], depth[:, 6:] = FAR, 4
    valid = np.ones((9, 12), bool)
    valid[:, 4:8] = False
    found, filled = fill_from_background(rgb, depth, valid)
    assert (found[:, 4:8] == FAR).all()
    assert (filled[:, 4:8] == 4).all()
    np.testing.assert_array_equal(found[valid], rgb[valid])
    np.testing.assert_array_equal(filled[valid], depth[valid])


def test_rims_of_one_surface_are_mixed_by_their_distance() -> None:
    rgb = np.zeros((1, 5, 3), np.uint8)
    rgb[0, 0], rgb[0, 4] = 0, 200
    depth = np.array([[2, 0, 0, 0, 2.1]], np.float32)
    found, filled = fill_from_background(rgb, depth, depth > 0)
    assert found[0, :, 0].tolist() == [0, 50, 100, 150, 200]
    np.testing.assert_allclose(filled[0], [2, 2.025, 2.05, 2.075, 2.1], rtol=1e-6)


def test_corners_without_a_rim_in_row_and_column_are_filled_too() -> None:
    rgb, depth = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32)
    rgb[2, 2], depth[2, 2] = FAR, 3
    found, filled = fill_from_background(rgb, depth, depth > 0)
    assert (found == FAR).all()
    assert (filled == 3).all()


def test_of_nothing_nothing_is_made() -> None:
    found, filled = fill_from_background(
        np.full((4, 5, 3), 9, np.uint8), np.zeros((4, 5), np.float32), np.zeros((4, 5), bool)
    )
    assert not found.any()
    assert not filled.any()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_filled_once_every_pixel_lies_between_the_background_rims(seed: int, share: float) -> None:
    draws = np.random.default_rng(seed)
    rgb = draws.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    depth = draws.uniform(1, 3, (7, 9)).astype(np.float32)
    valid = draws.random((7, 9)) < share
    found, filled = fill_from_background(rgb, depth, valid)
    if not valid.any():
        assert not found.any()
        return
    assert (filled > 0).all()
    for y, x in zip(*np.nonzero(~valid), strict=True):
        rims = [
            line[-1] if line is not None else None
            for line in (
                _first(valid[y, :x][::-1], [(y, x - 1 - i) for i in range(x)]),
                _first(valid[y, x + 1 :], [(y, x + 1 + i) for i in range(8 - x)]),
                _first(valid[:y, x][::-1], [(y - 1 - i, x) for i in range(y)]),
                _first(valid[y + 1 :, x], [(y + 1 + i, x) for i in range(6 - y)]),
            )
        ]
        known = [rim for rim in rims if rim is not None]
        if not known:
            continue
        farthest = max(depth[rim] for rim in known)
        behind = [rim for rim in known if depth[rim] >= (1 - SAME_SURFACE) * farthest]
        weights = np.array([1 / (abs(rim[0] - y) + abs(rim[1] - x)) for rim in behind])
        mixed = (weights[:, None] * np.array([rgb[rim] for rim in behind], float)).sum(axis=0) / weights.sum()
        assert np.abs(found[y, x] - mixed).max() <= 0.5 + 1e-6


def _first(line: np.ndarray, places: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """The places up to and with the first valid one, or None."""
    hits = np.flatnonzero(line)
    return places[: hits[0] + 1] if len(hits) else None

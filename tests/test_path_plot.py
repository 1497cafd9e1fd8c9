"""Camera paths from above: where things are drawn, and in which scale."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sceneloom.ops.path_plot import top_view

WHITE, ORANGE = (255, 255, 255), (255, 140, 0)


def path(points: list[tuple[float, float, float]]) -> NDArray[np.float64]:
    c2w = np.tile(np.eye(4), (len(points), 1, 1))
    c2w[:, :3, 3] = points
    return c2w


def places(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.intp]:
    """(N, 2) row and column of the pixels of a colour."""
    return np.argwhere((np.abs(picture.astype(int) - colour) < 12).all(axis=2))


def test_x_goes_right_and_z_up_in_one_scale() -> None:
    picture, wide = top_view([(path([(0, 5, 0), (2, -5, 0), (2, 0, 1)]), WHITE)], height=200, width=300)
    assert picture.shape == (200, 300, 3)
    assert picture.dtype == np.uint8
    # Two units take 76 % of the width.
    assert wide == pytest.approx(2 / 0.76)
    seen = places(picture, WHITE)
    pixels_per_unit = 300 / wide
    start = np.array([100 + pixels_per_unit / 2, 150 - pixels_per_unit])
    end = np.array([100 - pixels_per_unit / 2, 150 + pixels_per_unit])
    for corner in (start, end):
        assert np.abs(seen - corner).max(axis=1).min() < 3
    assert not (np.abs(seen - [start[0] - 40, start[1]]).max(axis=1) < 3).any()


def test_a_path_over_another_leaves_both_visible() -> None:
    same = path([(0, 0, 0), (1, 0, 0)])
    picture, _ = top_view([(same, WHITE), (same, ORANGE)], height=180, width=180)
    assert len(places(picture, WHITE)) > 100
    assert len(places(picture, ORANGE)) > 50


def test_a_camera_that_stands_still() -> None:
    picture, wide = top_view([(path([(3, 0, 3)] * 4), WHITE)], height=60, width=60)
    assert wide < 0.01
    assert len(places(picture, WHITE)) > 0


def test_equal_paths_give_equal_pictures() -> None:
    one = path([(0, 0, 0), (0.5, 0, 2)])
    first, second = (top_view([(one, WHITE)], height=64, width=64)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)

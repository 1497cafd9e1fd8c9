"""Depth edges: steps and blurred steps are found, slanted planes are not, whatever their slant."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.ops.depth_edges import depth_edges

SHAPE = (48, 64)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5


@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.floats(0.5, 50.0))
@settings(deadline=None, max_examples=40)
def test_no_plane_is_an_edge(slant_x: float, slant_y: float, distance: float) -> None:
    # 1/z is affine: nearest 1, farthest 19 times as far, in 48 pixels.
    inverse = 1.0 + 0.5 * slant_x * (COLUMNS / 32 - 1) + 0.5 * slant_y * (ROWS / 24 - 1)
    assert not depth_edges((distance / inverse).astype(np.float32)).any()


def test_both_sides_of_a_step_are_edges_and_nothing_else() -> None:
    depth = np.full(SHAPE, 4.0, np.float32)
    depth[10:30, 20:40] = 3.0
    edges = depth_edges(depth)
    expected = np.zeros(SHAPE, bool)
    expected[8:32, 18:42] = True
    expected[12:28, 22:38] = False
    # Rows and columns through the corner's outermost neighbour do not meet the square.
    expected[[8, 8, 31, 31], [18, 41, 18, 41]] = False
    np.testing.assert_array_equal(edges, expected)


def test_a_step_that_a_network_blurs_is_an_edge_over_its_whole_width() -> None:
    inverse = np.interp(COLUMNS, [30.5, 35.5], [0.5, 0.2])
    edges = depth_edges((1.0 / inverse).astype(np.float32))
    assert edges[:, 29:37].all()
    assert not edges[:, :29].any()
    assert not edges[:, 37:].any()


def test_smaller_steps_than_the_bend_are_no_edges() -> None:
    depth = np.where(COLUMNS < 32, 4.0, 4.1)
    assert not depth_edges(depth).any()
    assert depth_edges(depth, bend=0.02)[:, 31:33].all()


def test_invalid_pixels_are_no_edges() -> None:
    depth = np.full(SHAPE, 2.0, np.float32)
    depth[5:9, 5:9] = 0.0
    assert not depth_edges(depth).any()

"""Choosing the view with the largest holes, and filling them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ContractError, InputError
from sceneloom.ops.hole_selection import holes_in, next_view, spread_views
from sceneloom.ops.picture_inpainting import inpaint_classically, joined_depth, nearest_filled


def test_cracks_are_left_out_and_holes_grow() -> None:
    alpha = np.ones((40, 60))
    alpha[:, 10:13] = 0.0
    assert not holes_in(alpha).any()
    alpha[15:25, 30:40] = 0.5
    found = holes_in(alpha)
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 28, 26, 43)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.sets(st.integers(0, 29), max_size=4))
def test_the_next_view_is_the_largest_that_may_be_taken(shares: list[float], taken: set[int]) -> None:
    found = next_view(shares, taken=taken, smallest=0.1, largest=0.7)
    allowed = {i: s for i, s in enumerate(shares) if 0.1 <= s <= 0.7 and not {i - 1, i, i + 1} & taken}
    assert (found is None) == (not allowed)
    if found is not None:
        assert shares[found] == max(allowed.values())


def test_spread_views_keep_apart() -> None:
    shares = [0.0, 0.9, 0.95, 0.9, 0.1, 0.0, 0.2, 0.1]
    assert spread_views(shares, 2) == [2, 6] or spread_views(shares, 2)[0] == 2
    chosen = spread_views(list(np.linspace(0, 1, 20)), 5)
    assert len(chosen) == 5
    assert min(np.diff(chosen)) > 2


@pytest.mark.parametrize("method", ["telea", "navier_stokes"])
def test_classical_inpainting_goes_on_with_what_is_around(method: str) -> None:
    picture = np.full((20, 30, 3), (10, 120, 200), np.uint8)
    holes = np.zeros((20, 30), bool)
    holes[5:12, 8:20] = holes[:, -3:] = True
    broken = np.where(holes[..., None], np.uint8(255), picture)
    np.testing.assert_allclose(inpaint_classically(broken, holes, method=method), picture, atol=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="everything is a hole"):
        inpaint_classically(picture, np.ones((20, 30), bool))
    with pytest.raises(ContractError):
        nearest_filled(picture, holes[1:])


def test_joined_depth_keeps_what_is_known_and_has_no_step_at_the_seam() -> None:
    rendered = np.full((40, 60), 4.0, np.float32)
    known = np.ones((40, 60), bool)
    known[:, 40:] = False
    estimated = np.full((40, 60), 5.0, np.float32)
    depth = joined_depth(estimated, np.where(known, rendered, 0).astype(np.float32), known)
    np.testing.assert_array_equal(depth[known], 4.0)
    assert abs(depth[20, 40] - 4.0) < 0.1
    assert (np.diff(depth[20, 39:]) >= -1e-6).all()
    same = joined_depth(rendered, rendered, known)
    np.testing.assert_allclose(same, 4.0, rtol=1e-6)

"""The canvas of an outpainting: the picture lies pixel for pixel where the record says, and rays stay as they were."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneloom.datasets.errors import ContractError
from sceneloom.ops.cameras import centred_intrinsics, pixel_rays
from sceneloom.ops.outpainting_canvas import UNPAINTED, Expansion, OutpaintingCanvas

SHARES = st.one_of(st.just(0.0), st.floats(0.01, 1.0))
EXPANSIONS = st.builds(Expansion, SHARES, SHARES, SHARES, SHARES)
SIDES = st.integers(1, 700)


@given(SIDES, SIDES, EXPANSIONS, st.sampled_from([1, 8, 16, 32]))
def test_a_canvas_around_a_picture_is_the_smallest_that_holds_the_expansion(
    height: int, width: int, expansion: Expansion, multiple: int
) -> None:
    canvas = OutpaintingCanvas.around(height, width, expansion, multiple=multiple)
    assert (canvas.picture_height, canvas.picture_width) == (height, width)
    for side, picture, before, after, offset in (
        (canvas.height, height, expansion.top, expansion.bottom, canvas.top),
        (canvas.width, width, expansion.left, expansion.right, canvas.left),
    ):
        wanted = picture * (1 + before + after)
        assert side % multiple == 0
        assert wanted - 1e-6 <= side < wanted + multiple
        # Each border is the expansion asked for, and at most the rounding more; halves of pixels may go either way.
        assert picture * before - 0.5 - 1e-6 <= offset <= picture * before + multiple + 0.5
        assert picture * after - 0.5 - 1e-6 <= side - picture - offset <= picture * after + multiple + 0.5
        if before == 0.0 and after > 0.0:
            assert offset == 0
        if after == 0.0 and before > 0.0:
            assert offset == side - picture
        if before == after:
            assert abs(offset - (side - picture - offset)) <= 1


@given(st.integers(16, 800), st.integers(16, 800), EXPANSIONS)
def test_a_picture_within_a_canvas_takes_the_room_that_is_left(height: int, width: int, expansion: Expansion) -> None:
    canvas = OutpaintingCanvas.within(height, width, expansion)
    assert (canvas.height, canvas.width) == (height, width)
    for side, picture, before, after, offset in (
        (height, canvas.picture_height, expansion.top, expansion.bottom, canvas.top),
        (width, canvas.picture_width, expansion.left, expansion.right, canvas.left),
    ):
        assert abs(picture - side / (1 + before + after)) <= 0.5
        assert abs(offset - picture * before) <= 1.5
        assert abs(side - picture - offset - picture * after) <= 1.5


@given(st.integers(1, 40), st.integers(1, 40), EXPANSIONS, st.integers(0, 2**32 - 1))
def test_the_pictures_own_pixels_lie_on_the_canvas(height: int, width: int, expansion: Expansion, seed: int) -> None:
    canvas = OutpaintingCanvas.around(height, width, expansion)
    generator = np.random.default_rng(seed)
    picture = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
    painted = generator.integers(0, 256, (canvas.height, canvas.width, 3)).astype(np.uint8)
    blank, whole = canvas.place(picture), canvas.place(picture, onto=painted)
    mask = canvas.unpainted()
    np.testing.assert_array_equal(canvas.crop(blank), picture)
    np.testing.assert_array_equal(canvas.crop(whole), picture)
    assert (blank[mask] == UNPAINTED).all()
    np.testing.assert_array_equal(whole[mask], painted[mask])
    assert mask.sum() == mask.size - height * width
    assert not canvas.crop(mask).any()


@given(st.integers(2, 60), st.integers(2, 60), EXPANSIONS)
def test_every_pixel_keeps_its_ray(height: int, width: int, expansion: Expansion) -> None:
    canvas = OutpaintingCanvas.around(height, width, expansion)
    lens = centred_intrinsics(height, width, horizontal_field_of_view=1.2)
    before = pixel_rays(np.eye(4), lens, height, width)[1]
    after = pixel_rays(np.eye(4), canvas.intrinsics(lens), canvas.height, canvas.width)[1]
    np.testing.assert_allclose(canvas.crop(after), before, atol=1e-12)


def test_the_seeds_example_is_not_off_centre() -> None:
    # 512 × 480 with 15 % on every side: VistaDream pastes at row 76 of a canvas 672 high, 4 rows off its centre.
    canvas = OutpaintingCanvas.around(512, 480, Expansion(0.15, 0.15, 0.15, 0.15), multiple=32)
    assert (canvas.height, canvas.width) == (672, 640)
    assert (canvas.top, canvas.left) == (80, 80)
    assert json.loads(json.dumps(canvas.record())) == {
        "canvas": [672, 640],
        "offset": [80, 80],
        "picture": [512, 480],
    }


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ContractError, match="row 3, column 0 of a canvas of 16 × 16"):
        OutpaintingCanvas(16, 16, 3, 0, 14, 16)
    with pytest.raises(ContractError, match=r"-0\.1 on the left"):
        Expansion(-0.1, 0, 0, 0)
    canvas = OutpaintingCanvas(16, 16, 0, 0, 8, 8)
    with pytest.raises(ContractError, match=r"Give \(8, 8, 3\) uint8"):
        canvas.place(np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(ContractError, match=r"Give \(16, 16, 3\) uint8"):
        canvas.place(np.zeros((8, 8, 3), np.uint8), onto=np.zeros((16, 16, 3), np.float32))  # type: ignore[arg-type]

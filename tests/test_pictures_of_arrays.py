"""Pictures for people: what they show, how large they are, that equal arrays give equal bytes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from sceneloom.assets.event_metadata import PREVIEW_NAME
from sceneloom.assets.pictures_of_arrays import PREVIEW_WIDTH, depth_picture, read_png, spread, write_png, write_preview


@settings(deadline=None, max_examples=20)
@given(arrays.arrays(np.uint8, st.sampled_from([(3, 5), (4, 6, 3), (1, 1), (2, 1, 3)])))
def test_a_png_gives_back_the_picture(tmp_path_factory: pytest.TempPathFactory, picture: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("png")
    write_png(folder / "a.png", picture)
    write_png(folder / "b.png", picture)
    np.testing.assert_array_equal(read_png(folder / "a.png"), picture)
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()


@pytest.mark.parametrize(("width", "shown"), [(640, PREVIEW_WIDTH), (100, 100)])
def test_a_preview_is_no_wider_than_the_page_shows(tmp_path: Path, width: int, shown: int) -> None:
    picture = np.full((width // 2, width, 3), (200, 30, 60), np.uint8)
    write_preview(tmp_path, picture)
    image = Image.open(io.BytesIO((tmp_path / PREVIEW_NAME).read_bytes()))
    assert image.format == "WEBP"
    assert image.size == (shown, shown // 2)
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - picture[0, 0]).max() <= 6


def test_near_is_bright_and_holes_are_black() -> None:
    depth = np.tile(np.linspace(1, 10, 200, dtype=np.float32), (4, 1))
    depth[0, :50] = 0
    picture = depth_picture(depth)
    assert picture.dtype == np.uint8
    assert (picture[0, :50] == 0).all()
    assert (np.diff(picture[1].astype(int)) <= 0).all()
    assert picture[1, 0] == 255
    assert picture[1, -1] == 32


def test_one_far_away_pixel_does_not_grey_the_rest() -> None:
    depth = np.tile(np.linspace(1, 2, 300, dtype=np.float32), (10, 1))
    depth[0, 0] = 1e4
    picture = depth_picture(depth)
    assert picture[5].max() - picture[5].min() > 200


@pytest.mark.parametrize("depth", [np.zeros((3, 4)), np.full((3, 4), 2.5)])
def test_depth_without_range_gives_a_picture_still(depth: np.ndarray) -> None:
    assert depth_picture(depth).shape == depth.shape


def test_a_png_of_ids_keeps_all_sixteen_bits(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255], [256, 257, 65535]], np.uint16)
    write_png(tmp_path / "ids.png", ids)
    found = read_png(tmp_path / "ids.png")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, ids)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200), st.integers(2, 8))
def test_frames_are_spread_from_the_first_to_the_last(count: int, wanted: int) -> None:
    chosen = spread(count, wanted)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert len(chosen) == min(count, wanted)
    steps = np.diff(chosen)
    assert steps.size == 0 or steps.max() - steps.min() <= 1

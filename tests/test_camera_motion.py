from __future__ import annotations

import numpy as np
import pytest

from sceneloom.ops.camera_motion import changed_share, motions_from_first, shared_motion

from .moving_videos import moving_square, textured

HEIGHT, WIDTH = 120, 160


def wide() -> np.ndarray:
    return textured(HEIGHT + 40, WIDTH + 40)


def window(right: int = 0, down: int = 0) -> np.ndarray:
    """The picture as a camera sees it that is shifted by whole pixels."""
    return np.ascontiguousarray(wide()[20 + down : 20 + down + HEIGHT, 20 + right : 20 + right + WIDTH])


@pytest.mark.parametrize(("right", "down"), [(0, 0), (3, 0), (0, -5), (8, 6)])
def test_the_motion_that_a_picture_shares_is_measured(right: int, down: int) -> None:
    found = shared_motion(window(), window(right, down))
    assert found is not None
    assert found.pixels == pytest.approx(np.hypot(right, down), abs=0.3)


def test_what_moves_before_a_still_camera_is_no_motion_of_it() -> None:
    frames, _ = moving_square(12, HEIGHT, WIDTH, side=40, step=6)
    found = shared_motion(frames[0], frames[-1])
    assert found is not None
    assert found.pixels < 0.3


def test_noise_is_no_motion() -> None:
    draws = np.random.default_rng(0)
    noisy = np.clip(window().astype(int) + draws.normal(0, 6, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    found = shared_motion(window(), noisy)
    assert found is not None
    assert found.pixels < 0.5


def test_a_zoom_moves_the_corners() -> None:
    from PIL import Image

    picture = window()
    left, top = WIDTH * 0.025, HEIGHT * 0.025
    box = (left, top, WIDTH - left, HEIGHT - top)
    zoomed = np.asarray(Image.fromarray(picture).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=box))
    found = shared_motion(picture, zoomed)
    assert found is not None
    assert found.pixels == pytest.approx(np.hypot(left, top) / 0.95, rel=0.1)


def test_pictures_without_corners_or_with_nothing_in_common_tell_nothing() -> None:
    flat = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    assert shared_motion(flat, flat) is None
    assert shared_motion(window(), flat) is None
    assert shared_motion(window(), textured(HEIGHT, WIDTH, seed=9)) is None


def test_a_camera_that_goes_far_is_followed_by_the_frames_between() -> None:
    wide = textured(HEIGHT, 3 * WIDTH)
    frames = np.stack([wide[:, 6 * index : 6 * index + WIDTH] for index in range(41)])
    assert shared_motion(frames[0], frames[-1]) is None
    found = motions_from_first(frames)
    assert len(found) == 40
    assert found[-1] is not None
    assert found[-1].pixels == pytest.approx(240, rel=0.02)


def test_frames_without_corners_break_the_way() -> None:
    frames = np.stack([window(), np.full((HEIGHT, WIDTH, 3), 90, np.uint8), textured(HEIGHT, WIDTH, seed=9)])
    assert motions_from_first(frames) == [None, None]


def test_what_a_motion_explains_is_not_a_change() -> None:
    wide = textured(100, 200)
    first, other = wide[:80, :150].copy(), wide[4:84, 8:158].copy()
    motion = shared_motion(first, other)
    assert motion is not None
    assert changed_share(first, other, motion) < 0.05
    assert changed_share(first, other, None) > 0.5
    other[:, 60:] = textured(80, 90, seed=5)
    assert 0.4 < changed_share(first, other, motion) < 0.9

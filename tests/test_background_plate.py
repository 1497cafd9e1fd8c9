from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.ops.background_plate import CHANGED_LEVELS, SAME_DEPTH, background_colours, held_depth, moving_pixels

from .moving_videos import moving_square, textured


def test_the_background_is_what_is_seen_most_of_the_time() -> None:
    frames, where = moving_square(24, 64, 96, step=3)
    expected = textured(64, 96)
    assert where.any(axis=0).sum() > 1000
    np.testing.assert_array_equal(background_colours(frames), expected)


def test_a_colour_that_was_there_is_taken_of_an_even_count() -> None:
    frames = np.array([10, 20, 200, 210], np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    assert np.unique(background_colours(frames)).tolist() == [200]


def test_what_moves_is_marked_and_noise_is_not() -> None:
    frames, where = moving_square(24, 64, 96, step=3)
    noisy = np.clip(frames.astype(int) + np.random.default_rng(0).normal(0, 4, frames.shape), 0, 255).astype(np.uint8)
    background = background_colours(noisy)
    for index in (0, 12, 23):
        found = moving_pixels(noisy[index], background)
        assert found[where[index]].mean() > 0.97
        near = np.lib.stride_tricks.sliding_window_view(np.pad(where[index], 5), (11, 11)).any(axis=(2, 3))
        assert not (found & ~near).any()


def test_light_shadows_do_not_move() -> None:
    background = textured(32, 48)
    for levels, moves in ((int(CHANGED_LEVELS) - 4, False), (2 * int(CHANGED_LEVELS), True)):
        shadow = background.astype(int)
        shadow[:, :20] -= levels
        found = moving_pixels(shadow.clip(0).astype(np.uint8), background)
        assert found[:, :16].all() == found.any() == moves
        assert not found[:, 26:].any()


def test_drifting_exposure_is_not_motion() -> None:
    frames, where = moving_square(24, 64, 96, step=3)
    background = background_colours(frames)
    for drift in ([-30, -30, -30], [25, 0, -20]):
        frame = (frames[12].astype(int) + drift).clip(0, 255).astype(np.uint8)
        found = moving_pixels(frame, background)
        assert found[where[12]].mean() > 0.97
        near = np.lib.stride_tricks.sliding_window_view(np.pad(where[12], 5), (11, 11)).any(axis=(2, 3))
        assert not (found & ~near).any()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_depth_is_held_where_nothing_moves_and_both_agree(seed: int) -> None:
    draws = np.random.default_rng(seed)
    still = np.where(draws.random((6, 8)) < 0.2, 0, draws.uniform(1, 5, (6, 8))).astype(np.float32)
    depth = (still * draws.uniform(0.9, 1.1, still.shape)).astype(np.float32)
    depth = np.where(draws.random(still.shape) < 0.2, np.float32(0), depth)
    moving = draws.random(still.shape) < 0.3
    found = held_depth(depth, still, moving)
    for index in np.ndindex(*still.shape):
        close = depth[index] == 0 or abs(depth[index] - still[index]) <= SAME_DEPTH * still[index]
        hold = not moving[index] and still[index] > 0 and close
        assert found[index] == (still[index] if hold else depth[index])

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sceneloom.ops.vanishing_point import detect_segments, find_vanishing_point

HEIGHT, WIDTH = 360, 640


def rays(point: tuple[float, float], count: int, seed: int, *, jitter: float = 0.0) -> NDArray[np.float64]:
    """Segments on lines through the point, ends moved by normal noise of `jitter` pixels."""
    generator = np.random.default_rng(seed)
    angle = generator.uniform(0, 2 * np.pi, count)
    near, length = generator.uniform(40, 120, count), generator.uniform(40, 150, count)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ends = [np.array(point) + direction * reach[:, None] for reach in (near, near + length)]
    return np.concatenate(ends, axis=1) + generator.normal(0, jitter, (count, 4))


def clutter(count: int, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    centre = generator.uniform(0, 1, (count, 2)) * [WIDTH, HEIGHT]
    angle, length = generator.uniform(0, np.pi, count), generator.uniform(25, 110, count)
    half = np.stack([np.cos(angle), np.sin(angle)], axis=1) * length[:, None] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.25, 0.75), st.floats(0.25, 0.75), st.integers(0, 2**32))
def test_exact_rays_give_the_point(x: float, y: float, seed: int) -> None:
    found = find_vanishing_point(rays((x * WIDTH, y * HEIGHT), 40, seed), HEIGHT, WIDTH, seed=seed)
    assert not found.fallback
    assert np.hypot(found.x - x * WIDTH, found.y - y * HEIGHT) < 1e-3
    assert found.confidence > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_noisy_rays_among_clutter(seed: int) -> None:
    point = (250.0, 200.0)
    segments = np.concatenate([rays(point, 60, seed, jitter=1.0), clutter(60, seed + 50)])
    found = find_vanishing_point(segments, HEIGHT, WIDTH, seed=seed)
    assert not found.fallback
    assert np.hypot(found.x - point[0], found.y - point[1]) < 4
    assert found.supporting[:60].mean() > 0.6
    assert found.supporting[60:].mean() < 0.2


@pytest.mark.parametrize("count", [20, 60, 150, 400])
def test_clutter_alone_falls_back_to_the_centre(count: int) -> None:
    found = find_vanishing_point(clutter(count, count), HEIGHT, WIDTH, seed=0)
    assert found.fallback
    assert (found.x, found.y) == (WIDTH / 2, HEIGHT / 2)
    assert found.confidence < 0.1
    assert not found.supporting.any()


@pytest.mark.parametrize("segments", [np.zeros((0, 4)), np.array([[10.0, 10.0, 90.0, 50.0]])])
def test_too_few_segments_fall_back(segments: NDArray[np.float64]) -> None:
    assert find_vanishing_point(segments, HEIGHT, WIDTH, seed=0).fallback


def test_level_and_plumb_lines_say_nothing() -> None:
    grid = [[x, 20, x, 340] for x in range(20, 640, 40)] + [[20, y, 620, y] for y in range(20, 360, 40)]
    assert find_vanishing_point(np.array(grid, dtype=np.float64), HEIGHT, WIDTH, seed=0).fallback


def test_parallel_slanted_lines_are_no_vanishing_point() -> None:
    lines = np.array([[x, 50, x + 120, 250] for x in range(20, 480, 10)], dtype=np.float64)
    assert find_vanishing_point(lines, HEIGHT, WIDTH, seed=0).fallback


def test_the_same_seed_gives_the_same_point() -> None:
    segments = np.concatenate([rays((300, 150), 150, 3, jitter=2.0), clutter(200, 4)])
    first, second = (find_vanishing_point(segments, HEIGHT, WIDTH, seed=9) for _ in range(2))
    assert (first.x, first.y, first.confidence) == (second.x, second.y, second.confidence)


@pytest.mark.parametrize("scale", [1, 3])
def test_detected_segments_lie_on_the_drawn_edges(scale: int) -> None:
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "white")
    # The rectangle fills pixels 100..399 across and 80..279 down: its edges are at 100, 400, 80 and 280.
    ImageDraw.Draw(image).rectangle((100 * scale, 80 * scale, 400 * scale - 1, 280 * scale - 1), fill="black")
    segments = detect_segments(np.asarray(image)) / scale
    assert len(segments) == 4
    lengths = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
    assert (np.diff(lengths) <= 0).all()
    middle = (segments[:, :2] + segments[:, 2:]) / 2
    for expected in ((250, 80), (250, 280), (100, 180), (400, 180)):
        assert np.abs(middle - expected).max(axis=1).min() < 1.0


def test_a_flat_picture_has_no_segments() -> None:
    assert detect_segments(np.full((100, 100, 3), 77, np.uint8)).shape == (0, 4)

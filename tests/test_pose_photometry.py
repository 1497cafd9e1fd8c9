"""datasets/layouts/pose_photometry.py on clips whose pictures, depth and cameras are known exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sceneloom.datasets.layouts.pose_photometry import BetterConvention, better_convention, compared_frames

from .release_scenes import MemoryClip, make_clip

DIRECTIONS = {"left": (-0.2, 0.0, 0.0), "up": (0.0, -0.2, 0.0), "zoom": (0.0, 0.0, 0.3), "aslant": (0.1, 0.1, -0.2)}


def _judge(clip: MemoryClip, c2w: NDArray[Any]) -> BetterConvention | None:
    pictures = {frame: clip.pictures[frame] for frame in compared_frames(c2w)}
    return better_convention(pictures, clip.depths[0], c2w, clip.intrinsics)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_right_poses_are_left_alone(direction: tuple[float, float, float], seed: int) -> None:
    clip = make_clip("a", "b", direction=direction, seed=seed)
    assert _judge(clip, clip.c2w) is None


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize(
    ("change", "name"),
    [(np.linalg.inv, "world-to-camera"), (lambda c2w: c2w[::-1], "in reversed time order")],
)
def test_other_conventions_are_found(
    direction: tuple[float, float, float], change: Callable[[NDArray[Any]], NDArray[Any]], name: str
) -> None:
    clip = make_clip("a", "b", direction=direction)
    better = _judge(clip, change(clip.c2w))
    assert better is not None
    assert name in better.name
    assert better.error < 3.0 < better.given_error


def test_opengl_axes_are_found() -> None:
    clip = make_clip("a", "b", direction=(0.1, 0.2, 0.1))
    better = _judge(clip, clip.c2w @ np.diag([1.0, -1.0, -1.0, 1.0]))
    assert better is not None
    # Without rotation the flipped camera's own axes differ: only this convention puts the points before the camera.
    assert "OpenGL" in better.name


def test_nothing_is_said_where_pictures_cannot_tell() -> None:
    clip = make_clip("a", "b")
    inverse = np.linalg.inv(clip.c2w)
    flat = {frame: np.full_like(clip.pictures[frame], 90) for frame in compared_frames(inverse)}
    assert better_convention(flat, clip.depths[0], inverse, clip.intrinsics) is None
    pictures = {frame: clip.pictures[frame] for frame in compared_frames(inverse)}
    assert better_convention(pictures, np.zeros_like(clip.depths[0]), inverse, clip.intrinsics) is None
    still = np.tile(np.eye(4), (9, 1, 1))
    assert better_convention(pictures, clip.depths[0], still, clip.intrinsics) is None
    assert better_convention({0: clip.pictures[0]}, clip.depths[0], still[:1], clip.intrinsics) is None


def test_a_circle_that_closes_is_compared_away_from_its_ends() -> None:
    angle = np.linspace(0.0, 4 * np.pi, 121)
    c2w = np.tile(np.eye(4), (121, 1, 1))
    c2w[:, 0, 3], c2w[:, 1, 3] = np.cos(angle) - 1, np.sin(angle)
    frames = compared_frames(c2w)
    assert frames[0] == 0
    assert max(np.linalg.norm(c2w[frame, :3, 3]) for frame in frames) > 1.9
    assert max(abs(c2w[frame, 1, 3]) for frame in frames) > 0.9

"""Backward reprojection: the kernel against its NumPy definition, and both against scenes whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import warp as wp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from sceneloom.datasets.errors import EngineError
from sceneloom.ops.warping import Reprojection, ReprojectionState, View, reproject
from sceneloom.ops.warping_reference import reproject_reference

HEIGHT, WIDTH = 40, 56
INTRINSICS = np.array([45.0, 47.0, 29.0, 19.5], np.float32)


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def pose(translation: ArrayLike, axis: ArrayLike, angle: float) -> np.ndarray:
    c2w = np.eye(4)
    c2w[:3, :3] = rotation(np.asarray(axis, float), angle)
    c2w[:3, 3] = translation
    return c2w.astype(np.float32)


def plane_view(c2w: np.ndarray, normal: tuple[float, float, float] = (0.2, -0.3, -1.0), offset: float = -4.0) -> View:
    """A camera that sees the plane n·x = offset, painted with a smooth function of the world point."""
    fx, fy, cx, cy = INTRINSICS.astype(float)
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    directions = np.stack([(column - cx) / fx, (row - cy) / fy, np.ones_like(row)], -1) @ c2w[:3, :3].T.astype(float)
    depth = (offset - c2w[:3, 3].astype(float) @ normal) / (directions @ np.array(normal))
    points = c2w[:3, 3] + directions * depth[..., None]
    rgb = 127.5 + 100 * np.stack([np.sin(points @ k) for k in np.array([[2, 0, 0], [0, 2, 0.5], [1, 1, 0]])], -1)
    return View(np.rint(rgb).astype(np.uint8), depth.astype(np.float32), c2w, INTRINSICS)


def bumpy_view(seed: int, c2w: np.ndarray, height: int = HEIGHT, width: int = WIDTH) -> View:
    """Random colours on a depth map with slopes, edges and holes."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[0:height, 0:width]
    depth = 3 + np.sin(column / 9) + 0.5 * np.cos(row / 5)
    depth[(column // 8 + row // 8) % 3 == 0] += 2
    depth[rng.random(depth.shape) < 0.05] = 0
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return View(rgb, depth.astype(np.float32), c2w, INTRINSICS)


def assert_agree(found: Reprojection, expected: Reprojection) -> None:
    same = found.state == expected.state
    # A point on the border of two states may fall on either side in float32.
    assert same.mean() > 0.995
    # So may a point half way between two taps, or at the limit of what counts as one surface.
    for name, tolerance in (("colour", 0.2), ("depth", 1e-3), ("expected_depth", 1e-4)):
        difference = np.abs(getattr(found, name) - getattr(expected, name))[same]
        assert (difference < tolerance).mean() > 0.998, name


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_kernel_agrees_with_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Drawn, not chosen by Hypothesis, whose round numbers put whole rows half way between two pixels.
    moved = pose(rng.uniform(-1, 1, 3), rng.normal(size=3), rng.uniform(-0.5, 0.5))
    target = bumpy_view(seed, np.eye(4, dtype=np.float32))
    source = bumpy_view(seed + 1, moved, height=32, width=64)
    assert_agree(reproject(target, source), reproject_reference(target, source, tolerance=0.05))


def test_kernel_agrees_with_its_definition_on_a_gpu() -> None:
    if not wp.is_cuda_available():
        pytest.skip("no CUDA device")
    target = bumpy_view(1, np.eye(4, dtype=np.float32))
    source = bumpy_view(2, pose((0.31, -0.17, 0.23), (0.2, 1, 0.1), 0.13))
    assert_agree(reproject(target, source, device="cuda:0"), reproject_reference(target, source, tolerance=0.05))


def test_an_unknown_device_is_named() -> None:
    view = plane_view(np.eye(4, dtype=np.float32))
    with pytest.raises(EngineError, match="cuda:99"):
        reproject(view, view, device="cuda:99")


@pytest.mark.parametrize("warp_frame", [reproject, lambda t, s: reproject_reference(t, s, tolerance=0.05)])
def test_a_plane_is_seen_alike_by_both_cameras(warp_frame: Callable[[View, View], Reprojection]) -> None:
    target = plane_view(np.eye(4, dtype=np.float32))
    source = plane_view(pose((0.4, -0.1, 0.3), (0.2, 1, 0.1), 0.1))
    seen = warp_frame(target, source)
    covisible = seen.covisible
    assert covisible.mean() > 0.6
    assert set(np.unique(seen.state)) == {ReprojectionState.OUT_OF_VIEW, ReprojectionState.COVISIBLE}
    # 1/z is linear on a plane, so the interpolated depth is exact; a half-pixel slip would show as 1 % of depth.
    np.testing.assert_allclose(seen.depth[covisible], seen.expected_depth[covisible], rtol=2e-5)
    # A slip of half a pixel changes these colours by 4 levels on average.
    assert np.abs(seen.colour[covisible] - target.rgb[covisible]).mean() < 0.6


def test_the_same_camera_gives_the_frame_back_up_to_its_border() -> None:
    view = plane_view(pose((1.0, 2.0, -0.5), (1, 2, 3), 0.7))
    seen = reproject(view, view)
    assert seen.covisible.all()
    np.testing.assert_allclose(seen.colour, view.rgb, atol=0.1)
    np.testing.assert_allclose(seen.depth, view.depth, rtol=1e-4)


def test_something_in_front_occludes_what_is_behind_it() -> None:
    wall = np.full((HEIGHT, WIDTH), 4.0, np.float32)
    with_post = wall.copy()
    with_post[:, 20:30] = 2.0
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    eye = np.eye(4, dtype=np.float32)
    behind, before = View(grey, wall, eye, INTRINSICS), View(grey, with_post, eye, INTRINSICS)
    seen = reproject(behind, before)
    assert (seen.state[:, 21:29] == ReprojectionState.OCCLUDED).all()
    assert (seen.state[:, :19] == ReprojectionState.COVISIBLE).all()
    # The other way about, the source sees through the post: a contradiction.
    assert (reproject(before, behind).state[:, 21:29] == ReprojectionState.CONFLICT).all()


def test_points_behind_the_source_or_without_depth_are_not_seen() -> None:
    view = plane_view(np.eye(4, dtype=np.float32))
    turned = replace(view, c2w=pose((0, 0, 0), (0, 1, 0), np.pi))
    assert (reproject(view, turned).state == ReprojectionState.OUT_OF_VIEW).all()
    holes = replace(view, depth=np.zeros_like(view.depth))
    assert (reproject(holes, view).state == ReprojectionState.NO_DEPTH).all()
    assert (reproject(view, holes).state == ReprojectionState.UNKNOWN).all()


def test_half_precision_depth_is_accepted_and_results_repeat() -> None:
    target = bumpy_view(1, np.eye(4, dtype=np.float32))
    source = bumpy_view(2, pose((0.2, 0, 0), (0, 1, 0), 0.1))
    half = replace(target, depth=target.depth.astype(np.float16))
    first, second = reproject(half, source), reproject(half, source)
    assert first.covisible.any()
    np.testing.assert_array_equal(first.colour, second.colour)
    np.testing.assert_array_equal(first.state, second.state)

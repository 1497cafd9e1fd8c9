"""The 3D cache: kernels against their NumPy definition, and both against scenes whose answer is known."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import warp as wp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from sceneloom.datasets.errors import ContractError, CorruptFileError, EngineError, InputError
from sceneloom.ops import scene_cache
from sceneloom.ops.forward_warping_reference import (
    edge_factor_reference,
    spread_reference,
    triangles_reference,
    warp_reference,
)
from sceneloom.ops.procedural_scene import build_scene
from sceneloom.ops.raycast import RayCaster
from sceneloom.ops.scene_cache import SAME_SURFACE, SceneCache, SourceFrame, WarpedFrame

HEIGHT, WIDTH = 24, 40
INTRINSICS = np.array([32.0, 34.0, 20.5, 11.5])
EYE = np.eye(4)


def pose(translation: ArrayLike = (0, 0, 0), axis: ArrayLike = (0, 1, 0), angle: float = 0.0) -> np.ndarray:
    """c2w by Rodrigues' formula."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    c2w = np.eye(4)
    c2w[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    c2w[:3, 3] = translation
    return c2w


def noise(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def wall(
    depth: float | np.ndarray = 4.0,
    rgb: np.ndarray | None = None,
    c2w: np.ndarray = EYE,
    mask: np.ndarray | None = None,
) -> SourceFrame:
    """A frame of constant or given depth."""
    rgb = noise() if rgb is None else rgb
    z = np.broadcast_to(np.asarray(depth, np.float32), rgb.shape[:2]).copy()
    return SourceFrame(rgb, z, c2w, INTRINSICS, mask)


def rough_frame(seed: int, c2w: np.ndarray = EYE, height: int = HEIGHT, width: int = WIDTH) -> SourceFrame:
    """Random colours on slanted planes that stand before each other, with holes and a mask."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[0:height, 0:width] + 0.5
    fx, fy, cx, cy = INTRINSICS
    rays = np.stack([(column - cx) / fx, (row - cy) / fy, np.ones_like(row)], -1)
    depth = np.zeros((height, width))
    for _ in range(4):
        normal = np.array([*rng.uniform(-0.2, 0.2, 2), 1.0])
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        part = (slice(top, top + height // 2), slice(left, left + width // 2)) if depth.any() else np.s_[:]
        depth[part] = (rng.uniform(1.5, 8) / (rays @ normal))[part]
    depth[rng.random(depth.shape) < 0.002] = 0
    mask = None
    if rng.random() < 0.5:
        mask = np.ones(depth.shape, bool)
        mask[rng.integers(0, height) :, : width // 4] = False
    return SourceFrame(noise(height, width, seed), depth.astype(np.float32), c2w, INTRINSICS, mask)


def cache_of(*frames: SourceFrame, in_any_order: bool = False, **options: object) -> SceneCache:
    """A cache; one that adds up in any order, as on a GPU, where that is asked for."""
    cache = SceneCache(**options)  # type: ignore[arg-type]
    if in_any_order:
        cache._in_order = False
    for frame in frames:
        cache.add(frame)
    return cache


def warp(cache: SceneCache, c2w: np.ndarray = EYE, **options: int) -> WarpedFrame:
    return cache.warp(c2w, INTRINSICS, HEIGHT, WIDTH, **options)


def reliable(frame: SourceFrame, threshold: float = 0.05) -> np.ndarray:
    usable = (frame.depth > 0) & (spread_reference(frame.depth.astype(float)) < threshold)
    return usable if frame.mask is None else usable & frame.mask


def assert_same_bytes(first: WarpedFrame, second: WarpedFrame) -> None:
    for name in ("rgb", "depth", "valid", "confidence"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def assert_agree(found: WarpedFrame, expected: WarpedFrame) -> None:
    """Up to points that float32 puts on the other side of a limit: a pixel's border, a threshold, a silhouette."""
    assert expected.valid.any() or not found.valid.any()
    assert (found.valid == expected.valid).mean() > 0.99
    both = found.valid & expected.valid
    if both.any():
        colour = np.abs(found.rgb.astype(int) - expected.rgb.astype(int)).max(-1)[both]
        assert (colour <= 2).mean() > 0.98
        assert (np.abs(found.depth / np.where(both, expected.depth, 1) - 1)[both] < 1e-3).mean() > 0.98
        assert (np.abs(found.confidence - expected.confidence)[both] < 0.02).mean() > 0.98


def assert_holes_are_empty(frame: WarpedFrame) -> None:
    hole = ~frame.valid
    assert not frame.rgb[hole].any()
    assert not frame.depth[hole].any()
    assert not frame.confidence[hole].any()
    assert (frame.depth[frame.valid] > 0).all()
    assert ((frame.confidence >= 0) & (frame.confidence <= 1)).all()


# ------------------------------------------------------------------------------------------- against the definition


def random_camera(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    c2w = pose(rng.uniform(-0.8, 0.8, 3), rng.normal(size=3), rng.uniform(-0.4, 0.4))
    return c2w, INTRINSICS * rng.uniform(0.7, 1.3)


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 2**32 - 1),
    masking=st.booleans(),
    threshold=st.sampled_from([0.05, 0.2]),
    in_any_order=st.booleans(),
)
def test_kernels_agree_with_their_definition(seed: int, masking: bool, threshold: float, in_any_order: bool) -> None:
    rng = np.random.default_rng(seed)
    frame = rough_frame(seed, random_camera(rng)[0])
    c2w, intrinsics = random_camera(rng)
    size = int(rng.integers(16, 30)), int(rng.integers(20, 50))
    cache = cache_of(frame, foreground_masking=masking, edge_threshold=threshold, in_any_order=in_any_order)
    found = cache.warp(c2w, intrinsics, *size)
    expected = warp_reference([frame], c2w, intrinsics, *size, foreground_masking=masking, edge_threshold=threshold)
    assert found.rgb.shape == (*size, 3)
    assert_holes_are_empty(found)
    assert_agree(found, expected)


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), in_any_order=st.booleans())
def test_sources_are_merged_as_defined(seed: int, in_any_order: bool) -> None:
    rng = np.random.default_rng(seed)
    frames = [rough_frame(seed + k, random_camera(rng)[0], HEIGHT + 2 * k) for k in range(3)]
    c2w, intrinsics = random_camera(rng)
    cache = cache_of(*frames, in_any_order=in_any_order)
    found = cache.warp(c2w, intrinsics, HEIGHT, WIDTH)
    assert_holes_are_empty(found)
    assert_agree(found, warp_reference(frames, c2w, intrinsics, HEIGHT, WIDTH))
    alone = [cache.warp(c2w, intrinsics, HEIGHT, WIDTH, source=k) for k in range(3)]
    nearest = np.min([np.where(one.valid, one.depth, np.inf) for one in alone], axis=0)
    np.testing.assert_array_equal(found.valid, np.isfinite(nearest))
    assert (found.depth[found.valid] <= nearest[found.valid] * (1 + SAME_SURFACE) * (1 + 1e-6)).all()


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_edges_and_their_mesh_agree_with_their_definition(seed: int) -> None:
    frame = rough_frame(seed)
    spread, expected = scene_cache.depth_spread(frame.depth), spread_reference(frame.depth.astype(float))
    np.testing.assert_allclose(spread, expected, rtol=1e-5, atol=1e-6)
    usable = reliable(frame)
    np.testing.assert_allclose(scene_cache.edge_factor(usable), edge_factor_reference(usable))
    np.testing.assert_array_equal(scene_cache.edge_factor(np.ones((9, 9), bool)), 1)
    present, edge = frame.depth > 0, spread >= 0.05
    mesh = scene_cache.occluder_triangles(frame.depth, frame.intrinsics, present, edge)
    by_hand = triangles_reference(frame, frame.depth.astype(float), present, edge)
    assert mesh.shape == by_hand.shape
    np.testing.assert_allclose(
        sorted(mesh.reshape(-1, 9).tolist()), sorted(by_hand.astype(np.float32).reshape(-1, 9).tolist()), rtol=1e-5
    )


def test_a_gpu_agrees_with_the_definition_and_repeats() -> None:
    if not wp.is_cuda_available():
        pytest.skip("no CUDA device")
    frames = [rough_frame(1), rough_frame(2, pose((0.3, 0.1, 0.2), (0.2, 1, 0.1), 0.1))]
    cache = cache_of(*frames, device="cuda:0")
    c2w = pose((0.1, -0.2, 0.3), (1, 1, 0), 0.1)
    found = warp(cache, c2w)
    assert_agree(found, warp_reference(frames, c2w, INTRINSICS, HEIGHT, WIDTH))
    for _ in range(5):
        assert_same_bytes(warp(cache, c2w), found)


COMPILE = """
import sys
import warp
from sceneloom.ops import forward_warping_kernels

warp.compile_aot_module(forward_warping_kernels, arch=80, module_dir=sys.argv[1], use_ptx=True)
"""


def test_kernels_compile_for_a_gpu_without_one(tmp_path: Path) -> None:
    # In a process of its own, because it changes the module's state.
    subprocess.run([sys.executable, "-c", COMPILE, str(tmp_path)], check=True, capture_output=True, timeout=120)
    assembly = next(tmp_path.glob("*.ptx")).read_text()
    for kernel in ("find_farthest", "lower_nearest", "deposit", "cover", "resolve"):
        assert f".entry {kernel}_" in assembly
    # Sums and minima that several threads may come to.
    assert ".add.u64" in assembly
    assert ".min.s32" in assembly


# ------------------------------------------------------------------------------------------- scenes of known answer


@pytest.mark.parametrize("masking", [False, True])
def test_the_source_s_own_camera_gives_its_reliable_pixels_back(masking: bool) -> None:
    frame = rough_frame(3, pose((5, -2, 7), (1, 2, 3), 0.7))
    seen = warp(cache_of(frame, foreground_masking=masking), frame.c2w)
    sure = reliable(frame)
    assert 0.3 < sure.mean() < 0.99
    np.testing.assert_array_equal(seen.valid, sure)
    np.testing.assert_array_equal(seen.rgb[sure], frame.rgb[sure])
    np.testing.assert_allclose(seen.depth[sure], frame.depth[sure], rtol=1e-4)


@pytest.mark.parametrize(("dx", "dy"), [(5, 0), (-3, 2), (0, -4)])
def test_a_wall_moves_by_whole_pixels(dx: int, dy: int) -> None:
    frame = wall(4.0)
    fx, fy = INTRINSICS[:2]
    seen = warp(cache_of(frame), pose((-dx * 4 / fx, -dy * 4 / fy, 0)))
    expected = np.zeros_like(frame.rgb)
    valid = np.zeros((HEIGHT, WIDTH), bool)
    into = (slice(max(dy, 0), HEIGHT + min(dy, 0)), slice(max(dx, 0), WIDTH + min(dx, 0)))
    out_of = (slice(max(-dy, 0), HEIGHT + min(-dy, 0)), slice(max(-dx, 0), WIDTH + min(-dx, 0)))
    expected[into], valid[into] = frame.rgb[out_of], True
    np.testing.assert_array_equal(seen.valid, valid)
    np.testing.assert_array_equal(seen.rgb, expected)
    np.testing.assert_allclose(seen.depth[valid], 4.0, rtol=1e-6)
    assert_holes_are_empty(seen)


def test_half_a_pixel_gives_the_mean_of_two_neighbours() -> None:
    frame = wall(4.0)
    seen = warp(cache_of(frame), pose((-0.5 * 4 / INTRINSICS[0], 0, 0)))
    mean = (frame.rgb[:, :-1].astype(int) + frame.rgb[:, 1:]) / 2
    assert np.abs(seen.rgb[:, 1:] - mean).max() <= 1
    assert seen.valid.all()
    # Half of the first column's weight comes from outside the picture.
    np.testing.assert_allclose(seen.confidence[:, 0], 0.5 * seen.confidence[:, 1], rtol=0.02)


def test_something_near_hides_what_is_far() -> None:
    depth = np.full((HEIGHT, WIDTH), 8.0)
    rgb = np.full((HEIGHT, WIDTH, 3), (0, 0, 255), np.uint8)
    depth[8:18, 10:24] = 2.0
    rgb[8:18, 10:24] = (255, 0, 0)
    # The near square moves by 8 pixels and the wall by 2.
    seen = warp(cache_of(wall(depth, rgb), foreground_masking=False), pose((8 * 2 / INTRINSICS[0], 0, 0)))
    inner = seen.rgb[10:16, 4:14]
    assert (inner == (255, 0, 0)).all()
    np.testing.assert_allclose(seen.depth[10:16, 4:14], 2.0, rtol=1e-5)
    assert (seen.rgb[4:6, 5:30] == (0, 0, 255)).all()


def test_edges_of_what_is_near_do_not_shine_through() -> None:
    depth = np.full((HEIGHT, WIDTH), 8.0)
    depth[:, :16] = 2.0
    frame = wall(depth)
    camera = pose((-8 * 2 / INTRINSICS[0], 0, 0))
    # The near half now reaches to column 24, but its last two columns, here 22 and 23, are filtered as edges. The wall
    # behind has moved from column 20 to 22: it would be seen through them.
    leaking, masked = (warp(cache_of(frame, foreground_masking=on), camera) for on in (False, True))
    assert leaking.valid[:, 22:24].all()
    assert (leaking.depth[:, 22:24] > 7).all()
    assert not masked.valid[:, 22:24].any()
    assert masked.valid[:, 8:22].all()
    assert masked.valid[:, 26:].all()
    assert_holes_are_empty(masked)


@pytest.mark.parametrize("near_first", [False, True])
def test_a_near_source_is_never_outvoted_by_far_ones(near_first: bool) -> None:
    red, blue = (np.full((HEIGHT, WIDTH, 3), c, np.uint8) for c in ((200, 0, 0), (0, 0, 200)))
    only_left = np.arange(WIDTH)[None] < np.full((HEIGHT, 1), 20)
    near, far = wall(3.0, red, mask=only_left), wall(3.2, blue)
    frames = [near, *[far] * 6] if near_first else [*[far] * 6, near]
    seen = warp(cache_of(*frames))
    assert (seen.rgb[:, :20] == (200, 0, 0)).all()
    assert (seen.rgb[:, 20:] == (0, 0, 200)).all()


@pytest.mark.parametrize("swapped", [False, True])
def test_of_sources_that_agree_the_more_confident_is_shown(swapped: bool) -> None:
    red, blue = (np.full((HEIGHT, WIDTH, 3), c, np.uint8) for c in ((200, 0, 0), (0, 0, 200)))
    # The one is seen from aside, 1 % nearer; the other from where it was taken.
    frames = [wall(4 * 0.99, red, pose((2, 0, 0))), wall(4.0, blue)]
    seen = warp(cache_of(*(frames[::-1] if swapped else frames)))
    assert (seen.rgb == (0, 0, 200)).all()


def test_a_single_source_can_be_asked_for() -> None:
    frames = [rough_frame(k) for k in range(3)]
    cache = cache_of(*frames)
    assert len(cache) == 3
    for number, frame in enumerate(frames):
        assert_same_bytes(warp(cache, source=number), warp(cache_of(frame)))


@pytest.mark.parametrize("invalid", [0.0, -1.0, np.nan, -np.inf])
def test_what_has_no_depth_or_is_masked_never_lands(invalid: float) -> None:
    rgb = np.full((HEIGHT, WIDTH, 3), (0, 200, 0), np.uint8)
    depth = np.full((HEIGHT, WIDTH), 4.0)
    mask = np.ones((HEIGHT, WIDTH), bool)
    depth[5:9, 6:12] = invalid
    mask[15:20, 20:30] = False
    rgb[5:9, 6:12] = rgb[15:20, 20:30] = (255, 0, 255)
    cache = cache_of(wall(depth, rgb, mask=mask))
    for camera in (EYE, pose((0.3, -0.2, 0.9)), pose((0, 0, 0), (0, 0, 1), 0.5), pose((0, 0, -3))):
        seen = warp(cache, camera)
        assert seen.valid.any()
        assert (seen.rgb[seen.valid] == (0, 200, 0)).all()
        assert np.isfinite(seen.depth).all()
    seen = warp(cache)
    assert not seen.valid[5:9, 6:12].any()
    # A masked pixel does not make its neighbours an edge, as a missing depth does.
    np.testing.assert_array_equal(~seen.valid[13:22, 18:32], ~mask[13:22, 18:32])
    assert not seen.valid[3:11, 4:14].any()


def test_far_depths_count_as_the_limit() -> None:
    rgb = noise()
    seen = warp(cache_of(wall(np.inf, rgb), depth_limit=50.0))
    np.testing.assert_array_equal(seen.rgb, rgb)
    np.testing.assert_allclose(seen.depth, 50.0, rtol=1e-6)


def test_points_behind_the_camera_are_not_seen() -> None:
    for camera in (pose((0, 0, 5)), pose((0, 0, 0), (0, 1, 0), np.pi)):
        seen = warp(cache_of(wall(4.0)), camera)
        assert not seen.valid.any()
        assert_holes_are_empty(seen)


@pytest.mark.parametrize("masking", [False, True])
def test_a_camera_between_what_is_near_and_what_is_far(masking: bool) -> None:
    depth = np.full((HEIGHT, WIDTH), 6.0)
    rgb = np.full((HEIGHT, WIDTH, 3), (0, 0, 200), np.uint8)
    depth[:, :12] = 1.0
    rgb[:, :12] = (200, 0, 0)
    frame = wall(depth, rgb)
    # Through the camera's centre, what is behind it would fall into the picture, too.
    camera = pose((-0.4, 0, 1.5))
    seen = warp(cache_of(frame, foreground_masking=masking), camera)
    assert (seen.rgb[seen.valid] == (0, 0, 200)).all()
    assert_agree(seen, warp_reference([frame], camera, INTRINSICS, HEIGHT, WIDTH, foreground_masking=masking))
    camera = pose((-2, 0, 2))
    seen = warp(cache_of(frame, foreground_masking=masking), camera)
    assert (seen.rgb[seen.valid] == (0, 0, 200)).all()
    assert_agree(seen, warp_reference([frame], camera, INTRINSICS, HEIGHT, WIDTH, foreground_masking=masking))
    # The sheet between the two runs past the camera, and stands before all of the wall.
    assert seen.valid.any() != masking


def test_another_size_sees_the_same_scene() -> None:
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgb = np.stack([5 * column, 9 * row, 2 * column + 3 * row], -1).astype(np.uint8)
    small = cache_of(wall(4.0, rgb)).warp(EYE, INTRINSICS / 2, HEIGHT // 2, WIDTH // 2)
    means = rgb.astype(float).reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean((1, 3))
    assert small.valid.all()
    assert np.abs(small.rgb - means)[1:-1, 1:-1].max() <= 1
    large = cache_of(wall(4.0, rgb)).warp(EYE, INTRINSICS * 1.5, HEIGHT * 3 // 2, WIDTH * 3 // 2)
    assert large.valid[1:-1, 1:-1].all()
    assert large.rgb.shape == (36, 60, 3)


@pytest.mark.parametrize("in_any_order", [False, True])
def test_a_whole_picture_on_one_pixel_does_not_overflow(in_any_order: bool) -> None:
    rgb = np.full((704, 1280, 3), 255, np.uint8)
    lens = np.array([900.0, 900.0, 640.0, 352.0])
    frame = SourceFrame(rgb, np.full((704, 1280), 4.0, np.float32), EYE, lens)
    cache = cache_of(frame, in_any_order=in_any_order)
    seen = cache.warp(pose((0, 0, -4000)), [8.0, 8.0, 1.5, 1.5], 3, 3)
    assert seen.valid[1, 1]
    # A million additions of float32 lose 1 %; integers lose nothing.
    np.testing.assert_allclose(seen.rgb[1, 1], 255, atol=0 if in_any_order else 3)
    np.testing.assert_allclose(seen.depth[1, 1], 4004, rtol=1e-4 if in_any_order else 0.01)


# ------------------------------------------------------------------------------------------------------- confidence


def test_confidence_is_full_in_the_open_and_falls_towards_edges() -> None:
    depth = np.full((HEIGHT, WIDTH), 4.0)
    depth[:, 30:] = 8.0
    seen = warp(cache_of(wall(depth)))
    # Columns 28 to 31 are the edge; d counts from there.
    expected = np.minimum((28 - np.arange(28)) / 8, 1)
    np.testing.assert_allclose(seen.confidence[:, :28], np.broadcast_to(expected, (HEIGHT, 28)), atol=0.004)


def test_confidence_falls_with_the_angle_between_the_views() -> None:
    shift = 20 * 4 / INTRINSICS[0]
    seen = warp(cache_of(wall(4.0)), pose((shift, 0, 0)))
    row, column = 11, 10
    point = (
        np.array([(column + 20.5 - INTRINSICS[2]) / INTRINSICS[0], (row + 0.5 - INTRINSICS[3]) / INTRINSICS[1], 1]) * 4
    )
    other = point - [shift, 0, 0]
    cosine = point @ other / np.linalg.norm(point) / np.linalg.norm(other)
    assert cosine < 0.95
    assert seen.confidence[row, column] == pytest.approx(cosine, abs=0.005)


def test_confidence_is_the_number_of_samples_where_a_surface_is_stretched() -> None:
    # From two thirds of the distance there is a sample every 1.5 pixels each way, and the angles are small.
    seen = warp(cache_of(wall(4.0)), pose((0, 0, 4 / 3)))
    middle = np.s_[6:18, 14:26]
    assert seen.valid[middle].all()
    assert seen.confidence[middle].mean() == pytest.approx(1 / 1.5**2, rel=0.05)


# ------------------------------------------------------------------------------------------------------ whole scenes


def test_warps_agree_with_the_ray_caster() -> None:
    height, width = 176, 320
    scene = build_scene("a cosy living room in the morning", seed=1, height=height, width=width)
    caster = RayCaster(scene)

    def render(c2w: np.ndarray) -> SourceFrame:
        frame = caster.render(c2w, scene.intrinsics, height, width, samples_per_pixel=1, seed=0)
        return SourceFrame(frame.rgb, frame.depth, c2w, scene.intrinsics)

    first, truth = render(EYE), render(pose((0.25, -0.05, 0.2), (0, 1, 0), -0.06))
    wrong = {}
    for masking in (False, True):
        cache = cache_of(first, foreground_masking=masking)
        seen = cache.warp(truth.c2w, scene.intrinsics, height, width)
        valid = seen.valid & (truth.depth > 0)
        assert valid.mean() > 0.6
        relative = np.abs(seen.depth - truth.depth)[valid] / truth.depth[valid]
        assert np.median(relative) < 1e-3
        assert np.median(np.abs(seen.rgb.astype(int) - truth.rgb).max(-1)[valid]) <= 3
        wrong[masking] = (relative > 0.05).mean()
        sure = seen.confidence[valid] > 0.9
        assert (relative[sure] > 0.01).mean() < (relative > 0.01).mean()
    assert (relative < 0.01).mean() > 0.98
    assert wrong[True] < 0.5 * wrong[False]
    # A second source fills holes of the first.
    cache.add(render(pose((0.4, 0, 0), (0, 1, 0), -0.1)))
    both = cache.warp(truth.c2w, scene.intrinsics, height, width)
    assert (both.valid | ~seen.valid).mean() > 0.999
    assert both.valid.mean() > seen.valid.mean() + 0.02
    valid = both.valid & (truth.depth > 0)
    assert (np.abs(both.depth - truth.depth)[valid] / truth.depth[valid] < 0.01).mean() > 0.98


@pytest.mark.parametrize("in_any_order", [False, True])
def test_results_repeat_whatever_was_warped_between_and_in_parallel(in_any_order: bool) -> None:
    def fresh() -> SceneCache:
        return cache_of(rough_frame(1), rough_frame(2, pose((0.3, 0, 0))), in_any_order=in_any_order)

    cache = fresh()
    cameras = [pose((0.05 * k, 0.02 * k, -0.03 * k), (1, k, 0), 0.02 * k) for k in range(12)]
    first = [warp(cache, camera) for camera in cameras]
    with ThreadPoolExecutor(4) as threads:
        for one, again in zip(first, threads.map(lambda camera: warp(cache, camera), cameras), strict=True):
            assert_same_bytes(one, again)
    for one, camera in zip(first, cameras, strict=True):
        assert_same_bytes(one, warp(fresh(), camera))


# ------------------------------------------------------------------------------------------------ keeping and asking


def test_the_oldest_is_dropped_and_numbers_stay() -> None:
    frames = [rough_frame(k) for k in range(4)]
    cache = cache_of(*frames, maximum_frames=2)
    assert cache.sources == (2, 3)
    assert_same_bytes(warp(cache), warp(cache_of(*frames[2:])))
    assert_same_bytes(warp(cache, source=3), warp(cache_of(frames[3])))
    with pytest.raises(InputError, match="source 1, where those held are: 2, 3"):
        warp(cache, source=1)


def test_frames_are_copied() -> None:
    frame = rough_frame(5)
    cache = cache_of(frame)
    before = warp(cache)
    frame.rgb[:] = 0
    frame.depth[:] = 0
    assert_same_bytes(warp(cache), before)


def test_a_saved_cache_is_the_same_again(tmp_path: Path) -> None:
    cache = cache_of(
        *(rough_frame(k, pose((0.1 * k, 0, 0))) for k in range(5)),
        maximum_frames=3,
        edge_threshold=0.1,
        foreground_masking=False,
        depth_limit=6.0,
    )
    cache.save(tmp_path / "cache.npz")
    loaded = SceneCache.load(tmp_path / "cache.npz")
    assert loaded.sources == (2, 3, 4)
    camera = pose((0.2, 0.1, 0), (1, 1, 1), 0.1)
    assert_same_bytes(warp(loaded, camera), warp(cache, camera))
    loaded.save(str(tmp_path / "again.npz"))
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "cache.npz").read_bytes()
    for one in (cache, loaded):
        one.add(rough_frame(9))
        assert one.sources == (3, 4, 5)
    assert_same_bytes(warp(loaded, camera), warp(cache, camera))
    # An empty cache keeps its settings, and its file needs no pickle.
    SceneCache(edge_threshold=0.3).save(tmp_path / "empty.npz")
    assert SceneCache.load(tmp_path / "empty.npz").sources == ()
    with np.load(tmp_path / "cache.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["rgb_2"], noise(seed=2))


def test_a_file_that_holds_no_cache_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache.npz"
    cache_of(rough_frame(1)).save(path)
    whole = path.read_bytes()
    for content in (b"", b"not a zip", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"cache\.npz"):
            SceneCache.load(path)
    np.savez(path, depth=np.zeros(3))
    with pytest.raises(CorruptFileError, match="edge_threshold"):
        SceneCache.load(path)
    with pytest.raises(FileNotFoundError):
        SceneCache.load(tmp_path / "absent.npz")


GOOD = wall()


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, rgb=GOOD.rgb.astype(np.float32)),
        replace(GOOD, rgb=GOOD.rgb[:-1]),
        replace(GOOD, depth=GOOD.depth.astype(np.float64)),
        replace(GOOD, depth=GOOD.depth[None]),
        replace(GOOD, mask=np.ones((HEIGHT, WIDTH), np.uint8)),
        replace(GOOD, mask=np.ones((HEIGHT, WIDTH - 1), bool)),
        replace(GOOD, c2w=np.diag([2.0, 2, 2, 1])),
        replace(GOOD, intrinsics=np.array([0.0, 1, 1, 1])),
    ],
)
def test_a_frame_that_is_none_is_refused(bad: SourceFrame) -> None:
    cache = SceneCache()
    with pytest.raises(ContractError, match="source frame"):
        cache.add(bad)
    assert len(cache) == 0


def test_what_cannot_be_asked_for_is_refused() -> None:
    cache = SceneCache()
    with pytest.raises(InputError, match="empty cache"):
        warp(cache)
    cache.add(GOOD)
    with pytest.raises(ContractError, match="target camera"):
        cache.warp(2 * EYE, INTRINSICS, HEIGHT, WIDTH)
    with pytest.raises(InputError, match="40 × 0"):
        cache.warp(EYE, INTRINSICS, 0, WIDTH)
    with pytest.raises(InputError, match="edge_threshold=0"):
        SceneCache(edge_threshold=0.0)
    with pytest.raises(InputError, match="depth_limit=inf"):
        SceneCache(depth_limit=np.inf)
    with pytest.raises(InputError, match="maximum_frames=0"):
        SceneCache(maximum_frames=0)
    with pytest.raises(EngineError, match="cuda:99"):
        SceneCache(device="cuda:99")

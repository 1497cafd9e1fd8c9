"""Depth of generated clips: estimates in units of their own come out in the scaffold's, along the commanded cameras."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from sceneloom.datasets.errors import EngineError
from sceneloom.ops.raycast import RayCaster
from sceneloom.resources.depth_scaffolds import FARTHEST_DEPTH
from sceneloom.resources.engines import Camera, EngineContract, Scaffold, View
from sceneloom.resources.frame_depth import FrameDepth

from . import moving_room
from .scenes import room_scene

HEIGHT, WIDTH, FRAMES = 72, 120, 12


class _EstimatorOfTheTruth:
    """Knows the depth of every frame, but gives each in a unit of its own; the frames are numbered in their red."""

    contract = EngineContract("truth", "library", frozenset({"view"}), frozenset({"depth"}), "MIT")

    def __init__(self, depths: np.ndarray, *, metric: bool, blind: tuple[int, ...] = ()) -> None:
        self.depths = depths
        self.metric = metric
        self.blind = blind

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        number = int(view.picture[0, 0, 0])
        draws = np.random.default_rng(number)
        depth = self.depths[number] * draws.uniform(0.5, 2.0)
        if not self.metric:
            depth = 1 / (draws.uniform(0.1, 0.3) + 1 / depth)
        depth[:, : WIDTH // 8] *= 3.0  # what an estimator gets wrong must not move the rest
        if number in self.blind:
            depth = np.zeros_like(depth)
        return Scaffold(depth.astype(np.float32), view.intrinsics, self.metric, None, {"model": {"id": "truth"}})


def turned(radians: float) -> np.ndarray:
    """A pose turned to the right."""
    pose = np.eye(4)
    pose[0, 0], pose[0, 2], pose[2, 0], pose[2, 2] = np.cos(radians), np.sin(radians), -np.sin(radians), np.cos(radians)
    return pose


class Clip:
    """A camera that moves sideways and turns through a room, with the depth that it sees."""

    def __init__(self, *, backwards: bool = False) -> None:
        room = room_scene(height=HEIGHT, width=WIDTH)
        aside = room.scene_from_camera @ turned(0.5)
        room = dataclasses.replace(room, scene_from_camera=aside)  # no wall is parallel to the picture
        self.caster = RayCaster(room)
        self.intrinsics = np.asarray(room.intrinsics)
        c2w = np.tile(np.eye(4), (FRAMES, 1, 1))
        for pose, turn in zip(c2w, np.linspace(0, 0.9, FRAMES), strict=True):
            pose[:] = turned(turn)
        c2w[:, 0, 3] = np.linspace(0, 0.5, FRAMES)
        self.view_depth = self.caster.geometry(np.eye(4), self.intrinsics, HEIGHT, WIDTH).depth
        if backwards:
            c2w = c2w[::-1]
        self.cameras = [Camera(pose, self.intrinsics, HEIGHT, WIDTH) for pose in c2w]
        self.depth = np.stack([self.caster.geometry(pose, self.intrinsics, HEIGHT, WIDTH).depth for pose in c2w])
        self.view = View(np.zeros((HEIGHT, WIDTH, 3), np.uint8), self.intrinsics, None, {})
        self.scaffold = Scaffold(self.view_depth, self.intrinsics, True, None, {})

    def frames(self) -> Iterator[np.ndarray]:
        for number in range(FRAMES):
            yield np.full((HEIGHT, WIDTH, 3), number, np.uint8)


@pytest.mark.parametrize("metric", [True, False])
@pytest.mark.parametrize("backwards", [False, True])
def test_depth_comes_out_in_the_scaffolds_unit(metric: bool, backwards: bool) -> None:
    clip = Clip(backwards=backwards)
    engine = FrameDepth(_EstimatorOfTheTruth(clip.depth, metric=metric))
    found = engine.open_scene(clip.scaffold, clip.view).estimate(clip.cameras, clip.frames)
    depth = np.stack(list(found.depth))
    assert depth.shape == (FRAMES, HEIGHT, WIDTH)
    assert depth.dtype == np.float32
    right = depth[:, :, WIDTH // 8 :]
    error = np.abs(right / clip.depth[:, :, WIDTH // 8 :] - 1)
    assert np.median(error) < 0.01
    assert np.median(error, axis=(1, 2)).max() < 0.03
    # Turned by 50 degrees of a field of view of 64 the last frame shares little with the view: it hangs on keyframes.
    assert found.notes["frames_with_the_alignment_before"] == 0
    assert found.notes["frames_aligned_by_scale_alone"] == (FRAMES if metric else 0)
    assert found.notes["residual_worst"] < 0.05


def test_cameras_are_the_commanded_ones_and_it_says_so() -> None:
    clip = Clip()
    engine = FrameDepth(_EstimatorOfTheTruth(clip.depth, metric=True))
    found = engine.open_scene(clip.scaffold, clip.view).estimate(clip.cameras, clip.frames)
    np.testing.assert_allclose(found.c2w, [camera.c2w for camera in clip.cameras], atol=1e-6)
    assert found.c2w.dtype == found.intrinsics.dtype == np.float32
    assert found.metric
    assert (found.notes["estimated_poses"], found.notes["estimated_depth"]) == (False, True)
    assert engine.contract.name == engine.identity.name == "truth"


def test_a_frame_without_depth_takes_the_unit_of_the_frame_before() -> None:
    clip = Clip()
    engine = FrameDepth(_EstimatorOfTheTruth(clip.depth, metric=True, blind=(5,)))
    found = engine.open_scene(clip.scaffold, clip.view).estimate(clip.cameras, clip.frames)
    depth = list(found.depth)
    assert not depth[5].any()
    assert found.notes["frames_with_the_alignment_before"] == 1


def test_a_first_frame_without_depth_is_refused() -> None:
    clip = Clip()
    engine = FrameDepth(_EstimatorOfTheTruth(clip.depth, metric=True, blind=(0,)))
    found = engine.open_scene(clip.scaffold, clip.view).estimate(clip.cameras, clip.frames)
    with pytest.raises(EngineError, match="cannot be brought onto what is known"):
        next(found.depth)


@pytest.mark.parametrize(("cameras", "told"), [(FRAMES + 1, "12 frames for 13"), (FRAMES - 1, "more frames for 11")])
def test_frames_that_do_not_fit_the_cameras_are_refused(cameras: int, told: str) -> None:
    clip = Clip()
    path = (clip.cameras * 2)[:cameras]
    engine = FrameDepth(_EstimatorOfTheTruth(clip.depth, metric=True))
    found = engine.open_scene(clip.scaffold, clip.view).estimate(path, clip.frames)
    with pytest.raises(EngineError, match=told):
        list(found.depth)


class _RunsAgainst(_EstimatorOfTheTruth):
    """Takes near for far."""

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        found = super().build_scaffold(view, seed=seed)
        number = int(view.picture[0, 0, 0])
        return dataclasses.replace(found, depth=(20.0 - self.depths[number]).astype(np.float32))


def test_an_estimate_that_runs_against_what_is_known_is_refused() -> None:
    clip = Clip()
    engine = FrameDepth(_RunsAgainst(clip.depth, metric=False))
    found = engine.open_scene(clip.scaffold, clip.view).estimate(clip.cameras, clip.frames)
    with pytest.raises(EngineError, match=r"cannot be brought onto what is known: .*run against each other"):
        next(found.depth)


@pytest.mark.parametrize("metric", [True, False])
@pytest.mark.parametrize("unit", [1.0, 300.0])
def test_the_unit_of_the_scaffold_does_not_matter(unit: float, metric: bool) -> None:
    # In the larger unit the room goes on beyond the hundred at which a cache cuts depth off by itself.
    clip = Clip()
    engine = FrameDepth(_EstimatorOfTheTruth(clip.depth, metric=metric))
    cameras = []
    for camera in clip.cameras:
        c2w = np.array(camera.c2w)
        c2w[:3, 3] *= unit
        cameras.append(dataclasses.replace(camera, c2w=c2w))
    scaffold = dataclasses.replace(clip.scaffold, depth=(unit * clip.view_depth).astype(np.float32))
    found = engine.open_scene(scaffold, clip.view).estimate(cameras, clip.frames)
    error = np.abs(np.stack(list(found.depth)) / (unit * clip.depth) - 1)[:, :, WIDTH // 8 :]
    assert np.median(error, axis=(1, 2)).max() < 0.03


def test_a_sky_at_the_farthest_depth_tells_nothing_of_the_unit() -> None:
    clip = Clip()
    sky = np.zeros((HEIGHT, WIDTH), bool)
    sky[: 2 * HEIGHT // 3] = True

    class OfThreeHalves(_EstimatorOfTheTruth):
        """Wrong by half, but for the sky, which is as far as depth goes."""

        def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
            number = int(view.picture[0, 0, 0])
            depth = np.where(sky, FARTHEST_DEPTH, 1.5 * self.depths[number]).astype(np.float32)
            return Scaffold(depth, view.intrinsics, True, None, {})

    scaffold = dataclasses.replace(clip.scaffold, depth=np.where(sky, np.float32(FARTHEST_DEPTH), clip.view_depth))
    found = FrameDepth(OfThreeHalves(clip.depth, metric=True)).open_scene(scaffold, clip.view)
    depth = next(found.estimate(clip.cameras, clip.frames).depth)
    np.testing.assert_allclose(depth[~sky], clip.depth[0][~sky], rtol=0.02)


def test_a_scaffold_without_any_depth_is_refused() -> None:
    clip = Clip()
    scaffold = dataclasses.replace(clip.scaffold, depth=np.zeros_like(clip.view_depth))
    opened = FrameDepth(_EstimatorOfTheTruth(clip.depth, metric=True)).open_scene(scaffold, clip.view)
    with pytest.raises(EngineError, match="cannot be brought onto what is known"):
        next(opened.estimate(clip.cameras, clip.frames).depth)


def test_what_lies_beyond_the_scaffold_is_not_known_to_lie_at_its_end() -> None:
    clip = Clip()
    near = dataclasses.replace(clip.scaffold, depth=np.full_like(clip.view_depth, 2.0))
    opened = FrameDepth(_EstimatorOfTheTruth(clip.depth, metric=True)).open_scene(near, clip.view)
    aside = dataclasses.replace(clip.cameras[0], c2w=turned(1.5))
    depth = np.full((HEIGHT, WIDTH), 1.0, np.float32)
    depth[:, WIDTH // 2 :] = 9.0
    keyframe = opened._keyframe(clip.view.picture, depth, depth, aside)
    known = opened._known(aside, keyframe)
    assert (known[:, : WIDTH // 2 - 3] > 0).mean() > 0.9
    np.testing.assert_allclose(known[known > 0], 1.0, rtol=1e-5)


# --- scenes that move ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backwards", [False, True])
def test_in_a_scene_that_moves_every_frame_is_compared_with_its_own_time(backwards: bool) -> None:
    view, scaffold = moving_room.truth()
    poses = [moving_room.shifted(0.08 * index) for index in range(moving_room.FRAMES)]
    cameras = [moving_room.camera(pose) for pose in (poses[::-1] if backwards else poses)]
    truths = [moving_room.room().see(index, np.asarray(each.c2w)) for index, each in enumerate(cameras)]
    frames = [np.full((moving_room.HEIGHT, moving_room.WIDTH, 3), index, np.uint8) for index in range(len(cameras))]
    depths = np.stack([depth for _, depth, _ in truths])

    class Estimator(_EstimatorOfTheTruth):
        def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
            asked.append(int(view.picture[0, 0, 0]))
            return super().build_scaffold(view, seed=seed)

    asked: list[int] = []
    found = (
        FrameDepth(Estimator(depths, metric=True)).open_scene(scaffold, view).estimate(cameras, lambda: iter(frames))
    )
    depth = np.stack(list(found.depth))
    # From the frame at the input's camera on, whichever way the path runs.
    assert asked == (list(range(5))[::-1] if backwards else list(range(5)))
    error = np.abs(depth / depths - 1)[:, :, WIDTH // 8 + 10 :]
    assert np.median(error, axis=(1, 2)).max() < 0.01
    assert found.moving is not None
    assert found.moving.poses is None
    for index, (_, _, box) in enumerate(truths):
        assert found.moving.pixels[index][box].mean() > 0.85
        assert found.moving.pixels[index].sum() < 2 * box.sum()


def test_a_path_of_another_length_than_the_video_is_refused() -> None:
    view, scaffold = moving_room.truth()
    cameras = [moving_room.camera(np.eye(4))] * 3
    found = FrameDepth(_EstimatorOfTheTruth(np.ones((3, 96, 160)), metric=True)).open_scene(scaffold, view)
    with pytest.raises(EngineError, match="3 cameras for an input clip of 5 frames"):
        list(found.estimate(cameras, lambda: iter(())).depth)

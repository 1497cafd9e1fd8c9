"""Depth of every frame of a clip: jumping scales come out as one, and what stands still keeps one depth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sceneloom.datasets.errors import EngineError, InputError
from sceneloom.resources.clip_scaffold import ClipScaffold
from sceneloom.resources.embedded_engines import TourIntoPictureScaffold
from sceneloom.resources.engines import EngineContract, EngineIdentity, InputClip, Scaffold, View

from .moving_room import FRAMES, HEIGHT, WIDTH, room, shifted, truth


class _Jumping:
    """Knows the depth of every frame, but sees each in a scale of its own, and with noise."""

    contract = EngineContract("jumping", "library", frozenset({"view"}), frozenset({"depth"}), "MIT")
    identity = EngineIdentity("jumping", "MIT", {"model": "1234"})

    def __init__(self, frames: np.ndarray, depth: np.ndarray, *, metric: bool = True, noise: float = 0.01) -> None:
        self.depth_of = {frame.tobytes(): (index, depth[index]) for index, frame in enumerate(frames)}
        self.metric, self.noise = metric, noise
        self.asked: list[View] = []

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        self.asked.append(view)
        index, depth = self.depth_of[view.picture.tobytes()]
        draws = np.random.default_rng(index)
        depth = depth * draws.normal(1.0, self.noise, depth.shape) * (1.0 if index == 0 else draws.uniform(0.5, 2.0))
        if not self.metric and index:
            depth = 1 / (0.15 + 1 / depth)
        return Scaffold(depth.astype(np.float32), view.intrinsics, self.metric, None, {"model": {"id": "jumping"}})


def clip_and_depth() -> tuple[View, np.ndarray]:
    view, scaffold = truth()
    assert scaffold.clip is not None
    return view, scaffold.clip.depth.astype(np.float32)


@pytest.mark.parametrize("metric", [True, False])
def test_every_frame_comes_out_in_the_first_ones_unit(metric: bool) -> None:
    view, depth = clip_and_depth()
    assert view.clip is not None
    estimator = _Jumping(view.clip.frames, depth, metric=metric)
    found = ClipScaffold(estimator).build_scaffold(view, seed=0)
    assert found.clip is not None
    assert found.clip.depth.shape == (FRAMES, HEIGHT, WIDTH)
    assert found.clip.depth.dtype == np.float16
    assert found.metric == metric
    errors = np.abs(found.clip.depth.astype(np.float32) / depth - 1)
    assert np.median(errors, axis=(1, 2)).max() < 0.015
    np.testing.assert_array_equal(found.depth.astype(np.float16), found.clip.depth[0])
    assert found.notes["clip"]["cameras"] == "assumed_static"
    assert found.notes["clip"]["scale_largest"] > 1.3 * found.notes["clip"]["scale_smallest"]
    assert found.notes["model"] == {"id": "jumping"}
    assert all(asked.clip is None for asked in estimator.asked)


def test_what_stands_still_keeps_one_depth_and_what_moves_its_own() -> None:
    view, depth = clip_and_depth()
    assert view.clip is not None
    found = ClipScaffold(_Jumping(view.clip.frames, depth)).build_scaffold(view, seed=0)
    assert found.clip is not None
    assert found.clip.moving is not None
    box = np.stack([room().see(frame, np.eye(4))[2] for frame in range(FRAMES)])
    # Of five frames the box covers most places twice at most: the median shows what is behind it.
    rare = (box.sum(axis=0) <= 2)[None] & box
    assert found.clip.moving[rare].mean() > 0.9
    never = ~box.any(axis=0)
    still = found.clip.depth[:, never]
    assert (still == still[0]).all(axis=0).mean() > 0.95
    assert found.notes["clip"]["depth_held_share"] > 0.7
    # Held or not, nothing is off by more than estimates are.
    assert (np.abs(found.clip.depth.astype(np.float32) / depth - 1) < 0.06).mean() > 0.98


def test_the_background_behind_what_moves_is_found() -> None:
    view, depth = clip_and_depth()
    assert view.clip is not None
    found = ClipScaffold(_Jumping(view.clip.frames, depth)).build_scaffold(view, seed=0)
    assert found.clip is not None
    background = found.clip.background
    assert background is not None
    box = np.stack([room().see(frame, np.eye(4))[2] for frame in range(FRAMES)])
    sometimes = (box.any(axis=0)) & (box.sum(axis=0) <= 2) & (background.depth > 0)
    assert sometimes.sum() > 200
    behind = depth.max(axis=0)
    assert (np.abs(background.depth / behind - 1) < 0.06)[sometimes].mean() > 0.9
    _, scaffold = truth()
    assert scaffold.clip is not None
    assert scaffold.clip.background is not None
    difference = np.abs(background.rgb.astype(int) - scaffold.clip.background.rgb).max(axis=2)
    assert (difference < 16)[sometimes].mean() > 0.9


def test_frames_of_a_camera_that_moves_are_aligned_along_it() -> None:
    poses = [shifted(0.06 * frame) for frame in range(FRAMES)]
    seen = [room().see(frame, pose) for frame, pose in enumerate(poses)]
    frames, depth = np.stack([each[0] for each in seen]), np.stack([each[1] for each in seen])
    clip = InputClip(frames, np.stack(poses).astype(np.float32), "vipe")
    found = ClipScaffold(_Jumping(frames, depth)).build_scaffold(View(frames[0], room().lens, None, {}, clip), seed=0)
    assert found.clip is not None
    assert found.clip.moving is None
    assert found.clip.background is None
    assert found.notes["clip"]["cameras"] == "vipe"
    errors = np.abs(found.clip.depth.astype(np.float32) / depth - 1)
    assert np.median(errors, axis=(1, 2)).max() < 0.03


def test_a_box_is_the_stage_of_all_frames() -> None:
    view, _ = truth()
    found = ClipScaffold(TourIntoPictureScaffold(60), of_every_frame=False).build_scaffold(view, seed=0)
    assert found.clip is not None
    assert found.geometry is not None
    assert (found.clip.depth == found.clip.depth[:1]).all()
    assert found.clip.moving is not None
    assert found.clip.moving.any()
    assert found.clip.background is not None
    assert found.notes["clip"]["frames"] == "the first frame's depth for all"


def test_drifting_exposure_does_not_make_everything_move() -> None:
    view, depth = clip_and_depth()
    assert view.clip is not None
    drift = np.linspace(-40, 40, FRAMES).round().astype(int)[:, None, None, None]
    frames = (view.clip.frames.astype(int) + drift).clip(0, 255).astype(np.uint8)
    drifting = dataclasses.replace(view, picture=frames[0], clip=dataclasses.replace(view.clip, frames=frames))
    steady = ClipScaffold(_Jumping(view.clip.frames, depth)).build_scaffold(view, seed=0)
    found = ClipScaffold(_Jumping(frames, depth)).build_scaffold(drifting, seed=0)
    assert found.notes["clip"]["moving_share"] < steady.notes["clip"]["moving_share"] + 0.1


def test_a_first_frame_unlike_the_others_is_refused() -> None:
    view, depth = clip_and_depth()
    assert view.clip is not None
    frames = view.clip.frames.copy()
    stripes = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stripes[:, (np.arange(WIDTH) // 8) % 2 == 0] = 255
    frames[0] = stripes
    other = dataclasses.replace(view, picture=frames[0], clip=dataclasses.replace(view.clip, frames=frames))
    with pytest.raises(InputError, match="of the first frame differs from what the clip shows most of the time"):
        ClipScaffold(_Jumping(frames, depth)).build_scaffold(other, seed=0)


def test_what_the_engine_says_of_itself() -> None:
    view, depth = clip_and_depth()
    assert view.clip is not None
    engine = ClipScaffold(_Jumping(view.clip.frames, depth))
    assert engine.identity == EngineIdentity("jumping", "MIT", {"model": "1234"})
    assert (engine.contract.name, engine.contract.needs) == ("jumping", {"view", "frames"})
    with pytest.raises(InputError, match="not the first frame of a clip"):
        engine.build_scaffold(dataclasses.replace(view, clip=None), seed=0)


class _WithSky(_Jumping):
    """Sees later frames ten times too small, but the sky always at its farthest."""

    def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
        index, depth = self.depth_of[view.picture.tobytes()]
        seen = (depth * (0.1 if index else 1.0)).astype(np.float32)
        seen[:10] = 1e4
        return Scaffold(seen, view.intrinsics, True, None, {})


def test_depth_that_float16_cannot_hold_ends_at_its_largest() -> None:
    view, depth = clip_and_depth()
    assert view.clip is not None
    found = ClipScaffold(_WithSky(view.clip.frames, depth)).build_scaffold(view, seed=0)
    assert found.clip is not None
    assert np.isfinite(found.clip.depth).all()
    assert found.clip.depth.max() == np.finfo(np.float16).max


def test_a_frame_without_depth_takes_the_scale_of_the_one_before() -> None:
    class Blind(_Jumping):
        def build_scaffold(self, view: View, *, seed: int) -> Scaffold:
            found = super().build_scaffold(view, seed=seed)
            blind = self.depth_of[view.picture.tobytes()][0] == self.frame
            return dataclasses.replace(found, depth=np.zeros_like(found.depth)) if blind else found

        frame = 3

    view, depth = clip_and_depth()
    assert view.clip is not None
    found = ClipScaffold(Blind(view.clip.frames, depth)).build_scaffold(view, seed=0)
    assert found.notes["clip"]["frames_with_the_alignment_before"] == 1
    Blind.frame = 1
    with pytest.raises(EngineError, match="frame 1 cannot be brought onto the first"):
        ClipScaffold(Blind(view.clip.frames, depth)).build_scaffold(view, seed=0)

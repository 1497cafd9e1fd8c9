"""Scaffolds of input clips by ViPE: the way of a camera that moves, against the truth of a ray-cast room."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sceneloom.datasets.errors import EngineError, InputError
from sceneloom.ops.cameras import rotation_from_vector
from sceneloom.resources.clip_cache import ClipCache
from sceneloom.resources.engines import Camera, ClipGeometry, InputClip, Scaffold, View
from sceneloom.resources.vipe_engine import VipeDepthAndPoses
from sceneloom.resources.vipe_scaffold import VipeClipScaffold, from_first, movable_pixels

from .moving_room import FRAMES, HEIGHT, WIDTH, room, shifted, truth
from .vipe_clips import vipe_settings

UNIT = 0.8
"""ViPE's stand-in tells lengths in a unit of its own."""


def walk() -> list[NDArray[np.float64]]:
    """Poses of a camera that walks to the right and turns to the left, the first the world."""
    poses = [shifted(0.06 * frame, 0.03 * frame) for frame in range(FRAMES)]
    for frame, pose in enumerate(poses):
        pose[:3, :3] = rotation_from_vector(np.array([0.0, -0.02 * frame, 0.0]))
    return poses


def walked() -> tuple[View, NDArray[np.float32]]:
    """The view of a clip whose camera walks, before anybody knows how, and its depth."""
    seen = [room().see(frame, pose) for frame, pose in enumerate(walk())]
    frames, depth = np.stack([each[0] for each in seen]), np.stack([each[1] for each in seen])
    unknown = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    clip = InputClip(frames, unknown, "not_yet_estimated")
    return View(frames[0], room().lens * 0.9, None, {}, clip), depth


@pytest.fixture
def scaffold_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VipeClipScaffold]:
    """The engine on the stand-in, which finds what is in the file that `tell` writes."""
    (tmp_path / "truth").mkdir()
    monkeypatch.setenv("VIPE_STAND_IN_TRUTH", str(tmp_path / "truth"))
    engine = VipeClipScaffold(VipeDepthAndPoses(vipe_settings(tmp_path / "scratch")))
    yield engine
    engine.close()


def tell(folder: Path, poses: list[NDArray[np.float64]], depth: NDArray[np.float32]) -> None:
    lenses = np.tile(room().lens, (FRAMES, 1))
    np.savez(folder / "truth" / "frames.npz", c2w=np.stack(poses), intrinsics=lenses, depth=depth)


def test_every_frames_cache_lies_at_its_estimated_pose(scaffold_engine: VipeClipScaffold, tmp_path: Path) -> None:
    view, depth = walked()
    # Nothing hangs on the world that the poses are told in.
    tell(tmp_path, [shifted(3.0, -1.0) @ pose for pose in walk()], depth)
    found = scaffold_engine.build_scaffold(view, seed=0)
    clip = found.clip
    assert clip is not None
    assert clip.c2w is not None
    expected = np.stack(walk())
    expected[:, :3, 3] *= UNIT
    np.testing.assert_allclose(clip.c2w, expected, atol=1e-5)
    np.testing.assert_array_equal(clip.c2w[0], np.eye(4))
    np.testing.assert_allclose(found.intrinsics, room().lens, rtol=1e-6)
    np.testing.assert_allclose(clip.depth, depth * UNIT, rtol=2e-3)
    np.testing.assert_array_equal(found.depth.astype(np.float16), clip.depth[0])
    assert found.metric
    assert clip.background is None

    assert view.clip is not None
    known = dataclasses.replace(view, clip=dataclasses.replace(view.clip, c2w=clip.c2w, cameras_from="vipe"))
    cache = ClipCache(found, known, device="cpu")
    beside = shifted(0.1) @ walk()[-1]
    told = beside.copy()
    told[:3, 3] *= UNIT
    warped = cache.warp(FRAMES - 1, Camera(told, room().lens, HEIGHT, WIDTH))
    _, seen, _ = room().see(FRAMES - 1, beside)
    error = np.abs(warped.depth / (seen * UNIT) - 1)[warped.valid]
    assert warped.valid.mean() > 0.5
    assert np.median(error) < 0.01
    assert cache.sees_as_input(FRAMES - 1, Camera(clip.c2w[-1], room().lens, HEIGHT, WIDTH))


def test_instances_are_offered_for_what_moves_and_marked_so(scaffold_engine: VipeClipScaffold, tmp_path: Path) -> None:
    view, depth = walked()
    tell(tmp_path, walk(), depth)
    found = scaffold_engine.build_scaffold(view, seed=0)
    assert found.clip is not None
    assert found.clip.moving_from == "instances"
    expected = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    expected[:, -HEIGHT // 4 :, : WIDTH // 2] = True  # the stand-in's car; its sky is none
    np.testing.assert_array_equal(found.clip.moving, expected)
    notes = found.notes["clip"]
    assert (notes["cameras"], notes["instance_phrases"]["2"]) == ("vipe", "car")
    assert notes["movable_share"] == pytest.approx(expected.mean())
    again = scaffold_engine.build_scaffold(view, seed=1)
    assert again.clip is not None
    assert again.notes == found.notes
    np.testing.assert_array_equal(again.clip.depth, found.clip.depth)


def test_of_a_camera_that_stands_still_depth_alone_is_taken(scaffold_engine: VipeClipScaffold, tmp_path: Path) -> None:
    view, known = truth()
    assert known.clip is not None
    # Estimated poses of a still camera shake.
    tell(tmp_path, [shifted(0.01 * (frame % 2)) for frame in range(FRAMES)], known.clip.depth.astype(np.float32))
    found = scaffold_engine.build_scaffold(view, seed=0)
    assert found.clip is not None
    assert found.clip.c2w is None
    assert found.clip.background is not None
    assert found.clip.moving is not None
    assert found.clip.moving.any()
    assert (found.clip.moving_from, found.notes["clip"]["cameras"]) == ("input_video", "assumed_static")


class _Zooming:
    """Finds a focal length that grows."""

    settings = vipe_settings(Path("/nowhere")).model_copy(update={"scratch": None})

    def open_scene(self, scaffold: Scaffold, view: View) -> _Zooming:
        return self

    def estimate_clips(self, clips: list, folder: Path) -> dict[str, ClipGeometry]:
        lenses = np.tile(room().lens.astype(np.float32), (FRAMES, 1))
        lenses[:, :2] *= np.linspace(1, 1.2, FRAMES)[:, None]
        poses = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
        return {clips[0].name: ClipGeometry(iter(np.ones((FRAMES, 8, 8), np.float32)), poses, lenses, True)}


def test_a_lens_that_zooms_and_a_view_without_a_clip_are_refused() -> None:
    view, _ = walked()
    engine = VipeClipScaffold(_Zooming())  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"the focal length changes by 20\.0%"):
        engine.build_scaffold(view, seed=0)
    with pytest.raises(InputError, match="not the first frame of a clip"):
        engine.build_scaffold(dataclasses.replace(view, clip=None), seed=0)


def test_what_the_engine_says_of_itself(scaffold_engine: VipeClipScaffold) -> None:
    assert (scaffold_engine.contract.name, scaffold_engine.contract.tier) == ("vipe", "worker")
    assert scaffold_engine.contract.gives == {"scaffold", "depth", "cameras"}
    assert scaffold_engine.identity.licence == "Apache-2.0 AND AGPL-3.0-only AND CC-BY-NC-4.0"


def test_poses_are_brought_to_the_first_camera_with_exact_rotations() -> None:
    poses = np.stack([shifted(2.0) @ pose for pose in walk()]).astype(np.float32)
    rough = poses.copy()
    rough[:, :3, :3] *= 1 + 5e-4
    found = from_first(rough)
    np.testing.assert_allclose(found, np.stack(walk()), atol=1e-3)
    turns = found[:, :3, :3]
    np.testing.assert_allclose(turns @ np.swapaxes(turns, 1, 2), np.tile(np.eye(3), (FRAMES, 1, 1)), atol=1e-6)


def test_without_masks_nothing_is_offered() -> None:
    lenses, poses = np.ones((1, 4), np.float32), np.eye(4, dtype=np.float32)[None]
    assert movable_pixels(ClipGeometry(iter(()), poses, lenses, True)) is None

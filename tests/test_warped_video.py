"""Engine warped: the 3D cache along the cameras, its holes filled or black, and the depth of what it shows."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from sceneloom.datasets.errors import EngineError
from sceneloom.ops.object_motion import ObjectMotion
from sceneloom.resources.engines import Camera, Scaffold, View
from sceneloom.resources.warped_settings import WarpedVideoSettings
from sceneloom.resources.warped_video import WarpedDepthAndPoses, WarpedVideo

from .moving_room import FRAMES, HEIGHT, WIDTH, camera, room, shifted, truth


def settings(**changes: Any) -> WarpedVideoSettings:
    return WarpedVideoSettings.model_validate({"edge_threshold": 0.25, **changes})


def path() -> list[Camera]:
    return [camera(shifted(0.1 * index)) for index in range(FRAMES)]


def still() -> tuple[View, Scaffold]:
    """The first frame alone, as of a picture."""
    view, scaffold = truth()
    return dataclasses.replace(view, clip=None), dataclasses.replace(scaffold, clip=None)


def test_every_frame_shows_its_time_from_its_camera() -> None:
    view, scaffold = truth()
    scene = WarpedVideo(settings()).open_scene(scaffold, view, "")
    frames = np.stack(list(scene.frames(path(), seed=0)))
    found = WarpedDepthAndPoses(settings()).open_scene(scaffold, view).estimate(path(), lambda: iter(frames))
    depth = np.stack(list(found.depth))
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    for index, each in enumerate(path()):
        rgb, expected, box = room().see(index, np.asarray(each.c2w))
        right = np.abs(depth[index] / expected - 1) < 0.02
        assert right.mean() > 0.85
        assert np.abs(frames[index].astype(int) - rgb)[right].mean() < 5
        assert found.moving is not None
        assert found.moving.pixels[index][box].mean() > 0.85
    assert found.moving is not None
    assert found.moving.poses is None
    np.testing.assert_allclose(found.c2w, [each.c2w for each in path()], atol=1e-6)
    assert found.metric
    assert 0 < found.notes["unseen_share"] < found.notes["unseen_share_worst"] < 0.2
    # At the input's own camera nothing is warped.
    assert view.clip is not None
    np.testing.assert_array_equal(frames[0], view.clip.frames[0])


def test_time_runs_forwards_on_reversed_paths() -> None:
    view, scaffold = truth()
    scene = WarpedVideo(settings()).open_scene(scaffold, view, "")
    frames = list(scene.frames(path()[::-1], seed=0))
    assert view.clip is not None
    np.testing.assert_array_equal(frames[-1], view.clip.frames[-1])
    rgb, _, _ = room().see(0, np.asarray(path()[-1].c2w))
    assert np.median(np.abs(frames[0].astype(int) - rgb)) <= 2


def test_holes_are_filled_or_black() -> None:
    view, scaffold = still()
    shown: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for holes in ("black", "background"):
        chosen = settings(holes=holes)
        opened = WarpedVideo(chosen).open_scene(scaffold, view, "")
        found = WarpedDepthAndPoses(chosen).open_scene(scaffold, view).estimate(path(), lambda: iter(()))
        assert found.moving is None
        shown[holes] = np.stack(list(opened.frames(path(), seed=0))), np.stack(list(found.depth))
    unseen = shown["black"][1] == 0
    assert 0.01 < unseen[-1].mean() < 0.3
    assert (shown["black"][0][unseen] == 0).all()
    assert (shown["background"][1] > 0).all()
    np.testing.assert_array_equal(shown["background"][0][~unseen], shown["black"][0][~unseen])
    np.testing.assert_array_equal(shown["background"][1][~unseen], shown["black"][1][~unseen])
    np.testing.assert_array_equal(shown["black"][0][0], view.picture)


def test_objects_that_move_by_themselves_are_refused() -> None:
    view, scaffold = still()
    moving = dataclasses.replace(scaffold, motions=(ObjectMotion.__new__(ObjectMotion),))
    with pytest.raises(EngineError, match="1 objects of the scene move"):
        WarpedVideo(settings()).open_scene(moving, view, "")


def test_the_engines_need_no_weights() -> None:
    for engine in (WarpedVideo(settings()), WarpedDepthAndPoses(settings())):
        assert (engine.contract.name, engine.contract.tier, engine.contract.licence) == (
            "warped",
            "embedded",
            "Apache-2.0",
        )

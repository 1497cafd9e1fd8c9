"""What moves in a clip: the truth of rendered scenes, what moves in a video, else instances, which are marked so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sceneloom.assets.dynamic_masks import DynamicMasks
from sceneloom.ops.motion_planning import plan_motions
from sceneloom.ops.object_motion import moving_ids, scene_at
from sceneloom.ops.procedural_scene import build_scene
from sceneloom.ops.raycast import RayCaster
from sceneloom.resources.engines import Camera, ClipDepth, ClipGeometry, InputClip, MovingObjects, Scaffold, View

from .moving_room import shifted

COUNT, HEIGHT, WIDTH = 3, 12, 16
INTRINSICS = np.array([12.0, 12.0, WIDTH / 2, HEIGHT / 2])
CAMERAS = [Camera(np.eye(4, dtype=np.float32), INTRINSICS, HEIGHT, WIDTH)] * COUNT


def found(
    kept: Mapping[str, NDArray[Any]] | None = None, notes: Mapping[str, Any] | None = None, **more: Any
) -> ClipGeometry:
    """An estimate whose own numbers play no part."""
    poses = np.stack([camera.c2w for camera in CAMERAS])
    lenses = np.tile(INTRINSICS.astype(np.float32), (COUNT, 1))
    return ClipGeometry(iter(()), poses, lenses, True, kept=kept or {}, notes=notes or {}, **more)


def with_instances() -> ClipGeometry:
    """ViPE's: sky above, a car below."""
    masks = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    masks[:, :4], masks[:, 8:, :5] = 1, 2
    return found({"instance_masks": masks}, {"instance_phrases": {"0": "background", "1": "sky", "2": "car"}})


def video(moving: NDArray[np.bool_] | None) -> tuple[Scaffold, View]:
    """A scene of a video before whose camera all is two metres away."""
    depth = np.full((COUNT, HEIGHT, WIDTH), 2.0, np.float16)
    frames = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    poses = np.tile(np.eye(4, dtype=np.float32), (COUNT, 1, 1))
    view = View(frames[0], INTRINSICS, None, {}, clip=InputClip(frames, poses, "assumed_static"))
    return Scaffold(depth[0].astype(np.float32), INTRINSICS, True, None, {}, clip=ClipDepth(depth, moving)), view


def test_moving_objects_of_a_rendered_scene_are_known_whatever_estimates_depth() -> None:
    height, width = 48, 80
    model = build_scene(
        "a workshop with three wooden crates", seed=1, height=height, width=width, horizontal_field_of_view_degrees=75.0
    )
    motions = plan_motions(model, seed=1, frames=COUNT, objects=2, distance=0.6)
    view = View(np.zeros((height, width, 3), np.uint8), model.intrinsics, model, {})
    scaffold = Scaffold(np.ones((height, width), np.float32), model.intrinsics, True, model, {}, motions)
    cameras = [Camera(shifted(0.02 * frame), view.intrinsics, height, width) for frame in range(COUNT)]
    moving, source = DynamicMasks(scaffold, view, "cpu").of(with_instances(), cameras) or pytest.fail("nothing moves")
    assert source == "ground_truth"
    for frame, camera in enumerate(cameras):
        caster = RayCaster(scene_at(model, scaffold.motions, frame))
        seen = caster.geometry(camera.c2w, camera.intrinsics, height, width)
        np.testing.assert_array_equal(moving.pixels[frame], np.isin(seen.instance_ids, moving_ids(scaffold.motions)))
        assert moving.pixels[frame].any()
    assert moving.poses is not None
    assert len(moving.poses.poses) == COUNT


def test_what_the_engine_says_itself_is_taken() -> None:
    own = MovingObjects(None, np.ones((COUNT, HEIGHT, WIDTH), bool))
    assert DynamicMasks(*video(None), "cpu").of(found(moving=own), CAMERAS) == (own, "input_video")


def test_what_moves_in_the_input_video_goes_before_an_estimators_instances() -> None:
    before = np.zeros((COUNT, HEIGHT, WIDTH), bool)
    before[:, 4:8, 5:9] = True
    moving, source = DynamicMasks(*video(before), "cpu").of(with_instances(), CAMERAS) or pytest.fail("nothing moves")
    assert (source, moving.poses) == ("input_video", None)
    assert (moving.pixels >= before).all()
    assert moving.pixels.mean() < 0.6


def test_of_a_video_of_which_it_is_not_known_instances_are_offered_without_the_sky() -> None:
    masks = DynamicMasks(*video(None), "cpu")
    moving, source = masks.of(with_instances(), CAMERAS) or pytest.fail("nothing moves")
    assert source == "instances"
    expected = np.zeros((COUNT, HEIGHT, WIDTH), bool)
    expected[:, 8:, :5] = True
    np.testing.assert_array_equal(moving.pixels, expected)
    assert masks.of(found(), CAMERAS) is None


def test_a_scene_that_stands_still_has_no_mask_for_what_merely_may_move() -> None:
    scaffold, view = video(None)
    still = DynamicMasks(dataclasses.replace(scaffold, clip=None), dataclasses.replace(view, clip=None), "cpu")
    assert still.of(with_instances(), CAMERAS) is None

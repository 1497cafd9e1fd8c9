"""The 3D cache of a scene that moves, against a ray-cast scene in which a box moves: what other cameras see of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import EngineError
from sceneloom.ops.cameras import centred_intrinsics
from sceneloom.resources.clip_cache import ClipCache, project_pixels
from sceneloom.resources.engines import Camera, ClipDepth, InputClip, Scaffold, View

from .moving_room import FRAMES, HEIGHT, WIDTH, camera, room, shifted, truth


def cache(*, with_background: bool = True) -> ClipCache:
    """With an edge threshold for so few pixels, in which a floor is as steep as an edge is in a large picture."""
    view, scaffold = truth()
    return ClipCache(scaffold, view, device="cpu", edge_threshold=0.25, with_background=with_background)


@pytest.mark.parametrize("frame", [0, 2, 4])
def test_every_frame_is_seen_as_it_is_at_its_time(frame: int) -> None:
    pose = shifted(0.25, 0.1)
    seen, (rgb, depth, _) = cache().warp(frame, camera(pose)), room().see(frame, pose)
    assert seen.valid.mean() > 0.8
    inner = seen.valid & (np.abs(seen.depth / depth - 1) < 0.02)
    assert inner.sum() > 0.98 * seen.valid.sum()
    assert np.abs(seen.rgb[inner].astype(int) - rgb[inner]).mean() < 4
    others = [np.abs(cache().warp(other, camera(pose)).rgb.astype(int) - rgb)[inner].mean() for other in range(FRAMES)]
    assert np.argmin(others) == frame


def test_what_a_frame_hides_is_filled_from_other_times_and_nothing_else_is() -> None:
    pose = shifted(0.5)
    plain, filled = cache(with_background=False), cache()
    for frame in range(FRAMES):
        alone, both = plain.warp(frame, camera(pose)), filled.warp(frame, camera(pose))
        np.testing.assert_array_equal(both.rgb[alone.valid], alone.rgb[alone.valid])
        np.testing.assert_array_equal(both.depth[alone.valid], alone.depth[alone.valid])
        added = both.valid & ~alone.valid
        rgb, depth, box = room().see(frame, pose)
        assert added.sum() > 100
        # At the box's silhouette, whose pixels are left out, the background stands for the box.
        added &= ~box
        right = np.abs(both.depth / depth - 1)[added] < 0.02
        assert right.mean() > 0.85
        assert np.abs(both.rgb[added][right].astype(int) - rgb[added][right]).mean() < 6


def test_where_the_moving_object_is_seen() -> None:
    for frame, pose in ((0, shifted(0.3)), (2, shifted(-0.3, 0.2)), (4, shifted(0.0, -0.3))):
        found, (_, _, box) = cache().moving_pixels(frame, camera(pose)), room().see(frame, pose)
        assert found[box].mean() > 0.85
        near = np.lib.stride_tricks.sliding_window_view(np.pad(box, 3), (7, 7)).any(axis=(2, 3))
        assert not (found & ~near).any()


def test_what_is_hidden_does_not_count_as_seen_to_move() -> None:
    view, scaffold = truth()
    depth = np.full((FRAMES, HEIGHT, WIDTH), 4, np.float16)
    depth[:, 20:70, 58:82] = 2  # a post that stands before a wall, on which something moves
    moving = np.zeros(depth.shape, bool)
    moving[:, 30:60, 84:94] = True
    made = ClipCache(
        dataclasses.replace(scaffold, clip=ClipDepth(depth, moving)), view, device="cpu", edge_threshold=0.25
    )
    # With 128 pixels of focal length the post moves by 38 pixels and the wall by 19: the one before the other.
    assert not made.moving_pixels(0, camera(shifted(-0.6))).any()
    beside = made.moving_pixels(0, camera(shifted(0.3)))
    assert beside[30:60, 75:84].all()
    assert not beside[:, 90:].any()


def test_nothing_is_known_to_move_where_the_camera_does() -> None:
    view, scaffold = truth()
    assert scaffold.clip is not None
    unknown = dataclasses.replace(scaffold, clip=dataclasses.replace(scaffold.clip, moving=None, background=None))
    made = ClipCache(unknown, view, device="cpu")
    assert not made.knows_what_moves
    assert not made.moving_pixels(0, camera(shifted(0.1))).any()


def test_the_inputs_camera_is_known() -> None:
    made = cache()
    assert len(made) == FRAMES
    assert made.sees_as_input(3, camera(np.eye(4)))
    assert not made.sees_as_input(3, camera(shifted(0.01)))
    rgb, depth = made.input_frame(2)
    np.testing.assert_array_equal(rgb, truth()[0].clip.frames[2])  # pyright: ignore[reportOptionalMemberAccess]
    np.testing.assert_allclose(depth, room().see(2, np.eye(4))[1], rtol=1e-3)


def test_frames_lie_where_the_inputs_cameras_were() -> None:
    """A camera that moved while the video was taken: every frame is lifted from its own pose."""
    poses = [shifted(0.1 * frame) for frame in range(FRAMES)]
    seen = [room().see(frame, pose) for frame, pose in enumerate(poses)]
    frames, depth = np.stack([each[0] for each in seen]), np.stack([each[1] for each in seen])
    c2w = np.stack(poses).astype(np.float32)
    view = View(frames[0], room().lens, None, {}, InputClip(frames, c2w, "truth"))
    assert view.clip is not None
    assert not view.clip.still
    scaffold = Scaffold(depth[0], room().lens, True, None, {}, clip=ClipDepth(depth.astype(np.float16)))
    made = ClipCache(scaffold, view, device="cpu", edge_threshold=0.25)
    pose = shifted(0.1)
    warped, (_, expected, _) = made.warp(4, camera(pose)), room().see(4, pose)
    assert (np.abs(warped.depth / expected - 1)[warped.valid] < 0.02).mean() > 0.95
    assert made.sees_as_input(4, camera(poses[4]))


def test_clip_and_depth_must_belong_together() -> None:
    view, scaffold = truth()
    assert scaffold.clip is not None
    short = dataclasses.replace(scaffold, clip=ClipDepth(scaffold.clip.depth[:3]))
    for wrong, seen, words in (
        (short, view, r"a clip of \(5, 96, 160\) with depth of \(3, 96, 160\)"),
        (dataclasses.replace(scaffold, clip=None), view, "with no depth"),
        (scaffold, dataclasses.replace(view, clip=None), "no clip with depth"),
    ):
        with pytest.raises(EngineError, match=words):
            ClipCache(wrong, seen, device="cpu")


@settings(deadline=None, max_examples=60)
@given(
    st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-0.4, 0.4), st.floats(0.5, 5.0), st.integers(0, HEIGHT - 1)
)
def test_pixels_are_projected_as_cameras_do(x: float, y: float, angle: float, depth: float, row: int) -> None:
    lens = centred_intrinsics(HEIGHT, WIDTH, horizontal_field_of_view=1.2)
    pose = np.eye(4)
    pose[0, 0], pose[0, 2], pose[2, 0], pose[2, 2] = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
    pose[:2, 3] = x, y
    rows, columns = np.full(8, row), np.linspace(0, WIDTH - 1, 8).astype(int)
    depths = np.full(8, depth)
    there, z = project_pixels(rows, columns, depths, np.eye(4), lens, Camera(pose, lens, HEIGHT, WIDTH))
    for index in np.flatnonzero(z > 0.05):
        ray = np.array([(columns[index] + 0.5 - lens[2]) / lens[0], (row + 0.5 - lens[3]) / lens[1], 1.0]) * depth
        point = np.linalg.inv(pose) @ [*ray, 1.0]
        assert point[2] == pytest.approx(z[index])
        expected = [point[1] / point[2] * lens[1] + lens[3], point[0] / point[2] * lens[0] + lens[2]]
        np.testing.assert_allclose(there[index], np.floor(expected), atol=1 if min(np.mod(expected, 1)) < 1e-9 else 0)

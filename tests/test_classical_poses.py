"""Poses from frames alone: against the known cameras of a ray-cast clip, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from sceneloom.datasets.errors import ConfigError, EngineError, InputError
from sceneloom.ops.alignment import align_cameras, relative_pose_error
from sceneloom.resources import classical_poses
from sceneloom.resources.classical_poses import ClassicalEstimate, estimate_poses

FRAMES, HEIGHT, WIDTH = 7, 144, 256

UInt8 = NDArray[np.uint8]


@pytest.fixture(scope="module")
def clip() -> tuple[list[UInt8], NDArray[np.float32], float]:
    """Frames of a camera that moves sideways, up and a little around; its poses; its focal length."""
    from sceneloom.ops.procedural_scene import build_scene
    from sceneloom.ops.raycast import RayCaster

    scene = build_scene(
        "a library with three bookshelves",
        seed=4,
        height=HEIGHT,
        width=WIDTH,
        horizontal_field_of_view_degrees=70.0,
    )
    caster = RayCaster(scene)
    c2w = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    frames = []
    for index in range(FRAMES):
        angle = -0.03 * index
        c2w[index, :3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        c2w[index, :3, 3] = [0.09 * index, 0.04 * np.sin(index), 0.01 * index**2]
        frames.append(caster.render(c2w[index], scene.intrinsics, HEIGHT, WIDTH, samples_per_pixel=2, seed=1).rgb)
    return frames, c2w, float(scene.intrinsics[0])


@pytest.fixture(scope="module")
def found(clip: tuple[list[UInt8], NDArray[np.float32], float]) -> ClassicalEstimate:
    return estimate_poses(clip[0], seed=0)


def test_poses_are_the_cameras_up_to_a_similarity(
    clip: tuple[list[UInt8], NDArray[np.float32], float], found: ClassicalEstimate
) -> None:
    _, c2w, focal = clip
    similarity = align_cameras(found.c2w, c2w)
    assert similarity.scale_determined
    assert similarity.position_rmse < 0.01
    # From frame to frame, as a small turn of the whole path hides in the alignment of its centres.
    assert relative_pose_error(similarity.apply(found.c2w), c2w).rotation_rmse_degrees < 0.5
    assert found.focal_estimated
    assert found.intrinsics[0] == found.intrinsics[1] == pytest.approx(focal, rel=0.25)
    assert found.intrinsics[2:].tolist() == [WIDTH / 2, HEIGHT / 2]
    assert found.points > 100
    assert found.reprojection_error < 1.0


def test_frames_in_another_order_give_other_poses(
    clip: tuple[list[UInt8], NDArray[np.float32], float], found: ClassicalEstimate
) -> None:
    # The poses come from the pictures: those of the reversed clip are the reversed poses.
    _, c2w, _ = clip
    reversed_found = estimate_poses(clip[0][::-1], seed=0)
    assert align_cameras(reversed_found.c2w, c2w[::-1].copy()).position_rmse < 0.01
    assert align_cameras(reversed_found.c2w, c2w).rotation_rmse_degrees > 90


def test_the_same_frames_and_seed_give_the_same_poses(
    clip: tuple[list[UInt8], NDArray[np.float32], float], found: ClassicalEstimate
) -> None:
    again = estimate_poses(clip[0], seed=0)
    np.testing.assert_array_equal(again.c2w, found.c2w)
    np.testing.assert_array_equal(again.intrinsics, found.intrinsics)


def test_frames_without_texture_are_refused() -> None:
    plain = [np.full((48, 64, 3), 120, np.uint8)] * 4
    with pytest.raises(EngineError, match="4 frames, of which none"):
        estimate_poses(plain, seed=0)


@pytest.mark.parametrize(
    "frames",
    [[], [np.zeros((8, 8, 3), np.uint8)] * 2, [np.zeros((8, 8 + index, 3), np.uint8) for index in range(3)]],
)
def test_too_few_frames_and_several_sizes_are_refused(frames: list[UInt8]) -> None:
    with pytest.raises(InputError, match="frames of"):
        estimate_poses(frames, seed=0)


def test_without_pycolmap_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(ConfigError, match="pip install"):
        estimate_poses([np.zeros((8, 8, 3), np.uint8)] * 3, seed=0)


def test_a_focal_length_that_cannot_be_told_is_assumed(
    clip: tuple[list[UInt8], NDArray[np.float32], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classical_poses, "FIELDS_OF_VIEW", (59.9, 60.1))
    held = estimate_poses(clip[0], seed=0)
    assert not held.focal_estimated
    assert held.intrinsics[0] == pytest.approx(WIDTH / (2 * np.tan(np.radians(30))), rel=1e-6)
    assert align_cameras(held.c2w, clip[1]).position_rmse < 0.05

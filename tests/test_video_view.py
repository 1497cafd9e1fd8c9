"""Engine video_frames: the clip that is taken of a scene's video, and whether its camera stands still."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sceneloom.datasets.catalog import SceneEntry
from sceneloom.datasets.errors import InputError
from sceneloom.datasets.video import read_video, write_video
from sceneloom.ops.pictures import fit_picture
from sceneloom.resources.collections import read_sources
from sceneloom.resources.input_videos import VideoLimits, VideoSampling
from sceneloom.resources.video_view import ASSUMED_STATIC, NOT_YET_ESTIMATED, VideoFramesView

from .moving_videos import textured, write_moving_square

HEIGHT, WIDTH = 64, 96


def entry(path: Path) -> SceneEntry:
    [scene] = read_sources([path], video_limits=VideoLimits(minimum_side_pixels=32)).entries
    return scene


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moving_square(tmp_path_factory.mktemp("videos") / "slide.mp4", frames=14, height=120, width=160)


def test_frames_are_fitted_and_the_first_is_the_view(slide: Path) -> None:
    engine = VideoFramesView(75, VideoSampling(9, 24, start=0.1), 0.01)
    view = engine.make_view(entry(slide), height=HEIGHT, width=WIDTH, seed=0)
    expected = np.stack([fit_picture(frame, HEIGHT, WIDTH) for frame in read_video(slide, range(2, 11))])
    assert view.clip is not None
    np.testing.assert_array_equal(view.clip.frames, expected)
    np.testing.assert_array_equal(view.picture, expected[0])
    assert (view.clip.c2w == np.eye(4)).all()
    assert view.clip.c2w.shape == (9, 4, 4)
    assert view.clip.still
    assert (view.clip.cameras_from, view.notes["camera"]) == (ASSUMED_STATIC, ASSUMED_STATIC)
    assert view.notes["source_frames"] == list(range(2, 11))
    np.testing.assert_allclose(view.intrinsics[:2], WIDTH / 2 / np.tan(np.radians(75) / 2))
    assert view.notes["camera_motion"]["compared"] == 8
    assert view.notes["camera_motion"]["largest_pixels"] < 0.3
    assert view.geometry is None


def panned(path: Path, step: int) -> Path:
    wide = textured(120, 320)
    write_video(path, (np.ascontiguousarray(wide[:, step * index : step * index + 160]) for index in range(12)), fps=24)
    return path


def test_a_video_of_a_camera_that_moves_is_refused(tmp_path: Path) -> None:
    scene = entry(panned(tmp_path / "pan.mp4", 2))
    sampling = VideoSampling(9, 24)
    with pytest.raises(InputError, match=r"frame 8 is shifted against the first by 1\d\.\d of 160 pixels") as caught:
        VideoFramesView(75, sampling, 0.01).make_view(scene, height=120, width=160, seed=0)
    assert "maximum_camera_motion" in caught.value.remedy
    for limit in (0.2, None):
        view = VideoFramesView(75, sampling, limit).make_view(scene, height=120, width=160, seed=0)
        assert view.notes["camera_motion"]["largest_pixels"] == pytest.approx(16, abs=0.5)


def test_a_camera_that_moves_is_left_to_the_scaffolds_engine_where_that_estimates_cameras(
    slide: Path, tmp_path: Path
) -> None:
    def camera_of(scene: SceneEntry, limit: float | None) -> str:
        engine = VideoFramesView(75, VideoSampling(9, 24), limit, cameras_are_estimated=True)
        view = engine.make_view(scene, height=120, width=160, seed=0)
        assert view.clip is not None
        assert view.clip.cameras_from == view.notes["camera"]
        return view.clip.cameras_from

    moving = entry(panned(tmp_path / "pan.mp4", 2))
    assert camera_of(moving, 0.01) == NOT_YET_ESTIMATED
    assert camera_of(moving, 0.2) == ASSUMED_STATIC
    assert camera_of(entry(slide), 0.01) == ASSUMED_STATIC
    assert camera_of(entry(slide), None) == NOT_YET_ESTIMATED
    write_video(tmp_path / "flat.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 12, fps=24)
    assert camera_of(entry(tmp_path / "flat.mp4"), 0.01) == NOT_YET_ESTIMATED


def test_a_picture_without_corners_is_not_taken_to_move(tmp_path: Path) -> None:
    write_video(tmp_path / "flat.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 12, fps=24)
    view = VideoFramesView(75, VideoSampling(9, 24), 0.01).make_view(
        entry(tmp_path / "flat.mp4"), height=64, width=96, seed=0
    )
    motion = view.notes["camera_motion"]
    assert (motion["largest_pixels"], motion["frame"], motion["compared"]) == (None, None, 0)
    assert motion["changed_share"] == 0


def refused(path: Path, frames: list[np.ndarray]) -> str:
    write_video(path, frames, fps=24, crf=6)
    scene, sampling = entry(path), VideoSampling(9, 24)
    with pytest.raises(InputError) as caught:
        VideoFramesView(75, sampling, 0.01).make_view(scene, height=120, width=160, seed=0)
    VideoFramesView(75, sampling, None).make_view(scene, height=120, width=160, seed=0)
    return caught.value.found


def test_a_pan_too_fast_to_follow_is_refused(tmp_path: Path) -> None:
    wide = textured(120, 160 * 12)
    pan = [np.ascontiguousarray(wide[:, 150 * index : 150 * index + 160]) for index in range(12)]
    assert "has little in common with the first: the camera moves, or the video is cut" in refused(
        tmp_path / "pan.mp4", pan
    )


def test_a_cut_is_refused(tmp_path: Path) -> None:
    shots = [textured(120, 160, seed) for seed in (1, 2)]
    found = refused(tmp_path / "cut.mp4", [shots[index >= 5] for index in range(12)])
    assert found.split(" has little")[0] in {f"frame {index}" for index in range(5, 9)}


def test_a_cut_between_pictures_with_the_same_corners_is_refused(tmp_path: Path) -> None:
    # Corners stay where they are, and most of the picture between them is another one.
    first, second = (np.full((120, 160, 3), level, np.uint8) for level in (60, 60))
    second[30:] = (200, 90, 20)
    second[90:] = (20, 90, 200)
    for shot in (first, second):
        shot[4:26] = textured(120, 160)[4:26]
    found = refused(tmp_path / "cut.mp4", [(first, second)[index >= 5] for index in range(12)])
    assert "little in common" in found


def test_a_still_camera_in_drifting_light_is_accepted(tmp_path: Path) -> None:
    picture = textured(120, 160).astype(int)
    write_video(tmp_path / "dusk.mp4", [(picture - 4 * index).astype(np.uint8) for index in range(10)], fps=24, crf=6)
    view = VideoFramesView(75, VideoSampling(9, 24), 0.01).make_view(
        entry(tmp_path / "dusk.mp4"), height=120, width=160, seed=0
    )
    assert view.notes["camera_motion"]["changed_share"] < 0.1


def test_the_example_video_is_accepted() -> None:
    workshop = Path(__file__).parents[1] / "examples" / "videos" / "workshop.mp4"
    view = VideoFramesView(75, VideoSampling(9, 8), 0.01).make_view(entry(workshop), height=120, width=208, seed=0)
    assert view.notes["camera_motion"]["changed_share"] < 0.3


def test_a_video_that_is_gone_or_changed_is_named(slide: Path, tmp_path: Path) -> None:
    engine, scene = VideoFramesView(75, VideoSampling(9, 24)), entry(slide)
    gone = dataclasses.replace(scene, video_url=str(tmp_path / "gone.mp4"))
    with pytest.raises(InputError, match=r"gone\.mp4: the video is gone. Put it back"):
        engine.make_view(gone, height=HEIGHT, width=WIDTH, seed=0)
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(slide.read_bytes() + b" ")
    with pytest.raises(InputError, match="changed after the catalogue was made"):
        engine.make_view(dataclasses.replace(scene, video_url=str(changed)), height=HEIGHT, width=WIDTH, seed=0)
    with pytest.raises(InputError, match="it ends after"):
        VideoFramesView(75, VideoSampling(49, 24)).make_view(scene, height=HEIGHT, width=WIDTH, seed=0)

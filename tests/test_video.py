"""Video files: what is written comes back, byte for byte the same each time, and damage is named."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import CorruptFileError, InputError
from sceneloom.datasets.video import iter_video, probe, read_video, write_video

HEIGHT, WIDTH, FRAMES = 64, 96, 20


def moving_waves(frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth colour waves that move: (T, H, W, 3) uint8."""
    t, y, x = np.mgrid[0:frames, 0:height, 0:width]
    waves = [np.sin((x + 3 * t) / 17), np.cos((y - t) / 23), np.sin((x + y + t) / 31)]
    return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, moving_waves(), fps=24)
    return path


@pytest.fixture(scope="module")
def decoded(clip: Path) -> np.ndarray:
    return read_video(clip)


def test_frames_survive_the_round_trip(decoded: np.ndarray) -> None:
    error = decoded.astype(float) - moving_waves()
    assert decoded.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 38


def test_colour_conversion_has_no_bias(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(30, 225, (1, 16, 16, 3)).astype(np.uint8)
    patches = colours.repeat(16, axis=1).repeat(16, axis=2)
    write_video(tmp_path / "patches.mp4", patches, crf=0)
    error = read_video(tmp_path / "patches.mp4").astype(float) - patches
    assert np.abs(error.mean(axis=(0, 1, 2))).max() < 0.15


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)])
def test_flat_colours_come_back_within_two_levels(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    frames = np.broadcast_to(np.array(colour, np.uint8), (2, 32, 32, 3))
    write_video(tmp_path / "flat.mp4", frames, crf=1)
    assert np.abs(read_video(tmp_path / "flat.mp4").astype(int) - frames).max() <= 2


def test_same_frames_give_the_same_bytes(clip: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "again.mp4", moving_waves(), fps=24)
    assert (tmp_path / "again.mp4").read_bytes() == clip.read_bytes()


def test_header_states_frames_size_rate_and_colours(clip: Path) -> None:
    info = probe(clip)
    assert (info.frames, info.height, info.width, info.fps, info.codec) == (FRAMES, HEIGHT, WIDTH, 24, "h264")
    with av.open(str(clip)) as container:
        context = container.streams.video[0].codec_context
        tags = (context.pix_fmt, context.colorspace, context.color_primaries, context.color_trc, context.color_range)
    assert tags == ("yuv420p", 1, 1, 1, 1)


def test_fractional_rates_are_kept(tmp_path: Path) -> None:
    write_video(tmp_path / "ntsc.mp4", moving_waves(2), fps=24000 / 1001)
    assert probe(tmp_path / "ntsc.mp4").fps == Fraction(24000, 1001)


def test_key_frames_come_at_the_asked_distance(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", moving_waves(), group_of_pictures=5)
    with av.open(str(tmp_path / "short.mp4")) as container:
        keys = [i for i, packet in enumerate(p for p in container.demux(video=0) if p.size) if packet.is_keyframe]
    assert keys == [0, 5, 10, 15]


@settings(deadline=None, max_examples=25)
@given(frames=st.lists(st.integers(0, FRAMES - 1), max_size=8))
def test_any_selection_equals_the_whole_video_at_those_frames(
    clip: Path, decoded: np.ndarray, frames: list[int]
) -> None:
    np.testing.assert_array_equal(read_video(clip, frames), decoded[frames])


def test_selection_in_a_video_of_one_group_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, moving_waves(), group_of_pictures=250)
    np.testing.assert_array_equal(read_video(path, [19, 2, 11]), read_video(path)[[19, 2, 11]])


def test_bytes_read_like_the_file(clip: Path, decoded: np.ndarray) -> None:
    np.testing.assert_array_equal(np.stack(list(iter_video(clip.read_bytes()))), decoded)
    assert probe(clip.read_bytes()) == probe(clip)


def test_a_frame_outside_the_video_is_refused(clip: Path) -> None:
    with pytest.raises(InputError, match="frame 20 is not in a video of 20 frames"):
        read_video(clip, [3, 20])


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_video_is_a_corrupt_file(clip: Path, kept: float) -> None:
    content = clip.read_bytes()
    with pytest.raises(CorruptFileError):
        read_video(content[: int(len(content) * kept)])


def test_damage_inside_the_pictures_is_a_corrupt_file(clip: Path) -> None:
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    with pytest.raises(CorruptFileError):
        read_video(bytes(content))


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        probe(tmp_path / "absent.mp4")


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), "no frame"),
        (np.zeros((2, 5, 4, 3), np.uint8), "5x4"),
        (np.zeros((2, 4, 4), np.uint8), r"the shape \(4, 4\)"),
        (np.zeros((2, 4, 4, 3), np.float32), "float32"),
    ],
)
def test_frames_that_cannot_be_stored_are_refused_and_leave_nothing(
    tmp_path: Path, frames: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_video(tmp_path / "bad.mp4", frames)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from moving_waves(3)
        raise KeyError("the generator stopped")

    with pytest.raises(KeyError):
        write_video(tmp_path / "half.mp4", frames())
    assert list(tmp_path.iterdir()) == []

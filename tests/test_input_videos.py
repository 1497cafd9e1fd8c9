"""Videos of any origin: what is taken of them is what a player shows at those instants, and what cannot be is named."""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.resources.input_videos import (
    SampledVideo,
    VideoLimits,
    VideoProblem,
    VideoRefused,
    VideoSampling,
    _Decoded,
    _nearest,
    examine_video,
    sample_video,
    sha256_of,
)

from .moving_videos import textured, write_foreign

LIMITS = VideoLimits(minimum_side_pixels=16)
HEIGHT, WIDTH = 64, 96


def numbered(count: int, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    """Frames whose grey level tells their number: 10 levels a frame."""
    return [np.full((height, width, 3), 20 + 10 * index, np.uint8) for index in range(count)]


def numbers(video: SampledVideo) -> list[int]:
    return [round((float(frame.mean()) - 20) / 10) for frame in video.frames]


def sampled(path: Path, sampling: VideoSampling) -> SampledVideo:
    with path.open("rb") as file:
        return sample_video(file, sampling, lambda rgb: rgb, where=path.name)


def examined(path: Path, sampling: VideoSampling | None = None, limits: VideoLimits = LIMITS) -> Any:
    with path.open("rb") as file:
        return examine_video(file, limits, sampling or VideoSampling(1, 1), where=path.name)


def refusal(act: Callable[[], object]) -> VideoRefused:
    with pytest.raises(VideoRefused) as caught:
        act()
    return caught.value


# --- what is taken -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mov", "mpeg4"), ("a.mkv", "libx264"), ("a.webm", "libvpx"), ("b.webm", "libvpx-vp9")],
)
def test_every_container_gives_its_frames_and_facts(tmp_path: Path, name: str, codec: str) -> None:
    path = write_foreign(tmp_path / name, numbered(12), rate=10, codec=codec)
    found = examined(path, VideoSampling(9, 10))
    assert (found.frames, found.height, found.width) == (12, HEIGHT, WIDTH)
    assert found.seconds == pytest.approx(1.2)
    clip = sampled(path, VideoSampling(9, 10, start=0.2))
    assert numbers(clip) == list(range(2, 11))
    assert clip.notes["source_frames"] == list(range(2, 11))
    assert clip.notes["repeated_frames"] == 0
    assert clip.notes["largest_time_difference"] == 0
    np.testing.assert_allclose(clip.notes["source_seconds"], np.arange(2, 11) / 10)
    np.testing.assert_array_equal(sampled(path, VideoSampling(9, 10, start=0.2)).frames, clip.frames)


def test_other_rates_are_sampled_by_time(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", numbered(20), rate=10)
    assert numbers(sampled(path, VideoSampling(5, 5))) == [0, 2, 4, 6, 8]
    doubled = sampled(path, VideoSampling(7, 20))
    # 0.05 s lies between frames 0 and 1: the earlier of two equally near.
    assert numbers(doubled) == [0, 0, 1, 1, 2, 2, 3]
    assert doubled.notes["repeated_frames"] == 3
    assert doubled.notes["largest_time_difference"] == pytest.approx(0.05)


def test_a_variable_rate_comes_out_even(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", numbered(6), rate=10, stamps=[0, 1, 2, 6, 7, 12])
    clip = sampled(path, VideoSampling(13, 10))
    assert clip.notes["source_frames"] == [0, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5]


def test_a_file_that_does_not_begin_at_zero_is_counted_from_its_first_frame(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mkv", numbered(6), rate=10, stamps=[7, 8, 9, 10, 11, 12])
    assert sampled(path, VideoSampling(6, 10)).notes["source_frames"] == [0, 1, 2, 3, 4, 5]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=20),
    st.integers(1, 30),
    st.integers(1, 20),
    st.integers(0, 40),
)
def test_the_nearest_stamp_is_taken(gaps: list[int], count: int, step: int, start: int) -> None:
    stamps = [Fraction(sum(gaps[:index]), 10) for index in range(len(gaps))]
    ends = [*stamps[1:], stamps[-1] + Fraction(gaps[-1], 10)]
    frames = [_Decoded(i, s, e, Fraction(1), None) for i, (s, e) in enumerate(zip(stamps, ends, strict=True))]  # pyright: ignore[reportArgumentType]
    times = [Fraction(start + step * index, 10) for index in range(count)]
    if times[-1] > ends[-1]:
        assert refusal(lambda: list(_nearest(iter(frames), times, "x"))).problem is VideoProblem.TOO_SHORT
        return
    taken = [frame.index for frame in _nearest(iter(frames), times, "x")]
    assert taken == [min(range(len(stamps)), key=lambda i: (abs(stamps[i] - time), i)) for time in times]


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
@pytest.mark.parametrize("flipped", [False, True])
def test_frames_are_turned_as_players_turn_them(tmp_path: Path, rotation: int, flipped: bool) -> None:
    picture = textured(HEIGHT, WIDTH)
    path = write_foreign(tmp_path / "a.mp4", [picture] * 3, rotation=rotation, flipped=flipped)
    plain = sampled(write_foreign(tmp_path / "b.mp4", [picture] * 3), VideoSampling(1, 10)).frames[0]
    expected = np.rot90(plain, rotation // 90)
    expected = expected[:, ::-1] if flipped else expected
    np.testing.assert_array_equal(sampled(path, VideoSampling(1, 10)).frames[0], expected)
    found = examined(path)
    assert (found.height, found.width) == expected.shape[:2]
    np.testing.assert_array_equal(found.first, expected)


def test_other_turns_are_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", numbered(3), rotation=30)
    refused = refusal(lambda: examined(path))
    assert refused.problem is VideoProblem.UNSUPPORTED_PIXELS
    assert "to be shown turned by" in str(refused)


def test_pixels_come_out_square(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", [textured(HEIGHT, WIDTH)] * 3, pixel_aspect="2/1")
    found = examined(path)
    assert found.first.shape == (HEIGHT, 2 * WIDTH, 3)
    assert (found.height, found.width) == (HEIGHT, 2 * WIDTH)


# --- what is refused -----------------------------------------------------------------------------------------------


def whole_file(tmp_path: Path) -> bytes:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(20)]
    return write_foreign(tmp_path / "whole.mkv", noise).read_bytes()


def fast_start(tmp_path: Path, keyframes: int = 8) -> bytes:
    """An MP4 whose index stands before its pictures, and whose every `keyframes`-th frame is coded by itself."""
    from sceneloom.datasets.video import write_video

    rng = np.random.default_rng(0)
    write_video(
        tmp_path / "fast.mp4",
        (rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(20)),
        fps=10,
        group_of_pictures=keyframes,
    )
    return (tmp_path / "fast.mp4").read_bytes()


def slow_start(tmp_path: Path) -> bytes:
    """An MP4 whose index stands after its pictures."""
    return write_foreign(tmp_path / "slow.mp4", [textured(HEIGHT, WIDTH, seed) for seed in range(20)]).read_bytes()


def test_files_that_are_no_videos_are_named(tmp_path: Path) -> None:
    reads: dict[str, tuple[bytes, str]] = {
        "nothing": (b"", "empty_file"),
        "words": (b"these are words, not a video" * 20, "unreadable"),
        "an MP4 without its index at the end": (slow_start(tmp_path)[:-2000], "unreadable"),
    }
    for name, (content, problem) in reads.items():
        refused = refusal(
            lambda content=content: examine_video(io.BytesIO(content), LIMITS, VideoSampling(1, 1), where="x")
        )
        assert refused.problem == problem, name


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert refusal(lambda: examined(path)).problem is VideoProblem.NO_VIDEO


@pytest.mark.parametrize("damage", ["cut short", "overwritten"])
def test_damage_is_named_where_it_is_in_the_way(tmp_path: Path, damage: str) -> None:
    content = fast_start(tmp_path)
    if damage == "cut short":
        broken = content[: len(content) * 2 // 3]
    else:
        middle = len(content) // 3
        broken = content[:middle] + bytes(4000) + content[middle + 4000 :]
    sampling = VideoSampling(19, 10)
    refused = refusal(lambda: examine_video(io.BytesIO(broken), LIMITS, sampling, where="x"))
    assert refused.problem in (VideoProblem.CORRUPTED, VideoProblem.TOO_SHORT)
    if damage == "overwritten":
        assert refused.problem is VideoProblem.CORRUPTED


def test_a_file_that_is_cut_short_after_the_clip_is_named_too(tmp_path: Path) -> None:
    content = fast_start(tmp_path)
    refused = refusal(
        lambda: examine_video(io.BytesIO(content[: len(content) - 9000]), LIMITS, VideoSampling(3, 10), where="x")
    )
    assert refused.problem is VideoProblem.CORRUPTED


def test_a_file_that_ends_between_two_frames_is_named(tmp_path: Path) -> None:
    import av

    content = trimmed(fast_start(tmp_path, keyframes=5), 0.9)
    with av.open(io.BytesIO(content), "r") as container:
        ends = [int(packet.pos or 0) + packet.size for packet in container.demux(video=0) if packet.size]
    cut = io.BytesIO(content[: ends[11]])
    refused = refusal(lambda: examine_video(cut, LIMITS, VideoSampling(2, 10), where="x"))
    assert refused.problem is VideoProblem.CORRUPTED
    assert re.search(r"it declares \d+ frames and holds 12: the file is cut short", str(refused))


def test_frames_of_several_sizes_are_named(tmp_path: Path) -> None:
    parts = [
        write_foreign(tmp_path / f"{index}.webm", numbered(4, height=height), codec="libvpx")
        for index, height in enumerate((64, 96))
    ]
    path = tmp_path / "both.webm"
    _joined(parts, path)
    refused = refusal(lambda: examined(path, VideoSampling(8, 10)))
    assert refused.problem is VideoProblem.VARIABLE_SIZE
    assert "frame 4 has 96 × 96 pixels, those before 64 × 96" in str(refused)


def _joined(parts: list[Path], path: Path) -> None:
    """Streams of several sizes one after the other in one: every key frame says its own size."""
    import av

    with av.open(str(path), "w") as out:
        stream, offset = None, 0
        for part in parts:
            with av.open(str(part)) as given:
                stream = stream or out.add_stream_from_template(given.streams.video[0])
                for packet in given.demux(given.streams.video[0]):
                    if packet.dts is not None:
                        packet.pts, packet.dts = (packet.pts or 0) + offset, packet.dts + offset
                        packet.stream = stream
                        out.mux(packet)
            offset += 400


@pytest.mark.parametrize(
    ("limits", "problem", "words"),
    [
        ({"minimum_side_pixels": 65}, "too_small", "64 × 96 pixels, each side must have at least 65"),
        ({"maximum_pixels": 6000}, "too_large", "64 × 96 pixels, the limit is 6,000"),
        ({"minimum_frames": 21}, "too_short", "it has 20 frames, 21 are asked for"),
        ({"maximum_duration": 1.9}, "too_long", "it lasts 2 s, the limit is 1.9"),
    ],
)
def test_limits(tmp_path: Path, limits: dict[str, Any], problem: str, words: str) -> None:
    path = write_foreign(tmp_path / "a.mp4", numbered(20))
    refused = refusal(lambda: examined(path, limits=VideoLimits(**{"minimum_side_pixels": 16, **limits})))
    assert refused.problem == problem
    assert words in str(refused)


def test_a_clip_that_reaches_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mp4", numbered(20))
    assert examined(path, VideoSampling(20, 10)).frames == 20
    # The last frame is shown until 2.0 s.
    assert sampled(path, VideoSampling(21, 10)).notes["source_frames"][-2:] == [19, 19]
    for act in (examined, sampled):
        refused = refusal(lambda act=act: act(path, VideoSampling(22, 10)))
        assert refused.problem is VideoProblem.TOO_SHORT
        assert "it ends after 2 s, and a clip reaches to 2.1 s" in str(refused)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused(tmp_path: Path, transfer: int, name: str) -> None:
    path = write_foreign(tmp_path / "a.mp4", numbered(3), transfer=transfer)
    refused = refusal(lambda: examined(path))
    assert refused.problem is VideoProblem.UNSUPPORTED_PIXELS
    assert name in str(refused)


@pytest.mark.parametrize("matrix", [4, 7, 9, 10])
def test_other_colour_matrices_are_refused(tmp_path: Path, matrix: int) -> None:
    path = write_foreign(tmp_path / "a.mp4", numbered(3), matrix=matrix)
    refused = refusal(lambda: examined(path))
    assert refused.problem is VideoProblem.UNSUPPORTED_PIXELS
    assert f"the matrix {matrix} of ITU-T H.273" in str(refused)
    assert refused.remedy == "Convert it to BT.709."


@pytest.mark.parametrize("matrix", [1, 2, 5, 6])
def test_the_matrices_of_standard_range_are_read(tmp_path: Path, matrix: int) -> None:
    path = write_foreign(tmp_path / "a.mp4", numbered(3), matrix=matrix)
    assert numbers(sampled(path, VideoSampling(3, 10))) == [0, 1, 2]


def test_tags_in_other_encodings_are_in_nobodys_way(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mkv", numbered(4), title="plain title")
    content = path.read_bytes()
    assert b"plain title" in content
    path.write_bytes(content.replace(b"plain title", b"caf\xe9 cr\xe8me "))
    assert examined(path).frames == 4


def trimmed(content: bytes, share: float) -> bytes:
    """The file with the edit of its one track shortened."""
    at = content.index(b"elst") + len("elst") + 4
    count, length = struct.unpack_from(">II", content, at)
    assert count == 1
    return content[: at + 4] + struct.pack(">I", round(share * length)) + content[at + 8 :]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_file_that_an_edit_list_trims_is_whole(tmp_path: Path, share: float) -> None:
    content = fast_start(tmp_path, keyframes=5)
    whole = examine_video(io.BytesIO(content), LIMITS, VideoSampling(2, 10), where="x")
    shorter = examine_video(io.BytesIO(trimmed(content, share)), LIMITS, VideoSampling(2, 10), where="x")
    assert share * whole.frames <= shorter.frames < whole.frames
    assert shorter.seconds < whole.seconds


def test_a_trimmed_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    content = trimmed(fast_start(tmp_path, keyframes=5), 0.8)
    cut = io.BytesIO(content[: len(content) // 2])
    refused = refusal(lambda: examine_video(cut, LIMITS, VideoSampling(2, 10), where="x"))
    assert refused.problem is VideoProblem.CORRUPTED


def test_refusals_survive_processes() -> None:
    refused = VideoRefused(VideoProblem.CORRUPTED, "damage", where="a.mp4", remedy="Fetch it.")
    again = pickle.loads(pickle.dumps(refused))
    assert (again.problem, str(again)) == (refused.problem, str(refused))


def test_checksum_of_a_file_leaves_it_at_its_beginning(tmp_path: Path) -> None:
    import hashlib

    content = whole_file(tmp_path)
    file = io.BytesIO(content)
    assert sha256_of(file) == hashlib.sha256(content).hexdigest()
    assert file.tell() == 0

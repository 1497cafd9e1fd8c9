"""MP4 files in pieces: joined they are the file, alone they decode to the file's frames."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from sceneloom.datasets.errors import CorruptFileError
from sceneloom.datasets.video import read_video, write_video
from sceneloom.datasets.video_runs import VideoRuns, cut_into_runs, decode_run

FRAMES = 19


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(file, np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 48, 3), dtype=np.uint8))
    return file.read_bytes()


def joined(runs: VideoRuns) -> bytes:
    return runs.head + b"".join(runs.runs)


def test_the_pieces_are_the_file(mp4: bytes) -> None:
    runs = cut_into_runs(mp4)
    assert joined(runs) == mp4
    assert runs.first_frames == (0, 8, 16)


def test_each_run_decodes_to_the_files_frames(mp4: bytes) -> None:
    runs = cut_into_runs(mp4)
    whole = read_video(mp4)
    position = len(runs.head)
    for first, stop, run in zip(runs.first_frames, (*runs.first_frames[1:], FRAMES), runs.runs, strict=True):
        frames = [*range(first, stop), first]
        np.testing.assert_array_equal(decode_run(runs.head, run, position, frames), whole[frames])
        position += len(run)


def test_a_run_in_another_place_or_cut_short_is_damage(mp4: bytes) -> None:
    runs = cut_into_runs(mp4)
    with pytest.raises(CorruptFileError):
        decode_run(runs.head, runs.runs[1], len(runs.head), range(8))
    with pytest.raises(CorruptFileError):
        decode_run(runs.head, runs.runs[0][:-50], len(runs.head), range(8))


@pytest.mark.parametrize(
    ("movflags", "x264"),
    [
        ("+write_colr", "bframes=0:keyint=4"),
        ("+faststart", "bframes=2:b-adapt=0:scenecut=0:keyint=8"),
        ("+frag_keyframe+empty_moov", "bframes=0:keyint=4"),
    ],
)
def test_a_file_that_cannot_be_cut_is_one_run(tmp_path: Path, movflags: str, x264: str) -> None:
    file = tmp_path / "other.mp4"
    with av.open(str(file), "w", options={"movflags": movflags}) as container:
        stream = container.add_stream("libx264", rate=24, options={"x264-params": x264})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for picture in np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    runs = cut_into_runs(file.read_bytes())
    assert (runs.head, runs.runs, runs.first_frames) == (b"", (file.read_bytes(),), (0,))


def test_what_is_no_video_is_refused() -> None:
    with pytest.raises(CorruptFileError, match="cannot be read"):
        cut_into_runs(b"no video at all")

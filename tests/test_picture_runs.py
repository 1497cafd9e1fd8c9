"""Runs of frames: each plays alone, keeps its PSNR, and gives any frame from the pictures that it needs."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sceneloom.datasets.errors import CorruptFileError, InputError
from sceneloom.datasets.picture_runs import (
    FRAMES_IN_A_RUN,
    MINIMUM_PSNR,
    PictureRun,
    PictureRunEncoder,
    decode_frames,
    encode_clip,
    load_runs,
    save_runs,
)

COUNT, HEIGHT, WIDTH = 21, 48, 80


def moving_pictures(count: int = COUNT, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> NDArray[np.uint8]:
    """Strong colours behind fine texture that moves by a pixel a frame."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(-30, 30, (height, width + count, 3))
    ramp = np.stack(np.meshgrid(np.linspace(0, 220, width), np.linspace(220, 0, height)), axis=-1)
    ground = np.concatenate([ramp, 255 - ramp[..., :1]], axis=-1)
    frames = [np.clip(ground + texture[:, shift : shift + width], 0, 255) for shift in range(count)]
    return np.stack(frames).astype(np.uint8)


FRAMES = moving_pictures()
RUNS = encode_clip(FRAMES)


def psnr(found: NDArray[np.uint8], given: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.square(found.astype(float) - given).mean()))


def test_a_clip_is_cut_into_runs_that_keep_their_psnr() -> None:
    assert [len(run.packets) for run in RUNS] == [FRAMES_IN_A_RUN, COUNT - FRAMES_IN_A_RUN]
    start = 0
    for run in RUNS:
        given_frames = FRAMES[start : start + len(run.packets)]
        found = psnr(decode_frames(run.stream, run.packets, range(len(run.packets))), given_frames)
        assert found == pytest.approx(run.psnr, abs=1e-3)
        assert found >= MINIMUM_PSNR
        start += len(run.packets)


def test_no_more_is_spent_than_the_psnr_needs() -> None:
    generous = encode_clip(FRAMES, minimum_psnr=50.0)
    assert min(run.psnr for run in generous) >= 50
    assert sum(len(run.stream) for run in RUNS) < 0.75 * sum(len(run.stream) for run in generous)
    # The second run begins where the first ended: near the minimum.
    assert RUNS[1].psnr < MINIMUM_PSNR + 2


def test_colours_have_no_bias() -> None:
    difference = decode_frames(RUNS[0].stream, RUNS[0].packets, range(FRAMES_IN_A_RUN)) - FRAMES[
        :FRAMES_IN_A_RUN
    ].astype(float)
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.3


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, FRAMES_IN_A_RUN - 1), min_size=1, max_size=5), st.booleans())
def test_any_frames_equal_those_of_the_whole_run(frames: list[int], channels_first: bool) -> None:
    run = RUNS[0]
    whole = decode_frames(run.stream, run.packets, range(FRAMES_IN_A_RUN))
    found = decode_frames(run.stream, run.packets, frames, channels_first=channels_first)
    np.testing.assert_array_equal(found.transpose(0, 2, 3, 1) if channels_first else found, whole[frames])


def test_a_run_plays_in_a_reader_of_files() -> None:
    run = RUNS[0]
    with av.open(io.BytesIO(run.stream), "r", format="h264") as container:
        stream = container.streams.video[0]
        pictures = list(container.decode(stream))
    assert len(pictures) == FRAMES_IN_A_RUN
    assert (pictures[0].format.name, pictures[0].width, pictures[0].height) == ("yuvj444p", WIDTH, HEIGHT)


def test_only_the_first_and_last_pictures_are_referred_to() -> None:
    for run in RUNS:
        last = len(run.packets) - 1
        assert run.packets[:2, 1].tolist() == [0, last]
        assert run.packets[:, 2].tolist() == [1, 1] + [0] * (last - 1)
        assert sorted(run.packets[:, 1]) == list(range(last + 1))


def test_frames_that_nothing_refers_to_may_be_lost() -> None:
    run = RUNS[0]
    ends = np.cumsum(run.packets[:, 0])
    damaged = bytearray(run.stream)
    damaged[ends[4] : ends[5]] = bytes(int(ends[5] - ends[4]))
    wanted = int(run.packets[9, 1])
    np.testing.assert_array_equal(
        decode_frames(bytes(damaged), run.packets, [wanted]), decode_frames(run.stream, run.packets, [wanted])
    )


def test_equal_frames_give_equal_bytes() -> None:
    again = encode_clip(FRAMES.copy())
    assert [run.stream for run in again] == [run.stream for run in RUNS]
    assert b"x264" not in RUNS[0].stream


def test_frames_pass_through_one_by_one() -> None:
    encoder = PictureRunEncoder()
    passed = []
    for index, frame in enumerate(encoder.passing(iter(FRAMES))):
        passed.append(frame)
        assert len(encoder.runs) == (index + 1) // FRAMES_IN_A_RUN
    np.testing.assert_array_equal(passed, FRAMES)
    assert [run.stream for run in encoder.runs] == [run.stream for run in RUNS]


def test_frames_of_one_colour_come_back_and_what_follows_keeps_its_psnr() -> None:
    black = np.zeros((FRAMES_IN_A_RUN, HEIGHT, WIDTH, 3), np.uint8)
    first, second = encode_clip(np.concatenate([black, FRAMES[:4]]))
    np.testing.assert_array_equal(decode_frames(first.stream, first.packets, range(FRAMES_IN_A_RUN)), black)
    assert first.psnr == np.inf
    assert MINIMUM_PSNR <= second.psnr < np.inf


@pytest.mark.parametrize("size", [(16, 16), (18, 34), (31, 47)])
def test_any_size_is_kept(size: tuple[int, int]) -> None:
    frames = moving_pictures(3, *size)
    (run,) = encode_clip(frames)
    assert decode_frames(run.stream, run.packets, [2, 0]).shape == (2, *size, 3)
    assert run.psnr >= MINIMUM_PSNR


def test_files_of_runs(tmp_path: Path) -> None:
    save_runs(tmp_path / "clip.npz", RUNS)
    loaded = load_runs(tmp_path / "clip.npz")
    assert [(run.stream, run.psnr) for run in loaded] == [(run.stream, run.psnr) for run in RUNS]
    for found, run in zip(loaded, RUNS, strict=True):
        np.testing.assert_array_equal(found.packets, run.packets)
    content = (tmp_path / "clip.npz").read_bytes()
    for damaged in (content[:300], b""):
        (tmp_path / "clip.npz").write_bytes(damaged)
        with pytest.raises(CorruptFileError, match="cannot be read"):
            load_runs(tmp_path / "clip.npz")
    save_runs(tmp_path / "clip.npz", [PictureRun(RUNS[0].stream, RUNS[0].packets, 42.0)])
    with np.load(tmp_path / "clip.npz") as archive:
        arrays = {**archive, "run_bytes": archive["run_bytes"] - 1}
    np.savez(tmp_path / "clip.npz", **arrays)
    with pytest.raises(CorruptFileError, match="not those"):
        load_runs(tmp_path / "clip.npz")


def test_bad_frames_are_refused() -> None:
    with pytest.raises(InputError, match="no frame"):
        encode_clip([])
    with pytest.raises(InputError, match="frame 1 is uint8"):
        encode_clip([FRAMES[0], FRAMES[1][:-2]])
    with pytest.raises(InputError, match="float32"):
        encode_clip([FRAMES[0].astype(np.float32)])  # type: ignore[list-item]
    with pytest.raises(InputError, match="can be kept to"):
        encode_clip(FRAMES[:2], minimum_psnr=90.0)


def test_damage_is_named() -> None:
    run = RUNS[0]
    with pytest.raises(CorruptFileError, match="packets"):
        decode_frames(run.stream[:-3], run.packets, [0])
    broken = PictureRun(bytes(len(run.stream)), run.packets, run.psnr)
    with pytest.raises(CorruptFileError, match="does not decode"):
        decode_frames(broken.stream, broken.packets, [0])
    with pytest.raises(CorruptFileError, match="frame 16"):
        decode_frames(run.stream, run.packets, [16])

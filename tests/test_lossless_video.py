from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.lossless_video import write_lossless_video
from sceneloom.datasets.video import iter_video, probe, read_video

from .moving_videos import moving_square


@pytest.mark.parametrize("size", [(64, 96), (35, 51)])
def test_frames_come_back_bit_by_bit(tmp_path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (19, *size, 3), dtype=np.uint8)
    noise[0], noise[1] = 0, 255
    path = tmp_path / "a.mp4"
    assert write_lossless_video(path, iter(noise), fps=24) == 19
    np.testing.assert_array_equal(read_video(path), noise)
    np.testing.assert_array_equal(read_video(path, [17, 3]), noise[[17, 3]])
    np.testing.assert_array_equal(np.stack(list(iter_video(path))), noise)
    assert (probe(path).frames, probe(path).fps) == (19, 24)


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    frames, _ = moving_square(20, 64, 96)
    for name in ("a", "b"):
        write_lossless_video(tmp_path / name, frames, fps=24)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size < frames.nbytes / 4


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "no frame to write"),
        ([np.zeros((4, 6, 3), np.uint8), np.zeros((4, 8, 3), np.uint8)], r"frame 1 is uint8\(4, 8, 3\)"),
        ([np.zeros((4, 6, 3), np.float32)], "frame 0 is float32"),
        ([np.zeros((4, 6), np.uint8)], r"frame 0 is uint8\(4, 6\)"),
    ],
)
def test_what_is_no_clip_is_refused_and_leaves_nothing(tmp_path: Path, frames: list[np.ndarray], words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_lossless_video(tmp_path / "a.mp4", frames, fps=24)
    assert list(tmp_path.iterdir()) == []

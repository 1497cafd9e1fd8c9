"""MP4 files cut where decoding can begin, so that a short run of frames needs only its own bytes.

A file whose samples lie one after another behind its index, in the order in which they are shown, is its head (all up
to the first sample) followed by one piece for each group of pictures; joined, the pieces are the file again. A head and
one piece decode like the whole file: the piece is put where the index expects it. `write_video` makes such files. A
file of another kind (index at the end, B-frames, a second track between the pictures) is kept as a single piece.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptFileError
from .video import read_video

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class VideoRuns:
    """An MP4 file in pieces: `head` and `runs`, joined, are the file.

    Attributes:
        head: index and file header; empty where the file could not be cut.
        runs: bytes of each group of pictures.
        first_frames: index of the first frame of each run, ascending from 0.
    """

    head: bytes
    runs: tuple[bytes, ...]
    first_frames: tuple[int, ...]


def cut_into_runs(mp4: bytes) -> VideoRuns:
    """Cut an MP4 file at its key frames.

    Raises:
        CorruptFileError: FFmpeg cannot read the file.
    """
    whole = VideoRuns(b"", (mp4,), (0,))
    samples = _samples(mp4)
    if samples is None or not samples or not samples[0][2]:
        return whole
    positions = np.array([sample[0] for sample in samples])
    ends = positions + [sample[1] for sample in samples]
    if (positions[1:] != ends[:-1]).any() or ends[-1] != len(mp4):
        return whole
    first_frames = [index for index, sample in enumerate(samples) if sample[2]]
    cuts = [int(positions[index]) for index in first_frames] + [len(mp4)]
    runs = tuple(mp4[start:stop] for start, stop in itertools.pairwise(cuts))
    return VideoRuns(mp4[: cuts[0]], runs, tuple(first_frames))


def decode_run(head: bytes, run: bytes, position: int, frames: Sequence[int]) -> UInt8:
    """Decode frames of one run.

    Args:
        head, run: of `VideoRuns`.
        position: where the run begins in the file.
        frames: indices in the whole video, all inside the run; any order, repeats allowed.

    Returns:
        (len(frames), H, W, 3) uint8 sRGB, what `read_video` gives for these frames of the whole file.

    Raises:
        CorruptFileError: the run does not decode.
    """
    return read_video(b"".join([head, bytes(position - len(head)), run]), frames)


def _samples(mp4: bytes) -> list[tuple[int, int, bool]] | None:
    """Position, size and key flag of the samples in file order; None where that is not the order they are shown in."""
    import av
    import av.error

    try:
        with av.open(io.BytesIO(mp4), "r") as container:
            if len(container.streams) != 1 or not container.streams.video:
                return None
            packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
    except av.error.FFmpegError as error:
        raise CorruptFileError(
            f"the video cannot be read ({error.strerror})",
            where=f"video of {len(mp4)} bytes",
            remedy="Give the bytes of an MP4 file.",
        ) from error
    shown = [packet.pts for packet in packets]
    if (
        None in shown
        or any(packet.pos is None for packet in packets)
        or shown != sorted(shown, key=lambda pts: pts or 0)
    ):
        return None
    return [(int(packet.pos or 0), packet.size, packet.is_keyframe) for packet in packets]

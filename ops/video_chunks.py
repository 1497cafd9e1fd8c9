"""Paths longer than what a video model makes at once: chunks that overlap, and the seams between them.

Each chunk but the first starts on frames that the chunk before it ended with. What is kept of those frames is the
earlier chunk's; how differently the later one made them again, and how the step from one chunk to the next compares
with the steps around it, is measured and recorded as a seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ConfigError, ContractError
from .depth_alignment import DepthAlignment, align_relative_depth

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

STEPS_AROUND = 8
"""Frame-to-frame steps on each side of a seam that its own step is compared with."""


@dataclass(frozen=True, slots=True)
class VideoChunk:
    """Frames [start, stop) of a path, made in one go.

    Attributes:
        overlap: how many of its first frames the chunk before has made already; 0 for the first chunk.
    """

    start: int
    stop: int
    overlap: int

    @property
    def frames(self) -> int:
        """Frames made, the overlap included."""
        return self.stop - self.start

    def record(self) -> dict[str, Any]:
        """The numbers for a stage's notes, JSON."""
        return {"start": self.start, "stop": self.stop, "overlap": self.overlap}


def plan_chunks(frames: int, *, window: int, overlap: int, stride: int) -> tuple[VideoChunk, ...]:
    """Cut a path into chunks of at most `window` frames that overlap by `overlap`; the last one may be shorter.

    Args:
        frames: T of the path, 1 + stride·k.
        window: frames that the model makes at once, 1 + stride·k.
        overlap: frames shared by neighbours, 1 + stride·k and less than `window`.
        stride: the autoencoder's temporal stride: chunks have 1 + stride·k frames.

    Raises:
        ConfigError: one of the counts is not 1 + stride·k, or chunks would not get on.
    """
    for name, count in (("frames", frames), ("window", window), ("overlap", overlap)):
        if count < 1 or (count - 1) % stride:
            near = max((count - 1) // stride, 0) * stride + 1
            raise ConfigError(
                f"{name} is {count}, not 1 + {stride}·k",
                where="video chunks",
                remedy=f"The nearest possible counts are {near} and {near + stride}.",
            )
    if overlap >= window:
        raise ConfigError(
            f"an overlap of {overlap} in windows of {window} frames",
            where="video chunks",
            remedy="Let the overlap be smaller than the window.",
        )
    chunks = [VideoChunk(0, min(window, frames), 0)]
    while chunks[-1].stop < frames:
        start = chunks[-1].stop - overlap
        chunks.append(VideoChunk(start, min(start + window, frames), overlap))
    return tuple(chunks)


@dataclass(frozen=True, slots=True)
class Seam:
    """How well a chunk continues the one before it.

    Attributes:
        frame: the first frame that is the later chunk's.
        overlap: frames made by both.
        difference: mean absolute difference of the two makes of the overlap, 8-bit levels.
        step: mean absolute difference between the frames on the two sides of the seam, 8-bit levels.
        usual_step: median of that between neighbouring frames around the seam; 0 where there are none.
    """

    frame: int
    overlap: int
    difference: float
    step: float
    usual_step: float

    def record(self) -> dict[str, Any]:
        """The numbers for a stage's notes, JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def join_chunks(made: UInt8, chunk: VideoChunk, again: UInt8) -> tuple[UInt8, Seam]:
    """Append a chunk to what the chunks before it made.

    Args:
        made: (chunk.start + chunk.overlap, H, W, 3) uint8, everything so far.
        chunk: what is appended; its overlap is at least 1.
        again: (chunk.frames, H, W, 3) uint8, the chunk as it was made, the overlap included.

    Returns:
        (chunk.stop, H, W, 3) uint8 with the earlier make of the overlap, and the seam.

    Raises:
        ContractError: the counts are not those of the chunk.
    """
    if chunk.overlap < 1 or len(made) != chunk.start + chunk.overlap or len(again) != chunk.frames:
        raise ContractError(
            f"{len(made)} frames so far and {len(again)} of the chunk {chunk}",
            where="video chunks",
            remedy="Append the chunks of a plan in its order.",
        )
    joined = np.concatenate([made, again[chunk.overlap :]])
    seam = chunk.start + chunk.overlap
    around = [
        _difference(joined[index - 1], joined[index])
        for index in range(max(seam - STEPS_AROUND, 1), min(seam + STEPS_AROUND + 1, len(joined)))
        if index != seam
    ]
    return joined, Seam(
        frame=seam,
        overlap=chunk.overlap,
        difference=_difference(made[chunk.start :], again[: chunk.overlap]),
        step=_difference(joined[seam - 1], joined[seam]),
        usual_step=float(np.median(around)) if around else 0.0,
    )


def reanchor_depth(estimated: Float32, known: Float32, *, trusted: NDArray[np.bool_]) -> tuple[Float32, DepthAlignment]:
    """Depth of a generated frame in the unit and on the surfaces of the 3D cache that it was made from.

    Where the cache shows the frame, its own depth is kept, so that what was seen stays where it is; elsewhere the
    estimate is taken, brought onto the cache's depth by scale and shift of the inverse depth. Before a flat wall there
    is no telling one from the other: then, if it fits, by scale alone.

    Args:
        estimated: (H, W) float32 depth of the frame by itself, any unit, 0 = invalid.
        known: (H, W) float32 depth of the cache from the frame's camera, 0 = nothing there.
        trusted: (H, W) bool, where `known` is what the frame shows.

    Returns:
        (H, W) float32 depth, 0 = invalid, and the alignment.

    Raises:
        ContractError: too few pixels to align on, or estimate and cache contradict each other.
    """
    alignment = align_relative_depth(estimated, known, where=trusted)
    aligned = alignment.apply_to_depth(estimated)
    return np.where(trusted & (known > 0.0), known, aligned).astype(np.float32), alignment


def _difference(first: UInt8, second: UInt8) -> float:
    return float(np.abs(first.astype(np.int16) - second.astype(np.int16)).mean())

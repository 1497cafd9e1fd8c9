"""Clips longer than what a video model makes at once: made chunk by chunk, each going on from the frames before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.video_chunks import VideoChunk, join_chunks
from .engines import GeneratedClip
from .pipeline_engine import Made, VideoPipelineEngine, make_checked


class ChunkedClip:
    """A clip in the making.

    Args:
        engine: makes it.
        known: (n, H, W, 3) uint8, what the first chunk goes on from; no part of the clip. n may be 0.

    Attributes:
        frames: (t, H, W, 3) uint8 of all chunks so far; before the first, what is known.
    """

    def __init__(self, engine: VideoPipelineEngine, known: NDArray[np.uint8]) -> None:
        self.engine = engine
        self.frames = known
        self._last: Made | None = None
        self._records: list[dict[str, Any]] = []
        self._seams: list[dict[str, Any]] = []

    def add(self, chunk: VideoChunk, make: Callable[[int], Made], *, seed: int, **facts: Any) -> None:
        """Make the next chunk of the plan from a seed, once more from another where it is broken, and join it on.

        Args:
            facts: what else the chunk's record says, JSON.

        Raises:
            StageFailed: memory ran out, or two seeds gave a broken chunk.
        """
        where = f"frames {chunk.start} to {chunk.stop - 1}, engine {self.engine.name}"
        checked = make_checked(make, seed=seed, where=where)
        self._last = checked.output
        self._records.append({**chunk.record(), **facts, **checked.for_record(), "memory": self._last.memory})
        if chunk.overlap:
            self.frames, seam = join_chunks(self.frames, chunk, self._last.frames)
            self._seams.append(seam.record())
        else:
            self.frames = self._last.frames

    def finished(self, **facts: Any) -> GeneratedClip:
        """The clip, with the model's own latents where it was made at once: those of chunks do not join.

        Args:
            facts: what else the clip's notes say, JSON.
        """
        assert self._last is not None, "no chunk was added"
        latents = self._last.latents if len(self._records) == 1 else None
        return GeneratedClip(
            frames=self.frames,
            latents=latents,
            latent_space=None if latents is None else self.engine.latent_space,
            notes={**self._last.notes, **facts, "chunks": self._records, "seams": self._seams},
        )

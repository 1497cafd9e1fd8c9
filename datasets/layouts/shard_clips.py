"""Clips of a release: their arrays are read from training shards, their videos as they were published."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import fsspec
import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError, StoreError
from ..shards import ShardReader
from ..tensors import FLOAT16_LARGEST
from .release import Float16, Float32, UInt8

_OPEN_SHARDS = 8
"""Layouts are written scene by scene, so few shards are read at a time."""


@dataclass(frozen=True, slots=True)
class ShardClip:
    """One clip of a shard, as a `ReleaseClip`.

    Attributes:
        shard: local directory or fsspec URL of the shard; opened with the first array that is asked for.
        video: URL of the clip's MP4 file as its stage published it, and `video_sha256`, its checksum.
    """

    shard: str
    video: str
    video_sha256: str
    scene_id: str
    trajectory: str
    frames: int
    height: int
    width: int
    frames_per_second: float
    metric: bool

    def rgb(self, frames: Sequence[int] | None = None) -> UInt8:
        """(T, H, W, 3) uint8 sRGB. Raises CorruptFileError for damage, as all readers here."""
        return _open(self.shard).rgb(self.scene_id, self.trajectory, frames)

    def rgb_mp4(self) -> bytes:
        """The MP4 file. Raises CorruptFileError when it is gone or not what was published."""
        remake = "Run `sceneloom make`, which makes a damaged file again."
        try:
            with fsspec.open(self.video, "rb") as file:
                content: bytes = file.read()  # type: ignore[union-attr]
        except FileNotFoundError as error:
            raise CorruptFileError("the clip's video is gone", where=self.video, remedy=remake) from error
        except OSError as error:
            raise StoreError(f"cannot be read ({error})", where=self.video, remedy="Check the store.") from error
        if hashlib.sha256(content).hexdigest() != self.video_sha256:
            raise CorruptFileError("the clip's video is not what was published", where=self.video, remedy=remake)
        return content

    def depth(self, frames: Sequence[int] | None = None) -> Float16:
        """(T, H, W) z-depth rounded to float16, 0 = invalid."""
        depth = _open(self.shard).depth(self.scene_id, self.trajectory, frames)
        # Depth at the end of the range may be stored a little beyond it, where float16 knows only infinity.
        return np.minimum(depth, FLOAT16_LARGEST, out=depth).astype(np.float16)

    def latents(self) -> Float16:
        """(C, t, h, w) float16, normalised."""
        return _open(self.shard).latents(self.scene_id, self.trajectory)

    def dynamic_mask(self) -> NDArray[np.bool_] | None:
        """(T, H, W) bool, where something moves; None where the shard says nothing of it."""
        return _open(self.shard).dynamic_mask(self.scene_id, self.trajectory)

    def cameras(self, *, estimated: bool = False) -> tuple[Float32, Float32]:
        """c2w (T, 4, 4) and intrinsics (T, 4)."""
        return _open(self.shard).cameras(self.scene_id, self.trajectory, estimated=estimated)


@functools.lru_cache(maxsize=_OPEN_SHARDS)
def _open(shard: str) -> ShardReader:
    return ShardReader(shard)

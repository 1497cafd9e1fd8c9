"""Clips of a release, read from training shards when they are asked for."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from ..shards import ShardReader
from .release import Float16, Float32, UInt8

_OPEN_SHARDS = 8
"""Layouts are written scene by scene, so few shards are read at a time."""


@dataclass(frozen=True, slots=True)
class ShardClip:
    """One clip of a shard, as a `ReleaseClip`.

    Attributes:
        shard: local directory or fsspec URL of the shard; opened with the first array that is asked for.
    """

    shard: str
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
        """The MP4 file."""
        return _open(self.shard).rgb_mp4(self.scene_id, self.trajectory)

    def depth(self, frames: Sequence[int] | None = None) -> Float16:
        """(T, H, W) float16 z-depth, 0 = invalid."""
        return _open(self.shard).depth(self.scene_id, self.trajectory, frames)

    def latents(self) -> Float16:
        """(C, t, h, w) float16, normalised."""
        return _open(self.shard).latents(self.scene_id, self.trajectory)

    def cameras(self, *, estimated: bool = False) -> tuple[Float32, Float32]:
        """c2w (T, 4, 4) and intrinsics (T, 4)."""
        return _open(self.shard).cameras(self.scene_id, self.trajectory, estimated=estimated)


@functools.lru_cache(maxsize=_OPEN_SHARDS)
def _open(shard: str) -> ShardReader:
    return ShardReader(shard)

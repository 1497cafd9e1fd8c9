"""Clips as a map-style data set: rows of the training index, and the fields of each that a training asks for."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset

from .errors import InputError
from .open_shards import OpenShards
from .training_index import QUALITY_NUMBERS, read_table

FIELDS = ("latents", "depth", "rgb", "cameras")
"""What can be read of a clip."""

OPEN_SHARDS = 16
"""Shards that a process keeps open by default."""

Range = tuple[float | None, float | None]


class SceneClips(Dataset[dict[str, Any]]):
    """Clips of a training index, read from their shards field by field and verified by checksum (see `ShardReader`).

    A sample is a dict of `scene_id` and `trajectory` (str) and, of the fields asked for:

        latents      (C, t, h, w) float16 tensor, normalised as the shard's latent space declares
        depth        (T, H, W) float16 tensor, z-depth, 0 = invalid
        rgb          (T, H, W, 3) uint8 tensor, sRGB
        cameras      c2w (T, 4, 4) and intrinsics (T, 4) float32 tensors, OpenCV, pixels with centres at +0.5

    The data set pickles and forks: shards are opened in the process that reads them. A clip that cannot be read raises;
    nothing is replaced by another clip.

    Args:
        index: path or fsspec URL of training_index.parquet; credentials are those that fsspec finds.
        split: train, validation or test; None for all.
        passed: True for clips within the quality thresholds, False for the others, None for all.
        quality: (least, most) by the name of a quality number, either may be None; clips without the number are left
            out.
        licences: names accepted; clips whose source is silent (null) are left out.
        trajectories: names accepted.
        where: a pyarrow expression over the index's columns, for anything else.
        fields: what to read, of `FIELDS`.
        frames: frame numbers of depth, rgb and cameras, in any order; None for all. Latents are always whole.
        open_shards: most shards that a process keeps open.

    Raises:
        InputError: unknown fields or quality numbers, no index, or no clip is left: the message says after which
            filter how many were.
    """

    def __init__(
        self,
        index: str | Path,
        *,
        split: str | None = "train",
        passed: bool | None = True,
        quality: Mapping[str, Range] | None = None,
        licences: Collection[str] | None = None,
        trajectories: Collection[str] | None = None,
        where: pc.Expression | None = None,
        fields: Sequence[str] = ("latents", "cameras"),
        frames: Sequence[int] | None = None,
        open_shards: int = OPEN_SHARDS,
    ) -> None:
        unknown = [name for name in fields if name not in FIELDS]
        if unknown or not fields:
            raise InputError(
                f"fields are {list(fields)}", where=str(index), remedy=f"Give at least one of {', '.join(FIELDS)}."
            )
        self._index = str(index)
        self._fields = tuple(fields)
        self._frames = None if frames is None else tuple(frames)
        self._shards = OpenShards(open_shards)
        self.table: pa.Table = select_clips(
            index,
            split=split,
            passed=passed,
            quality=quality,
            licences=licences,
            trajectories=trajectories,
            where=where,
        )
        self._require_frames()

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, position: int) -> dict[str, Any]:
        """One clip. Raises IndexError beyond the end, CorruptFileError for damage, StoreError where reading fails."""
        import torch

        if not -len(self) <= position < len(self):
            raise IndexError(f"clip {position} of {len(self)}")
        place = position % len(self)
        scene_id, trajectory, shard = (self.table[name][place].as_py() for name in ("scene_id", "trajectory", "shard"))
        reader = self._shards.reader(shard_url(self._index, shard))
        sample: dict[str, Any] = {"scene_id": scene_id, "trajectory": trajectory}
        if "latents" in self._fields:
            sample["latents"] = torch.from_numpy(reader.latents(scene_id, trajectory))
        if "depth" in self._fields:
            sample["depth"] = torch.from_numpy(reader.depth(scene_id, trajectory, self._frames))
        if "rgb" in self._fields:
            sample["rgb"] = torch.from_numpy(reader.rgb(scene_id, trajectory, self._frames))
        if "cameras" in self._fields:
            for name, values in zip(("c2w", "intrinsics"), reader.cameras(scene_id, trajectory), strict=True):
                chosen = values if self._frames is None else values[list(self._frames)]
                sample[name] = torch.from_numpy(chosen)
        return sample

    def _require_frames(self) -> None:
        if self._frames is None:
            return
        shortest = int(self.table["frames"].to_numpy().min())
        beyond = [frame for frame in self._frames if not 0 <= frame < shortest]
        if beyond or not self._frames:
            raise InputError(
                f"frames {beyond or 'none'} asked for; the shortest clip has {shortest} frames",
                where=self._index,
                remedy=f"Ask for frames 0 to {shortest - 1}, or select longer clips.",
            )


def select_clips(
    index: str | Path,
    *,
    split: str | None = None,
    passed: bool | None = None,
    quality: Mapping[str, Range] | None = None,
    licences: Collection[str] | None = None,
    trajectories: Collection[str] | None = None,
    where: pc.Expression | None = None,
) -> pa.Table:
    """Rows of a training index that pass every filter; see `SceneClips`.

    Raises:
        InputError: no index, an unknown quality number, an expression that does not fit the columns, or no row is left.
    """
    table = read_table(index)
    counts = [f"{table.num_rows} in the index"]
    for label, condition in _conditions(split, passed, quality or {}, licences, trajectories, where, str(index)):
        try:
            table = table.filter(condition)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError) as error:
            raise InputError(
                f"the filter {label} cannot be applied ({error})",
                where=str(index),
                remedy="Use the columns and types of TRAINING_INDEX_SCHEMA.",
            ) from error
        counts.append(f"{table.num_rows} after {label}")
    if not table.num_rows:
        raise InputError(f"no clip is left: {', '.join(counts)}", where=str(index), remedy="Relax the filters.")
    return table.combine_chunks()


def _conditions(
    split: str | None,
    passed: bool | None,
    quality: Mapping[str, Range],
    licences: Collection[str] | None,
    trajectories: Collection[str] | None,
    where: pc.Expression | None,
    index: str,
) -> list[tuple[str, pc.Expression]]:
    chosen: list[tuple[str, pc.Expression]] = []
    if split is not None:
        chosen.append((f"split = {split}", pc.field("split") == split))
    if passed is not None:
        chosen.append((f"passed = {passed}", pc.field("passed") == passed))
    for name, bounds in quality.items():
        if name not in QUALITY_NUMBERS:
            raise InputError(
                f"there is no quality number {name}", where=index, remedy=f"There are {', '.join(QUALITY_NUMBERS)}."
            )
        chosen.append((f"{name} from {bounds[0]} to {bounds[1]}", _within(f"quality_{name}", bounds)))
    for column, names in (("licence", licences), ("trajectory", trajectories)):
        if names is not None:
            accepted = pa.array(sorted(names), pa.string())
            chosen.append((f"{column} in {sorted(names)}", pc.field(column).isin(accepted)))
    if where is not None:
        chosen.append((str(where), where))
    return chosen


def _within(column: str, bounds: Range) -> pc.Expression:
    condition = pc.field(column).is_valid() & ~pc.field(column).is_nan()
    if bounds[0] is not None:
        condition = condition & (pc.field(column) >= bounds[0])
    if bounds[1] is not None:
        condition = condition & (pc.field(column) <= bounds[1])
    return condition


def shard_url(index: str | Path, shard: str) -> str:
    """Where a shard lies: its path in the index is relative to the index's folder, which may be a URL's."""
    if "://" not in str(index):
        return posixpath.normpath(posixpath.join(Path(index).parent.as_posix(), shard))
    protocol, _, location = str(index).rpartition("://")
    return f"{protocol}://{posixpath.normpath(posixpath.join(posixpath.dirname(location), shard))}"

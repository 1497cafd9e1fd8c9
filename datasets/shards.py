"""Training shards: many clips in one Zarr v3 group, written clip by clip, read field by field, checked both ways.

A shard is a Zarr v3 group that any Zarr reader opens. Its arrays run over clips:

    latents               (N, C, t, h, w) float16   one chunk a clip, one object for all
    depth_residuals       (N, T, H, W)    uint16    one chunk a frame, one object a clip; see `depth_codec`
    depth_values          (K,)            float32   the depth that each code stands for; 0 is invalid
    depth_prediction      (N,)            uint8     each clip's prediction, a place in the attribute `depth.predictions`
    depth_relative_error  (N, T)          float32   largest relative error of each frame, found at writing
    depth_sha256          (N, T, 32)      uint8     SHA-256 of each frame of depth, decoded
    rgb_runs              (N, R, B)       uint8     one chunk a run of frames, one object for all, zero padded
    rgb_run_bytes         (N, R)          int64     length of each run's stream
    rgb_run_frames        (N, R)          int64     first frame of each run, T where there is no run
    rgb_run_sha256        (N, R, 32)      uint8     SHA-256 of each stream
    rgb_run_psnr          (N, R)          float32   of each run against the frames given, dB
    rgb_packets           (N, T, 3)       int32     packets of all runs; see `picture_runs`
    c2w, intrinsics       (N, T, 4, 4), (N, T, 4)   float32, commanded cameras
    estimated_c2w, …                                the same of the estimated cameras, when the clips have them
    dynamic_masks         (N, T, ⌈H·W / 8⌉) uint8   one chunk a clip; where something moves, when the clips know it: a
                                                    bit a pixel, rows from the top, the highest bit of a byte first
    quality               (N, Q)          float32   numbers named by the attribute `quality_names`

So one clip's latents, one run of frames, or one frame's depth is one ranged read (the sharding codec, its index at the
start of each object). Every chunk ends with its CRC-32C, which every Zarr reader verifies. The SHA-256 of each clip's
latents, cameras, packets and masks (little-endian, C order) stands in the group's attributes, of each run and each
frame of depth in the arrays above. No chunk is left out, so a missing one is damage (other readers take it for zeros).

Depth keeps its declared error bound, which is verified at writing: 0.1 % in the bounded tier; in the exact tier, the
rounding of float32 to float16 (2⁻¹¹), which float16 depth does not need. Frames keep the PSNR that their encoder was
asked for, 42 dB unless told otherwise, and the PSNR found is stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .depth_codec import PREDICTIONS, decode_residuals
from .errors import CorruptFileError, InputError, StoreError
from .picture_runs import decode_frames
from .shard_writer import CAMERA_FIELDS, FORMAT, FORMAT_VERSION, ClipArrays, ShardSummary, sha256_of_array, write_shard
from .zarr_chunks import ChunkedArray, DamagedChunk, RangedFiles, Verify

__all__ = ["ClipArrays", "ClipEntry", "ShardReader", "ShardSummary", "sha256_of_array", "write_shard"]

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

_FRAMES_DECODED_TOGETHER = 8
"""Frames of depth whose rows are decoded in one pass: fewer calls, and few enough for the processor's cache."""
_REMAKE = "The shard was changed or damaged after it was written: fetch it again, or make it again."


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """One clip of a shard: its place, name and small facts."""

    index: int
    scene_id: str
    trajectory: str
    metric: bool
    frames: int
    quality: Mapping[str, float]
    metadata: Mapping[str, Any]


class ShardReader:
    """Reads one shard from a directory or an fsspec URL; every array it returns has passed its checksums.

    Readers pickle by their URL and may be used in several threads.

    Args:
        url: directory, or fsspec URL of one.
        storage_options: for the fsspec file system.
        verify: when checksums are verified. "first": SHA-256, which also finds a shard that was written over, when this
            reader reads an array or a frame for the first time, CRC-32C whenever it comes over a network or from a
            local file that changed since. "always": both, at every read.

    Raises:
        InputError: there is no shard.
        CorruptFileError: its metadata cannot be read, or are of another format.
        StoreError: the store cannot be read.
    """

    def __init__(
        self, url: str | Path, storage_options: Mapping[str, Any] | None = None, *, verify: Verify = "first"
    ) -> None:
        self._url = str(url)
        self._options = dict(storage_options or {})
        self._verify: Verify = verify
        self._files = RangedFiles(self._url, self._options)
        self._attributes = _checked_attributes(self._files, self._url)
        self._arrays = {name: ChunkedArray(self._files, name, verify) for name in self._attributes["arrays"]}
        self._tables: dict[str, NDArray[Any]] = {}
        self._verified: set[tuple[str, int, int]] = set()
        quality = self._table(None, "quality")
        self._clips = tuple(
            _entry(index, row, dict(zip(self._attributes["quality_names"], map(float, quality[index]), strict=True)))
            for index, row in enumerate(self._attributes["clips"])
        )
        self._index = {(clip.scene_id, clip.trajectory): clip.index for clip in self._clips}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopened, (self._url, self._options, self._verify))

    @property
    def clips(self) -> tuple[ClipEntry, ...]:
        """Every clip of the shard, in order."""
        return self._clips

    @property
    def latent_space(self) -> Mapping[str, Any]:
        """The latents' VAE and normalisation, as declared at writing."""
        return self._attributes["latent_space"]

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The group's attributes: format, conventions, depth declaration, clips with their checksums."""
        return self._attributes

    def latents(self, scene_id: str, trajectory: str) -> Float16:
        """(C, t, h, w) float16. Raises InputError for an unknown clip, CorruptFileError for damage."""
        clip = self._clip(scene_id, trajectory)
        values = self._chunks(clip, "latents", [(clip.index, 0, 0, 0, 0)])[0][0]
        self._require_digest(values, self._digest(clip, "latents"), clip, "latents")
        return values

    def depth(self, scene_id: str, trajectory: str, frames: Sequence[int] | None = None) -> Float32:
        """(T, H, W) float32 z-depth, 0 = invalid, of all frames or of those asked for, in their order.

        Raises InputError for an unknown clip or frame, CorruptFileError for damage.
        """
        clip = self._clip(scene_id, trajectory)
        wanted = self._wanted(clip, frames, "depth")
        distinct = sorted(set(wanted))
        height, width = self._depth_size(clip)
        values = np.empty((len(distinct), height, width), np.float32)
        stored = self._chunks(clip, "depth_residuals", [(clip.index, frame, 0, 0) for frame in distinct])
        for start in range(0, len(distinct), _FRAMES_DECODED_TOGETHER):
            part = slice(start, start + _FRAMES_DECODED_TOGETHER)
            self._decode_depth(clip, distinct[part], stored[part], values[part])
        return values if wanted == distinct else values[np.searchsorted(distinct, wanted)]

    def rgb(
        self,
        scene_id: str,
        trajectory: str,
        frames: Sequence[int] | None = None,
        *,
        channels_first: bool = False,
        threads: int = 1,
    ) -> UInt8:
        """(T, H, W, 3) uint8 sRGB of all frames or of those asked for, in their order.

        Only the runs that hold a frame asked for are read, and of these only the pictures that it needs are decoded.

        Args:
            channels_first: give (T, 3, H, W), which is faster.
            threads: runs that are decoded at once.

        Raises InputError for an unknown clip or frame, CorruptFileError for damage.
        """
        clip = self._clip(scene_id, trajectory)
        wanted = self._wanted(clip, frames, "rgb")
        height, width = self._depth_size(clip)
        shape = (3, height, width) if channels_first else (height, width, 3)
        result = np.empty((len(wanted), *shape), np.uint8)
        first_frames = self._table(clip, "rgb_run_frames")[clip.index]
        run_of = np.searchsorted(first_frames, wanted, side="right") - 1
        runs = sorted(set(run_of.tolist()))

        def decode(run: int, stream: memoryview) -> None:
            places = np.flatnonzero(run_of == run)
            inside = [wanted[place] - int(first_frames[run]) for place in places]
            result[places] = self._decoded_run(clip, run, stream, inside, channels_first)

        streams = list(self._streams(clip, runs))
        self._table(clip, "rgb_packets")
        if min(threads, len(runs)) < 2:
            for run, stream in zip(runs, streams, strict=True):
                decode(run, stream)
        else:
            # A pool of this call alone: a lasting one would not survive a fork of the data loader's.
            with ThreadPoolExecutor(min(threads, len(runs)), thread_name_prefix="decode") as pool:
                list(pool.map(decode, runs, streams))
        return result

    def rgb_runs(self, scene_id: str, trajectory: str) -> list[bytes]:
        """The H.264 streams of a clip's runs, in order."""
        clip = self._clip(scene_id, trajectory)
        count = int((self._table(clip, "rgb_run_frames")[clip.index] < clip.frames).sum())
        return [bytes(stream) for stream in self._streams(clip, range(count))]

    def cameras(self, scene_id: str, trajectory: str, *, estimated: bool = False) -> tuple[Float32, Float32]:
        """c2w (T, 4, 4) and intrinsics (T, 4) float32: the commanded cameras, or the estimated ones.

        The cameras of all clips are read once.

        Raises InputError for an unknown clip, or when the shard holds no estimated cameras; CorruptFileError for
        damage.
        """
        if estimated and "estimated_c2w" not in self._arrays:
            raise InputError(
                "the shard holds no estimated cameras", where=self._url, remedy="Ask for the commanded cameras."
            )
        clip = self._clip(scene_id, trajectory)
        c2w, intrinsics = CAMERA_FIELDS[2:] if estimated else CAMERA_FIELDS[:2]
        return self._clip_row(clip, c2w), self._clip_row(clip, intrinsics)

    def dynamic_mask(
        self, scene_id: str, trajectory: str, frames: Sequence[int] | None = None
    ) -> NDArray[np.bool_] | None:
        """(T, H, W) bool, where something moves, of all frames or of those asked for, in their order; None where the
        shard says nothing of it. `metadata["dynamic_from"]` of a clip says what it rests on.

        Raises InputError for an unknown clip or frame, CorruptFileError for damage.
        """
        clip = self._clip(scene_id, trajectory)
        if "dynamic_masks" not in self._arrays:
            return None
        wanted = self._wanted(clip, frames, "dynamic_masks")
        packed = self._chunks(clip, "dynamic_masks", [(clip.index, 0, 0)])[0][0]
        self._require_digest(packed, self._digest(clip, "dynamic_masks"), clip, "dynamic_masks")
        height, width = self._depth_size(clip)
        bits = np.unpackbits(packed[wanted], axis=1, count=height * width)
        return bits.view(np.bool_).reshape(len(wanted), height, width)

    def _clip(self, scene_id: str, trajectory: str) -> ClipEntry:
        index = self._index.get((scene_id, trajectory))
        if index is None:
            raise InputError(
                f"there is no clip of scene {scene_id} along {trajectory}",
                where=self._url,
                remedy="The shard's `clips` lists what it holds.",
            )
        return self._clips[index]

    def _wanted(self, clip: ClipEntry, frames: Sequence[int] | None, name: str) -> list[int]:
        wanted = list(range(clip.frames)) if frames is None else [int(frame) for frame in frames]
        beyond = [frame for frame in wanted if not 0 <= frame < clip.frames]
        if beyond:
            raise InputError(
                f"frame {beyond[0]} is not in a clip of {clip.frames} frames",
                where=self._where(clip, name),
                remedy=f"Ask for frames 0 to {clip.frames - 1}.",
            )
        return wanted

    def _clip_row(self, clip: ClipEntry, name: str) -> Any:
        values = self._table(clip, name)[clip.index]
        self._require_digest(values, self._digest(clip, name), clip, name)
        return values.copy()

    def _depth_size(self, clip: ClipEntry) -> tuple[int, int]:
        shape = self._load(clip, "depth_residuals", lambda: self._arrays["depth_residuals"].shape)
        return shape[2], shape[3]

    def _decode_depth(
        self, clip: ClipEntry, frames: Sequence[int], stored: Sequence[NDArray[np.uint16]], out: Float32
    ) -> None:
        try:
            prediction = PREDICTIONS[int(self._table(clip, "depth_prediction")[clip.index])]
            residuals = np.stack([chunk[0, 0] for chunk in stored])
            steps = self._attributes["depth"]["codes_in_a_step"]
            out[...] = decode_residuals(residuals, prediction, self._table(clip, "depth_values"), steps)
        except IndexError as error:
            raise CorruptFileError(str(error), where=self._where(clip, "depth_residuals"), remedy=_REMAKE) from error
        for frame, values in zip(frames, out, strict=True):
            self._require_digest(
                values, ("depth_sha256", frame), clip, "depth_residuals", part=f" of frame {frame}", place=frame
            )

    def _streams(self, clip: ClipEntry, runs: Sequence[int]) -> Iterator[memoryview]:
        sizes = self._table(clip, "rgb_run_bytes")[clip.index]
        chunks = self._chunks(clip, "rgb_runs", [(clip.index, run, 0) for run in runs])
        for run, chunk in zip(runs, chunks, strict=True):
            stream = np.ascontiguousarray(chunk[0, 0, : int(sizes[run])])
            self._require_digest(stream, ("rgb_run_sha256", run), clip, "rgb_runs", part=f" of run {run}", place=run)
            yield stream.data

    def _decoded_run(
        self, clip: ClipEntry, run: int, stream: memoryview, frames: Sequence[int], channels_first: bool
    ) -> UInt8:
        first_frames = self._table(clip, "rgb_run_frames")[clip.index]
        end = first_frames[run + 1] if run + 1 < len(first_frames) else clip.frames
        packets = self._table(clip, "rgb_packets")[clip.index]
        self._require_digest(packets, self._digest(clip, "rgb_packets"), clip, "rgb_packets")
        packets = packets[first_frames[run] : end]
        try:
            return decode_frames(stream, packets, frames, channels_first=channels_first)
        except CorruptFileError as error:
            raise CorruptFileError(error.found, where=self._where(clip, "rgb_runs"), remedy=_REMAKE) from error

    def _digest(self, clip: ClipEntry, name: str) -> str:
        return self._attributes["clips"][clip.index]["sha256"][name]

    def _table(self, clip: ClipEntry | None, name: str) -> NDArray[Any]:
        """A small array of all clips, read once; it must not be changed."""
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = self._load(clip, name, lambda: self._arrays[name].whole())
        return table

    def _chunks(self, clip: ClipEntry, name: str, places: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
        return self._load(clip, name, lambda: self._arrays[name].chunks(places))

    def _load(self, clip: ClipEntry | None, name: str, read: Callable[[], Any]) -> Any:
        """What `read` gives; errors name the shard, the clip and the field."""
        try:
            return read()
        except (FileNotFoundError, KeyError) as error:
            raise CorruptFileError("an object is missing", where=self._where(clip, name), remedy=_REMAKE) from error
        except DamagedChunk as error:
            raise CorruptFileError(str(error), where=self._where(clip, name), remedy=_REMAKE) from error
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"cannot be read ({error})", where=self._where(clip, name), remedy="Check the store."
            ) from error

    def _require_digest(
        self,
        values: NDArray[Any],
        expected: str | tuple[str, int],
        clip: ClipEntry,
        name: str,
        *,
        part: str = "",
        place: int = 0,
    ) -> None:
        """Verify a SHA-256, given in hex or by table and row, unless it was verified and once is enough."""
        key = (name, clip.index, place)
        if self._verify == "first" and key in self._verified:
            return
        if isinstance(expected, tuple):
            digest = self._table(clip, expected[0])[clip.index, expected[1]].tobytes().hex()
        else:
            digest = expected
        self._require_same(sha256_of_array(values), digest, clip, name, part)
        self._verified.add(key)

    def _require_same(self, found: str, expected: str, clip: ClipEntry, name: str, part: str) -> None:
        if found != expected:
            raise CorruptFileError(
                f"the SHA-256{part} is {found[:12]}…, {expected[:12]}… was written",
                where=self._where(clip, name),
                remedy=_REMAKE,
            )

    def _where(self, clip: ClipEntry | None, name: str) -> str:
        return f"{self._url}, {name}" + (f" of {clip.scene_id}/{clip.trajectory}" if clip else "")


def _reopened(url: str, options: dict[str, Any], verify: Verify) -> ShardReader:
    return ShardReader(url, options, verify=verify)


def _checked_attributes(files: RangedFiles, url: str) -> dict[str, Any]:
    try:
        content = files.read("zarr.json").tobytes()
    except FileNotFoundError as error:
        raise InputError("there is no shard", where=url, remedy="Check the path.") from error
    try:
        attributes = json.loads(content)["attributes"]
        found = (attributes.get("format"), attributes.get("format_version"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"the shard's metadata cannot be read ({error})", where=url, remedy=_REMAKE) from error
    if found != (FORMAT, FORMAT_VERSION):
        raise CorruptFileError(
            f"the format is {found[0]} version {found[1]}, expected {FORMAT} version {FORMAT_VERSION}",
            where=url,
            remedy="Read it with the version of sceneloom that wrote it, or make it again.",
        )
    return attributes


def _entry(index: int, row: Mapping[str, Any], quality: Mapping[str, float]) -> ClipEntry:
    return ClipEntry(
        index=index,
        scene_id=row["scene_id"],
        trajectory=row["trajectory"],
        metric=row["metric"],
        frames=row["frames"],
        quality=quality,
        metadata=row["metadata"],
    )

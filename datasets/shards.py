"""Training shards: many clips in one Zarr v3 group, written clip by clip, read field by field, checked both ways.

A shard is a Zarr v3 group that any Zarr reader opens. Its arrays run over clips:

    latents             (N, C, t, h, w) float16   one chunk a clip, one object for all
    depth               (N, T, H, W)    float16   one chunk a frame, one object a clip
    rgb_mp4             (N, B)          uint8     one chunk a clip, one object for all; MP4 files, zero padded
    rgb_mp4_bytes       (N,)            int64     length of each MP4 file
    c2w, intrinsics     (N, T, 4, 4), (N, T, 4)   float32, commanded cameras
    estimated_c2w, …                              the same of the estimated cameras, when the clips have them
    quality             (N, Q)          float32   numbers named by the attribute `quality_names`
    depth_sha256        (N, T, 32)      uint8     SHA-256 of each frame of depth

So one clip's latents, its video, or one frame's depth is one ranged read (the sharding codec). Every chunk ends with
its CRC-32C, which every Zarr reader verifies; the SHA-256 of each clip's part of each array (little-endian, C order)
stands in the group's attributes and is verified here, which also finds a chunk that has gone missing (Zarr reads zeros
there).

Depth is rounded to float16: its relative error is at most 2⁻¹¹ from 2⁻¹⁴ to 65504 units. The writer declares the range
of the valid depths, and verifies range and error against what it was given.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError, CorruptFileError, InputError, StoreError
from .tensors import (
    C2W,
    DEPTH,
    ESTIMATED_C2W,
    ESTIMATED_INTRINSICS,
    FLOAT16_LARGEST,
    FLOAT16_RELATIVE_ERROR,
    FLOAT16_SMALLEST,
    INTRINSICS,
    LATENTS,
    RGB,
)
from .video import probe, read_video

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

FORMAT = "sceneloom.clip-shard"
FORMAT_VERSION = 1

_REMAKE = "The shard was changed or damaged after it was written: fetch it again, or make it again."
_CAMERA_FIELDS = ("c2w", "intrinsics", "estimated_c2w", "estimated_intrinsics")
_DIMENSIONS = {
    "latents": ("clip", "channel", "latent_frame", "latent_row", "latent_column"),
    "depth": ("clip", "frame", "row", "column"),
    "rgb_mp4": ("clip", "byte"),
    "rgb_mp4_bytes": ("clip",),
    "quality": ("clip", "number"),
    "depth_sha256": ("clip", "frame", "byte"),
    "c2w": ("clip", "frame", "camera_row", "camera_column"),
    "intrinsics": ("clip", "frame", "parameter"),
    "estimated_c2w": ("clip", "frame", "camera_row", "camera_column"),
    "estimated_intrinsics": ("clip", "frame", "parameter"),
}


@dataclass(frozen=True, slots=True)
class ClipArrays:
    """One clip to be written.

    Attributes:
        scene_id, trajectory: its name; unique in the shard.
        latents: (C, t, h, w) float16, normalised as the shard's latent space declares.
        depth: (T, H, W) float32 or float16 z-depth, 0 = invalid; a memory map will do.
        rgb_mp4: the bytes of an MP4 file of T frames of H × W, kept as they are.
        c2w, intrinsics: (T, 4, 4) and (T, 4) float32, the commanded cameras.
        metric: whether depth and translations are truly in metres.
        quality: numbers by name, the same names for every clip of the shard.
        estimated_c2w, estimated_intrinsics: cameras estimated from the pictures, where there are any; either every clip
            of a shard has them or none.
        metadata: JSON-compatible facts about the clip (prompt, licence, engine, alignment of the estimated cameras, …).
    """

    scene_id: str
    trajectory: str
    latents: Float16
    depth: NDArray[np.floating]
    rgb_mp4: bytes
    c2w: Float32
    intrinsics: Float32
    metric: bool
    quality: Mapping[str, float]
    estimated_c2w: Float32 | None = None
    estimated_intrinsics: Float32 | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """What was written: the number of clips, and the largest relative error that rounding depth has made."""

    clips: int
    depth_relative_error: float


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


def write_shard(
    directory: Path,
    clips: Iterable[ClipArrays],
    *,
    latent_space: Mapping[str, Any],
    depth_range: tuple[float, float] = (FLOAT16_SMALLEST, FLOAT16_LARGEST),
) -> ShardSummary:
    """Write a shard; the directory appears whole, or not at all.

    Clips are taken one at a time. Memory holds one clip's depth, and the latents and videos of all clips. The same
    clips give the same bytes.

    Args:
        directory: local directory to make; it must not exist.
        clips: at least one, all of one size, length and latent shape.
        latent_space: JSON-compatible declaration of the latents' VAE and normalisation.
        depth_range: smallest and largest valid depth that the clips may hold, in their unit; declared in the shard.

    Raises:
        InputError: no clip, the directory exists, the declared range is not one that float16 keeps to 2⁻¹¹, or a video
            is unreadable or of another length or size than the clip.
        ContractError: an array breaks its contract, depth leaves the declared range, or clips do not fit together.
        StoreError: the directory cannot be written.
    """
    low, high = depth_range
    if not FLOAT16_SMALLEST <= low < high <= FLOAT16_LARGEST:
        raise InputError(
            f"the depth range {low:g} to {high:g} is not inside {FLOAT16_SMALLEST:g} to {FLOAT16_LARGEST:g}",
            where=str(directory),
            remedy="Give a range that float16 holds with a relative error of 2⁻¹¹.",
        )
    if directory.exists():
        raise InputError("the directory exists", where=str(directory), remedy="Give a new one, or remove it first.")
    unfinished = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.part")
    try:
        unfinished.mkdir(parents=True)
        writer = _ShardWriter(unfinished, str(directory), latent_space, (low, high))
        for clip in clips:
            writer.add(clip)
        summary = writer.finish()
        unfinished.rename(directory)
    except StoreError:
        # From where the clips are read: it says already what failed.
        raise
    except OSError as error:
        raise StoreError(
            f"the shard cannot be written ({error})", where=str(directory), remedy="Check the disk."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return summary


class ShardReader:
    """Reads one shard from a directory or an fsspec URL; every array it returns has passed its checksum.

    Readers pickle by their URL and may be used in several threads.

    Args:
        url: directory, or fsspec URL of one.
        storage_options: for the fsspec file system.

    Raises:
        InputError: there is no shard.
        CorruptFileError: its metadata cannot be read, or are of another format.
    """

    def __init__(self, url: str | Path, storage_options: Mapping[str, Any] | None = None) -> None:
        self._url = str(url)
        self._options = dict(storage_options or {})
        self._group = _open_group(self._url, self._options)
        self._attributes = _checked_attributes(self._group, self._url)
        quality = self._load(None, "quality", lambda: self._group["quality"][:])
        self._clips = tuple(
            _entry(index, row, dict(zip(self._attributes["quality_names"], map(float, quality[index]), strict=True)))
            for index, row in enumerate(self._attributes["clips"])
        )
        self._index = {(clip.scene_id, clip.trajectory): clip.index for clip in self._clips}

    def __reduce__(self) -> tuple[Any, ...]:
        return (ShardReader, (self._url, self._options))

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
        return self._clip_array(scene_id, trajectory, "latents")

    def depth(self, scene_id: str, trajectory: str, frames: Sequence[int] | None = None) -> Float16:
        """(T, H, W) float16 z-depth, 0 = invalid, of all frames or of those asked for, in their order.

        Raises InputError for an unknown clip or frame, CorruptFileError for damage.
        """
        clip = self._clip(scene_id, trajectory)
        wanted = range(clip.frames) if frames is None else frames
        beyond = [frame for frame in wanted if not 0 <= frame < clip.frames]
        if beyond:
            raise InputError(
                f"frame {beyond[0]} is not in a clip of {clip.frames} frames",
                where=self._where(clip, "depth"),
                remedy=f"Ask for frames 0 to {clip.frames - 1}.",
            )
        distinct = sorted(set(wanted))
        values = self._load(clip, "depth", lambda: self._depth_frames(clip.index, distinct))
        digests = self._load(clip, "depth_sha256", lambda: self._group["depth_sha256"][clip.index])
        for frame, value in zip(distinct, values, strict=True):
            self._require_digest(value, digests[frame].tobytes().hex(), clip, "depth", part=f" of frame {frame}")
        return values if list(wanted) == distinct else values[np.searchsorted(distinct, list(wanted))]

    def rgb(self, scene_id: str, trajectory: str, frames: Sequence[int] | None = None) -> UInt8:
        """(T, H, W, 3) uint8 sRGB of all frames or of those asked for, in their order.

        Raises InputError for an unknown clip or frame, CorruptFileError for damage.
        """
        return read_video(self.rgb_mp4(scene_id, trajectory), frames)

    def rgb_mp4(self, scene_id: str, trajectory: str) -> bytes:
        """The clip's MP4 file as it was published."""
        clip = self._clip(scene_id, trajectory)
        length = int(self._load(clip, "rgb_mp4_bytes", lambda: self._group["rgb_mp4_bytes"][clip.index]))
        content = self._load(clip, "rgb_mp4", lambda: self._group["rgb_mp4"][clip.index])[:length]
        self._require_digest(content, self._digest(clip, "rgb_mp4"), clip, "rgb_mp4")
        return content.tobytes()

    def cameras(self, scene_id: str, trajectory: str, *, estimated: bool = False) -> tuple[Float32, Float32]:
        """c2w (T, 4, 4) and intrinsics (T, 4) float32: the commanded cameras, or the estimated ones.

        Raises InputError for an unknown clip, or when the shard holds no estimated cameras; CorruptFileError for
        damage.
        """
        prefix = "estimated_" if estimated else ""
        if estimated and "estimated_c2w" not in self._attributes["arrays"]:
            raise InputError(
                "the shard holds no estimated cameras", where=self._url, remedy="Ask for the commanded cameras."
            )
        return (
            self._clip_array(scene_id, trajectory, f"{prefix}c2w"),
            self._clip_array(scene_id, trajectory, f"{prefix}intrinsics"),
        )

    def _clip(self, scene_id: str, trajectory: str) -> ClipEntry:
        index = self._index.get((scene_id, trajectory))
        if index is None:
            raise InputError(
                f"there is no clip of scene {scene_id} along {trajectory}",
                where=self._url,
                remedy="The shard's `clips` lists what it holds.",
            )
        return self._clips[index]

    def _clip_array(self, scene_id: str, trajectory: str, name: str) -> Any:
        clip = self._clip(scene_id, trajectory)
        values = self._load(clip, name, lambda: self._group[name][clip.index])
        self._require_digest(values, self._digest(clip, name), clip, name)
        return values

    def _depth_frames(self, index: int, frames: Sequence[int]) -> Float16:
        """Frames given in ascending order, read in runs: Zarr's fancy indexing takes 20 times as long as slices."""
        depth = self._group["depth"]
        values = np.empty((len(frames), *depth.shape[2:]), np.float16)
        start = 0
        for stop in range(1, len(frames) + 1):
            if stop == len(frames) or frames[stop] != frames[stop - 1] + 1:
                values[start:stop] = depth[index, frames[start] : frames[stop - 1] + 1]
                start = stop
        return values

    def _digest(self, clip: ClipEntry, name: str) -> str:
        return self._attributes["clips"][clip.index]["sha256"][name]

    def _load(self, clip: ClipEntry | None, name: str, read: Callable[[], Any]) -> Any:
        """What `read` gives; a chunk that does not decode becomes a CorruptFileError."""
        try:
            return np.asarray(read())
        except FileNotFoundError as error:
            raise CorruptFileError("an object is missing", where=self._where(clip, name), remedy=_REMAKE) from error
        except OSError as error:
            raise StoreError(
                f"cannot be read ({error})", where=self._where(clip, name), remedy="Check the store."
            ) from error
        except (ValueError, RuntimeError, KeyError, IndexError, TypeError) as error:
            # The codecs have no common base error: checksums raise ValueError, Blosc RuntimeError, a cut index others.
            raise CorruptFileError(
                f"a chunk does not decode ({error})", where=self._where(clip, name), remedy=_REMAKE
            ) from error

    def _require_digest(
        self, values: NDArray[Any], expected: str, clip: ClipEntry, name: str, *, part: str = ""
    ) -> None:
        found = sha256_of_array(values)
        if found != expected:
            raise CorruptFileError(
                f"the SHA-256{part} is {found[:12]}…, {expected[:12]}… was written",
                where=self._where(clip, name),
                remedy=_REMAKE,
            )

    def _where(self, clip: ClipEntry | None, name: str) -> str:
        return f"{self._url}, {name}" + (f" of {clip.scene_id}/{clip.trajectory}" if clip else "")


def sha256_of_array(values: NDArray[Any]) -> str:
    """SHA-256 of an array's values, little-endian in C order; 64 hex digits."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return hashlib.sha256(little.reshape(-1).view(np.uint8).data).hexdigest()


class _ShardWriter:
    """Collects clips; depth goes to disk at once, everything small at the end."""

    def __init__(
        self, directory: Path, where: str, latent_space: Mapping[str, Any], depth_range: tuple[float, float]
    ) -> None:
        import zarr

        self._group = zarr.create_group(directory, zarr_format=3)
        self._where = where
        self._latent_space = dict(latent_space)
        self._depth_range = depth_range
        self._dims: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._columns: dict[str, list[NDArray[Any]]] = {}
        self._videos: list[bytes] = []
        self._quality_names: list[str] = []
        self._depth: Any = None
        self._depth_error = 0.0

    def add(self, clip: ClipArrays) -> None:
        where = f"{self._where}, {clip.scene_id}/{clip.trajectory}"
        arrays = self._checked_arrays(clip, where)
        self._check_video(clip, where)
        self._check_fits(clip, arrays, where)
        depth, digests = self._encode_depth(clip.depth, where)
        self._append_depth(depth)
        arrays["depth_sha256"] = np.stack(digests)
        arrays["quality"] = np.array([clip.quality[name] for name in self._quality_names], np.float32)
        for name, values in arrays.items():
            self._columns.setdefault(name, []).append(values)
        self._videos.append(clip.rgb_mp4)
        checksums = {name: sha256_of_array(arrays[name]) for name in ("latents", *_CAMERA_FIELDS) if name in arrays}
        self._rows.append(
            {
                "scene_id": clip.scene_id,
                "trajectory": clip.trajectory,
                "metric": clip.metric,
                "frames": self._dims["T"],
                "sha256": {**checksums, "rgb_mp4": hashlib.sha256(clip.rgb_mp4).hexdigest()},
                "metadata": dict(clip.metadata),
            }
        )

    def finish(self) -> ShardSummary:
        from zarr.codecs import ZstdCodec

        if not self._rows:
            raise InputError("there is no clip to write", where=self._where, remedy="Give at least one clip.")
        count = len(self._rows)
        latents = np.stack(self._columns.pop("latents"))
        # Normalised latents are all but Gaussian noise: compression gives a few per cent for a tenth of the speed.
        self._create("latents", latents, chunk=(1, *latents.shape[1:]))
        longest = max(map(len, self._videos))
        videos = np.zeros((count, longest), np.uint8)
        for row, video in zip(videos, self._videos, strict=True):
            row[: len(video)] = np.frombuffer(video, np.uint8)
        # A video cannot be compressed again; the padding behind it can.
        self._create("rgb_mp4", videos, chunk=(1, longest), compressor=ZstdCodec(level=1))
        self._create("rgb_mp4_bytes", np.array([len(video) for video in self._videos], np.int64))
        for name, column in self._columns.items():
            self._create(name, np.stack(column))
        self._group.attrs.update(self._attributes())
        return ShardSummary(clips=count, depth_relative_error=self._depth_error)

    def _checked_arrays(self, clip: ClipArrays, where: str) -> dict[str, NDArray[Any]]:
        if (clip.estimated_c2w is None) != (clip.estimated_intrinsics is None):
            raise ContractError(
                "estimated poses and intrinsics do not come together", where=where, remedy="Give both, or neither."
            )
        contracts = (LATENTS, C2W, INTRINSICS, ESTIMATED_C2W, ESTIMATED_INTRINSICS)
        arrays = {each.name: getattr(clip, each.name) for each in contracts}
        arrays = {name: values for name, values in arrays.items() if values is not None}
        for each in contracts:
            if each.name in arrays:
                each.require(arrays[each.name], self._dims, where=where)
        if clip.depth.ndim != 3 or clip.depth.dtype not in (np.float32, np.float16):
            raise ContractError(
                f"depth is {clip.depth.dtype}{clip.depth.shape}",
                where=where,
                remedy="Depth is float32 or float16 (T, H, W).",
            )
        for size, found in zip("THW", clip.depth.shape, strict=True):
            if self._dims.setdefault(size, found) != found:
                raise ContractError(
                    f"depth has {size} = {found}, expected {self._dims[size]}",
                    where=where,
                    remedy="All arrays of a clip, and all clips of a shard, have one length and size.",
                )
        return arrays

    def _check_video(self, clip: ClipArrays, where: str) -> None:
        try:
            info = probe(clip.rgb_mp4)
        except CorruptFileError as error:
            raise InputError(error.found, where=f"{where}, rgb_mp4", remedy="Give the bytes of an MP4 file.") from error
        found = (info.frames, info.height, info.width)
        expected = tuple(self._dims[size] for size in "THW")
        if found != expected:
            raise InputError(
                f"the video has frames, height, width {found}, expected {expected}",
                where=f"{where}, rgb_mp4",
                remedy="Give the video that depth and cameras belong to.",
            )

    def _check_fits(self, clip: ClipArrays, arrays: Mapping[str, NDArray[Any]], where: str) -> None:
        names = sorted(clip.quality)
        if not self._rows:
            self._quality_names = names
            return
        if any((row["scene_id"], row["trajectory"]) == (clip.scene_id, clip.trajectory) for row in self._rows):
            raise ContractError("the clip was given twice", where=where, remedy="Give each clip once.")
        expected = self._columns.keys() - {"depth_sha256", "quality"}
        if names != self._quality_names or arrays.keys() != expected:
            raise ContractError(
                f"the clip holds {sorted(arrays)} and the quality numbers {names}, "
                f"those before it {sorted(expected)} and {self._quality_names}",
                where=where,
                remedy="All clips of a shard hold the same arrays and numbers.",
            )

    def _encode_depth(self, depth: NDArray[np.floating], where: str) -> tuple[Float16, list[UInt8]]:
        encoded = np.empty(depth.shape, np.float16)
        digests = []
        for index in range(len(depth)):
            encoded[index], error = _round_depth(np.asarray(depth[index]), self._depth_range, f"{where}, frame {index}")
            self._depth_error = max(self._depth_error, error)
            digests.append(np.frombuffer(bytes.fromhex(sha256_of_array(encoded[index])), np.uint8))
        return encoded, digests

    def _append_depth(self, depth: Float16) -> None:
        from zarr.codecs import BloscCodec

        if self._depth is None:
            shape, chunk = (1, *depth.shape), (1, 1, *depth.shape[1:])
            compressor = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle", typesize=2)
            self._depth = _create_array(self._group, "depth", shape, depth.dtype, chunk, shape, compressor)
        else:
            self._depth.resize((len(self._rows) + 1, *depth.shape))
        self._depth[len(self._rows)] = depth

    def _create(
        self, name: str, values: NDArray[Any], *, chunk: tuple[int, ...] | None = None, compressor: Any = None
    ) -> None:
        shard = values.shape if chunk else None
        array = _create_array(self._group, name, values.shape, values.dtype, chunk or values.shape, shard, compressor)
        array[:] = values

    def _attributes(self) -> dict[str, Any]:
        metric = {row["metric"] for row in self._rows}
        contracts = {each.name: each.describe() for each in (RGB, DEPTH, C2W, INTRINSICS, LATENTS)}
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "conventions": contracts,
            "latent_space": self._latent_space,
            "depth": {
                "unit": "metre" if metric == {True} else "metre where the clip is metric, else the scene's own unit",
                "invalid_value": 0,
                "range": list(self._depth_range),
                "relative_error_bound": FLOAT16_RELATIVE_ERROR,
                "relative_error_found": self._depth_error,
            },
            "arrays": sorted(name for name, _ in self._group.arrays()),
            "quality_names": self._quality_names,
            "clips": self._rows,
        }


def _round_depth(depth: NDArray[np.floating], allowed: tuple[float, float], where: str) -> tuple[Float16, float]:
    """One frame as float16, and the largest relative error that this made; ContractError outside the declared range."""
    exact = depth.astype(np.float32)
    if not np.isfinite(exact).all() or exact.min() < 0:
        raise ContractError(
            "depth holds NaN, infinite or negative values", where=where, remedy="Set what is no distance to 0."
        )
    valid = exact > 0
    if not valid.any():
        return np.zeros(depth.shape, np.float16), 0.0
    lowest, highest = float(exact[valid].min()), float(exact.max())
    if lowest < allowed[0] or highest > allowed[1]:
        raise ContractError(
            f"valid depth runs from {lowest:g} to {highest:g}, declared is {allowed[0]:g} to {allowed[1]:g}",
            where=where,
            remedy="Set depths outside the range to 0, or declare a wider range.",
        )
    rounded = depth.astype(np.float16)
    error = float((np.abs(rounded[valid].astype(np.float32) - exact[valid]) / exact[valid]).max())
    if error > FLOAT16_RELATIVE_ERROR:
        raise ContractError(
            f"rounding changes depth by {error:.3g} of its value, declared is {FLOAT16_RELATIVE_ERROR:.3g}",
            where=where,
            remedy="Scale the depth into float16's range.",
        )
    return rounded, error


def _create_array(
    group: Any,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk: tuple[int, ...],
    shard: tuple[int, ...] | None,
    compressor: Any,
) -> Any:
    from zarr.codecs import Crc32cCodec

    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunk,
        shards=shard,
        filters=None,
        compressors=[*([compressor] if compressor else []), Crc32cCodec()],
        fill_value=0,
        dimension_names=_DIMENSIONS[name],
    )


def _open_group(url: str, options: dict[str, Any]) -> Any:
    import fsspec
    import zarr
    from fsspec.implementations.local import LocalFileSystem
    from zarr.storage import FsspecStore, LocalStore

    filesystem, location = fsspec.url_to_fs(url, **options)
    local = isinstance(filesystem, LocalFileSystem)
    store = LocalStore(location, read_only=True) if local else FsspecStore.from_url(url, options, read_only=True)
    try:
        return zarr.open_group(store, mode="r", zarr_format=3)
    except FileNotFoundError as error:
        raise InputError("there is no shard", where=url, remedy="Check the path.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"the shard's metadata cannot be read ({error})", where=url, remedy=_REMAKE) from error


def _checked_attributes(group: Any, url: str) -> dict[str, Any]:
    attributes = group.attrs.asdict()
    found = (attributes.get("format"), attributes.get("format_version"))
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

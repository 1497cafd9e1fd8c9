"""Chunks of Zarr v3 arrays by ranged reads: one chunk is one read of its own bytes, and nothing is copied twice.

What is read here is what `shards` writes: little-endian arrays in C order, chunks in the codecs bytes, blosc or zstd,
and CRC-32C, inside shards (codec sharding_indexed, index at the start) or as one chunk. Any Zarr library reads the same
arrays; this module spares a training loop their generality (zarr-python takes about three times as long for a chunk of
7 MB). The index of a shard object is read once. Local files are read with preadv, others through fsspec.

Formats: Zarr v3 core specification; sharding codec, version 1.0.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from .errors import StoreError

UInt8 = NDArray[np.uint8]
Verify = Literal["always", "first"]

_CHECKSUM_BYTES = 4
_ABSENT = np.iinfo(np.uint64).max
"""Offset and length of a chunk that was not written, in a shard's index."""


class DamagedChunk(ValueError):
    """Bytes are missing, or do not match their checksum or their metadata; the message says which."""


class RangedFiles:
    """Reads parts of the files below a directory or an fsspec URL. Pickles, and survives a fork."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url, self._options = url, dict(options)
        self._process = -1
        self._filesystem: Any = None
        self._root = ""
        self._local = False
        self._connect()

    def __reduce__(self) -> tuple[Any, ...]:
        return (RangedFiles, (self._url, self._options))

    def read(self, name: str) -> UInt8:
        """A whole file as (B,) uint8. Raises FileNotFoundError, StoreError."""
        self._connect()
        path = f"{self._root}/{name}"
        if self._local:
            return np.fromfile(path, np.uint8)
        return np.frombuffer(self._fetch([path], None, None)[0], np.uint8)

    def read_ranges(
        self, name: str, ranges: Sequence[tuple[int, int]]
    ) -> tuple[list[UInt8], tuple[int, int, int] | None]:
        """Parts (start, length) of one file, each as (length,) uint8, shorter where the file ends.

        Beside them, of a local file, what changes when the file is written: inode, size and time of modification.

        Raises FileNotFoundError, StoreError.
        """
        self._connect()
        path = f"{self._root}/{name}"
        if self._local:
            return _pread(path, ranges)
        starts = [start for start, _ in ranges]
        ends = [start + length for start, length in ranges]
        contents = self._fetch([path] * len(ranges), starts, ends)
        for content, (_, length) in zip(contents, ranges, strict=True):
            if len(content) > length:
                raise StoreError(
                    f"{len(content)} bytes came where {length} were asked for",
                    where=f"{self._url}/{name}",
                    remedy="Serve the shard from a server that supports ranged reads, or copy it to a local disk.",
                )
        return [np.frombuffer(content, np.uint8) for content in contents], None

    def _fetch(self, paths: list[str], starts: list[int] | None, ends: list[int] | None) -> list[bytes]:
        try:
            if starts is None or ends is None:
                return [self._filesystem.cat_file(path) for path in paths]
            if len(paths) == 1:
                return [self._filesystem.cat_file(paths[0], start=starts[0], end=ends[0])]
            return self._filesystem.cat_ranges(paths, starts, ends, on_error="raise")
        except FileNotFoundError:
            raise
        except Exception as error:
            # File systems raise their own libraries' errors (botocore, aiohttp), which have no base in common.
            raise StoreError(
                f"the store cannot be read ({type(error).__name__}: {error})",
                where=paths[0],
                remedy="Check the address, the credentials and the network.",
            ) from error

    def _connect(self) -> None:
        """Connections of asynchronous file systems belong to the process that made them."""
        if self._process == os.getpid():
            return
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        self._filesystem, root = fsspec.url_to_fs(self._url, **self._options)
        self._root, self._local = root.rstrip("/"), isinstance(self._filesystem, LocalFileSystem)
        self._process = os.getpid()


@dataclass(frozen=True, slots=True)
class _Layout:
    """What an array's metadata say: chunk = what is read, shard = what is one object."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    codecs: tuple[str, ...]
    sharded: bool

    @property
    def chunks_in_shard(self) -> tuple[int, ...]:
        return tuple(math.ceil(whole / part) for whole, part in zip(self.shard, self.chunk, strict=True))


class ChunkedArray:
    """One array of a group.

    Args:
        files: the group's files.
        name: of the array.
        verify: whether the CRC-32C of a chunk in an unchanged local file is verified at every read, or at the first.

    Every method raises FileNotFoundError for a missing object, DamagedChunk for damage and StoreError for the store.
    """

    def __init__(self, files: RangedFiles, name: str, verify: Verify) -> None:
        self._files, self._name, self._verify = files, name, verify
        self._indices: dict[str, NDArray[np.uint64]] = {}
        self._verified: dict[tuple[int, ...], tuple[int, int, int]] = {}

    @cached_property
    def _layout(self) -> _Layout:
        content = self._files.read(f"{self._name}/zarr.json").tobytes()
        try:
            return _layout(json.loads(content))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise DamagedChunk(f"the array's metadata cannot be read ({error})") from error

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        return self._layout.shape

    def whole(self) -> NDArray[Any]:
        """An array that is one chunk, all of it."""
        layout = self._layout
        if not math.prod(layout.shape):
            return np.empty(layout.shape, layout.dtype)  # an empty array has no chunk
        key = self._key((0,) * len(layout.shape))
        if layout.sharded or layout.chunk != layout.shape:
            raise DamagedChunk(f"the array has chunks of {layout.chunk} where one of {layout.shape} is expected")
        return _decode(self._files.read(key), layout)

    def chunks(self, places: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
        """Chunks of a sharded array by their places in the grid of chunks; all of one shard."""
        layout = self._layout
        if not layout.sharded:
            raise DamagedChunk("the array is not sharded")
        if not places:
            return []
        per_shard = layout.chunks_in_shard
        shards = {tuple(p // n for p, n in zip(place, per_shard, strict=True)) for place in places}
        if len(shards) != 1:
            raise ValueError(f"chunks of {len(shards)} shards were asked for at once")
        key = self._key(shards.pop())
        index = self._index(key)
        ranges = [self._range(index, place) for place in places]
        contents, version = self._files.read_ranges(key, ranges)
        chunks = []
        for place, content, (_, length) in zip(places, contents, ranges, strict=True):
            known = version is not None and self._verify == "first" and self._verified.get(place) == version
            chunks.append(_decode(_of_length(content, length), layout, verify=not known))
            if version is not None:
                self._verified[place] = version
        return chunks

    def _range(self, index: NDArray[np.uint64], place: tuple[int, ...]) -> tuple[int, int]:
        inside = tuple(p % n for p, n in zip(place, self._layout.chunks_in_shard, strict=True))
        offset, length = (int(value) for value in index[inside])
        if _ABSENT in (offset, length):
            raise DamagedChunk("the chunk is not in its object")
        return offset, length

    def _index(self, key: str) -> NDArray[np.uint64]:
        index = self._indices.get(key)
        if index is None:
            grid = (*self._layout.chunks_in_shard, 2)
            size = math.prod(grid) * 8 + _CHECKSUM_BYTES
            (content,), _ = self._files.read_ranges(key, [(0, size)])
            index = _checked(_of_length(content, size)).view("<u8").reshape(grid)
            self._indices[key] = index
        return index

    def _key(self, place: Sequence[int]) -> str:
        return "/".join([self._name, "c", *map(str, place)])


def _layout(metadata: Mapping[str, Any]) -> _Layout:
    shape = tuple(metadata["shape"])
    outer = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    if metadata["chunk_key_encoding"] != {"name": "default", "configuration": {"separator": "/"}}:
        raise ValueError(f"unknown chunk keys {metadata['chunk_key_encoding']}")
    codecs, chunk = metadata["codecs"], outer
    sharded = codecs[0]["name"] == "sharding_indexed"
    if sharded:
        sharding = codecs[0]["configuration"]
        if len(codecs) != 1 or sharding["index_location"] != "start":
            raise ValueError("the shard's index is not at its start")
        codecs, chunk = sharding["codecs"], tuple(sharding["chunk_shape"])
    names = tuple(codec["name"] for codec in codecs)
    if names not in {("bytes", "crc32c"), ("bytes", "blosc", "crc32c"), ("bytes", "zstd", "crc32c")}:
        raise ValueError(f"unknown codecs {names}")
    return _Layout(shape, np.dtype(metadata["data_type"]).newbyteorder("<"), chunk, outer, names[1:-1], sharded)


def _decode(content: UInt8, layout: _Layout, *, verify: bool = True) -> NDArray[Any]:
    data = _checked(content) if verify else content[:-_CHECKSUM_BYTES]
    size = math.prod(layout.chunk) * layout.dtype.itemsize
    if layout.codecs:
        data = _decompressed(data, layout.codecs[0], size)
    if data.nbytes != size:
        raise DamagedChunk(f"a chunk holds {data.nbytes} bytes, expected {size}")
    values = data.view(layout.dtype).reshape(layout.chunk)
    # What came over the network as `bytes` cannot be written to, which PyTorch warns about.
    return values if values.flags.writeable else values.copy()


def _decompressed(data: UInt8, codec: str, size: int) -> UInt8:
    from numcodecs.blosc import Blosc
    from numcodecs.zstd import Zstd

    result = np.empty(size, np.uint8)
    try:
        {"blosc": Blosc, "zstd": Zstd}[codec]().decode(data, out=result)
    except (ValueError, RuntimeError) as error:
        raise DamagedChunk(f"a chunk does not decompress ({error})") from error
    return result


def _of_length(content: UInt8, length: int) -> UInt8:
    if len(content) != length:
        raise DamagedChunk(f"the object ends early: {len(content)} bytes of {length} are there")
    return content


def _checked(content: UInt8) -> UInt8:
    """The bytes before a CRC-32C that match it."""
    import google_crc32c

    if len(content) < _CHECKSUM_BYTES:
        raise DamagedChunk(f"the object ends early: {len(content)} bytes are there")
    data, stored = content[:-_CHECKSUM_BYTES], int.from_bytes(content[-_CHECKSUM_BYTES:].tobytes(), "little")
    computed = google_crc32c.value(cast("Any", data))  # annotated as bytes, takes any buffer
    if computed != stored:
        raise DamagedChunk(f"the CRC-32C is {computed:08x}, {stored:08x} was written")
    return data


def _pread(path: str, ranges: Sequence[tuple[int, int]]) -> tuple[list[UInt8], tuple[int, int, int]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        parts = [_pread_one(descriptor, start, min(length, status.st_size - start)) for start, length in ranges]
        return parts, (status.st_ino, status.st_size, status.st_mtime_ns)
    finally:
        os.close(descriptor)


def _pread_one(descriptor: int, start: int, length: int) -> UInt8:
    available = max(0, length)
    buffer = np.empty(available, np.uint8)
    view = memoryview(cast("Any", buffer))
    filled = 0
    while filled < available:
        # Linux moves at most 2 GiB a call.
        count = os.preadv(descriptor, [view[filled:]], start + filled)
        if not count:
            break
        filled += count
    return buffer[:filled]

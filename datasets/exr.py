"""OpenEXR files with numpy and zlib alone: single-part scan-line images of named channels, written and read.

The part of OpenEXR that depth and normal maps use: version 2 of the file format, one part, scan lines, any number of
channels of HALF, FLOAT or UINT without subsampling, compression NONE, ZIPS (read only) or ZIP. The layout of the file
is that of "OpenEXR File Layout" in the OpenEXR documentation: magic number, version, attributes, a table of offsets,
then blocks of 16 lines (ZIP) or one (NONE, ZIPS). Within a block, each line holds its channels one after the other, in
the alphabetical order of their names. ZIP blocks are split into bytes of even and odd places, each byte replaced by
its difference from the one before plus 128, then deflated; a block that would grow is stored as it is.

The same arrays give the same bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptFileError, InputError

Compression = Literal["none", "zip"]

_MAGIC = 20000630
_VERSION = 2
_LONG_NAMES = 0x400
_TILED, _DEEP, _MULTI_PART = 0x200, 0x800, 0x1000
_LONGEST_SHORT_NAME, _LONGEST_NAME = 31, 255
_COMPRESSION_NUMBER = {"none": 0, "zip": 3}
_COMPRESSION_NAME = {0: "NONE", 1: "RLE", 2: "ZIPS", 3: "ZIP", 4: "PIZ", 5: "PXR24", 6: "B44", 7: "B44A"}
_LINES_PER_BLOCK = {0: 1, 2: 1, 3: 16}
_ZLIB_LEVEL = 4  # OpenEXR's own default since 3.2
_PIXEL_TYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
_PIXEL_NUMBER = {kind: number for number, kind in _PIXEL_TYPES.items()}
_REMAKE = "The file was cut short or changed after it was written: make it again."
_UNREAD = "Write it as a single-part scan-line image with compression NONE, ZIPS or ZIP."


@dataclass(frozen=True, slots=True)
class _Header:
    """What an image declares: channel types in stored order, size, first line, compression, where its table is."""

    channels: dict[str, np.dtype[Any]]
    height: int
    width: int
    top: int
    compression: int
    table: int

    @property
    def lines_per_block(self) -> int:
        return _LINES_PER_BLOCK[self.compression]

    @property
    def bytes_per_line(self) -> int:
        return self.width * sum(kind.itemsize for kind in self.channels.values())


def encode_exr(channels: Mapping[str, NDArray[Any]], *, compression: Compression = "zip") -> bytes:
    """One OpenEXR file.

    Args:
        channels: (H, W) arrays by channel name, all of one size; float16 becomes HALF, float32 FLOAT, uint32 UINT.
        compression: "zip" deflates blocks of 16 lines, "none" stores them.

    Raises:
        InputError: no channel, an empty or overlong name, another dtype, or arrays that are not of one size.
    """
    arrays, height, width = _checked_channels(channels)
    rows = np.concatenate([values.view(np.uint8).reshape(height, -1) for values in arrays.values()], axis=1)
    number = _COMPRESSION_NUMBER[compression]
    header = _encoded_header(arrays, height, width, number)
    starts = range(0, height, _LINES_PER_BLOCK[number])
    blocks = []
    for start in starts:
        raw = rows[start : start + _LINES_PER_BLOCK[number]].tobytes()
        packed = _deflated(raw) if compression == "zip" else raw
        stored = packed if len(packed) < len(raw) else raw
        blocks.append(struct.pack("<ii", start, len(stored)) + stored)
    offsets = np.cumsum([len(header) + 8 * len(blocks), *map(len, blocks[:-1])]).astype("<u8")
    return b"".join([header, offsets.tobytes(), *blocks])


def decode_exr(content: bytes, where: str) -> dict[str, NDArray[Any]]:
    """Every channel of an OpenEXR file: (H, W) float16, float32 or uint32 by name, H × W of its data window.

    Args:
        content: the whole file.
        where: named in errors.

    Raises:
        CorruptFileError: it is no OpenEXR file, cut short, damaged, or of a kind that is not read here (tiles, several
            parts, deep data, subsampled channels, other compressions); the message says which.
    """
    header = _decoded_header(content, where)
    count = -(-header.height // header.lines_per_block)
    table = content[header.table : header.table + 8 * count]
    if len(table) < 8 * count:
        raise _corrupt("the file ends within its table of offsets", where)
    raw: list[bytes] = []
    for index, offset in enumerate(np.frombuffer(table, "<u8").tolist()):
        raw.append(_block(content, header, index, offset, where))
    rows = np.frombuffer(b"".join(raw), np.uint8).reshape(header.height, header.bytes_per_line)
    decoded: dict[str, NDArray[Any]] = {}
    start = 0
    for name, kind in header.channels.items():
        stop = start + header.width * kind.itemsize
        decoded[name] = np.ascontiguousarray(rows[:, start:stop]).view(kind)
        start = stop
    return decoded


def _checked_channels(channels: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], int, int]:
    """Contiguous little-endian arrays in the order of their names, and their height and width."""
    if not channels:
        raise InputError("there is no channel to write", where="OpenEXR", remedy="Give at least one array.")
    shape = next(iter(channels.values())).shape
    arrays: dict[str, NDArray[Any]] = {}
    for name in sorted(channels, key=lambda text: text.encode()):
        values = channels[name]
        if not name or "\0" in name or len(name.encode()) > _LONGEST_NAME:
            raise InputError(
                f"{name!r} cannot name a channel", where="OpenEXR", remedy=f"Use 1 to {_LONGEST_NAME} bytes of text."
            )
        if values.ndim != 2 or 0 in values.shape or values.shape != shape:
            raise InputError(
                f"channel {name} has the shape {values.shape}, expected {shape} as (H, W)",
                where="OpenEXR",
                remedy="All channels are (H, W) of one size, at least one pixel.",
            )
        kind = values.dtype.newbyteorder("<")
        if kind not in _PIXEL_NUMBER:
            raise InputError(
                f"channel {name} is {values.dtype}", where="OpenEXR", remedy="Give float16, float32 or uint32."
            )
        arrays[name] = np.ascontiguousarray(values, kind)
    return arrays, *shape


def _encoded_header(arrays: Mapping[str, NDArray[Any]], height: int, width: int, compression: int) -> bytes:
    long_names = any(len(name.encode()) > _LONGEST_SHORT_NAME for name in arrays)
    listed = b"".join(
        # Pixel type, "perceptually linear" (only lossy compressions ask), three reserved bytes, no subsampling.
        name.encode() + b"\0" + struct.pack("<iB3xii", _PIXEL_NUMBER[values.dtype], 0, 1, 1)
        for name, values in arrays.items()
    )
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = [
        ("channels", "chlist", listed + b"\0"),
        ("compression", "compression", bytes([compression])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),  # increasing y
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
    ]
    parts = [struct.pack("<ii", _MAGIC, _VERSION | (_LONG_NAMES if long_names else 0))]
    for name, kind, value in attributes:
        parts.append(f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value)
    return b"".join([*parts, b"\0"])


def _deflated(raw: bytes) -> bytes:
    values = np.frombuffer(raw, np.uint8)
    parted = np.concatenate([values[0::2], values[1::2]])
    parted[1:] = parted[1:] - parted[:-1] + np.uint8(128)
    return zlib.compress(parted.tobytes(), _ZLIB_LEVEL)


def _inflated(packed: bytes, size: int, where: str) -> bytes:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(packed, size)
    except zlib.error as error:
        raise _corrupt(f"a block does not inflate ({error})", where) from error
    if len(content) != size:
        raise _corrupt(f"a block inflates to {len(content)} bytes, {size} are expected", where)
    differences = np.frombuffer(content, np.uint8).copy()
    differences[1:] -= np.uint8(128)
    parted = np.cumsum(differences, dtype=np.uint8)
    values = np.empty(size, np.uint8)
    half = (size + 1) // 2
    values[0::2], values[1::2] = parted[:half], parted[half:]
    return values.tobytes()


def _block(content: bytes, header: _Header, index: int, offset: int, where: str) -> bytes:
    """The lines of one block, not compressed."""
    if offset + 8 > len(content):
        raise _corrupt(f"block {index} lies beyond the end of the file", where)
    line, size = struct.unpack_from("<ii", content, offset)
    first = index * header.lines_per_block
    if line != header.top + first:
        raise _corrupt(f"block {index} says that it starts at line {line}, expected {header.top + first}", where)
    stored = content[offset + 8 : offset + 8 + size] if size > 0 else b""
    if not stored or len(stored) < size:
        raise _corrupt(f"the file ends within block {index}", where)
    expected = header.bytes_per_line * min(header.lines_per_block, header.height - first)
    if len(stored) == expected:
        return stored
    if not header.compression or size > expected:
        raise _corrupt(f"block {index} holds {size} bytes, {expected} are expected", where)
    return _inflated(stored, expected, where)


def _decoded_header(content: bytes, where: str) -> _Header:
    if len(content) < 8 or struct.unpack_from("<i", content)[0] != _MAGIC:
        raise _corrupt("it is no OpenEXR file", where)
    flags = struct.unpack_from("<i", content, 4)[0]
    if flags & (_TILED | _DEEP | _MULTI_PART) or flags & 0xFF != _VERSION:
        raise _corrupt("it is an OpenEXR file of tiles, deep data, several parts or another version", where, _UNREAD)
    attributes: dict[str, bytes] = {}
    table = 0
    try:
        for name, value, end in _attributes(content):
            attributes[name] = value
            table = end
        left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
        compression = attributes["compression"][0]
        channels = dict(_channels(attributes["channels"], where))
    except (ValueError, struct.error, KeyError, IndexError) as error:
        raise _corrupt(f"its header is cut short or damaged ({error})", where) from error
    if compression not in _LINES_PER_BLOCK:
        name = _COMPRESSION_NAME.get(compression, str(compression))
        raise _corrupt(f"its compression is {name}", where, _UNREAD)
    if right < left or bottom < top or not channels:
        raise _corrupt("its data window is empty, or it has no channel", where)
    # The byte behind the last attribute is the zero that ends the header.
    return _Header(channels, bottom - top + 1, right - left + 1, top, compression, table + 1)


def _attributes(content: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Name, value and end of each attribute. Raises ValueError where the file ends too early."""
    position = 8
    while content[position : position + 1] != b"\0":
        name_end = content.index(b"\0", position)
        kind_end = content.index(b"\0", name_end + 1)
        size = struct.unpack_from("<i", content, kind_end + 1)[0]
        start = kind_end + 5
        if size < 0 or start + size > len(content):
            raise ValueError("an attribute ends behind the file")
        yield content[position:name_end].decode("latin-1"), content[start : start + size], start + size
        position = start + size


def _channels(listed: bytes, where: str) -> Iterator[tuple[str, np.dtype[Any]]]:
    position = 0
    while listed[position : position + 1] != b"\0":
        end = listed.index(b"\0", position)
        kind, _, columns, rows = struct.unpack_from("<iB3xii", listed, end + 1)
        name = listed[position:end].decode()
        if kind not in _PIXEL_TYPES or (columns, rows) != (1, 1):
            raise _corrupt(f"channel {name} is subsampled or of the unknown type {kind}", where, _UNREAD)
        yield name, _PIXEL_TYPES[kind]
        position = end + 17


def _corrupt(found: str, where: str, remedy: str = _REMAKE) -> CorruptFileError:
    return CorruptFileError(found, where=where, remedy=remedy)

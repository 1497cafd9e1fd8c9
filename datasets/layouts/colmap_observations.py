"""Points and observations of COLMAP models, text and binary, as far as examining a model needs them.

Cameras and poses are read by `sceneloom.datasets.colmap_files`; the format is that of COLMAP's documentation, "Output
Format". Readers raise ValueError (also its kind UnicodeDecodeError) or IndexError for damage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera_conventions import Float64

_OBSERVATION = np.dtype([("pixel", "<f8", 2), ("point", "<i8")])
_POINT_HEAD = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("length", "<u8")])
_IMAGE_HEAD = np.dtype([("id", "<i4"), ("pose", "<f8", 7), ("camera", "<i4")])


@dataclass(frozen=True, slots=True, eq=False)
class ModelPoint:
    """A point: xyz (3,), rgb (3,), track (N, 2) of image id and index of the observation in it."""

    xyz: Float64
    rgb: NDArray[np.int64]
    track: NDArray[np.int64]

    def same(self, other: object) -> bool:
        """Whether the other is the same point in every digit."""
        return isinstance(other, ModelPoint) and all(
            np.array_equal(one, two)
            for one, two in ((self.xyz, other.xyz), (self.rgb, other.rgb), (self.track, other.track))
        )


@dataclass(frozen=True, slots=True, eq=False)
class ModelImage:
    """An image's observations: pixels (N, 2), points (N,) with -1 for none."""

    name: str
    pixels: Float64
    points: NDArray[np.int64]

    def same(self, other: object) -> bool:
        """Whether the other has the same observations in every digit."""
        return (
            isinstance(other, ModelImage)
            and self.name == other.name
            and np.array_equal(self.pixels, other.pixels)
            and np.array_equal(self.points, other.points)
        )


def read_text_points(content: bytes) -> dict[int, ModelPoint]:
    """points3D.txt by point id."""
    points = {}
    for line in _lines(content):
        if line.strip():
            row = line.split()
            xyz, rgb = np.array(row[1:4], np.float64), np.array(row[4:7], np.int64)
            if len(row) < 8 or len(row) % 2:
                raise ValueError(f"{len(row)} numbers in the line of point {row[0]}")
            points[int(row[0])] = ModelPoint(xyz, rgb, np.array(row[8:], np.int64).reshape(-1, 2))
    return points


def read_text_observations(content: bytes) -> dict[int, ModelImage]:
    """images.txt by image id."""
    lines = _lines(content)
    if len(lines) % 2:
        lines.append("")  # the last image's observations may be an empty line, which ends with the file
    images = {}
    for head, body in zip(lines[::2], lines[1::2], strict=True):
        values = head.split(maxsplit=9)
        observed = [body.split()[start::3] for start in range(3)]
        pixels = np.stack([np.array(column, np.float64) for column in observed[:2]], axis=-1)
        images[int(values[0])] = ModelImage(values[9], pixels, np.array(observed[2], np.int64))
        if len(pixels) != len(observed[2]):
            raise ValueError(f"observations of image {values[0]} are no triples")
    return images


def read_binary_points(content: bytes) -> dict[int, ModelPoint]:
    """points3D.bin by point id."""
    (count,), offset, points = _take(content, 0, np.dtype("<u8"), 1), 8, {}
    for _ in range(int(count)):
        (head,) = _take(content, offset, _POINT_HEAD, 1)
        offset += _POINT_HEAD.itemsize
        track = _take(content, offset, np.dtype("<i4"), 2 * int(head["length"])).reshape(-1, 2)
        offset += 4 * track.size
        points[int(head["id"])] = ModelPoint(head["xyz"], head["rgb"].astype(np.int64), track.astype(np.int64))
    _require_end(content, offset)
    return points


def read_binary_observations(content: bytes) -> dict[int, ModelImage]:
    """images.bin by image id."""
    (count,), offset, images = _take(content, 0, np.dtype("<u8"), 1), 8, {}
    for _ in range(int(count)):
        (head,) = _take(content, offset, _IMAGE_HEAD, 1)
        start = offset + _IMAGE_HEAD.itemsize
        end = content.index(b"\0", start)
        (length,) = _take(content, end + 1, np.dtype("<u8"), 1)
        seen = _take(content, end + 9, _OBSERVATION, int(length))
        offset = end + 9 + _OBSERVATION.itemsize * int(length)
        images[int(head["id"])] = ModelImage(content[start:end].decode(), seen["pixel"], seen["point"])
    _require_end(content, offset)
    return images


def _lines(content: bytes) -> list[str]:
    return [line for line in content.decode().splitlines() if not line.startswith("#")]


def _take(content: bytes, offset: int, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """`count` values at an offset; numpy's own ValueError does not say where a cut-off file ends."""
    if offset + dtype.itemsize * count > len(content):
        raise ValueError(f"cut off at byte {len(content)}")
    return np.frombuffer(content, dtype, count, offset)


def _require_end(content: bytes, offset: int) -> None:
    if offset != len(content):
        raise ValueError(f"{len(content) - offset} bytes after its last entry")

"""COLMAP sparse models, text and binary: poses are world-to-camera, quaternions wxyz, pixel centres at +0.5 as here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .camera_conventions import Float64, invert_rigid, quaternion_from_rotation
from .camera_sequence import (
    UNDISTORT,
    CameraSequence,
    camera_sequence,
    decode_text,
    image_names,
    number_text,
    poses_from_quaternions,
    require_intrinsics,
)
from .errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class SparsePoints:
    """Points and where they were seen, for COLMAP models.

    Attributes:
        xyz: (N, 3) world frame of the cameras.
        rgb: (N, 3) uint8.
        image: (M,) frame index of each observation.
        point: (M,) point index of each observation.
        pixel: (M, 2) pixel coordinates (u, v) of each observation.
    """

    xyz: NDArray[np.floating]
    rgb: NDArray[np.uint8]
    image: NDArray[np.integer]
    point: NDArray[np.integer]
    pixel: NDArray[np.floating]


_COLMAP_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
}
"""COLMAP's model ids with names and numbers of parameters; the last three are usable only without distortion."""
_COLMAP_NAMES = {name: (model, count) for model, (name, count) in _COLMAP_MODELS.items()}


@dataclass(frozen=True, slots=True)
class _ColmapCamera:
    model: str
    width: int
    height: int
    parameters: tuple[float, ...]

    def intrinsics(self, where: str) -> list[float]:
        if self.model in ("PINHOLE", "OPENCV"):
            fx, fy, cx, cy, *distortion = self.parameters
        else:
            fx, cx, cy, *distortion = self.parameters
            fy = fx
        if any(distortion):
            raise InputError(f"{self.model} with lens distortion", where=where, remedy=UNDISTORT)
        return [fx, fy, cx, cy]


@dataclass(frozen=True, slots=True)
class _ColmapImage:
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    camera: int
    name: str


def parse_colmap(cameras: bytes, images: bytes, *, binary: bool, where: str) -> CameraSequence:
    """COLMAP sparse model: `cameras` and `images`, text or binary. Frames are ordered by image name.

    COLMAP puts the centre of the first pixel at (0.5, 0.5), as here.

    Raises:
        InputError: a file is damaged, a camera has distortion, or the pictures differ in size.
    """
    read_lenses, read_images = (_binary_cameras, _binary_images) if binary else (_text_cameras, _text_images)
    try:
        lenses, shots = read_lenses(cameras, where), sorted(read_images(images, where), key=lambda shot: shot.name)
        if not shots:
            raise InputError("no images", where=where, remedy="Give a model with at least one registered image.")
        sizes = {(lenses[shot.camera].height, lenses[shot.camera].width) for shot in shots}
        intrinsics = [lenses[shot.camera].intrinsics(where) for shot in shots]
    except KeyError as error:
        raise InputError(f"no camera {error}", where=where, remedy="Keep cameras and images of one model.") from error
    if len(sizes) != 1:
        raise InputError(f"pictures of {len(sizes)} sizes", where=where, remedy="Resize the pictures to one size.")
    quaternions, translations = [shot.quaternion for shot in shots], [shot.translation for shot in shots]
    w2c = poses_from_quaternions(quaternions, translations, order="wxyz", where=where)
    names = tuple(shot.name for shot in shots)
    return camera_sequence(invert_rigid(w2c), intrinsics, sizes.pop(), where=where, names=names)


def read_colmap(path: Path) -> CameraSequence:
    """Read the model in a folder, or in its `sparse/0` or `0`; binary before text. Raises InputError."""
    for folder in (path, path / "sparse" / "0", path / "0"):
        for suffix in ("bin", "txt"):
            cameras, images = folder / f"cameras.{suffix}", folder / f"images.{suffix}"
            if cameras.is_file() and images.is_file():
                contents = cameras.read_bytes(), images.read_bytes()
                return parse_colmap(*contents, binary=suffix == "bin", where=str(folder))
    raise InputError("no COLMAP model", where=str(path), remedy="Give the folder with cameras and images .bin or .txt.")


def _text_cameras(content: bytes, where: str) -> dict[int, _ColmapCamera]:
    cameras = {}
    for line in decode_text(content, f"{where}/cameras.txt").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        try:
            identifier, model, width, height, *parameters = line.split()
            cameras[int(identifier)] = _colmap_camera(model, int(width), int(height), tuple(map(float, parameters)))
        except ValueError as error:
            raise _damaged(f"{where}/cameras.txt", line) from error
    return cameras


def _colmap_camera(model: str, width: int, height: int, parameters: tuple[float, ...]) -> _ColmapCamera:
    if model not in _COLMAP_NAMES or len(parameters) != _COLMAP_NAMES[model][1]:
        raise ValueError(f"camera model {model} with {len(parameters)} parameters")
    return _ColmapCamera(model, width, height, parameters)


def _text_images(content: bytes, where: str) -> list[_ColmapImage]:
    """Two lines an image; the second (observations) may be empty, so only comments are left out before pairing."""
    lines = [line for line in decode_text(content, f"{where}/images.txt").splitlines() if not line.startswith("#")]
    images = []
    for line in lines[::2]:
        if not line.strip():
            continue
        try:
            values = line.split(maxsplit=9)
            numbers = tuple(map(float, values[1:8]))
            images.append(_ColmapImage(numbers[:4], numbers[4:], int(values[8]), values[9]))
        except (ValueError, IndexError) as error:
            raise _damaged(f"{where}/images.txt", line) from error
    return images


def _damaged(where: str, line: str) -> InputError:
    return InputError(
        f"cannot read the line {line[:80]!r}",
        where=where,
        remedy=f"Export the model again with one of the camera models {', '.join(_COLMAP_NAMES)}.",
    )


class _BinaryReader:
    """Little-endian values one after the other; running past the end is an InputError."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content, self.where, self.offset = content, where, 0

    def numbers(self, kind: str, count: int) -> tuple[Any, ...]:
        dtype = np.dtype(kind)
        self.skip(dtype.itemsize * count)
        return tuple(np.frombuffer(self.content, dtype, count, self.offset - dtype.itemsize * count).tolist())

    def text(self) -> str:
        end = self.content.find(b"\0", self.offset)
        if end < 0:
            self._fail()
        start, self.offset = self.offset, end + 1
        return decode_text(self.content[start:end], self.where)

    def skip(self, size: int) -> None:
        if self.offset + size > len(self.content):
            self._fail()
        self.offset += size

    def _fail(self) -> NoReturn:
        raise InputError("the file is cut off", where=self.where, remedy="Export the COLMAP model again.")


def _binary_cameras(content: bytes, where: str) -> dict[int, _ColmapCamera]:
    reader, cameras = _BinaryReader(content, f"{where}/cameras.bin"), {}
    for _ in range(reader.numbers("<u8", 1)[0]):
        identifier, model = reader.numbers("<i4", 2)
        if model not in _COLMAP_MODELS:
            raise _damaged(reader.where, f"camera {identifier}, model {model}")
        name, count = _COLMAP_MODELS[model]
        width, height = reader.numbers("<u8", 2)
        cameras[identifier] = _ColmapCamera(name, width, height, reader.numbers("<f8", count))
    return cameras


def _binary_images(content: bytes, where: str) -> list[_ColmapImage]:
    reader, images = _BinaryReader(content, f"{where}/images.bin"), []
    for _ in range(reader.numbers("<u8", 1)[0]):
        reader.skip(4)
        pose = reader.numbers("<f8", 7)
        camera = reader.numbers("<i4", 1)[0]
        images.append(_ColmapImage(pose[:4], pose[4:], camera, reader.text()))
        reader.skip(24 * reader.numbers("<u8", 1)[0])
    return images


def format_colmap(
    cameras: CameraSequence, *, points: SparsePoints | None = None, binary: bool = False
) -> dict[str, bytes]:
    """Files of a COLMAP sparse model (`sparse/0` is where tools look for them): cameras, images and points3D.

    One PINHOLE camera is written for each different lens. Some readers refuse a model without observations; give
    `points` for those.

    Returns:
        content by file name: cameras, images and points3D with `.txt` or `.bin`.

    Raises:
        InputError: the cameras have no intrinsics with a known picture size.
    """
    values, size = require_intrinsics(cameras, "colmap")
    lenses, lens_of_image = np.unique(values, axis=0, return_inverse=True)
    w2c = invert_rigid(cameras.c2w)
    poses = np.concatenate([quaternion_from_rotation(w2c[:, :3, :3], order="wxyz"), w2c[:, :3, 3]], axis=1)
    cloud = points if points is not None else _no_points()
    model = _ColmapModel(size, lenses, lens_of_image.reshape(-1) + 1, poses, image_names(cameras), cloud)
    return model.binary() if binary else model.text()


def _no_points() -> SparsePoints:
    none = np.zeros(0, dtype=np.int64)
    return SparsePoints(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.uint8), none, none, np.zeros((0, 2)))


@dataclass(frozen=True, slots=True, eq=False)
class _ColmapModel:
    """What the text and the binary form both write; COLMAP counts cameras, images and points from 1 here."""

    size: tuple[int, int]
    lenses: Float64
    lens_of_image: NDArray[np.integer]
    poses: Float64
    names: tuple[str, ...]
    points: SparsePoints

    def seen_in(self, image: int) -> tuple[Float64, list[int]]:
        """Pixels and point ids of an image's observations."""
        chosen = self.points.image == image
        return self.points.pixel[chosen].astype(np.float64), (self.points.point[chosen] + 1).tolist()

    def tracks(self) -> list[list[int]]:
        """For each point: image id, index of the observation in that image, and so on."""
        tracks: list[list[int]] = [[] for _ in self.points.xyz]
        seen = dict.fromkeys(range(len(self.names)), 0)
        for image, point in zip(self.points.image.tolist(), self.points.point.tolist(), strict=True):
            tracks[point] += [image + 1, seen[image]]
            seen[image] += 1
        return tracks

    def text(self) -> dict[str, bytes]:
        height, width = self.size
        cameras = [
            f"{index} PINHOLE {width} {height} {number_text(lens)}" for index, lens in enumerate(self.lenses, start=1)
        ]
        images: list[str] = []
        for index, (pose, lens, name) in enumerate(zip(self.poses, self.lens_of_image, self.names, strict=True)):
            pixels, ids = self.seen_in(index)
            images.append(f"{index + 1} {number_text(pose)} {lens} {name}")
            images.append(" ".join(f"{number_text(pixel)} {point}" for pixel, point in zip(pixels, ids, strict=True)))
        points = [
            f"{index} {number_text(xyz)} {red} {green} {blue} 0.0 {' '.join(map(str, track))}".rstrip()
            for index, (xyz, (red, green, blue), track) in enumerate(
                zip(self.points.xyz, self.points.rgb.tolist(), self.tracks(), strict=True), start=1
            )
        ]
        heads = {
            "cameras.txt": ("# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]", cameras),
            "images.txt": ("# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; then X, Y, POINT3D_ID …", images),
            "points3D.txt": ("# POINT3D_ID, X, Y, Z, R, G, B, ERROR, then IMAGE_ID, POINT2D_IDX …", points),
        }
        return {name: "\n".join([head, *lines, ""]).encode() for name, (head, lines) in heads.items()}

    def binary(self) -> dict[str, bytes]:
        height, width = self.size
        cameras, images, points = bytearray(), bytearray(), bytearray()
        cameras += _pack("<u8", len(self.lenses))
        for index, lens in enumerate(self.lenses, start=1):
            cameras += _pack("<i4", index, 1) + _pack("<u8", width, height) + _pack("<f8", *lens)
        images += _pack("<u8", len(self.names))
        for index, (pose, lens, name) in enumerate(zip(self.poses, self.lens_of_image, self.names, strict=True)):
            pixels, ids = self.seen_in(index)
            images += _pack("<i4", index + 1) + _pack("<f8", *pose) + _pack("<i4", lens) + name.encode() + b"\0"
            images += _pack("<u8", len(ids))
            for pixel, point in zip(pixels, ids, strict=True):
                images += _pack("<f8", *pixel) + _pack("<i8", point)
        points += _pack("<u8", len(self.points.xyz))
        for index, (xyz, rgb, track) in enumerate(
            zip(self.points.xyz, self.points.rgb, self.tracks(), strict=True), start=1
        ):
            points += _pack("<u8", index) + _pack("<f8", *xyz) + rgb.tobytes() + _pack("<f8", 0.0)
            points += _pack("<u8", len(track) // 2) + _pack("<i4", *track)
        return {"cameras.bin": bytes(cameras), "images.bin": bytes(images), "points3D.bin": bytes(points)}


def _pack(kind: str, *values: Any) -> bytes:
    return np.array(values, dtype=kind).tobytes()

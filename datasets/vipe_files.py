"""ViPE's artifact directory, read and written with numpy and zipfile alone, without ViPE's environment.

    pose/<name>.npz               data float32 (M, 4, 4) camera-to-world, OpenCV axes; inds int64 (M,)
    intrinsics/<name>.npz         data float32 (M, 4) fx fy cx cy, or (M, 5) with MEI's xi; inds int64 (M,)
    intrinsics/<name>_camera.txt  M lines `k: TYPE`; PINHOLE, MEI or PANORAMA
    rgb/<name>.mp4                H.264, lossy
    depth/<name>.zip              deflated `%05d.exr`: one HALF channel Z, ZIP, z-depth (PANORAMA: distance)
    mask/<name>.zip, .txt         deflated `%05d.png`, 8-bit instance ids, and lines `id: phrase`
    vipe/<name>_info.pkl          written last; only its presence is looked at, because unpickling runs code

Frame numbers are those of the frames that ViPE processed; an attribute may lack frames (`inds`). The format is that of
`vipe/utils/io.py` of nv-tlabs/vipe 1.0 to 1.2.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptFileError, InputError
from .exr import decode_exr, encode_exr

CAMERA_COLUMNS: Mapping[str, int] = {"PINHOLE": 4, "MEI": 5, "PANORAMA": 4}
"""Columns of the intrinsics by camera type."""

_REMAKE = "Run ViPE again for this clip, into an empty directory."
_MEMBER = re.compile(r"(\d{5,})\.(exr|png)")
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)
_DAMAGE = (OSError, ValueError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What numpy, zipfile and Pillow raise for damaged files."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameValues:
    """An attribute of some frames.

    Attributes:
        frames: (M,) int64 frame numbers, increasing.
        values: (M, …), as the attribute is stored.
    """

    frames: NDArray[np.int64]
    values: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class VipeClip:
    """Everything of one clip but its pictures, which are read frame by frame.

    Attributes:
        name: of its files.
        poses: (M, 4, 4) float32 camera-to-world, OpenCV axes.
        intrinsics: (M, 4 or 5) float32 in pixels of the video; the principal point is W / 2, H / 2, and ViPE's readers
            put pixel centres at whole numbers.
        camera_types: one for each row of the intrinsics.
        depth_frames: frames with depth; None where ViPE made no depth.
        mask_frames: frames with instance masks; None where ViPE made none.
        phrases: what was looked for, by instance id; 0 is the background.
        finished: whether the last file is there; one of an earlier run may stand in for it.
    """

    name: str
    poses: FrameValues
    intrinsics: FrameValues
    camera_types: tuple[str, ...]
    depth_frames: tuple[int, ...] | None
    mask_frames: tuple[int, ...] | None
    phrases: Mapping[int, str]
    finished: bool


def clip_names(root: Path) -> tuple[str, ...]:
    """Names of the clips in a directory, sorted: those with a pose or a video."""
    return tuple(sorted({path.stem for pattern in ("pose/*.npz", "rgb/*.mp4") for path in root.glob(pattern)}))


def read_clip(root: Path, name: str) -> VipeClip:
    """Read a clip's cameras, and what frames its depth and masks have.

    Raises:
        InputError: the pose or intrinsics file is missing.
        CorruptFileError: a file is damaged or breaks the format; the message names it.
    """
    depth, masks = root / "depth" / f"{name}.zip", root / "mask" / f"{name}.zip"
    intrinsics = read_intrinsics(root, name)
    return VipeClip(
        name=name,
        poses=read_poses(root, name),
        intrinsics=intrinsics,
        camera_types=read_camera_types(root, name),
        depth_frames=tuple(archive_frames(depth)) if depth.exists() else None,
        mask_frames=tuple(archive_frames(masks)) if masks.exists() else None,
        phrases=read_phrases(root, name) if masks.exists() else {},
        finished=(root / "vipe" / f"{name}_info.pkl").is_file(),
    )


def read_poses(root: Path, name: str) -> FrameValues:
    """(M, 4, 4) float32 camera-to-world poses. Raises as `read_clip`."""
    path = root / "pose" / f"{name}.npz"
    found = _read_npz(path)
    if found.values.shape[1:] != (4, 4):
        raise _corrupt(f"poses of shape {found.values.shape}, expected (M, 4, 4)", path)
    return found


def read_intrinsics(root: Path, name: str) -> FrameValues:
    """(M, 4) or (M, 5) float32 intrinsics. Raises as `read_clip`."""
    path = root / "intrinsics" / f"{name}.npz"
    found = _read_npz(path)
    if found.values.ndim != 2 or found.values.shape[1] not in CAMERA_COLUMNS.values():
        raise _corrupt(f"intrinsics of shape {found.values.shape}, expected (M, 4) or (M, 5)", path)
    return found


def read_camera_types(root: Path, name: str) -> tuple[str, ...]:
    """Camera type of each row of the intrinsics; all PINHOLE where there is no file. Raises CorruptFileError."""
    path = root / "intrinsics" / f"{name}_camera.txt"
    if not path.exists():
        return ("PINHOLE",) * len(read_intrinsics(root, name).frames)
    types = tuple(kind for _, kind in _labelled_lines(path))
    unknown = sorted(set(types) - set(CAMERA_COLUMNS))
    if unknown:
        raise _corrupt(f"camera type {unknown[0]!r}, known are {', '.join(CAMERA_COLUMNS)}", path)
    return types


def read_phrases(root: Path, name: str) -> dict[int, str]:
    """Phrase by instance id. Raises InputError where the file is missing, CorruptFileError where it is damaged."""
    return dict(_labelled_lines(root / "mask" / f"{name}.txt"))


def archive_frames(path: Path) -> list[int]:
    """Frame numbers of a depth or mask archive, in stored order. Raises as `read_clip`."""
    with _opened(path, str(path)) as archive:
        return [frame for frame, _ in _members(archive, str(path))]


def iter_depth(root: Path, name: str) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """(frame number, (H, W) float16 depth) one after the other; not finite where ViPE had none.

    Raises:
        InputError: there is no depth.
        CorruptFileError: an archive or picture is damaged, or is not one HALF channel Z.
    """
    path = root / "depth" / f"{name}.zip"
    for frame, content, where in _contents(path, str(path)):
        yield frame, _plane(content, where)


def iter_masks(root: Path, name: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(frame number, (H, W) uint8 instance ids, 0 = background) one after the other. Raises as `iter_depth`."""
    from PIL import Image

    path = root / "mask" / f"{name}.zip"
    for frame, content, where in _contents(path, str(path)):
        try:
            ids = np.asarray(Image.open(io.BytesIO(content)))
        except _DAMAGE as error:
            raise CorruptFileError(f"cannot be read ({error})", where=where, remedy=_REMAKE) from error
        if ids.dtype != np.uint8 or ids.ndim != 2:
            raise CorruptFileError(f"{ids.dtype}{ids.shape}, expected uint8 (H, W)", where=where, remedy=_REMAKE)
        yield frame, ids


def encode_depth_archive(depth: Iterable[NDArray[np.float16]]) -> bytes:
    """Depth archive of (H, W) float16 frames, numbered from 0; the same frames give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for frame, plane in enumerate(depth):
            member = zipfile.ZipInfo(f"{frame:05d}.exr", _FIXED_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, encode_exr({"Z": plane}))
    return buffer.getvalue()


def decode_depth_archive(content: bytes, where: str) -> NDArray[np.float16]:
    """(T, H, W) float16 depth of an archive's frames in stored order.

    Raises:
        CorruptFileError: it is no archive of at least one frame, a picture is damaged, or sizes differ.
    """
    planes = [_plane(picture, name) for _, picture, name in _contents(io.BytesIO(content), where)]
    if not planes or len({plane.shape for plane in planes}) > 1:
        found = f"{len(planes)} frames of {len({plane.shape for plane in planes})} sizes"
        raise CorruptFileError(found, where=where, remedy=_REMAKE)
    return np.stack(planes)


def _plane(content: bytes, where: str) -> NDArray[np.float16]:
    channels = decode_exr(content, where)
    if set(channels) != {"Z"} or channels["Z"].dtype != np.float16:
        found = ", ".join(f"{key} {value.dtype}" for key, value in channels.items())
        raise CorruptFileError(f"channels {found}; expected Z float16", where=where, remedy=_REMAKE)
    return channels["Z"]


def _read_npz(path: Path) -> FrameValues:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values, frames = np.asarray(arrays["data"]), np.asarray(arrays["inds"])
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=str(path), remedy=_REMAKE) from error
    except _DAMAGE as error:
        raise _corrupt(f"not an npz with data and inds ({error})", path) from error
    if values.dtype != np.float32 or frames.dtype != np.int64 or frames.shape != values.shape[:1]:
        found = f"data {values.dtype}{values.shape} and inds {frames.dtype}{frames.shape}"
        raise _corrupt(f"{found}, expected float32 (M, …) and int64 (M,)", path)
    if not (np.diff(frames) > 0).all() or (len(frames) and frames[0] < 0):
        raise _corrupt("frame numbers do not increase from 0", path)
    return FrameValues(frames, values)


def _labelled_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=str(path), remedy=_REMAKE) from error
    except _DAMAGE as error:
        raise _corrupt(f"cannot be read ({error})", path) from error
    for number, line in enumerate(filter(str.strip, lines), start=1):
        label, separator, text = line.partition(":")
        # ViPE's reader splits at every colon, so a second one breaks it.
        if not separator or ":" in text or not label.strip().isdecimal():
            raise _corrupt(f"line {number} is {line[:60]!r}, expected `number: text`", path)
        yield int(label), text.strip()


def _opened(source: Path | io.BytesIO, where: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=where, remedy=_REMAKE) from error
    except _DAMAGE as error:
        raise CorruptFileError(f"not a zip archive ({error})", where=where, remedy=_REMAKE) from error


def _members(archive: zipfile.ZipFile, where: str) -> Iterator[tuple[int, zipfile.ZipInfo]]:
    previous = -1
    for member in archive.infolist():
        numbered = _MEMBER.fullmatch(member.filename)
        if not numbered or int(numbered[1]) <= previous:
            found = f"the member {member.filename!r} is no frame number after {previous}"
            raise CorruptFileError(found, where=where, remedy=_REMAKE)
        previous = int(numbered[1])
        yield previous, member


def _contents(source: Path | io.BytesIO, where: str) -> Iterator[tuple[int, bytes, str]]:
    """(frame number, content, name to blame) of each member."""
    with _opened(source, where) as archive:
        for frame, member in _members(archive, where):
            place = f"{where}: {member.filename}"
            try:
                content = archive.read(member)
            except (*_DAMAGE, RuntimeError) as error:
                raise CorruptFileError(f"cannot be read ({error})", where=place, remedy=_REMAKE) from error
            yield frame, content, place


def _corrupt(found: str, path: Path) -> CorruptFileError:
    return CorruptFileError(found, where=str(path), remedy=_REMAKE)

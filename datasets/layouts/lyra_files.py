"""What Lyra's two layouts share: a clip's mp4, pose, intrinsics and depth files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..camera_conventions import check_c2w, check_intrinsics
from ..errors import CorruptFileError, InputError
from ..exr import encode_exr
from ..video import probe
from ..zip_files import encode_npz, write_stored_zip
from .release import Float16, ReleaseClip, ReleaseDirectory

SUFFIXES: Mapping[str, str] = {
    "rgb": ".mp4",
    "pose": ".npz",
    "intrinsics": ".npz",
    "depth": ".zip",
    "latent": ".pkl",
    "mask": ".zip",
}
"""Suffix of a clip's file by field; a field's files lie in a folder of its name."""


def clip_file(home: str, field: str, key: str) -> str:
    """POSIX path of a clip's file of one field, below the folder `home` ("" for the root)."""
    return f"{home}/{field}/{key}{SUFFIXES[field]}" if home else f"{field}/{key}{SUFFIXES[field]}"


def key_of(name: str) -> str:
    """A clip's or scene's name as a file's key: Lyra compares only the text before the first dot."""
    return name.replace(".", "_")


def require_distinct_keys(names: Sequence[str], layout: str) -> None:
    """Raise InputError where two names have one key."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(key_of(name), name)
        if other != name:
            raise InputError(
                f"{other} and {name} would both be called {key_of(name)}",
                where=f"layout {layout}",
                remedy="Rename one: names are written without dots.",
            )


def write_pictures_and_cameras(directory: ReleaseDirectory, home: str, key: str, clip: ReleaseClip) -> None:
    """Write the clip's mp4 as it is, and its commanded cameras: `data` float32, `inds` int64 0 … T − 1.

    Raises:
        InputError: the mp4 is unreadable or has another length or size than the clip.
        ContractError: the cameras are no rigid camera-to-world poses, or no intrinsics of the clip's size.
    """
    where = f"clip {clip.scene_id}/{clip.trajectory}"
    video = clip.rgb_mp4()
    try:
        info = probe(video)
    except CorruptFileError as error:
        raise InputError(error.found, where=where, remedy="Make the clip again.") from error
    found, expected = (info.frames, info.height, info.width), (clip.frames, clip.height, clip.width)
    if found != expected:
        raise InputError(
            f"the video has frames, height, width {found}, expected {expected}",
            where=where,
            remedy="Make the clip again.",
        )
    c2w, intrinsics = clip.cameras()
    check_c2w(c2w, where=where)
    check_intrinsics(intrinsics, where=where, size=(clip.height, clip.width))
    directory.path(clip_file(home, "rgb", key), clip.scene_id).write_bytes(video)
    inds = np.arange(clip.frames, dtype=np.int64)
    for field, values in (("pose", c2w), ("intrinsics", intrinsics)):
        content = encode_npz({"data": np.asarray(values, np.float32), "inds": inds})
        directory.path(clip_file(home, field, key), clip.scene_id).write_bytes(content)


def write_depth(directory: ReleaseDirectory, home: str, key: str, scene_id: str, depth: Float16) -> None:
    """Write (T, H, W) depth as a zip of `00000.exr` …, one HALF channel Z each; EXRs deflate it, the zip does not."""
    members = ((f"{frame:05d}.exr", encode_exr({"Z": plane})) for frame, plane in enumerate(_planes(depth)))
    write_stored_zip(directory.path(clip_file(home, "depth", key), scene_id), members)


def write_mask(directory: ReleaseDirectory, home: str, key: str, scene_id: str, mask: NDArray[np.bool_]) -> None:
    """Write (T, H, W) bool as a zip of `00000.png` …, 8-bit grey: 0 where nothing moves, 1 where something does."""
    members = ((f"{frame:05d}.png", _png(plane)) for frame, plane in enumerate(mask))
    write_stored_zip(directory.path(clip_file(home, "mask", key), scene_id), members)


def _png(plane: NDArray[np.bool_]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(plane.astype(np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def _planes(depth: Float16) -> Iterator[Float16]:
    for plane in depth:
        yield np.asarray(plane, np.float16)

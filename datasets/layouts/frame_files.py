"""What layouts of one folder a clip share: numbered pictures, depth as 16-bit PNG, and the list of faults found."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera_conventions import check_intrinsics
from ..camera_sequence import CameraSequence, camera_sequence
from ..errors import InputError, SceneloomError
from .release import Finding, FindingKind, ReleaseClip, ReleaseDirectory, ReleaseScene

MILLIMETRES = 1000.0
"""Levels a unit of depth in most 16-bit depth pictures."""

_LARGEST_LEVEL = 65535


class Findings:
    """Faults in the order they were found, each with the scene that its file belongs to."""

    def __init__(self, scene_of: Mapping[str, str]) -> None:
        self._scene_of = scene_of
        self.found: list[Finding] = []

    def add(self, path: str, kind: FindingKind, message: str, scene_id: str | None = None) -> None:
        """Note a fault of the file or folder at `path` (POSIX path below the root).

        Args:
            scene_id: of a file that holds several scenes; else it is looked up.
        """
        self.found.append(Finding(path, kind, message, scene_id or self._scene(path)))

    def _scene(self, path: str) -> str | None:
        if path in self._scene_of:
            return self._scene_of[path]
        below = f"{path}/"
        inside = {scene for file, scene in self._scene_of.items() if file.startswith(below)}
        beside = {scene for file, scene in self._scene_of.items() if file.startswith(f"{path.rpartition('/')[0]}/")}
        for scenes in (inside, beside):
            if len(scenes) == 1:
                return scenes.pop()
        return None


def clips_of(scenes: Sequence[ReleaseScene], layout: str) -> Iterator[tuple[str, ReleaseScene, ReleaseClip]]:
    """(`<scene>-<trajectory>`, scene, clip) of every clip, in order.

    Raises:
        InputError: there is no clip, or two clips would have one name.
    """
    seen: set[str] = set()
    for scene in scenes:
        for trajectory, clip in scene.clips.items():
            name = f"{scene.scene_id}-{trajectory}"
            if name in seen:
                raise InputError(
                    f"two clips would be called {name}",
                    where=f"layout {layout}",
                    remedy="Rename the scene or the trajectory: names are joined with a hyphen.",
                )
            seen.add(name)
            yield name, scene, clip
    if not seen:
        raise InputError("there are no clips", where=f"layout {layout}", remedy="Give scenes with at least one clip.")


def clip_folders(findings: Findings, root: Path, scene_of: Mapping[str, str]) -> list[str]:
    """Folders of a layout of one folder a clip; notes those that are gone, and notes when there is none."""
    entries = root.iterdir() if root.is_dir() else ()
    there = {entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")}
    expected = {file.partition("/")[0] for file in scene_of if "/" in file}
    for name in sorted(expected - there):
        findings.add(name, FindingKind.MISSING, "the clip's folder is missing; nobody can read the clip")
    if not there:
        findings.add(".", FindingKind.MISSING, "there are no clips")
    return sorted(there)


def frame_names(frames: int) -> tuple[str, ...]:
    """`frame_00000.png` and so on: their sorted order is frame order."""
    return tuple(f"frame_{index:05d}.png" for index in range(frames))


def cameras_of(clip: ReleaseClip, names: tuple[str, ...] = (), *, seconds: bool = False) -> CameraSequence:
    """The clip's commanded cameras with picture names; times are frame numbers, or seconds rounded to microseconds."""
    c2w, intrinsics = clip.cameras()
    times = np.round(np.arange(clip.frames) / clip.frames_per_second, 6) if seconds else None
    where = f"clip {clip.scene_id}/{clip.trajectory}"
    return camera_sequence(c2w, intrinsics, (clip.height, clip.width), where=where, times=times, names=names)


def write_pictures(
    directory: ReleaseDirectory, folder: str, names: Sequence[str], pictures: NDArray[np.generic], scene_id: str
) -> None:
    """Write (T, H, W, 3) uint8 or (T, H, W) uint16 pictures as PNG files `folder/name`; the same bytes every time."""
    for name, picture in zip(names, pictures, strict=True):
        directory.path(f"{folder}/{name}", scene_id).write_bytes(encode_png(picture))


def encode_png(picture: NDArray[np.generic]) -> bytes:
    """PNG of (H, W, 3) uint8 or (H, W) uint16."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def depth_levels(depth: NDArray[np.floating], levels_a_unit: float) -> tuple[NDArray[np.uint16], int]:
    """Depth as 16-bit levels, 0 = invalid.

    Args:
        depth: (…) z-depth, 0 or not finite = invalid.
        levels_a_unit: levels for one unit of depth; 1000 for millimetres of metres.

    Returns:
        levels, and how many valid values are too far for 16 bits and were made invalid.
    """
    values = depth.astype(np.float64) * levels_a_unit
    valid = np.isfinite(values) & (values > 0.0)
    beyond = valid & (values >= _LARGEST_LEVEL + 0.5)
    # A valid depth below half a level would round to 0, which says invalid.
    levels = np.clip(np.round(np.where(valid & ~beyond, values, 0.0)), 0, _LARGEST_LEVEL)
    levels[valid & (levels < 1.0) & ~beyond] = 1.0
    return levels.astype(np.uint16), int(beyond.sum())


def read_picture(path: Path) -> NDArray[np.generic]:
    """Decode a picture: (H, W, C) uint8, (H, W) uint8, or (H, W) uint16 (16-bit grey).

    Raises:
        OSError, ValueError, SyntaxError: it is missing, damaged or cut short; see `PICTURE_ERRORS`.
    """
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
        decoded = np.asarray(picture)
    # Pillow gives 16-bit grey PNG as int32 in its mode "I".
    return decoded.astype(np.uint16) if decoded.dtype == np.int32 else decoded


PICTURE_ERRORS = (OSError, ValueError, SyntaxError)
"""What Pillow raises for a file that is no whole picture."""


def examine_pictures(
    findings: Findings, root: Path, files: Sequence[str], *, size: tuple[int, int] | None, depth: bool, consequence: str
) -> tuple[int, int] | None:
    """Read every picture and note those that are missing, damaged, of another size or of the wrong kind.

    Args:
        files: POSIX paths below the root.
        size: (height, width) that all have; None takes the first readable picture's.
        depth: whether they are 16-bit grey rather than 8-bit RGB.
        consequence: what the consumer does with a picture that it cannot use.

    Returns:
        (height, width) of the pictures; None when none can be read.
    """
    expected = "16-bit grey" if depth else "8-bit RGB"
    for file in files:
        if not (root / file).is_file():
            findings.add(file, FindingKind.MISSING, f"the picture is missing; {consequence}")
            continue
        try:
            picture = read_picture(root / file)
        except PICTURE_ERRORS as error:
            findings.add(file, FindingKind.TRUNCATED, f"the picture cannot be decoded ({error}); {consequence}")
            continue
        right = picture.dtype == np.uint16 and picture.ndim == 2 if depth else _is_rgb(picture)
        if not right:
            found = f"{picture.dtype}{picture.shape}, expected {expected}"
            findings.add(file, FindingKind.OUT_OF_CONVENTION, f"the picture is {found}; {consequence}")
        height, width = picture.shape[:2]
        size = size or (height, width)
        if (height, width) != size:
            found = f"{height}x{width} (height x width), expected {size[0]}x{size[1]}"
            findings.add(file, FindingKind.MISALIGNED, f"the picture is {found}; {consequence}")
    return size


def _is_rgb(picture: NDArray[np.generic]) -> bool:
    return picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


def lens_fault(intrinsics: NDArray[np.floating], size: tuple[int, int] | None) -> str | None:
    """What is wrong with (T, 4) intrinsics of pictures of `size` (height, width); None when nothing is.

    A field of view above 157° (focal length under a tenth of the side) or a principal point in the outermost tenth is
    no lens that this program makes, but what normalised intrinsics or those of another picture size look like.
    """
    try:
        check_intrinsics(intrinsics, size=size)
    except SceneloomError as error:
        return error.found
    if size is None:
        return None
    height, width = size
    fx, fy, cx, cy = (intrinsics.astype(np.float64) / [width, height, width, height]).T
    if (np.minimum(fx, fy) < 0.1).any() or (np.abs(np.stack([cx, cy]) - 0.5) > 0.4).any():
        return f"fx, fy, cx, cy of {intrinsics[0].tolist()} are not in pixels of pictures of {width}x{height}"
    return None


def examine_strays(findings: Findings, root: Path, folder: str, known: Sequence[str], consequence: str) -> None:
    """Note every entry of a folder whose name is not known."""
    place = root / folder
    if place.is_dir():
        for entry in sorted(place.iterdir()):
            if entry.name not in known:
                path = entry.relative_to(root).as_posix()
                findings.add(path, FindingKind.UNEXPECTED, f"it does not belong here; {consequence}")


def json_bytes(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """Indented JSON with a final newline."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()

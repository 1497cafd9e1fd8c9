"""Reads one clip's files (mp4, poses, intrinsics, zip of depth EXRs) as Lyra's loaders do, and names what is wrong."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera_conventions import check_c2w, check_intrinsics
from ..errors import CorruptFileError, SceneloomError
from ..exr import decode_exr
from ..video import iter_video
from .frame_files import Findings
from .pose_photometry import better_convention, compared_frames
from .release import FindingKind

_ZIP_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
_CENTRED = 0.25
"""Share of a side by which a principal point may be off the middle: that of another resolution is off by more."""


@dataclass(frozen=True, slots=True)
class ClipRules:
    """What one of the two loaders does with a clip.

    Attributes:
        on_error: what follows when a file cannot be read.
        wrong_pose: what follows when poses or intrinsics have another convention.
        float_depth: whether FLOAT depth is read as well as HALF.
        dense_depth: whether every pixel has to be valid; else more than half of them.
        wrong_size: what follows when depth has another size than the pictures.
        wrong_depth: what follows when too little of the depth is valid.
    """

    on_error: str
    wrong_pose: str
    float_depth: bool
    dense_depth: bool
    wrong_size: str
    wrong_depth: str


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """Frames that decode, their size, and the pictures that were kept by number."""

    frames: int
    height: int
    width: int
    pictures: Mapping[int, NDArray[np.uint8]]


def examine_clip(findings: Findings, root: Path, files: Mapping[str, str], rules: ClipRules) -> DecodedVideo | None:
    """Examine the files of a clip that belong together.

    Args:
        files: POSIX path below the root by field: rgb, pose, intrinsics, and depth where it is published.

    Returns:
        What the video holds; None when it does not decode.
    """
    present = {}
    for field, file in files.items():
        if (root / file).is_file():
            present[field] = file
        else:
            findings.add(file, FindingKind.MISSING, f"the file is missing; {rules.on_error}")
    c2w = _cameras(findings, root, present.get("pose"), rules)
    lenses = _cameras(findings, root, present.get("intrinsics"), rules)
    if c2w is not None and not _are_poses(findings, files["pose"], c2w, rules):
        c2w = None
    kept = compared_frames(c2w) if c2w is not None else ()
    video = _video(findings, root, present.get("rgb"), kept, rules)
    if video is None:
        return None
    c2w = _of_length(findings, files["pose"], c2w, video, rules)
    lenses = _of_length(findings, files["intrinsics"], lenses, video, rules)
    if lenses is not None and not _are_lenses(findings, files["intrinsics"], lenses, video, rules):
        lenses = None
    depth = _depth(findings, root, present["depth"], video, rules) if "depth" in present else None
    if depth is not None and c2w is not None and lenses is not None and len(c2w) == video.frames:
        better = better_convention(video.pictures, depth, c2w, lenses)
        if better is not None:
            message = (
                f"the pictures say that the poses are {better.name}: the first frame moved by depth and poses is "
                f"{better.given_error:.1f} levels of 255 off as given, {better.error:.1f} then; {rules.wrong_pose}"
            )
            findings.add(files["pose"], FindingKind.OUT_OF_CONVENTION, message)
    return video


# --- cameras --------------------------------------------------------------------------------------------------------


def _cameras(findings: Findings, root: Path, file: str | None, rules: ClipRules) -> NDArray[Any] | None:
    """`data` of a pose or intrinsics file; None when it cannot be used."""
    if file is None:
        return None
    try:
        with np.load(root / file, allow_pickle=False) as arrays:
            data, inds = np.asarray(arrays["data"]), np.asarray(arrays["inds"])
    except KeyError as error:
        message = f"the array is missing ({error}), expected data and inds; {rules.on_error}"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
        return None
    except (*_ZIP_ERRORS, ValueError, TypeError) as error:
        # TypeError: a lone array, an NPY file, under the name of an NPZ.
        findings.add(file, FindingKind.TRUNCATED, f"the file cannot be read ({error}); {rules.on_error}")
        return None
    if not np.issubdtype(data.dtype, np.floating):
        findings.add(file, FindingKind.OUT_OF_CONVENTION, f"data is {data.dtype}, expected floats; {rules.on_error}")
        return None
    if inds.ndim != 1 or inds.shape != data.shape[:1] or not np.array_equal(inds, np.arange(len(inds))):
        message = (
            f"inds {inds.shape} do not count the rows of data {data.shape} from 0; the loader finds frames in inds by "
            f"bisection, so some get no camera or another frame's; {rules.on_error}"
        )
        findings.add(file, FindingKind.MISALIGNED, message)
        return None
    return data


def _are_poses(findings: Findings, file: str, c2w: NDArray[Any], rules: ClipRules) -> bool:
    try:
        check_c2w(c2w)
    except SceneloomError as error:
        findings.add(file, FindingKind.OUT_OF_CONVENTION, f"{error.found}; {rules.wrong_pose}")
        return False
    return True


def _are_lenses(findings: Findings, file: str, lenses: NDArray[Any], video: DecodedVideo, rules: ClipRules) -> bool:
    size = (video.height, video.width)
    try:
        check_intrinsics(lenses, size=size)
    except SceneloomError as error:
        findings.add(file, FindingKind.OUT_OF_CONVENTION, f"{error.found}; {rules.wrong_pose}")
        return False
    off = np.abs(lenses[:, 2:] / np.array(size[::-1]) - 0.5).max(axis=1)
    if off.max() >= _CENTRED:
        frame = int(np.argmax(off))
        message = (
            f"the principal point of frame {frame} is {lenses[frame, 2]:.1f}, {lenses[frame, 3]:.1f} in frames of "
            f"{video.height}x{video.width} (height x width): intrinsics of another resolution; {rules.wrong_pose}"
        )
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
        return False
    return True


def _of_length(
    findings: Findings, file: str, values: NDArray[Any] | None, video: DecodedVideo, rules: ClipRules
) -> NDArray[Any] | None:
    """The values where there is one a frame; else a finding and None."""
    if values is None or len(values) == video.frames:
        return values
    fewer = "some frames have none" if len(values) < video.frames else "they belong to another video"
    message = f"{len(values)} cameras for {video.frames} frames, so {fewer}; {rules.on_error}"
    findings.add(file, FindingKind.MISALIGNED, message)
    return None


# --- pictures and depth ---------------------------------------------------------------------------------------------


def _video(
    findings: Findings, root: Path, file: str | None, kept: Collection[int], rules: ClipRules
) -> DecodedVideo | None:
    if file is None:
        return None
    pictures: dict[int, NDArray[np.uint8]] = {}
    count, shape = 0, (0, 0)
    try:
        for picture in iter_video(root / file):
            shape = picture.shape[:2]
            if count in kept:
                pictures[count] = picture
            count += 1
    except (SceneloomError, AttributeError) as error:
        # AttributeError: PyAV has no codec context for a stream whose damaged header names no codec.
        found = error.found if isinstance(error, SceneloomError) else "its header names no codec"
        findings.add(file, FindingKind.TRUNCATED, f"{found}; {rules.on_error}")
        return None
    if not count:
        findings.add(file, FindingKind.TRUNCATED, f"no frame decodes; {rules.on_error}")
        return None
    return DecodedVideo(count, shape[0], shape[1], pictures)


def _depth(
    findings: Findings, root: Path, file: str, video: DecodedVideo, rules: ClipRules
) -> NDArray[np.floating] | None:
    """Examine every depth frame; returns the first, where it fits the video."""
    problems: dict[tuple[FindingKind, str], list[int]] = {}
    first: NDArray[np.floating] | None = None
    names = [f"{frame:05d}.exr" for frame in range(video.frames)]
    try:
        with zipfile.ZipFile(root / file) as archive:
            members = set(archive.namelist())
            for frame, name in enumerate(names):
                if name not in members:
                    message = "no EXR in the zip; the loader fails when it draws that frame, and only then"
                    problems.setdefault((FindingKind.MISSING, message), []).append(frame)
                    continue
                depth = _depth_frame(archive, name, video, rules, problems, frame)
                first = depth if frame == 0 else first
    except _ZIP_ERRORS as error:
        findings.add(file, FindingKind.TRUNCATED, f"the zip cannot be opened ({error}); {rules.on_error}")
        return None
    extra = sorted(members - set(names))
    if extra:
        message = f"{len(extra)} members that belong to no frame, the first {extra[0]}; the loader never reads them"
        findings.add(file, FindingKind.UNEXPECTED, message)
    for (kind, message), frames in problems.items():
        more = f" and {len(frames) - 1} more" if len(frames) > 1 else ""
        findings.add(file, kind, f"frame {frames[0]}{more}: {message}")
    return first


def examine_masks(findings: Findings, root: Path, file: str, video: DecodedVideo, on_error: str) -> None:
    """Examine the masks of a clip where it has any: a PNG of the video's size for every frame.

    Args:
        on_error: what follows when a file cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    if not (root / file).is_file():
        return
    names = [f"{frame:05d}.png" for frame in range(video.frames)]
    expected = ("L", (video.width, video.height))
    try:
        with zipfile.ZipFile(root / file) as archive:
            if archive.namelist() != names:
                message = f"{len(archive.namelist())} members, expected {names[0]} to {names[-1]}; {on_error}"
                findings.add(file, FindingKind.MISSING, message)
                return
            for name in names:
                with Image.open(io.BytesIO(archive.read(name))) as picture:
                    found = (picture.mode, picture.size)
                    picture.load()
                if found != expected:
                    message = f"{name} is {found}, expected 8-bit grey of (width, height) {expected[1]}; {on_error}"
                    findings.add(file, FindingKind.MISALIGNED, message)
                    return
    except (*_ZIP_ERRORS, UnidentifiedImageError, SyntaxError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"the masks cannot be read ({error}); {on_error}")


def _depth_frame(
    archive: zipfile.ZipFile,
    name: str,
    video: DecodedVideo,
    rules: ClipRules,
    problems: dict[tuple[FindingKind, str], list[int]],
    frame: int,
) -> NDArray[np.floating] | None:
    """One frame's depth where it has the video's size; faults are added to `problems`."""

    def note(kind: FindingKind, message: str) -> None:
        problems.setdefault((kind, message), []).append(frame)

    try:
        channels = decode_exr(archive.read(name), name)
    except (*_ZIP_ERRORS, CorruptFileError) as error:
        found = error.found if isinstance(error, CorruptFileError) else str(error)
        note(FindingKind.TRUNCATED, f"the EXR cannot be read ({found}); {rules.on_error}")
        return None
    depth = channels.get("Z")
    if depth is None:
        note(FindingKind.OUT_OF_CONVENTION, f"channels {', '.join(channels)}, expected Z; {rules.on_error}")
        return None
    if depth.dtype != np.float16 and not (rules.float_depth and depth.dtype == np.float32):
        message = f"Z is {depth.dtype}, expected HALF; the loader takes its bytes for HALF and fails; {rules.on_error}"
        note(FindingKind.OUT_OF_CONVENTION, message)
        return None
    if depth.shape != (video.height, video.width):
        message = (
            f"depth of {depth.shape[0]}x{depth.shape[1]} for frames of {video.height}x{video.width} (height x width); "
            f"{rules.wrong_size}"
        )
        note(FindingKind.MISALIGNED, message)
        return None
    valid = float((np.isfinite(depth) & (depth > 0)).mean())
    if valid < 1.0 if rules.dense_depth else valid <= 0.5:
        expected = "all have to be" if rules.dense_depth else "more than half have to be"
        note(FindingKind.OUT_OF_CONVENTION, f"not enough depths are valid, {expected}; {rules.wrong_depth}")
    return depth

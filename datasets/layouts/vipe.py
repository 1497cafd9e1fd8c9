"""ViPE's artifact directory, for ViPE's own readers and viewer (`vipe visualize`), made from a release's clips.

`sceneloom.datasets.vipe_files` has the format; a clip is called `<scene>-<trajectory>`. Cameras are the commanded ones.
There are no instance masks, as after ViPE's preset `static_vda`. Intrinsics are written as stored, with the principal
point at W / 2, as ViPE writes its own, although its readers put pixel centres at whole numbers. `info.pkl` holds the
one number that ViPE's holds, which is always 0 there.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .. import vipe_files
from ..camera_conventions import check_c2w
from ..camera_files import format_lyra
from ..errors import InputError, SceneloomError
from ..video import iter_video
from .frame_files import Findings, cameras_of, clips_of, examine_strays, lens_fault
from .release import Finding, FindingKind, Layout, LayoutSummary, ReleaseDirectory, ReleaseRequest, ReleaseScene

_WHERE = "layout vipe"
_FINISHED = "_info"
"""ViPE finds the clips of a directory by deleting this from the names in `vipe/`, wherever it stands."""
_FOLDERS = ("rgb", "pose", "intrinsics", "depth", "vipe")
_LEAST_FINITE = 0.99
"""Share of finite depth that ViPE's own acceptance test asks for."""


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Fill the directory; `info.pkl` comes last of each clip, as ViPE writes it.

    Raises:
        InputError: there is no clip, a side is odd, or a name would be misread by ViPE.
    """
    clips = list(clips_of(scenes, "vipe"))
    for name, _, clip in clips:
        _check_name(name)
        if clip.height % 2 or clip.width % 2:
            raise InputError(
                f"frames of {clip.height}x{clip.width} (height x width)",
                where=f"{_WHERE}, {name}",
                remedy="Give frames whose sides are even: ViPE's videos are yuv420p.",
            )
    for name, scene, clip in clips:
        pose, intrinsics = format_lyra(cameras_of(clip))
        contents = {
            f"pose/{name}.npz": pose,
            f"intrinsics/{name}.npz": intrinsics,
            f"intrinsics/{name}_camera.txt": "".join(f"{frame}: PINHOLE\n" for frame in range(clip.frames)).encode(),
            f"rgb/{name}.mp4": clip.rgb_mp4(),
        }
        if request.wants("depth"):
            contents[f"depth/{name}.zip"] = vipe_files.encode_depth_archive(clip.depth())
        contents[f"vipe/{name}{_FINISHED}.pkl"] = pickle.dumps({"ba_residual": 0.0}, protocol=4)
        for file, content in contents.items():
            directory.path(file, scene.scene_id).write_bytes(content)
    notes = ("vipe visualize DIRECTORY shows the clips", "there are no instance masks (as with the preset static_vda)")
    return LayoutSummary(counts={"clips": len(clips)}, notes=notes)


def _check_name(name: str) -> None:
    if _FINISHED in name or ":" in name:
        raise InputError(
            f'the clip\'s name {name} holds "{_FINISHED}" or ":"',
            where=_WHERE,
            remedy="Rename the scene or the trajectory: ViPE's reader would look for another name.",
        )


# --- examine --------------------------------------------------------------------------------------------------------


def examine(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Faults that ViPE's readers, or whoever pairs its files by position, would stumble over."""
    findings = Findings(scene_of)
    names = _names(root)
    if not names:
        findings.add("rgb", FindingKind.MISSING, "there are no clips; vipe visualize lists rgb/*.mp4 and shows nothing")
    for name in names:
        _examine_clip(findings, root, name)
    known = {
        "rgb": ("{}.mp4",),
        "pose": ("{}.npz",),
        "intrinsics": ("{}.npz", "{}_camera.txt"),
        "depth": ("{}.zip",),
        "vipe": ("{}_info.pkl",),
    }
    for folder, patterns in known.items():
        expected = [pattern.format(name) for name in names for pattern in patterns]
        examine_strays(findings, root, folder, expected, "ViPE's readers find clips by name and would misread it")
    return findings.found


def _names(root: Path) -> list[str]:
    names = set(vipe_files.clip_names(root))
    names |= {path.stem for path in root.glob("depth/*.zip")} | {path.stem for path in root.glob("intrinsics/*.npz")}
    return sorted(names)


def _examine_clip(findings: Findings, root: Path, name: str) -> None:
    if _FINISHED in name:
        message = f'"{_FINISHED}" in the name; ViPE lists the clip as {name.replace(_FINISHED, "")} and finds no file'
        findings.add(f"rgb/{name}.mp4", FindingKind.OUT_OF_CONVENTION, message)
    video = _examine_video(findings, root, f"rgb/{name}.mp4")
    frames, size = video if video is not None else (None, None)
    poses = _examine_poses(findings, root, name, frames)
    frames = poses if frames is None else frames
    _examine_intrinsics(findings, root, name, frames, size)
    if (root / "depth").is_dir():
        _examine_depth(findings, root, name, frames, size)
    _examine_finished(findings, root, f"vipe/{name}{_FINISHED}.pkl")


def _note(findings: Findings, root: Path, file: str, error: SceneloomError, consequence: str) -> None:
    kind = FindingKind.TRUNCATED if (root / file).is_file() else FindingKind.MISSING
    findings.add(file, kind, f"{error.found}; {consequence}")


def _examine_video(findings: Findings, root: Path, file: str) -> tuple[int, tuple[int, int]] | None:
    """Number of frames that decode, and their (height, width)."""
    count, size = 0, (0, 0)
    try:
        for picture in iter_video(root / file):
            count, size = count + 1, picture.shape[:2]
    except SceneloomError as error:
        _note(findings, root, file, error, "ViPE's viewer cannot show the clip")
        return None
    return count, size


def _examine_poses(findings: Findings, root: Path, name: str, frames: int | None) -> int | None:
    file = f"pose/{name}.npz"
    try:
        poses = vipe_files.read_poses(root, name)
    except SceneloomError as error:
        _note(findings, root, file, error, "ViPE's reader stops")
        return None
    _examine_frames(findings, file, poses.frames.tolist(), frames)
    try:
        check_c2w(poses.values, tolerance=1e-3)
    except SceneloomError as error:
        message = f"{error.found}; ViPE makes rigid motions of the poses and places the camera wrongly"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
    return len(poses.frames)


def _examine_frames(findings: Findings, file: str, found: list[int], frames: int | None) -> None:
    """ViPE's viewer pairs attributes by position, so every attribute needs every frame."""
    expected = list(range(len(found) if frames is None else frames))
    if found != expected:
        message = (
            f"frames {found[:3]}…{found[-1:]} ({len(found)}), expected 0 to {len(expected) - 1}; "
            "ViPE's viewer pairs attributes by position and shows them out of step"
        )
        findings.add(file, FindingKind.MISALIGNED, message)


def _examine_intrinsics(
    findings: Findings, root: Path, name: str, frames: int | None, size: tuple[int, int] | None
) -> None:
    file, types_file = f"intrinsics/{name}.npz", f"intrinsics/{name}_camera.txt"
    try:
        intrinsics = vipe_files.read_intrinsics(root, name)
    except SceneloomError as error:
        _note(findings, root, file, error, "ViPE's reader stops")
        return
    _examine_frames(findings, file, intrinsics.frames.tolist(), frames)
    fault = lens_fault(intrinsics.values, size)
    if fault is not None:
        findings.add(file, FindingKind.OUT_OF_CONVENTION, f"{fault}; ViPE back-projects depth with them as they are")
    if not (root / types_file).is_file():
        findings.add(types_file, FindingKind.MISSING, "the camera types are missing; ViPE's reader stops")
        return
    try:
        types = vipe_files.read_camera_types(root, name)
    except SceneloomError as error:
        findings.add(types_file, FindingKind.TRUNCATED, f"{error.found}; ViPE's reader stops")
        return
    if types != ("PINHOLE",) * len(intrinsics.frames):
        message = f"{len(types)} types for {len(intrinsics.frames)} rows, or not PINHOLE; ViPE pairs them by position"
        findings.add(types_file, FindingKind.MISALIGNED, message)


def _examine_depth(findings: Findings, root: Path, name: str, frames: int | None, size: tuple[int, int] | None) -> None:
    file, found, finite, pixels = f"depth/{name}.zip", [], 0, 0
    try:
        for frame, plane in vipe_files.iter_depth(root, name):
            found.append(frame)
            finite += int(np.isfinite(plane).sum())
            pixels += plane.size
            if size is not None and plane.shape != size:
                message = f"frame {frame} is {plane.shape}, the video {size}; ViPE's viewer stops"
                findings.add(file, FindingKind.MISALIGNED, message)
                return
    except SceneloomError as error:
        consequence = f"ViPE's reader puts NaN in its place, or stops ({error.where.rpartition(' ')[2]})"
        _note(findings, root, file, error, consequence)
        return
    _examine_frames(findings, file, found, frames)
    if finite < _LEAST_FINITE * pixels:
        message = (
            f"{finite / pixels:.1%} of the depth is finite; ViPE's own acceptance test asks for {_LEAST_FINITE:.0%}"
        )
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)


def _examine_finished(findings: Findings, root: Path, file: str) -> None:
    """The file is taken apart, not loaded: a pickle that names a function can run it."""
    try:
        operations = [operation.name for operation, _, _ in pickletools.genops((root / file).read_bytes())]
    except FileNotFoundError:
        findings.add(file, FindingKind.MISSING, "it is written last: without it the clip counts as unfinished")
        return
    except (OSError, ValueError, IndexError, EOFError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"not a whole pickle ({error}); ViPE's readers stop")
        return
    if {"GLOBAL", "STACK_GLOBAL", "INST", "REDUCE", "EXT1", "EXT2", "EXT4"} & set(operations):
        message = "the pickle names code to run; it holds a dict of numbers when ViPE writes it"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)


LAYOUT = Layout(
    name="vipe",
    consumer="ViPE (vipe visualize, vipe.utils.io)",
    description="video, poses, intrinsics and half-float depth as ViPE's artifact directory",
    fields=("rgb", "cameras", "depth"),
    required=("rgb", "cameras"),
    write=write,
    examine=examine,
)

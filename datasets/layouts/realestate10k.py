"""RealEstate10K: camera files by split as the published set has them, with the frames, and what CameraCtrl reads.

    <split>/<clip>.txt                          a source line, then a line a frame: time in µs, fx fy cx cy as shares of
                                                the picture, 0 0, and w2c (3 × 4, row by row)
    frames/<split>/<clip>/<microseconds>.png
    video_clips/<split>/<clip>.mp4              a frame for every line of the camera file
    annotations/{train,validation,test}.json    a list of clip_name, clip_path, pose_file and caption, paths below the
                                                root: the `annotation_json` of CameraCtrl's RealEstate10KPose

The set has no third split: camera files and frames of validation scenes are in `test`, and only their annotations are
apart. A split without scenes has no annotations, because CameraCtrl draws from an empty list for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np

from ..camera_files import format_realestate10k, read_cameras
from ..camera_sequence import CameraSequence
from ..errors import SceneloomError
from ..video import iter_video
from .captions import CAPTION, CAPTION_HELP, caption_at, caption_notes, caption_stand_ins
from .frame_files import (
    Findings,
    cameras_of,
    clips_of,
    examine_pictures,
    examine_strays,
    json_bytes,
    write_pictures,
)
from .release import (
    Finding,
    FindingKind,
    Layout,
    LayoutSummary,
    ReleaseClip,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
)

_SPLITS: Mapping[str, str] = {"train": "train", "validation": "test", "test": "test"}
_KEYS = ("clip_name", "clip_path", "pose_file", "caption")
_CAMERA_CTRL_FRAMES = 17
"""CameraCtrl trains on 16 frames and shows its adapter one more of the same clip."""


# --- write ----------------------------------------------------------------------------------------------------------


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Fill the directory; see the module for the tree.

    Raises:
        InputError: there is no clip, or two would have one name.
    """
    annotations: dict[str, list[dict[str, str]]] = {split: [] for split in _SPLITS}
    shortest: int | None = None
    for name, scene, clip in clips_of(scenes, "realestate10k"):
        folder = _SPLITS[scene.split]
        if request.wants("frames"):
            names = [f"{time}.png" for time in _microseconds(clip)]
            write_pictures(directory, f"frames/{folder}/{name}", names, clip.rgb(), scene.scene_id)
        text = format_realestate10k(cameras_of(clip, seconds=True))
        directory.path(f"{folder}/{name}.txt", scene.scene_id).write_bytes(text)
        if request.wants("video"):
            directory.path(f"video_clips/{folder}/{name}.mp4", scene.scene_id).write_bytes(clip.rgb_mp4())
        annotations[scene.split].append(_annotation(folder, name, scene, clip, request))
        shortest = clip.frames if shortest is None else min(shortest, clip.frames)
    if request.wants("video"):
        for split, entries in _filled(annotations):
            directory.path(f"annotations/{split}.json").write_bytes(json_bytes(entries))
    return LayoutSummary(
        counts={"clips": sum(map(len, annotations.values()))},
        notes=_notes(scenes, request, annotations, shortest or 0),
        stand_ins=caption_stand_ins(scenes) if request.wants("video") else {},
    )


def _microseconds(clip: ReleaseClip) -> list[int]:
    return [round(index / clip.frames_per_second * 1e6) for index in range(clip.frames)]


def _annotation(
    folder: str, name: str, scene: ReleaseScene, clip: ReleaseClip, request: ReleaseRequest
) -> dict[str, str]:
    windows = scene.captions.get(clip.trajectory)
    caption = caption_at(windows, 0) if windows else scene.prompt or request.options.get(CAPTION, "")
    values = (name, f"video_clips/{folder}/{name}.mp4", f"{folder}/{name}.txt", " ".join(caption.split()))
    return dict(zip(_KEYS, values, strict=True))


def _filled(annotations: Mapping[str, Sequence[dict[str, str]]]) -> list[tuple[str, Sequence[dict[str, str]]]]:
    """The splits that have clips, with these."""
    return [(split, entries) for split, entries in annotations.items() if entries]


def _notes(
    scenes: Sequence[ReleaseScene],
    request: ReleaseRequest,
    annotations: Mapping[str, Sequence[dict[str, str]]],
    shortest: int,
) -> tuple[str, ...]:
    notes = ["scenes of the validation split are in test: RealEstate10K has no third split"]
    if request.wants("video"):
        lists = ", ".join(f"annotations/{split}.json" for split, _ in _filled(annotations))
        notes.append(f"CameraCtrl: root_path {request.destination}, annotation_json {lists}")
        silent = sum(not entry["caption"] for entries in annotations.values() for entry in entries)
        if silent:
            notes.append(f"{silent} clips have no caption: CameraCtrl trains on them with an empty prompt")
        if shortest < _CAMERA_CTRL_FRAMES:
            notes.append(
                f"clips of {shortest} frames: CameraCtrl wants {_CAMERA_CTRL_FRAMES} or a smaller sample_n_frames, "
                "and draws for ever from clips that are shorter"
            )
        notes += caption_notes(scenes)
    return tuple(notes)


# --- examine --------------------------------------------------------------------------------------------------------


def examine(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Faults that loaders of camera files and frames, or CameraCtrl, would stumble over."""
    findings = Findings(scene_of)
    clips = {path.relative_to(root).with_suffix("").as_posix() for path in root.glob("t*/*.txt")}
    clips |= {path.relative_to(root / "frames").as_posix() for path in root.glob("frames/*/*")}
    clips |= {path.relative_to(root / "video_clips").with_suffix("").as_posix() for path in _videos(root)}
    clips |= {file.removesuffix(".txt") for file in scene_of if file.count("/") == 1 and file.endswith(".txt")}
    if not clips:
        findings.add("train", FindingKind.MISSING, "there are no clips; a loader finds nothing to draw")
    with_video = (root / "annotations").exists() or (root / "video_clips").exists()
    for clip in sorted(clips):
        _examine_clip(findings, root, clip, with_video)
    if with_video:
        _examine_annotations(findings, root, clips)
    return findings.found


def _videos(root: Path) -> list[Path]:
    return sorted(root.glob("video_clips/*/*.mp4"))


def _examine_clip(findings: Findings, root: Path, clip: str, with_video: bool) -> None:
    file = f"{clip}.txt"
    if not (root / file).is_file():
        findings.add(file, FindingKind.MISSING, "the cameras are missing; a loader never draws the clip")
        return
    try:
        cameras = read_cameras(root / file, camera_format="realestate10k")
    except (SceneloomError, OSError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"{error}; a loader stops or reads other numbers")
        return
    if cameras.intrinsics is not None and not _is_normalised(cameras.intrinsics):
        message = "intrinsics are not shares of the picture; a loader multiplies them by the picture's size"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
    size = _examine_frames(findings, root, clip, cameras) if (root / "frames").is_dir() else None
    if with_video:
        _examine_video(findings, root, f"video_clips/{clip}.mp4", len(cameras.times), size)


def _examine_frames(findings: Findings, root: Path, clip: str, cameras: CameraSequence) -> tuple[int, int] | None:
    folder, names = f"frames/{clip}", [f"{round(time * 1e6)}.png" for time in cameras.times]
    files = [f"{folder}/{name}" for name in names]
    consequence = "a loader finds no frame for the camera's time"
    size = examine_pictures(findings, root, files, size=None, depth=False, consequence=consequence)
    examine_strays(findings, root, folder, names, "no camera belongs to it, so it is never read")
    return size


def _is_normalised(intrinsics: np.ndarray) -> bool:
    focal, centre = intrinsics[:, :2], intrinsics[:, 2:]
    return bool(((focal > 0.1) & (focal < 20.0) & (centre > 0.0) & (centre < 1.0)).all())


def _examine_video(findings: Findings, root: Path, file: str, cameras: int, size: tuple[int, int] | None) -> None:
    count, found = 0, size
    try:
        for picture in iter_video(root / file):
            count, found = count + 1, picture.shape[:2]
    except SceneloomError as error:
        kind = FindingKind.TRUNCATED if (root / file).is_file() else FindingKind.MISSING
        findings.add(file, kind, f"{error.found}; CameraCtrl draws another clip in its place without a word")
        return
    if count != cameras or (size is not None and found != size):
        message = f"{count} frames of {found}, expected {cameras} of {size or found}; CameraCtrl pairs them by position"
        findings.add(file, FindingKind.MISALIGNED, message)


def _examine_annotations(findings: Findings, root: Path, clips: AbstractSet[str]) -> None:
    listed: dict[str, str] = {}
    for split in _SPLITS:
        file = f"annotations/{split}.json"
        if (root / file).exists():
            for clip in _examine_list(findings, root, file, _SPLITS[split]):
                if clip not in clips:
                    message = f"{file} lists it; CameraCtrl draws another clip in its place without a word"
                    findings.add(f"{clip}.txt", FindingKind.MISSING, message)
                if clip in listed:
                    message = f"{clip} is in {listed[clip]} too; it would be held out and trained on, or drawn twice"
                    findings.add(file, FindingKind.MISALIGNED, message)
                listed[clip] = file
    for clip in sorted(clips - listed.keys()):
        file = "annotations/train.json" if clip.startswith("train/") else "annotations/test.json"
        findings.add(file, FindingKind.MISSING, f"no annotation lists {clip}; CameraCtrl never draws the clip")
    known = [f"{split}.json" for split in _SPLITS]
    examine_strays(findings, root, "annotations", known, "it is no split of the set")


def _examine_list(findings: Findings, root: Path, file: str, folder: str) -> list[str]:
    """Check one list of annotations; gives the clips that it names, as `<split>/<clip>`."""
    try:
        entries = json.loads((root / file).read_bytes())
        rows = [tuple(entry[key] for key in _KEYS) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"no list of {', '.join(_KEYS)} ({type(error).__name__}: {error}); CameraCtrl stops"
        findings.add(file, FindingKind.TRUNCATED, message)
        return []
    if not rows:
        findings.add(file, FindingKind.TRUNCATED, "it lists no clip; CameraCtrl stops at its first draw")
    clips = []
    for name, video, poses, caption in rows:
        right = (f"video_clips/{folder}/{name}.mp4", f"{folder}/{name}.txt")
        if (video, poses) != right or not isinstance(caption, str):
            message = f"{name} has {video} and {poses}, expected {right[0]} and {right[1]}; it would be seen wrongly"
            findings.add(file, FindingKind.MISALIGNED, message)
            continue
        clips.append(f"{folder}/{name}")
    return clips


LAYOUT = Layout(
    name="realestate10k",
    consumer="loaders of RealEstate10K (CameraCtrl, pixelSplat, MVSplat and others)",
    description="camera text files by split, with frames named by their time, videos and CameraCtrl's annotations",
    fields=("frames", "cameras", "video"),
    required=("cameras",),
    write=write,
    examine=examine,
    options={CAPTION: CAPTION_HELP},
)

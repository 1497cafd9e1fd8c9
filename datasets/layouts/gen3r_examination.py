"""Reads a Gen3R set the way its training code does, and names every file that would stop, mislead or starve it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..camera_conventions import check_c2w
from ..camera_files import parse_gen3r
from ..errors import SceneloomError
from .frame_files import Findings, examine_pictures, examine_strays, lens_fault
from .gen3r_names import CLIP_FRAMES, INDEX_FILES, LONGEST_CAPTION, WEIGHTS, validation_dataset
from .release import Finding, FindingKind

_FRAME_KEYS = ("w", "h", "fl_x", "fl_y", "cx", "cy", "file_path", "transform_matrix")
_PICTURES = (".png", ".jpg", ".jpeg")
_STILL = "Gen3R skips it and repeats another frame in its place, without a word"


def examine(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Faults of a set that stands at its destination (its index files hold absolute paths).

    Args:
        root: the published directory.
        scene_of: scene of each file below the root, where a manifest says so.
    """
    findings = Findings(scene_of)
    if "train" in str(root):
        message = f'"train" in {root}: Gen3R replaces it with "test" when it looks for its validation set'
        findings.add(".", FindingKind.OUT_OF_CONVENTION, message)
    own = {dataset: _examine_index(findings, root, f"{dataset}/train") for dataset in WEIGHTS}
    train, test = _examine_index(findings, root, "train"), _examine_index(findings, root, "test")
    _examine_lists(findings, root, own, train, test)
    listed = dict.fromkeys([*(clip for clips in own.values() for clip in clips), *train, *test])
    for clip in listed:
        _examine_clip(findings, root, clip)
    for dataset in WEIGHTS:
        known = [PurePosixPath(clip).name for clip in listed if clip.startswith(f"{dataset}/scenes/")]
        examine_strays(findings, root, f"{dataset}/scenes", known, "no index file lists it, so Gen3R never reads it")
    return findings.found


# --- index files ----------------------------------------------------------------------------------------------------


def _examine_index(findings: Findings, root: Path, prefix: str) -> list[str]:
    """Check the three lists of an index; returns the clips' folders below the root that its lines name."""
    lists = {suffix: _lines(findings, root, f"{prefix}_{suffix}") for suffix in INDEX_FILES}
    counts = {suffix: len(lines) for suffix, lines in lists.items()}
    if len(set(counts.values())) > 1:
        numbers = ", ".join(f"{count} in {prefix}_{suffix}" for suffix, count in counts.items())
        message = f"the lists differ in length ({numbers}); Gen3R matches them by line and stops"
        shortest = min(counts, key=lambda suffix: counts[suffix])
        findings.add(f"{prefix}_{shortest}", FindingKind.MISALIGNED, message)
    folders: dict[str, list[str | None]] = {
        suffix: [_folder(findings, root, f"{prefix}_{suffix}", line, target) for line in lists[suffix]]
        for suffix, target in INDEX_FILES.items()
    }
    for number, clips in enumerate(zip(*folders.values(), strict=False), start=1):
        if len({clip for clip in clips if clip is not None}) > 1:
            message = f"line {number} of the three lists names different clips; Gen3R would mix them up"
            findings.add(f"{prefix}_cameras_paths.txt", FindingKind.MISALIGNED, message)
    return list(dict.fromkeys(clip for clips in folders.values() for clip in clips if clip is not None))


def _lines(findings: Findings, root: Path, file: str) -> list[str]:
    try:
        lines = [line.strip() for line in (root / file).read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        findings.add(file, FindingKind.MISSING, "the list is missing; Gen3R stops when it starts")
        return []
    except (OSError, UnicodeDecodeError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"the list cannot be read ({error}); Gen3R stops when it starts")
        return []
    if not lines:
        findings.add(file, FindingKind.MISSING, "the list is empty; Gen3R stops the first time it draws from it")
    return lines


def _folder(findings: Findings, root: Path, file: str, line: str, target: str) -> str | None:
    """The clip's folder below the root that a line of an index names; None where the line cannot be used."""
    path = Path(line)
    if path.name != target:
        message = f"the line {line} does not end in {target}; Gen3R would read the wrong file"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
        return None
    if not path.is_absolute():
        message = f"the line {line} is relative; Gen3R looks for it in the folder that it is started from"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
        path = root / path
    if not path.exists():
        message = f"the line {line} names nothing (was the set moved?); Gen3R stops or trains on stills"
        findings.add(file, FindingKind.MISSING, message)
    if path.resolve().is_relative_to(root.resolve()):
        return path.parent.resolve().relative_to(root.resolve()).as_posix()
    return None


def _examine_lists(
    findings: Findings, root: Path, own: Mapping[str, list[str]], train: list[str], test: list[str]
) -> None:
    for clip in sorted(set(train) & set(test) | {clip for clips in own.values() for clip in clips} & set(test)):
        message = f"{clip} is trained on and validated with"
        findings.add("test_videos_dirs.txt", FindingKind.OUT_OF_CONVENTION, message)
    missing = {clip for clips in own.values() for clip in clips} - set(train)
    for clip in sorted(missing):
        message = f"{clip} is not in the list of the root; the geometry adapter would not train on it"
        findings.add("train_videos_dirs.txt", FindingKind.MISSING, message)
    taken = {clip: validation_dataset(f"{root}/{clip}/captions.txt") for clip in test}
    named = sum(name is not None for name in taken.values())
    if named < 2:
        message = (
            f"{named} test clips whose path holds a dataset's name, 2 are needed; Gen3R's first validation prints "
            '"Eval error" and shows nothing'
        )
        findings.add("test_captions_paths.txt", FindingKind.MISSING, message)
    for clip, name in taken.items():
        if name is not None and name != PurePosixPath(clip).parts[0]:
            message = f"the path of {clip} holds the name {name}, so Gen3R's validation takes the clip for that dataset"
            findings.add("test_captions_paths.txt", FindingKind.OUT_OF_CONVENTION, message)


# --- one clip -------------------------------------------------------------------------------------------------------


def _examine_clip(findings: Findings, root: Path, clip: str) -> None:
    pictures = _examine_images(findings, root, clip)
    frames = _frames(findings, root, f"{clip}/transforms.json")
    if frames is not None:
        _examine_frames(findings, f"{clip}/transforms.json", frames, pictures)
    _examine_captions(findings, root, f"{clip}/captions.txt")
    _examine_documented(findings, root, clip, pictures, frames)


def _examine_images(findings: Findings, root: Path, clip: str) -> dict[str, tuple[int, int] | None]:
    """Size of the pictures by file name."""
    folder = root / clip / "images"
    if not folder.is_dir():
        findings.add(f"{clip}/images", FindingKind.MISSING, "there are no frames; Gen3R stops when it draws the clip")
        return {}
    names = sorted(entry.name for entry in folder.iterdir())
    for name in names:
        if not name.endswith(_PICTURES):
            message = "it is no picture whose name ends in .png, .jpg or .jpeg; Gen3R's adapter skips it"
            findings.add(f"{clip}/images/{name}", FindingKind.UNEXPECTED, message)
    pictures = [name for name in names if name.endswith(_PICTURES)]
    files = [f"{clip}/images/{name}" for name in pictures]
    size = examine_pictures(findings, root, files, size=None, depth=False, consequence=_STILL)
    if len(pictures) < CLIP_FRAMES:
        message = f"{len(pictures)} frames, Gen3R trains on {CLIP_FRAMES} and fills the clip with stills"
        findings.add(f"{clip}/images", FindingKind.MISSING, message)
    return dict.fromkeys(pictures, size)


def _frames(findings: Findings, root: Path, file: str) -> list[dict[str, Any]] | None:
    try:
        frames = json.loads((root / file).read_bytes())["frames"]
    except FileNotFoundError:
        findings.add(file, FindingKind.MISSING, "the cameras are missing; Gen3R's loader stops")
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"no cameras can be read ({error!r}); Gen3R's loader stops")
        return None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        findings.add(file, FindingKind.TRUNCATED, "`frames` is no list of objects; Gen3R's loader stops")
        return None
    return frames


def _examine_frames(
    findings: Findings, file: str, frames: list[dict[str, Any]], pictures: Mapping[str, tuple[int, int] | None]
) -> None:
    lacking = {key for frame in frames for key in _FRAME_KEYS if key not in frame}
    if lacking:
        message = f"frames without {', '.join(sorted(lacking))}; Gen3R reads them of every frame and stops"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
        return
    names = [str(frame["file_path"]).rsplit("/", 1)[-1] for frame in frames]
    for name in sorted(set(names) - set(pictures)):
        findings.add(file, FindingKind.MISSING, f"{name} is not in images; {_STILL}")
    for name in sorted(set(pictures) - set(names)):
        message = f"images holds {name} without a camera; Gen3R's adapter pairs pictures and cameras by position"
        findings.add(file, FindingKind.MISALIGNED, message)
    if names != sorted(names):
        message = "frames are not in the order of their names; the adapter sorts names, so cameras and pictures part"
        findings.add(file, FindingKind.MISALIGNED, message)
    for frame, name in zip(frames, names, strict=True):
        size = pictures.get(name)
        if size is not None and (frame["h"], frame["w"]) != size:
            found = f"{name} is {size[0]}x{size[1]}, its camera is for {frame['h']}x{frame['w']}"
            findings.add(file, FindingKind.MISALIGNED, f"{found}; Gen3R scales the intrinsics wrongly")
            break
    _examine_numbers(findings, file, frames)


def _examine_numbers(findings: Findings, file: str, frames: list[dict[str, Any]]) -> None:
    entries = [value for frame in frames for row in _rows(frame["transform_matrix"]) for value in row]
    if entries and all(type(value) is int for value in entries):
        message = "matrices of whole numbers only; Gen3R makes integer tensors of them, which it cannot invert"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
    try:
        poses = np.array([frame["transform_matrix"] for frame in frames], np.float64)
        check_c2w(poses, tolerance=1e-3)
        lenses = np.array([[frame[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")] for frame in frames], float)
    except (ValueError, TypeError) as error:
        found = error.found if isinstance(error, SceneloomError) else str(error)
        message = f"transform_matrix or lens: {found}; Gen3R does not check it and trains on wrong rays"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
        return
    width, height = lenses[0, 4:].astype(int)
    fault = lens_fault(lenses[:, :4], (int(height), int(width)))
    if fault is not None:
        findings.add(file, FindingKind.OUT_OF_CONVENTION, f"{fault}; Gen3R trains on wrong rays")


def _rows(matrix: object) -> list[list[Any]]:
    return [row for row in matrix if isinstance(row, list)] if isinstance(matrix, list) else []


def _examine_captions(findings: Findings, root: Path, file: str) -> None:
    try:
        lines = (root / file).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        findings.add(file, FindingKind.MISSING, "the captions are missing; Gen3R's loader stops")
        return
    except (OSError, UnicodeDecodeError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"the captions cannot be read ({error}); Gen3R's loader stops")
        return
    if not lines:
        findings.add(file, FindingKind.TRUNCATED, "there is no caption; Gen3R's loader stops")
    if any(not line.strip() for line in lines):
        message = "a caption is blank; Gen3R draws lines at random and would train without text"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)
    if any(len(line) > LONGEST_CAPTION for line in lines):
        message = f"a caption is longer than {LONGEST_CAPTION} characters; Gen3R takes the empty text instead"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)


# --- what the README names ------------------------------------------------------------------------------------------


def _examine_documented(
    findings: Findings,
    root: Path,
    clip: str,
    pictures: Mapping[str, tuple[int, int] | None],
    frames: list[dict[str, Any]] | None,
) -> None:
    for name in pictures:
        if not (root / clip / "frames" / name).is_file():
            findings.add(f"{clip}/frames/{name}", FindingKind.MISSING, "it is missing; Gen3R's README names it")
        elif not _same_bytes(root / clip / "images" / name, root / clip / "frames" / name):
            message = "it is not the frame that images holds; Gen3R's README names it, its code reads images"
            findings.add(f"{clip}/frames/{name}", FindingKind.MISALIGNED, message)
    examine_strays(findings, root, f"{clip}/frames", tuple(pictures), "it is no frame of images")
    _examine_texts(findings, root, clip)
    if (root / clip / "depth").is_dir():
        files = [f"{clip}/depth/{name}" for name in pictures if name.endswith(".png")]
        size = next(iter(pictures.values()), None)
        consequence = "Gen3R does not read depth, whoever does gets another frame count or size"
        examine_pictures(findings, root, files, size=size, depth=True, consequence=consequence)
        known = [PurePosixPath(file).name for file in files]
        examine_strays(findings, root, f"{clip}/depth", known, "it has no frame in images")
    _examine_inference(findings, root, f"{clip}/cameras.json", frames)


def _same_bytes(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other) or one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _examine_texts(findings: Findings, root: Path, clip: str) -> None:
    captions, prompt, scale = (root / clip / name for name in ("captions.txt", "prompt.txt", "scale.json"))
    try:
        first = prompt.read_text(encoding="utf-8").splitlines()[:1]
        if captions.is_file() and first != captions.read_text(encoding="utf-8").splitlines()[:1]:
            message = "it is not the first caption; infer.py --prompts would make another scene"
            findings.add(f"{clip}/prompt.txt", FindingKind.MISALIGNED, message)
    except FileNotFoundError:
        findings.add(f"{clip}/prompt.txt", FindingKind.MISSING, "it is missing; Gen3R's README names it")
    except (OSError, UnicodeDecodeError) as error:
        findings.add(f"{clip}/prompt.txt", FindingKind.TRUNCATED, f"no text ({error}); infer.py --prompts stops")
    try:
        scales = json.loads(scale.read_bytes())
        usable = all(scales[name] > 0.0 for name in ("median_depth", "scene_scale", "vggt_unit"))
    except FileNotFoundError:
        findings.add(f"{clip}/scale.json", FindingKind.MISSING, "it is missing; the scene's scale is not known")
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        findings.add(f"{clip}/scale.json", FindingKind.TRUNCATED, f"no scales ({error!r}); the scale is not known")
        return
    if not usable:
        message = "a scale is not above 0; poses brought to VGGT's unit would be wrong"
        findings.add(f"{clip}/scale.json", FindingKind.OUT_OF_CONVENTION, message)


def _examine_inference(findings: Findings, root: Path, file: str, frames: list[dict[str, Any]] | None) -> None:
    """cameras.json must hold the inverses of transforms.json: the one place where a wrong axis or direction shows."""
    try:
        found = parse_gen3r((root / file).read_bytes(), file).c2w.astype(np.float64)
    except FileNotFoundError:
        findings.add(file, FindingKind.MISSING, "it is missing; Gen3R's README names it")
        return
    except (SceneloomError, OSError) as error:
        fault = error.found if isinstance(error, SceneloomError) else str(error)
        findings.add(file, FindingKind.TRUNCATED, f"{fault}; infer.py --cameras stops")
        return
    if len(found) < CLIP_FRAMES:
        message = f"{len(found)} cameras, infer.py --cameras needs {CLIP_FRAMES}"
        findings.add(file, FindingKind.TRUNCATED, message)
    try:
        poses = np.array([frame["transform_matrix"] for frame in frames or ()], np.float64)[: len(found)]
        same = poses.shape == found.shape and np.allclose(poses, found, atol=1e-3)
    except (ValueError, TypeError, KeyError, IndexError):
        return  # transforms.json has its own fault, which is already listed
    if not same:
        message = (
            "it does not hold the inverses of transforms.json: one of the two is not in its convention "
            "(cameras.json world-to-camera, transforms.json camera-to-world, both x right, y down, z forward)"
        )
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)

"""Reads Gen3R's inputs for inference as infer.py does, and names every file that would stop or mislead it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..camera_conventions import intrinsics_from_matrix
from ..camera_files import GEN3R_SIZE, parse_gen3r
from ..errors import SceneloomError
from .frame_files import Findings, clip_folders, examine_pictures, examine_strays, lens_fault
from .gen3r_names import CLIP_FRAMES, frame_names
from .release import Finding, FindingKind

CONDITIONS = ("1view", "2view", "allview")
"""Tasks of infer.py."""

PRESETS: Mapping[str, tuple[str, float]] = {
    "zoom_in": ("z", 1.0),
    "zoom_out": ("z", -1.0),
    "arc_right": ("y", 1.0),
    "arc_left": ("y", -1.0),
    "translate_up": ("x", 1.0),
    "translate_down": ("x", -1.0),
}
"""Camera presets of infer.py: the axis (x right, y down, z forward) that each moves along or turns about, and the sign;
zooms move, the others turn in place."""

_PICTURES = {"1view": ("first.png",), "2view": ("first.png", "last.png")}
_KNOWN = ("presets", "depth", "scale.json", *CONDITIONS)
_STOPS = "infer.py stops"


def examine(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Faults of a published gen3r_inference directory; `scene_of` maps files to scenes where a manifest says so."""
    findings = Findings(scene_of)
    for clip in clip_folders(findings, root, scene_of):
        _examine_clip(findings, root, clip)
    return findings.found


def _examine_clip(findings: Findings, root: Path, clip: str) -> None:
    there = [name for name in CONDITIONS if (root / clip / name).is_dir()]
    if not there:
        findings.add(clip, FindingKind.MISSING, "it holds no condition; there is nothing to give to infer.py")
    size: tuple[int, int] | None = None
    for condition in there:
        size = _examine_condition(findings, root, clip, condition, size)
    for preset, (axis, sign) in PRESETS.items():
        _examine_preset(findings, root, f"{clip}/presets/{preset}.json", axis, sign)
    _examine_scale(findings, root, clip)
    if (root / clip / "depth").is_dir():
        names = frame_names(CLIP_FRAMES)
        files = [f"{clip}/depth/{name}" for name in names]
        message = "Gen3R reads no depth, who compares with it does so wrongly"
        examine_pictures(findings, root, files, size=size, depth=True, consequence=message)
        examine_strays(findings, root, f"{clip}/depth", names, "it is none of the 49 frames")
    examine_strays(findings, root, clip, _KNOWN, "infer.py is not given it")


def _examine_condition(
    findings: Findings, root: Path, clip: str, condition: str, size: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Examine a condition's folder; returns the size of its pictures, where any can be read."""
    folder = f"{clip}/{condition}"
    pictures = _PICTURES.get(condition)
    if pictures is None:
        names = frame_names(CLIP_FRAMES)
        files = [f"{folder}/frames/{name}" for name in names]
        examine_strays(findings, root, f"{folder}/frames", names, "infer.py takes it for a frame, and reads 49")
        known = ("frames", "prompts.txt")
    else:
        files = [f"{folder}/{name}" for name in pictures]
        _examine_cameras(findings, root, f"{folder}/cameras.json")
        known = (*pictures, "prompts.txt", "cameras.json")
    examine_strays(findings, root, folder, known, "infer.py is not given it")
    _examine_prompt(findings, root, f"{folder}/prompts.txt")
    return examine_pictures(findings, root, files, size=size, depth=False, consequence=_STOPS)


def _examine_prompt(findings: Findings, root: Path, file: str) -> None:
    try:
        lines = (root / file).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        message = "it is missing; infer.py takes the path itself for the prompt"
        findings.add(file, FindingKind.MISSING, message)
        return
    except (OSError, UnicodeDecodeError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"no text ({error}); {_STOPS}")
        return
    if not lines or not lines[0].strip():
        message = "its first line, the one that infer.py reads, is blank"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)


def _examine_cameras(findings: Findings, root: Path, file: str) -> np.ndarray | None:
    """(T, 4, 4) camera-to-world of a cameras.json, where it can be read."""
    try:
        content = (root / file).read_bytes()
        poses = parse_gen3r(content, file).c2w.astype(np.float64)
        lenses = intrinsics_from_matrix(np.array(json.loads(content)["intrinsics"], np.float64))
    except FileNotFoundError:
        findings.add(file, FindingKind.MISSING, f"the cameras are missing; {_STOPS}")
        return None
    except (SceneloomError, OSError, ValueError, TypeError) as error:
        fault = error.found if isinstance(error, SceneloomError) else str(error)
        findings.add(file, FindingKind.TRUNCATED, f"{fault}; {_STOPS}")
        return None
    if len(poses) < CLIP_FRAMES:
        message = f"{len(poses)} cameras, infer.py needs {CLIP_FRAMES}"
        findings.add(file, FindingKind.TRUNCATED, message)
        return None
    fault = lens_fault(lenses, GEN3R_SIZE)
    if fault is not None:
        findings.add(file, FindingKind.OUT_OF_CONVENTION, f"{fault}; Gen3R makes another lens of it")
    return poses


def _examine_preset(findings: Findings, root: Path, file: str, axis: str, sign: float) -> None:
    """A preset starts at the first camera, and goes the way that its name says: where it does not, its poses are
    camera-to-world or of other axes."""
    poses = _examine_cameras(findings, root, file)
    if poses is None:
        return
    last = poses[CLIP_FRAMES - 1]
    if axis == "z":
        right = sign * last[2, 3] > 0 and np.allclose(last[:3, :3], np.eye(3), atol=1e-4)
    else:
        # Turning about y looks along +x, turning about x looks along -y, which is up.
        along = last[0, 2] if axis == "y" else -last[1, 2]
        right = sign * along > 0.1 and np.allclose(last[:3, 3], 0.0, atol=1e-4)
    if not right or not np.allclose(poses[0], np.eye(4), atol=1e-4):
        message = "its cameras do not move as the preset's name says: world-to-camera, x right, y down, z forward"
        findings.add(file, FindingKind.OUT_OF_CONVENTION, message)


def _examine_scale(findings: Findings, root: Path, clip: str) -> None:
    file = f"{clip}/scale.json"
    try:
        scale = float(json.loads((root / file).read_bytes())["scene_scale"])
    except FileNotFoundError:
        findings.add(file, FindingKind.MISSING, "it is missing; the scale of the presets is not known")
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"no scale ({error!r}); that of the presets is not known")
        return
    if not scale > 0.0:
        findings.add(file, FindingKind.OUT_OF_CONVENTION, f"a scale of {scale}; the zooms do not move")

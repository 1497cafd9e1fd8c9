"""Reads WebDataset tar files and their indices the way a streaming and a ranged reader do."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..camera_conventions import check_c2w
from ..errors import SceneloomError
from ..video import read_video
from ..vipe_files import decode_depth_archive
from .frame_files import Findings, lens_fault
from .release import Finding, FindingKind

INDEX_FORMAT = "sceneloom.webdataset-index/1"
_NAME = re.compile(r"(?P<split>[a-z]+)-(?P<number>\d{6})\.tar")
_INDEX_REMEDY = "ranged reads of it fail"
_Member = Mapping[str, Any]


def examine(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Faults of the tar files, their indices and their members, each of which is decoded."""
    findings = Findings(scene_of)
    tars = {path.name for path in root.glob("*.tar") if path.is_file()}
    indices = {path.name for path in root.glob("*-*.json")}
    if not tars | indices:
        findings.add(".", FindingKind.MISSING, "there are no tar files; webdataset finds no shards")
    for name in sorted(tars | {index.removesuffix(".json") + ".tar" for index in indices}):
        if name not in tars:
            findings.add(name, FindingKind.MISSING, "the tar file is missing; webdataset stops at it")
    _examine_numbers(findings, tars)
    _examine_strays(findings, root, tars)
    spaces = _latent_spaces(findings, root)
    clips: dict[str, str] = {}
    splits: dict[str, str] = {}
    for name in sorted(tars):
        for key, scene in _examine_tar(findings, root, name, spaces).items():
            if clips.setdefault(key, name) != name:
                message = f"{key} is also in {clips[key]}; it is drawn twice as often"
                findings.add(name, FindingKind.UNEXPECTED, message, scene)
            split = name.partition("-")[0]
            if scene is not None and splits.setdefault(scene, split) != split:
                message = f"the scene {scene} is also in {splits[scene]}; results on held-out scenes would be wrong"
                findings.add(name, FindingKind.OUT_OF_CONVENTION, message, scene)
    return findings.found


def _examine_numbers(findings: Findings, tars: set[str]) -> None:
    numbers: dict[str, set[int]] = {}
    for name in sorted(tars):
        numbered = _NAME.fullmatch(name)
        if numbered is None:
            findings.add(name, FindingKind.UNEXPECTED, "its name is not split-number.tar; patterns do not find it")
        else:
            numbers.setdefault(numbered["split"], set()).add(int(numbered["number"]))
    for split, found in numbers.items():
        for number in sorted(set(range(max(found))) - found):
            message = "a number is left out; webdataset stops at it when it counts up"
            findings.add(f"{split}-{number:06d}.tar", FindingKind.MISSING, message)


def _examine_strays(findings: Findings, root: Path, tars: set[str]) -> None:
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        known = path.suffix in (".tar", ".json", ".md") or path.name.startswith(".")
        if path.is_dir() or not known:
            findings.add(path.name, FindingKind.UNEXPECTED, "it is neither a tar file nor an index")


def _latent_spaces(findings: Findings, root: Path) -> set[str]:
    file = "latent_spaces.json"
    try:
        return set(json.loads((root / file).read_bytes()))
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"it cannot be read ({error}); latents cannot be decoded")
        return set()


def _examine_tar(findings: Findings, root: Path, name: str, spaces: set[str]) -> dict[str, str | None]:
    """Check a tar file and its index; returns the scene of each clip."""
    index = _index(findings, root, name.removesuffix(".tar") + ".json")
    members = _stored_members(findings, root, name)
    if index is not None:
        _examine_index(findings, root, name, index, members)
    scenes = dict(index["clips"]) if index is not None else {}
    _examine_order(findings, name, list(members))
    clips: dict[str, dict[str, bytes]] = {}
    with (root / name).open("rb") as file:
        for member, (offset, length) in members.items():
            key, _, field = member.partition(".")
            file.seek(offset)
            clips.setdefault(key, {})[field] = file.read(length)
    _examine_sameness(findings, name, clips, scenes)
    for key, fields in clips.items():
        for kind, message in _clip_faults(fields, spaces):
            findings.add(name, kind, f"{key}: {message}", scenes.get(key))
    return {key: scenes.get(key) for key in clips}


def _index(findings: Findings, root: Path, file: str) -> dict[str, Any] | None:
    try:
        index = json.loads((root / file).read_bytes())
        entries = [(str(one["key"]), str(one["field"]), one["offset"], one["length"]) for one in index["members"]]
        if index["format"] != INDEX_FORMAT or not all(isinstance(entry[2], int) for entry in entries):
            raise ValueError(f"format {index['format']!r}, expected {INDEX_FORMAT}")
        dict(index["clips"])
    except FileNotFoundError:
        findings.add(file, FindingKind.MISSING, "the index is missing; the tar file can be streamed only")
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        findings.add(file, FindingKind.TRUNCATED, f"it is no index ({error!r}); {_INDEX_REMEDY}")
        return None
    return index


def _stored_members(findings: Findings, root: Path, name: str) -> dict[str, tuple[int, int]]:
    """Offset and length of the members that a streaming reader finds."""
    members: dict[str, tuple[int, int]] = {}
    size = (root / name).stat().st_size
    try:
        with tarfile.open(root / name, "r:") as archive:
            for member in archive:
                members[member.name] = (member.offset_data, member.size)
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError("unexpected end of data")
    except (tarfile.TarError, OSError, EOFError) as error:
        message = f"it cannot be read to its end ({error}); webdataset stops after {len(members)} members"
        findings.add(name, FindingKind.TRUNCATED, message)
    return {member: place for member, place in members.items() if sum(place) <= size}


def _examine_index(
    findings: Findings, root: Path, name: str, index: Mapping[str, Any], members: Mapping[str, tuple[int, int]]
) -> None:
    file, listed = name.removesuffix(".tar") + ".json", {}
    with (root / name).open("rb") as content:
        for entry in index["members"]:
            member = f"{entry['key']}.{entry['field']}"
            listed[member] = (entry["offset"], entry["length"])
            scene = index["clips"].get(entry["key"])
            if members.get(member) != listed[member]:
                message = f"{member} is listed at {listed[member]}, it stands at {members.get(member)}; {_INDEX_REMEDY}"
                findings.add(file, FindingKind.MISALIGNED, message, scene)
                continue
            content.seek(entry["offset"])
            if hashlib.sha256(content.read(entry["length"])).hexdigest() != entry.get("sha256"):
                message = f"{member} has another SHA-256 than its index says; it was changed after it was written"
                findings.add(name, FindingKind.CHANGED, message, scene)
    for member in sorted(set(members) - set(listed)):
        findings.add(file, FindingKind.MISSING, f"{member} is not listed; {_INDEX_REMEDY}")


def _examine_order(findings: Findings, name: str, members: list[str]) -> None:
    """WebDataset starts a new sample whenever the key changes."""
    seen: set[str] = set()
    previous = ""
    for member in members:
        key = member.partition(".")[0]
        if key != previous and key in seen:
            message = f"members of {key} do not stand together; webdataset takes them for two samples"
            findings.add(name, FindingKind.MISALIGNED, message)
        seen.add(key)
        previous = key


def _examine_sameness(
    findings: Findings, name: str, clips: Mapping[str, Mapping[str, bytes]], scenes: Mapping[str, str]
) -> None:
    everything = {field for fields in clips.values() for field in fields} | {"metadata.json"}
    unknown = everything - {"rgb.mp4", "latents.npy", "cameras.npz", "depth.zip", "metadata.json"}
    for key, fields in clips.items():
        for field in sorted(everything - unknown - set(fields)):
            message = f"{key} has no {field}; a pipeline that asks for it stops or leaves the clip out"
            findings.add(name, FindingKind.MISSING, message, scenes.get(key))
        for field in sorted(unknown & set(fields)):
            message = f"{key} has a field {field} (is there a dot in its name?); a pipeline does not know it"
            findings.add(name, FindingKind.UNEXPECTED, message, scenes.get(key))


# --- what the members hold ------------------------------------------------------------------------------------------

_Fault = tuple[FindingKind, str]


def _clip_faults(fields: Mapping[str, bytes], spaces: set[str]) -> list[_Fault]:
    try:
        metadata = json.loads(fields["metadata.json"]) if "metadata.json" in fields else {}
        frames, size = metadata.get("frames"), (metadata.get("height"), metadata.get("width"))
        space = metadata.get("latent_space")
    except (ValueError, AttributeError) as error:
        return [(FindingKind.TRUNCATED, f"metadata.json cannot be read ({error}); webdataset's decoder stops")]
    faults: list[_Fault] = []
    if "rgb.mp4" in fields:
        faults += _video_faults(fields["rgb.mp4"], frames, size)
    if "cameras.npz" in fields:
        faults += _camera_faults(fields["cameras.npz"], frames, size)
    if "depth.zip" in fields:
        faults += _depth_faults(fields["depth.zip"], frames, size)
    if "latents.npy" in fields:
        faults += _latent_faults(fields["latents.npy"])
        if space not in spaces:
            message = f"its latent space {space} is not in latent_spaces.json; its latents cannot be decoded"
            faults.append((FindingKind.MISSING, message))
    return faults


def _video_faults(content: bytes, frames: object, size: tuple[object, object]) -> list[_Fault]:
    try:
        shape = read_video(content).shape
    except SceneloomError as error:
        return [(FindingKind.TRUNCATED, f"rgb.mp4: {error.found}; decoders stop")]
    return _shape_faults("rgb.mp4", shape[:3], frames, size)


def _depth_faults(content: bytes, frames: object, size: tuple[object, object]) -> list[_Fault]:
    try:
        shape = decode_depth_archive(content, "depth.zip").shape
    except SceneloomError as error:
        return [(FindingKind.TRUNCATED, f"depth.zip: {error.found}; readers of its pictures stop")]
    return _shape_faults("depth.zip", shape, frames, size)


def _shape_faults(name: str, shape: tuple[int, ...], frames: object, size: tuple[object, object]) -> list[_Fault]:
    if shape == (frames, *size):
        return []
    message = f"{name} is of {shape} (frames, height, width), metadata.json says {(frames, *size)}; modalities part"
    return [(FindingKind.MISALIGNED, message)]


def _camera_faults(content: bytes, frames: object, size: tuple[Any, Any]) -> list[_Fault]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            c2w, intrinsics = arrays["c2w"], arrays["intrinsics"]
    except Exception as error:  # noqa: BLE001 - numpy, zipfile and zlib each raise their own
        return [(FindingKind.TRUNCATED, f"cameras.npz cannot be read ({error}); webdataset's decoder stops")]
    if len(c2w) != frames or len(intrinsics) != frames:
        message = f"{len(c2w)} poses and {len(intrinsics)} lenses for {frames} frames; pairs would be mixed up"
        return [(FindingKind.MISALIGNED, message)]
    known = all(isinstance(side, int) and side > 0 for side in size)
    try:
        check_c2w(c2w)
        fault = lens_fault(intrinsics, size if known else None)
    except SceneloomError as error:
        fault = error.found
    return [] if fault is None else [(FindingKind.OUT_OF_CONVENTION, f"cameras.npz: {fault}; every ray is wrong")]


def _latent_faults(content: bytes) -> list[_Fault]:
    try:
        latents = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        return [(FindingKind.TRUNCATED, f"latents.npy cannot be read ({error}); webdataset's decoder stops")]
    if latents.dtype != np.float16 or latents.ndim != 4 or not np.isfinite(latents).all():
        found = f"{latents.dtype}{latents.shape}"
        message = (
            f"latents.npy is {found} or not finite, expected finite float16 (C, t, h, w); training gets NaN or stops"
        )
        return [(FindingKind.OUT_OF_CONVENTION, message)]
    return []

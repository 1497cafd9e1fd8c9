"""Reading MIDI-3D's data set as its dataset class does, and checking what that class takes for granted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera_conventions import check_c2w, opencv_from_opengl
from ..errors import ContractError
from ..exr import decode_exr
from ..glb import node_positions
from .midi_surfaces import Surface, decode_surface
from .object_examination import Report
from .release import Finding, FindingKind
from .reprojection import MINIMUM_COVERED, mask_covered

RENDER, SCENE, SURFACE = "3D-FRONT-RENDER", "3D-FRONT-SCENE", "3D-FRONT-SURFACE"
VIEWS = 11
MINIMUM_POINTS = 20_480
"""Points that MIDI draws of each object without replacement."""
EMPTY_DEPTH = 65504.0
"""Largest HALF number: no surface."""

_BOX = 1.0
_BOX_TOLERANCE = 0.05
"""Room units; random points do not reach every tip of a mesh."""
_STOPS = "MIDI's dataset class stops with an error when it draws this room"
_NEVER_READ = "MIDI never opens it, other readers of 3D-FRONT-RENDER do"
_SMALL_MASK = 64
"""Pixels below which a mask is too small to say anything of a camera."""
_LISTS = ("midi", "valid", "midi_test")


def examine(root: Path, scene_of: Mapping[str, str]) -> list[Finding]:
    """Everything that keeps MIDI from reading the data set as it was meant."""
    report = Report(root, scene_of)
    rooms: dict[str, list[str]] = {}
    for prefix in _LISTS:
        if prefix != "midi_test" or (root / "midi_test_room_ids.json").exists():
            rooms |= _read_lists(report, prefix)
    for room, stems in rooms.items():
        _examine_room(report, room, stems)
    report.unexpected((RENDER, SURFACE, SCENE), "no list names it, so MIDI never draws it")
    return sorted(report.findings, key=lambda finding: (finding.path, finding.kind, finding.message))


def _read_lists(report: Report, prefix: str) -> dict[str, list[str]]:
    names = f"{prefix}_room_ids.json", f"{prefix}_furniture_ids.json"
    rooms, furniture = (report.json(name, "MIDI's dataset class cannot be made") for name in names)
    if rooms is None or furniture is None:
        return {}
    if not _is_list_of_text(rooms):
        report.add(names[0], FindingKind.OUT_OF_CONVENTION, "not a list of <house>/<room>")
        return {}
    if not isinstance(furniture, list) or not all(map(_is_list_of_text, furniture)):
        report.add(names[1], FindingKind.OUT_OF_CONVENTION, "not a list of lists of stems")
        return {}
    if len(rooms) != len(furniture):
        message = f"{len(furniture)} lists of objects for {len(rooms)} rooms; MIDI pairs them by place"
        report.add(names[1], FindingKind.MISALIGNED, message)
        return {}
    for room, stems in zip(rooms, furniture, strict=True):
        numbers = [stem.rpartition("_")[2] for stem in stems]
        if numbers != [str(number) for number in range(1, len(stems) + 1)]:
            message = f"room {room}: stems end in {numbers}, expected 1 to {len(stems)} in order"
            consequence = "MIDI pairs the k-th with the id k and does not check"
            report.add(names[1], FindingKind.MISALIGNED, f"{message}; {consequence}", beside=_meta_path(room))
    return dict(zip(rooms, furniture, strict=True))


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _meta_path(room: str) -> str:
    return f"{RENDER}/{room}/meta.json"


def _examine_room(report: Report, room: str, stems: Sequence[str]) -> None:
    surfaces = [_examine_surface(report, room, stem) for stem in stems]
    if (report.root / SCENE).is_dir():
        for stem, surface in zip(stems, surfaces, strict=True):
            _examine_mesh(report, f"{SCENE}/{room}/{stem}.glb", surface)
    meta = report.json(_meta_path(room), _NEVER_READ)
    cameras = _cameras(report, room, meta) if meta is not None else {}
    for index in range(VIEWS):
        _examine_view(report, room, index, surfaces, cameras.get(f"{index:04d}"))


def _examine_surface(report: Report, room: str, stem: str) -> Surface | None:
    path = f"{SURFACE}/{room}/{stem}.npy"
    surface = report.load(path, decode_surface, _STOPS)
    if surface is None:
        return None
    points, normals = surface
    if points.ndim != 2 or points.shape[1:] != (3,) or normals.shape != points.shape:
        message = f"points of shape {points.shape} and normals of shape {normals.shape}, expected (N, 3) both"
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"{message}; {_STOPS}")
        return None
    if len(points) < MINIMUM_POINTS:
        message = f"{len(points)} points, MIDI draws {MINIMUM_POINTS} without replacement; {_STOPS}"
        report.add(path, FindingKind.OUT_OF_CONVENTION, message)
    if not np.isfinite(points).all() or np.abs(points).max() > _BOX:
        message = f"points reach {np.abs(points).max():.3f}, expected within ±{_BOX:g}"
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"{message}; MIDI decodes nothing beyond ±1.005")
        return None
    lengths = np.linalg.norm(normals, axis=1)
    if np.abs(lengths - 1).max() > 0.01:
        message = f"normals have lengths of {lengths.min():.3f} to {lengths.max():.3f}, expected 1"
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"{message}; MIDI feeds them to its encoder as they are")
    return surface


def _examine_mesh(report: Report, path: str, surface: Surface | None) -> None:
    nodes = report.load(path, lambda content: node_positions(content, path), "data.surface_suffix=glb cannot read it")
    if not nodes or surface is None:
        return
    vertices = np.concatenate([positions for _, positions in nodes])
    boxes = [np.stack([points.min(axis=0), points.max(axis=0)]) for points in (vertices, surface[0])]
    difference = np.abs(boxes[0] - boxes[1]).max()
    if difference > _BOX_TOLERANCE:
        message = f"its box and that of the object's points differ by {difference:.3f}"
        report.add(path, FindingKind.MISALIGNED, f"{message}; the mesh is in another frame than 3D-FRONT-SURFACE")


def _cameras(report: Report, room: str, meta: Any) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """Angle and OpenCV pose of each view; views whose camera is not one are left out."""
    path = _meta_path(room)
    cameras = {}
    try:
        angle = float(meta["camera_angle_x"])
        locations = {str(entry["index"]): np.array(entry["transform_matrix"], float) for entry in meta["locations"]}
        sizes = {frame["name"]: (frame["width"], frame["height"]) for e in meta["locations"] for frame in e["frames"]}
    except (LookupError, TypeError, ValueError) as error:
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"not a camera file ({error!r}); {_NEVER_READ}")
        return {}
    if not 0 < angle < math.pi:
        report.add(path, FindingKind.OUT_OF_CONVENTION, f"camera_angle_x {angle}, expected radians; {_NEVER_READ}")
        return {}
    for index, pose in locations.items():
        try:
            check_c2w(pose[None])
        except ContractError as error:
            report.add(path, FindingKind.OUT_OF_CONVENTION, f"view {index}: {error.found}; {_NEVER_READ}")
            continue
        cameras[index] = angle, opencv_from_opengl(pose)
    missing = sorted({f"{index:04d}" for index in range(VIEWS)} - locations.keys())
    if missing:
        report.add(path, FindingKind.MISSING, f"no camera of the views {missing}; {_NEVER_READ}")
    for name, size in sizes.items():
        _examine_listed(report, f"{RENDER}/{room}/{name}", size)
    return cameras


def _examine_listed(report: Report, path: str, size: tuple[int, int]) -> None:
    """Depth and normals, which are only read where meta.json lists them."""
    kind = Path(path).name.split("_")[0]
    found = None
    if kind == "depth":
        channels = report.load(path, lambda content: decode_exr(content, path), _NEVER_READ)
        if channels is not None:
            found = next(iter(channels.values())).shape[::-1]
            if not channels.keys() & {"R", "Y"}:
                message = f"channels {sorted(channels)}, expected R, G, B or Y; OpenCV reads others as zeros"
                report.add(path, FindingKind.OUT_OF_CONVENTION, message)
    elif kind == "normal":
        picture = report.picture(path, "RGBA", _NEVER_READ)
        found = None if picture is None else picture.shape[1::-1]
    if found is not None and tuple(found) != tuple(size):
        message = f"{found[0]} × {found[1]} pixels, meta.json says {size[0]} × {size[1]}; {_NEVER_READ}"
        report.add(path, FindingKind.MISALIGNED, message)


def _examine_view(
    report: Report,
    room: str,
    index: int,
    surfaces: Sequence[Surface | None],
    camera: tuple[float, NDArray[np.float64]] | None,
) -> None:
    folder = f"{RENDER}/{room}"
    render = report.picture(f"{folder}/render_{index:04d}.webp", "RGBA", _STOPS)
    rerender = report.picture(f"{folder}/rerender_{index:04d}.webp", "RGB", _STOPS)
    path = f"{folder}/semantic_{index:04d}.png"
    semantic = report.picture(path, "L", _STOPS)
    for name, picture in (("render", render), ("rerender", rerender)):
        if picture is not None and semantic is not None and picture.shape[:2] != semantic.shape:
            message = f"{picture.shape[1]} × {picture.shape[0]} pixels, its id map has {semantic.shape[1]} × "
            message += f"{semantic.shape[0]}; MIDI resizes both and masks the wrong pixels"
            report.add(f"{folder}/{name}_{index:04d}.webp", FindingKind.MISALIGNED, message)
    if semantic is None:
        return
    if semantic.shape[0] != semantic.shape[1]:
        report.add(path, FindingKind.OUT_OF_CONVENTION, "not square; MIDI resizes without keeping the aspect")
    if not semantic.any():
        report.add(path, FindingKind.OUT_OF_CONVENTION, "shows no object; MIDI silently takes another room instead")
    if semantic.max() > len(surfaces):
        message = f"holds id {semantic.max()}, the room has {len(surfaces)} objects; MIDI takes it for ground"
        report.add(path, FindingKind.MISALIGNED, message)
    if render is not None and render.shape[:2] == semantic.shape:
        different = ((render[..., 3] > 127) != (semantic > 0)).mean()
        if different > 0.01:
            message = f"its alpha differs from the id map in {different:.1%} of the pixels"
            report.add(
                f"{folder}/render_{index:04d}.webp", FindingKind.MISALIGNED, f"{message}; MIDI's masks are wrong"
            )
    if camera is not None:
        _examine_projection(report, path, semantic, surfaces, camera)


def _examine_projection(
    report: Report,
    path: str,
    semantic: NDArray[np.uint8],
    surfaces: Sequence[Surface | None],
    camera: tuple[float, NDArray[np.float64]],
) -> None:
    angle, c2w = camera
    height, width = semantic.shape
    focal = width / (2 * math.tan(angle / 2))
    for number, surface in enumerate(surfaces, 1):
        mask = semantic == number
        if surface is None or mask.sum() < _SMALL_MASK:
            continue
        points = (surface[0].astype(np.float64) - c2w[:3, 3]) @ c2w[:3, :3]
        covered = mask_covered(points, (focal, focal, width / 2, height / 2), mask)
        if covered < MINIMUM_COVERED:
            message = f"the points of object {number} cover {covered:.1%} of its pixels through the camera of meta.json"
            consequence = "MIDI would pair pictures and surfaces of different objects or frames"
            report.add(path, FindingKind.OUT_OF_CONVENTION, f"{message}; {consequence}")

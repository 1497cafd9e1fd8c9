"""MIDI-3D's data set: rooms seen from eleven sides with instance ids, and a point set and a GLB for every object.

The layout is what `midi/data/multi_object.py` reads, with the further files that 3D-FRONT-RENDER has.

* One frame a room: y up, z towards the conditioning camera, the objects' box centred, longest side 1.9. Point sets,
  GLBs, cameras and depth are all in it; `meta.json` gives the similarity from metres.
* `render` shows the objects alone on transparent ground, `rerender` the same view with the room around it. Where a wall
  would stand between camera and objects, `rerender` has a plain ground of the room's colour instead.
* Depth is z-depth in room units in channels R, G and B, HALF, 65504 where there is no object. Normals are in the OpenGL
  camera frame (x right, y up, z towards the camera) as n · 0.5 + 0.5.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..exr import encode_exr
from ..glb import moved_glb
from ..triangle_meshes import ObjMesh, read_obj, sample_surface
from .midi_cameras import (
    AZIMUTHS,
    FIELDS_OF_VIEW,
    Float64,
    RoomFrame,
    room_frame,
    square_intrinsics,
    view_poses,
)
from .midi_examination import EMPTY_DEPTH, MINIMUM_POINTS, RENDER, SCENE, SURFACE, examine
from .midi_surfaces import encode_surface
from .object_scenes import largest_objects, scenes_with_objects
from .release import (
    TEST,
    VALIDATION,
    Layout,
    LayoutSummary,
    ReleaseDirectory,
    ReleaseObject,
    ReleaseObjects,
    ReleaseRequest,
    ReleaseScene,
    RenderedView,
    UInt8,
)

DEFAULT_SIZE = 512
MAXIMUM_OBJECTS = 255
"""Instance ids are written with eight bits."""

_SENSOR_WIDTH = 36.0
"""Millimetres; only gives `camera_lens` a meaning."""
_PROBE_SIZE = 64
_FREE_SIGHT = 0.99
_LOSSY_QUALITY = 95
_TEST_ROOMS_EXPECTED = 1000
_DROPPED_WORDS = ("_controlnet", "_inpaint")
_NAMESPACE = uuid.NAMESPACE_URL


@dataclass(frozen=True, slots=True)
class _Item:
    """An object in its room.

    Attributes:
        stem: `<Category>_<uuid>_<n>`.
        number: n, its place in the room's list from 1 and its value in id maps.
        vertices: (V, 3) world frame, metres.
    """

    item: ReleaseObject
    stem: str
    number: int
    mesh: ObjMesh
    vertices: Float64


@dataclass(frozen=True, slots=True)
class _Views:
    """The cameras of a room: OpenCV poses in the world, intrinsics, and whether no wall stands before the objects."""

    field_of_view: float
    poses: Sequence[Float64]
    free_sight: Sequence[bool]


@dataclass(slots=True)
class _Lists:
    """Rooms and their objects: those to train on, then those of validation scenes, then those of test scenes."""

    rooms: list[str] = field(default_factory=list)
    furniture: list[list[str]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    validation: int = 0
    test: int = 0
    objects: int = 0
    plain: int = 0


def _check_destination(request: ReleaseRequest) -> None:
    # The loader takes these words out of the whole path of an id map.
    found = [word for word in _DROPPED_WORDS if word in str(request.destination)]
    if found:
        raise InputError(
            f'the path holds "{found[0]}", which MIDI\'s loader takes out of it',
            where=str(request.destination),
            remedy="Choose a path without that word: the id maps are not found otherwise.",
        )


def write(directory: ReleaseDirectory, scenes: Sequence[ReleaseScene], request: ReleaseRequest) -> LayoutSummary:
    """Write the data set; scenes without objects are left out, validation and test rooms stand last.

    Raises:
        InputError: no scene has objects, the option `size` is not a picture's side, or the loader would look for the
            destination elsewhere.
    """
    _check_destination(request)
    size = _size(request)
    lists = _Lists()
    for scene, loaded in scenes_with_objects(scenes):
        room = f"{uuid.uuid5(_NAMESPACE, f'sceneloom:scene:{scene.scene_id}')}/Room-{loaded.scene_number}"
        stems, plain = _write_room(directory, scene, loaded, (room, size), request)
        lists.rooms.append(room)
        lists.furniture.append(stems)
        lists.names[scene.scene_id] = room
        lists.validation += scene.split == VALIDATION
        lists.test += scene.split == TEST
        lists.objects += len(stems)
        lists.plain += plain
    _write_lists(directory, lists)
    counts = {"rooms": len(lists.rooms), "validation rooms": lists.validation, "test rooms": lists.test}
    counts["objects"] = lists.objects
    return LayoutSummary(counts, _notes(lists), scene_names=lists.names)


def _size(request: ReleaseRequest) -> int:
    text = request.options.get("size", str(DEFAULT_SIZE))
    if not text.isdigit() or not 32 <= int(text) <= 4096:
        raise InputError(f'size "{text}"', where="options of the layout midi", remedy="Give a side of 32 to 4096.")
    return int(text)


def _write_room(
    directory: ReleaseDirectory,
    scene: ReleaseScene,
    loaded: ReleaseObjects,
    place: tuple[str, int],
    request: ReleaseRequest,
) -> tuple[list[str], int]:
    """Write one room; returns its stems and the number of its views with plain ground."""
    room, size = place
    items = _items(loaded, f"scene {scene.scene_id}")
    points = np.concatenate([item.vertices for item in items])
    frame = room_frame(points, [item.item.camera_from_object[:3, 1] for item in items])
    for item in items:
        _write_object(directory, scene, f"{room}/{item.stem}", item, frame, with_glb=request.wants("scene"))
    views = _choose_views(loaded, frame, points)
    ground = _ground_colour(loaded)
    kinds = ["render", "rerender", "semantic", *(kind for kind in ("depth", "normal") if request.wants(kind))]
    for index in range(len(views.poses)):
        for kind, content in _view_files(loaded, items, frame, views, (index, size), ground).items():
            if kind in kinds:
                path = directory.path(f"{RENDER}/{room}/{file_name(kind, index)}", scene.scene_id)
                path.write_bytes(content)
    meta = _meta(scene, loaded, items, frame, views, size, kinds)
    directory.path(f"{RENDER}/{room}/meta.json", scene.scene_id).write_text(json.dumps(meta, indent=1) + "\n")
    return [item.stem for item in items], len(views.free_sight) - sum(views.free_sight)


def file_name(kind: str, index: int) -> str:
    """Name of a view's file."""
    ending = {"semantic": "png", "depth": "exr"}.get(kind, "webp")
    return f"{kind}_{index:04d}.{ending}"


def _items(loaded: ReleaseObjects, where: str) -> list[_Item]:
    items = []
    for number, item in enumerate(largest_objects(loaded.objects, MAXIMUM_OBJECTS), 1):
        mesh = read_obj(item.obj.read_bytes(), f"{where}, {item.name}")
        pose = np.asarray(item.camera_from_object, np.float64)
        # Readers split a stem at its underscores.
        category = "".join(word.capitalize() for word in re.findall("[A-Za-z0-9]+", item.family)) or "Object"
        stem = f"{category}_{uuid.uuid5(_NAMESPACE, f'sceneloom:asset:{item.sha256}')}_{number}"
        items.append(_Item(item, stem, number, mesh, mesh.vertices @ pose[:3, :3].T + pose[:3, 3]))
    return items


def _write_object(
    directory: ReleaseDirectory, scene: ReleaseScene, stem: str, item: _Item, frame: RoomFrame, *, with_glb: bool
) -> None:
    to_room = frame.room_from_world
    placed = ObjMesh(item.vertices @ to_room[:3, :3].T + to_room[:3, 3], item.mesh.faces)
    seed = int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "little")
    points, normals = sample_surface(placed, MINIMUM_POINTS, seed)
    surface = {"surface_points": points.astype(np.float32), "surface_normals": normals.astype(np.float32)}
    directory.path(f"{SURFACE}/{stem}.npy", scene.scene_id).write_bytes(encode_surface(surface))
    if with_glb:
        glb = moved_glb(item.item.glb.read_bytes(), to_room @ item.item.camera_from_object, f"{stem}.glb")
        directory.path(f"{SCENE}/{stem}.glb", scene.scene_id).write_bytes(glb)


def _choose_views(loaded: ReleaseObjects, frame: RoomFrame, points: Float64) -> _Views:
    """The narrowest lens whose views are all free of walls, else the one with the most such views."""
    choices = []
    for angle in FIELDS_OF_VIEW:
        poses = view_poses(frame, points, angle)
        intrinsics = square_intrinsics(_PROBE_SIZE, angle)
        choices.append(_Views(angle, poses, [_sees_freely(loaded, pose, intrinsics) for pose in poses]))
        if all(choices[-1].free_sight):
            break
    return max(choices, key=lambda views: sum(views.free_sight))


def _sees_freely(loaded: ReleaseObjects, pose: Float64, intrinsics: Float64) -> bool:
    alone = loaded.render(pose, intrinsics, _PROBE_SIZE, _PROBE_SIZE, True).instance_ids
    in_room = loaded.render(pose, intrinsics, _PROBE_SIZE, _PROBE_SIZE, False).instance_ids
    shown = alone > 0
    return bool((alone == in_room)[shown].mean() >= _FREE_SIGHT) if shown.any() else False


def _ground_colour(loaded: ReleaseObjects) -> UInt8:
    """(3,) uint8: what most of the room around the objects looks like from the conditioning camera."""
    ground = loaded.picture[loaded.instance_ids == 0]
    return np.median(ground if len(ground) else loaded.picture.reshape(-1, 3), axis=0).astype(np.uint8)


def _view_files(
    loaded: ReleaseObjects,
    items: Sequence[_Item],
    frame: RoomFrame,
    views: _Views,
    which: tuple[int, int],
    ground: UInt8,
) -> dict[str, bytes]:
    """The files of one view, by kind."""
    index, size = which
    pose, intrinsics = views.poses[index], square_intrinsics(size, views.field_of_view)
    alone = loaded.render(pose, intrinsics, size, size, True)
    numbers = np.zeros(int(alone.instance_ids.max()) + 1, np.uint8)
    for item in items:
        if item.item.instance_id < len(numbers):
            numbers[item.item.instance_id] = item.number
    # Objects that the conditioning view does not see have no mesh in the release: they belong to the ground.
    semantic = numbers[alone.instance_ids]
    shown = semantic > 0
    if views.free_sight[index]:
        around = loaded.render(pose, intrinsics, size, size, False).rgb
    else:
        around = np.where(shown[..., None], alone.rgb, ground)
    return {
        "render": _webp(np.dstack([np.where(shown[..., None], alone.rgb, np.uint8(255)), shown * np.uint8(255)])),
        "rerender": _webp(around),
        "semantic": _png(semantic),
        "depth": _depth_file(alone, shown, frame.scale),
        "normal": _normal_file(alone, shown),
    }


def _depth_file(view: RenderedView, shown: NDArray[np.bool_], scale: float) -> bytes:
    depth = np.where(shown, view.depth * scale, EMPTY_DEPTH).astype(np.float16)
    # Readers take the first channel; OpenCV reads a lone channel named Z as zeros.
    return encode_exr({"R": depth, "G": depth, "B": depth})


def _normal_file(view: RenderedView, shown: NDArray[np.bool_]) -> bytes:
    opengl = view.normals * np.array([1, -1, -1], np.float32)
    colours = np.where(shown[..., None], np.round((opengl * 0.5 + 0.5) * 255), 0).astype(np.uint8)
    return _webp(np.dstack([colours, shown * np.uint8(255)]), lossless=True)


def _webp(picture: UInt8, *, lossless: bool = False) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(picture.astype(np.uint8))
    image.save(buffer, format="WEBP", lossless=lossless, quality=_LOSSY_QUALITY, method=2, exact=True)
    return buffer.getvalue()


def _png(picture: UInt8) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _meta(
    scene: ReleaseScene,
    loaded: ReleaseObjects,
    items: Sequence[_Item],
    frame: RoomFrame,
    views: _Views,
    size: int,
    kinds: Sequence[str],
) -> dict[str, Any]:
    angle = math.radians(views.field_of_view)
    locations = []
    for index, pose in enumerate(views.poses):
        opengl = frame.opengl_pose(pose)
        frames = [{"type": kind, "name": file_name(kind, index), "width": size, "height": size} for kind in kinds]
        locations.append(
            {
                "index": f"{index:04d}",
                "projection_type": "PERSP",
                "position": opengl[:3, 3].tolist(),
                "transform_matrix": opengl.tolist(),
                "frames": frames,
            }
        )
    return {
        "camera_angle_x": angle,
        "sensor_width": _SENSOR_WIDTH,
        "camera_lens": _SENSOR_WIDTH / (2 * math.tan(angle / 2)),
        "locations": locations,
        "sceneloom": {
            "scene_id": scene.scene_id,
            "room_from_world": frame.room_from_world.tolist(),
            "room_units_per_metre": frame.scale,
            "metric": loaded.metric,
            "views_with_plain_ground": [index for index, free in enumerate(views.free_sight) if not free],
            "objects": {item.stem: {"name": item.item.name, "instance_id": item.item.instance_id} for item in items},
        },
    }


def _write_lists(directory: ReleaseDirectory, lists: _Lists) -> None:
    first_test = len(lists.rooms) - lists.test
    for prefix, start in (("midi", 0), ("valid", 0), ("midi_test", first_test)):
        if prefix != "midi_test" or lists.test:
            for name, values in (("room_ids", lists.rooms), ("furniture_ids", lists.furniture)):
                directory.path(f"{prefix}_{name}.json").write_text(json.dumps(values[start:]) + "\n")


def _notes(lists: _Lists) -> tuple[str, ...]:
    notes = []
    rooms, expected = len(lists.rooms), _TEST_ROOMS_EXPECTED
    if rooms <= expected or (lists.validation, lists.test) != (0, expected):
        notes.append(_index_overrides(lists))
        trained = max(rooms - expected, 0)
        notes.append(
            f"These overrides are needed: MIDI's own indices take the last {expected} rooms for tests and train on the "
            f"{trained} before them, of {rooms} that are there."
        )
    if not lists.test:
        instead = "the validation rooms" if lists.validation else "the last training room"
        notes.append(f"No scene is in the split test: the overrides test on {instead} instead.")
    notes.append("For training set data.padding=true and data.num_instances_per_batch=7.")
    notes.append(f"{lists.plain} of {len(AZIMUTHS) * rooms} rerender views have plain ground.")
    return tuple(notes)


def _index_overrides(lists: _Lists) -> str:
    """What to set so that MIDI trains on training rooms alone: each is a slice of the list of rooms, from its end."""
    held_back = lists.validation + lists.test or 1
    end = f"-{lists.test}" if lists.validation and lists.test else "null"
    start = lists.test or held_back
    return (
        f"data.train_indices=[0,-{held_back}] data.val_indices=[-{held_back},{end}] data.test_indices=[-{start},null]"
    )


LAYOUT = Layout(
    name="midi",
    consumer="MIDI-3D (MultiObjectDataModule)",
    description="Rooms seen from eleven sides with instance ids, and points and meshes of their objects in one frame.",
    fields=("training", "depth", "normal", "scene"),
    required=("training",),
    write=write,
    examine=examine,
    options={"size": f"side of the square pictures in pixels, {DEFAULT_SIZE} when not given"},
    needs="objects",
)

"""A whole scene for a prompt: place, objects, light and camera, all from one seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from ..datasets.errors import InputError
from .furniture import build_piece
from .furniture_piece import Finish, Piece
from .material_pictures import outdoor_panorama
from .materials import MaterialBook, Rgb
from .meshes import bounds
from .placement import FLOOR, RULES, Arrangement, FloorArea, Placement, View, placing_order
from .prompt_grammar import ObjectRequest, PromptReading, read_prompt
from .rooms import Extent, RoomStyle, Shell, build_courtyard, build_room, ceiling_lamp_depth
from .scene_model import AreaLight, Float64, SceneInstance, SceneModel, SkyLight, SunLight, UInt8

_CLEAR_DISTANCE = 1.45
"""Least distance in metres from the camera's plane to any object."""


@dataclass(frozen=True, slots=True)
class _Mood:
    """Light of a time of day. Colours are linear RGB; the sun's is irradiance, the others radiance."""

    sun: Rgb | None
    sun_elevation: tuple[float, float]
    ambient: Rgb
    window: Rgb
    ceiling: float
    lamps: float
    outdoor_sky: Rgb
    zenith: Rgb
    horizon: Rgb
    ground: Rgb
    target: float


_MOODS: dict[str, _Mood] = {
    "day": _Mood(
        (7.5, 7.0, 6.2), (38.0, 58.0), (0.50, 0.52, 0.55), (3.0, 3.3, 3.7), 0.5, 0.15, (0.75, 0.95, 1.25),
        (0.33, 0.55, 0.86), (0.80, 0.88, 0.95), (0.42, 0.55, 0.28), 0.24,
    ),
    "morning": _Mood(
        (7.0, 5.6, 4.0), (18.0, 32.0), (0.46, 0.46, 0.48), (2.6, 2.6, 2.7), 0.0, 0.15, (0.7, 0.78, 0.95),
        (0.45, 0.62, 0.86), (0.97, 0.88, 0.76), (0.46, 0.55, 0.32), 0.23,
    ),
    "sunset": _Mood(
        (8.0, 3.9, 1.5), (9.0, 18.0), (0.42, 0.37, 0.40), (1.9, 1.5, 1.5), 0.0, 0.5, (0.55, 0.5, 0.62),
        (0.34, 0.38, 0.62), (0.97, 0.62, 0.36), (0.34, 0.33, 0.22), 0.19,
    ),
    "overcast": _Mood(
        None, (45.0, 45.0), (0.55, 0.58, 0.62), (3.0, 3.2, 3.5), 0.6, 0.3, (1.0, 1.05, 1.15),
        (0.62, 0.67, 0.73), (0.80, 0.82, 0.84), (0.38, 0.44, 0.33), 0.21,
    ),
    "night": _Mood(
        (0.35, 0.45, 0.7), (30.0, 50.0), (0.13, 0.14, 0.18), (0.12, 0.16, 0.28), 1.2, 1.0, (0.16, 0.20, 0.32),
        (0.035, 0.05, 0.12), (0.09, 0.12, 0.22), (0.04, 0.05, 0.05), 0.14,
    ),
    "lamplight": _Mood(
        None, (30.0, 50.0), (0.20, 0.17, 0.15), (0.25, 0.3, 0.5), 0.7, 1.2, (0.30, 0.28, 0.36),
        (0.10, 0.12, 0.27), (0.36, 0.27, 0.32), (0.08, 0.09, 0.09), 0.15,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Place:
    """What a kind of place usually is made of and holds."""

    indoors: bool
    floors: tuple[str, ...]
    walls: tuple[str, ...]
    first: tuple[tuple[str, ...], ...]
    further: tuple[str, ...]
    moods: tuple[str, ...] = ("day", "day", "morning", "sunset", "overcast", "lamplight", "night")


_OUTDOOR_MOODS = ("day", "day", "morning", "sunset", "overcast")
_PLACES: dict[str, _Place] = {
    "living_room": _Place(
        True, ("planks", "parquet", "carpet"), ("plaster", "wallpaper", "painted"),
        (("sofa",), ("coffee_table", "armchair"), ("floor_lamp", "plant", "cabinet")),
        ("armchair", "bookshelf", "plant", "floor_lamp", "fireplace", "vase", "books", "cabinet", "side_table", "pouf",
         "basket", "table_lamp", "fruit_bowl", "television", "stool", "candles"),
    ),
    "bedroom": _Place(
        True, ("planks", "carpet", "parquet"), ("plaster", "wallpaper", "painted"),
        (("bed",), ("nightstand",), ("wardrobe", "cabinet", "armchair")),
        ("table_lamp", "plant", "floor_lamp", "chest", "pouf", "books", "chair", "basket", "nightstand", "vase", "clock",
         "desk", "bench"),
    ),
    "kitchen": _Place(
        True, ("tiles", "planks", "tiles"), ("tiles", "painted", "plaster"),
        (("kitchen_counter",), ("refrigerator", "table"), ("stool", "table", "chair")),
        ("fruit_bowl", "teapot", "bottles", "small_plant", "chair", "chair", "stove", "cabinet", "basket", "plant",
         "stool", "vase", "crate"),
    ),
    "study": _Place(
        True, ("planks", "parquet", "carpet"), ("plaster", "wallpaper", "painted"),
        (("desk",), ("bookshelf",), ("chair", "armchair")),
        ("books", "globe", "table_lamp", "bookshelf", "armchair", "floor_lamp", "plant", "clock", "cabinet", "piano",
         "chest", "side_table", "sculpture"),
    ),
    "dining_room": _Place(
        True, ("parquet", "planks", "tiles"), ("wallpaper", "plaster", "painted"),
        (("table",), ("chair",), ("chair", "cabinet")),
        ("chair", "chair", "vase", "fruit_bowl", "candles", "cabinet", "plant", "floor_lamp", "teapot", "bottles",
         "fireplace", "piano", "clock"),
    ),
    "workshop": _Place(
        True, ("concrete", "planks", "concrete"), ("brick", "concrete", "plaster"),
        (("workbench",), ("crate", "barrel"), ("stool", "cabinet", "easel")),
        ("toolbox", "crate", "barrel", "stool", "bottles", "chest", "easel", "bookshelf", "stove", "basket", "table_lamp",
         "books", "plant"),
    ),
    "gallery": _Place(
        True, ("concrete", "parquet", "marble"), ("plaster", "painted"),
        (("sculpture",), ("bench",), ("sculpture", "easel", "plant")),
        ("sculpture", "sculpture", "plant", "bench", "easel", "globe", "vase", "side_table", "stool", "piano"),
        ("day", "overcast", "morning", "day"),
    ),
    "courtyard": _Place(
        False, ("flagstones", "tiles", "brick", "gravel"), ("plaster", "brick", "stone"),
        (("fountain", "tree", "table"), ("bench", "tree", "chair"), ("planter", "shrub", "barrel")),
        ("tree", "shrub", "planter", "bench", "barrel", "plant", "table", "chair", "chair", "parasol", "crate", "basket",
         "sculpture", "fruit_bowl", "side_table"),
        _OUTDOOR_MOODS,
    ),
    "garden": _Place(
        False, ("grass", "gravel", "grass"), ("foliage", "brick", "stone", "foliage"),
        (("tree", "fountain"), ("bench", "table"), ("shrub", "planter", "rocks")),
        ("tree", "shrub", "planter", "rocks", "chair", "barrel", "parasol", "fountain", "bench", "plant", "sculpture",
         "side_table", "basket", "crate"),
        _OUTDOOR_MOODS,
    ),
}  # fmt: skip

_OBJECT_COUNTS = ((3, 0.08), (4, 0.34), (5, 0.22), (6, 0.18), (7, 0.10), (8, 0.08))
_NEEDS_TOP = frozenset(family for family, rule in RULES.items() if rule == "top")
_NO_MORE_THAN_ONE = frozenset(("sofa", "bed", "fireplace", "kitchen_counter", "refrigerator", "television", "fountain", "piano", "desk", "workbench", "parasol", "stove", "wardrobe", "coffee_table", "table", "clock", "globe"))


def build_scene(
    prompt: str, *, seed: int, height: int, width: int, horizontal_field_of_view_degrees: float = 75.0
) -> SceneModel:
    """Builds the scene that a prompt describes.

    The same prompt, seed, size and field of view give the same scene, byte for byte. What the prompt leaves open is
    drawn from the seed; what was understood, ignored and built is in the scene's `description`.

    Args:
        prompt: English; see `prompt_grammar`. Unknown words are ignored.
        seed: of every draw, 0 or more.
        height, width: pixels of the conditioning view.
        horizontal_field_of_view_degrees: of the conditioning camera, 30 to 120.

    Returns:
        A metric scene with 3 to 10 objects (fewer only where the prompt's own objects find no room), standing on the floor
        or on one another without touching; the camera at eye height with free space around it.

    Raises:
        InputError: the seed, size or field of view is out of range.
    """
    _check_arguments(seed, height, width, horizontal_field_of_view_degrees)
    digest = hashlib.sha256(prompt.encode()).digest()
    rng = np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])
    reading = read_prompt(prompt)
    place_name = reading.place or _likely_place(reading, rng)
    place = _PLACES[place_name]
    mood_name = reading.mood or str(rng.choice(place.moods))
    mood = _MOODS[mood_name]
    requests = _complete(reading, place, rng)
    intrinsics = _intrinsics(height, width, horizontal_field_of_view_degrees)
    book = MaterialBook(rng)
    pieces = _build_pieces(requests, book, rng)
    layout = _lay_out(pieces, place, reading.room_scale, intrinsics, (height, width), rng)
    kept = [pieces[index] for index in layout.order]
    shell = _build_shell(place, reading, layout.extent, mood, mood_name, book, rng)
    sun = _sun(mood, shell, place, rng)
    sky, lights = _lights(mood, shell, place, layout, kept)
    scene = SceneModel(
        shell=shell.mesh,
        instances=_instances(kept, layout),
        materials=tuple(book.materials),
        sun=sun,
        sky=sky,
        area_lights=lights,
        scene_from_camera=layout.view.scene_from_camera,
        intrinsics=intrinsics,
        size=(height, width),
        exposure=1.0,
        description=_description(prompt, seed, reading, place_name, mood_name, kept, len(pieces)),
    )
    return scene

"""A whole scene for a prompt: place, objects, light and camera, all from one seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ..datasets.errors import InputError
from .furniture import build_piece
from .furniture_piece import Finish, Piece
from .material_pictures import outdoor_panorama, rug_picture
from .materials import PALETTE, RECIPES, WALL_COLOURS, MaterialBook
from .meshes import Surface, merged, transformed
from .place_catalog import PLACES, Place
from .placement import RULES, Arrangement, FloorArea, Placement, View, placing_order
from .prompt_grammar import MAXIMUM_OBJECTS, ObjectRequest, PromptReading, SurfaceRequest, read_prompt
from .rooms import Extent, RoomStyle, Shell, build_courtyard, build_room
from .scene_lighting import (
    MOODS,
    MeterScene,
    Mood,
    brightest,
    lamp_lights,
    metered_exposure,
    room_lights,
    sky_light,
    sun_light,
)
from .scene_model import AreaLight, Float64, Material, SceneInstance, SceneModel, SkyLight, SunLight

_CLEAR_DISTANCE = 1.5
"""Least distance in metres from the camera's plane to any object: cameras move forwards and sideways."""

_OBJECT_COUNTS = {3: 0.08, 4: 0.34, 5: 0.22, 6: 0.18, 7: 0.10, 8: 0.08}
_NEEDS_TOP = frozenset(family for family, rule in RULES.items() if rule == "top")
_AT_MOST_ONE = frozenset(
    (
        "sofa",
        "bed",
        "fireplace",
        "kitchen_counter",
        "refrigerator",
        "television",
        "fountain",
        "piano",
        "desk",
        "workbench",
        "parasol",
        "stove",
        "wardrobe",
        "coffee_table",
        "table",
        "clock",
        "globe",
        "easel",
    )
)
_GIVES_TOP = frozenset(
    (
        "table",
        "coffee_table",
        "side_table",
        "desk",
        "workbench",
        "cabinet",
        "nightstand",
        "kitchen_counter",
        "fireplace",
    )
)
_SETS = frozenset(("chair", "stool"))
"""Families that are bought by the set: those added to a place look alike."""
_ATTEMPTS = 7


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
        A metric scene with 3 to 10 objects that stand on the floor or on one another without meeting; the camera is at
        eye height with free space around it. Wishes that find no room are named in the description's `left_out`.

    Raises:
        InputError: the seed, size or field of view is out of range, or the objects find no room.
    """
    _check_arguments(seed, height, width, horizontal_field_of_view_degrees)
    rng = np.random.default_rng([seed, *hashlib.sha256(prompt.encode()).digest()])
    reading = read_prompt(prompt)
    place_name = reading.place or _likely_place(reading, rng)
    place = PLACES[place_name]
    mood_name = reading.mood or str(rng.choice(place.moods))
    mood = MOODS[mood_name]
    requests = _complete(reading, place, mood, rng)
    focal = width / 2.0 / math.tan(math.radians(horizontal_field_of_view_degrees) / 2.0)
    intrinsics = np.array([focal, focal, width / 2.0, height / 2.0])
    book = MaterialBook(rng)
    pieces, nouns = _build_pieces(requests, book, rng)
    layout = _lay_out(pieces, place, reading.room_scale, (height, width), focal, rng, where=prompt)
    pose = layout.view.scene_from_camera
    shell = _build_shell(place, reading, layout.extent, pose, mood, book, rng)
    instances = _instances(pieces, nouns, layout)
    lights = _lights(mood, shell, pieces, instances, layout) if place.indoors else ()
    sun = sun_light(mood, shell.windows, rng)
    sky = sky_light(mood, indoors=place.indoors)
    meter = _meter(shell, layout.extent, instances, book, mood, sun, sky, lights, indoors=place.indoors)
    exposure = metered_exposure(meter, pose, intrinsics, (height, width), mood.brightness)
    return SceneModel(
        shell=shell.mesh,
        instances=instances,
        materials=_developed(book.materials, exposure, mood),
        sun=sun,
        sky=sky,
        area_lights=lights,
        scene_from_camera=pose,
        intrinsics=intrinsics,
        size=(height, width),
        exposure=exposure,
        description={
            "prompt": prompt,
            "seed": seed,
            "place": place_name,
            "mood": mood_name,
            "reading": asdict(reading),
            "objects": [instance.name for instance in instances],
            "left_out": [pieces[index].family for index in range(len(pieces)) if index not in layout.placements],
            "room_metres": asdict(layout.extent),
        },
    )


def _lights(
    mood: Mood, shell: Shell, pieces: Sequence[Piece], instances: Sequence[SceneInstance], layout: _Layout
) -> tuple[AreaLight, ...]:
    """The brightest of windows, ceiling lamp and the lamps of the pieces."""
    lamps = [
        (i.scene_from_object, lamp) for i, n in zip(instances, layout.order, strict=True) for lamp in pieces[n].lamps
    ]
    return brightest([*room_lights(mood, shell.windows, layout.extent), *lamp_lights(mood, lamps)])


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything is: the place's size, the view, the pieces' order as instances and their placements."""

    extent: Extent
    view: View
    order: tuple[int, ...]
    placements: dict[int, Placement]


def _check_arguments(seed: int, height: int, width: int, field_of_view: float) -> None:
    if seed < 0 or height < 16 or width < 16 or not 30.0 <= field_of_view <= 120.0:
        raise InputError(
            f"seed {seed}, size {height}×{width}, field of view {field_of_view}°",
            where="build_scene",
            remedy="Give a seed of 0 or more, at least 16 pixels a side and a horizontal field of view of 30 to 120°.",
        )


def _likely_place(reading: PromptReading, rng: np.random.Generator) -> str:
    """The kind of place that usually holds most of what the prompt names; any place when it names nothing."""
    named = {request.family for request in reading.objects}
    scores = [
        sum((family in place.further) + 2 * any(family in group for group in place.first) for family in named)
        for place in PLACES.values()
    ]
    best = [name for name, score in zip(PLACES, scores, strict=True) if score == max(scores)]
    return str(rng.choice(best))


def _complete(reading: PromptReading, place: Place, mood: Mood, rng: np.random.Generator) -> list[ObjectRequest]:
    """The prompt's objects, then what the place usually holds, up to a number drawn for the scene."""
    requests = list(reading.objects)
    drawn = int(rng.choice(list(_OBJECT_COUNTS), p=list(_OBJECT_COUNTS.values())))
    named = {request.family for request in requests}
    if reading.place is not None and named.isdisjoint(place.first[0]):
        # A kitchen of which the prompt names only the table still has a counter.
        drawn = max(drawn, _count(requests) + 1)
    for family in _usual_families(named, place, mood, rng):
        if _count(requests) >= min(drawn, MAXIMUM_OBJECTS):
            break
        if family not in named and family not in reading.excluded:
            _add(requests, family)
    return requests


def _count(requests: Sequence[ObjectRequest]) -> int:
    return sum(request.count for request in requests)


def _usual_families(named: set[str], place: Place, mood: Mood, rng: np.random.Generator) -> list[str]:
    """What a place is filled with, in order: something to put small things on, its main furniture, the rest."""
    families = [str(rng.choice(group)) for group in place.first]
    families += [str(family) for family in rng.permutation(place.further)]
    if place.indoors and mood.ceiling > 0.0:
        families.insert(1, "floor_lamp")  # what lights the evening is in the picture
    if named & _NEEDS_TOP and not named & _GIVES_TOP:
        usual = [family for group in (*place.first, place.further) for family in group if family in _GIVES_TOP]
        families.insert(0, usual[0] if usual else "side_table")
    return families


def _add(requests: list[ObjectRequest], family: str) -> None:
    """One more object, unless there are enough of its family or it would have nothing to stand on."""
    present = [index for index, request in enumerate(requests) if request.family == family]
    count = _count([requests[index] for index in present])
    enough = 1 if family in _AT_MOST_ONE else 4 if family in _SETS else 2
    homeless = family in _NEEDS_TOP and not any(request.family in _GIVES_TOP for request in requests)
    if count >= enough or homeless:
        return
    if present and family in _SETS:
        requests[present[0]] = replace(requests[present[0]], count=count + 1)
    else:
        requests.append(ObjectRequest(family))


def _build_pieces(
    requests: Sequence[ObjectRequest], book: MaterialBook, rng: np.random.Generator
) -> tuple[list[Piece], list[str]]:
    """One piece an object, and its noun; several of one request look alike, as sets do."""
    pieces: list[Piece] = []
    nouns: list[str] = []
    for request in requests:
        piece = build_piece(request.family, rng, book, Finish(request.colour, request.material, request.scale))
        pieces += [piece] * request.count
        nouns += [request.family.replace("_", " ")] * request.count
    return pieces, nouns


def _lay_out(
    pieces: Sequence[Piece],
    place: Place,
    room_scale: float,
    size: tuple[int, int],
    focal: float,
    rng: np.random.Generator,
    *,
    where: str,
) -> _Layout:
    """Chooses the place's size and the camera and finds a pose for every piece.

    A place too small is made larger and less is asked of the view; the last attempt leaves out what finds no room.
    """
    height, width = size
    order = placing_order(pieces)
    for attempt in range(_ATTEMPTS):
        leniency = attempt / (_ATTEMPTS - 1)
        extent = _extent(place, room_scale * (1.0 + 0.5 * leniency), len(pieces), rng)
        view = View(_camera(extent, rng, indoors=place.indoors), width / 2.0 / focal, height / 2.0 / focal)
        area = FloorArea((-extent.width / 2, -extent.ahead), (extent.width / 2, extent.behind))
        arrangement = Arrangement(pieces, area, view, rng, clear_distance=_CLEAR_DISTANCE, leniency=leniency)
        placed = [index for index in order if arrangement.place(index)]
        if len(placed) == len(order) or (attempt == _ATTEMPTS - 1 and len(placed) >= min(3, len(order))):
            return _Layout(extent, view, tuple(placed), arrangement.placed)
    raise InputError(
        f"no room for {len(pieces)} objects in {_ATTEMPTS} attempts",
        where=where,
        remedy="Ask for fewer or smaller objects, a wider field of view, or try another seed.",
    )


def _extent(place: Place, scale: float, count: int, rng: np.random.Generator) -> Extent:
    crowd = 1.0 + 0.02 * max(count - 5, 0)
    if place.indoors:
        return Extent(
            width=max(float(rng.uniform(5.2, 6.6)) * scale * crowd, 4.9),
            ahead=max(float(rng.uniform(3.9, 4.6)) * scale * crowd, 3.8),
            behind=float(rng.uniform(1.7, 2.3)) * max(scale, 1.0),
            height=float(rng.uniform(2.85, 3.4)) * min(max(scale, 0.97), 1.15),
        )
    return Extent(
        width=float(rng.uniform(7.0, 9.0)) * scale,
        ahead=float(rng.uniform(4.5, 5.6)) * scale,
        behind=float(rng.uniform(2.2, 3.2)) * scale,
        height=float(rng.uniform(1.9, 2.7)),
    )


def _camera(extent: Extent, rng: np.random.Generator, *, indoors: bool) -> Float64:
    """(4, 4) scene-from-camera pose at eye height, aimed at the middle of the group, slightly downwards."""
    yaw = float(np.clip(rng.normal(0.0, 0.22), -0.45, 0.45))
    pitch = math.radians(rng.uniform(7.0, 13.0) if indoors else rng.uniform(4.0, 9.0))
    eye = float(rng.uniform(1.4, 1.62))
    reach = 0.65 * extent.ahead
    x = float(np.clip(rng.normal(0.0, 0.2) - reach * math.sin(yaw), -extent.width / 2 + 1.25, extent.width / 2 - 1.25))
    forward = np.array([math.sin(yaw) * math.cos(pitch), -math.sin(pitch), -math.cos(yaw) * math.cos(pitch)])
    right = np.array([math.cos(yaw), 0.0, math.sin(yaw)])
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, np.cross(forward, right), forward
    pose[:3, 3] = (x, eye, 0.0)
    return pose


def _build_shell(
    place: Place,
    reading: PromptReading,
    extent: Extent,
    pose: Float64,
    mood: Mood,
    book: MaterialBook,
    rng: np.random.Generator,
) -> Shell:
    panorama = outdoor_panorama(
        rng,
        zenith=np.array(mood.zenith),
        horizon=np.array(mood.horizon),
        ground=np.array(mood.ground),
        night=mood.night,
    )
    floor = _asked(book, rng, reading.floor, place.floors)
    walls = _asked(book, rng, reading.walls, place.walls)
    if not place.indoors:
        inlay = book.surface(str(rng.choice(["grass", "tiles", "gravel"]))) if rng.random() < 0.45 else None
        coping = book.surface(str(rng.choice(["stone", "concrete", "marble"])))
        return build_courtyard(
            rng, book, extent, ground=floor, walls=walls, coping=coping, panorama=panorama, inlay=inlay
        )
    has_accent = reading.walls == SurfaceRequest() and rng.random() < 0.35
    trim_colour = str(rng.choice(["white", "white", "cream", "oak", "charcoal"]))
    trim = book.surface("wood" if trim_colour == "oak" else "painted", trim_colour)
    window_walls = (("left",), ("right",), ("ahead",), ("ahead", "left"), ("ahead", "right"), ("left", "right"))
    style = RoomStyle(
        floor=floor,
        walls=walls,
        accent_wall=book.surface(str(rng.choice(["brick", "wallpaper", "plaster", "planks"]))) if has_accent else walls,
        ceiling=book.surface("plaster", str(rng.choice(["white", "cream"]))),
        trim=trim,
        window_walls=window_walls[int(rng.integers(len(window_walls)))],
        rug=_rug(book, rng, reading),
        pictures=int(rng.integers(0, 4)),
        ceiling_style=str(rng.choice(["flat", "flat", "beams"])),
        wainscot=trim if rng.random() < 0.2 else None,
    )
    sight = (pose[:3, 3], pose[:3, 2])
    return build_room(rng, book, extent, style, panorama, glow=mood.ceiling, sight=sight)


def _asked(book: MaterialBook, rng: np.random.Generator, request: SurfaceRequest, usual: Sequence[str]) -> Surface:
    """The prompt's material and colour for a surface, or one that is usual for the place."""
    usual_kind = str(rng.choice(usual))
    kind = request.material if request.material in RECIPES else usual_kind
    kind = "planks" if kind == "wood" else kind
    colour = request.colour
    if colour is None and kind == "painted":
        colour = str(rng.choice(WALL_COLOURS))
    return book.surface(kind, colour)


def _rug(book: MaterialBook, rng: np.random.Generator, reading: PromptReading) -> Surface | None:
    if reading.rug is None and rng.random() < 0.45:
        return None
    colour = reading.rug.colour if reading.rug is not None else None
    ground = None if colour is None else np.asarray(PALETTE[colour], dtype=np.float32)
    return book.picture("rug", rug_picture(rng, ground))


def _instances(pieces: Sequence[Piece], nouns: Sequence[str], layout: _Layout) -> tuple[SceneInstance, ...]:
    ids = {index: number + 1 for number, index in enumerate(layout.order)}
    instances = []
    for index in layout.order:
        placement = layout.placements[index]
        words = f"{pieces[index].looks} {nouns[index]}".strip()
        instances.append(
            SceneInstance(
                instance_id=ids[index],
                family=pieces[index].family,
                name=words,
                mesh=pieces[index].mesh,
                scene_from_object=placement.matrix(),
                support=ids.get(placement.support, 0),
            )
        )
    return tuple(instances)


def _meter(
    shell: Shell,
    extent: Extent,
    instances: Sequence[SceneInstance],
    book: MaterialBook,
    mood: Mood,
    sun: SunLight | None,
    sky: SkyLight,
    lights: Sequence[AreaLight],
    *,
    indoors: bool,
) -> MeterScene:
    """The scene as the exposure meter sees it: each triangle has its material's mean albedo."""
    objects = merged([transformed(i.mesh, i.scene_from_object) for i in instances])
    albedo = np.array([_mean_albedo(material.texture.image) for material in book.materials])
    return MeterScene(
        extent=extent,
        indoors=indoors,
        floor=albedo[shell.floor.material],
        walls=albedo[shell.walls.material],
        ceiling=albedo[shell.ceiling.material],
        sky_colour=np.asarray(mood.horizon),
        objects=objects,
        albedo=albedo[objects.material],
        sun=sun,
        sky=sky,
        lights=lights,
    )


def _developed(materials: Sequence[Material], exposure: float, mood: Mood) -> tuple[Material, ...]:
    """Materials whose glow keeps its brightness in the picture whatever the exposure; by day lamps hardly glow."""
    glow = (1.0 if mood.lamps >= 0.5 else 0.3) / exposure
    return tuple(
        material
        if max(material.emission) == 0.0
        else replace(
            material, emission=(material.emission[0] * glow, material.emission[1] * glow, material.emission[2] * glow)
        )
        for material in materials
    )


def _mean_albedo(image: np.ndarray) -> Float64:
    return ((image[::8, ::8].reshape(-1, 3) / 255.0) ** 2.2).mean(axis=0)

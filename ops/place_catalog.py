"""What each kind of place is made of and usually holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of place.

    Attributes:
        indoors: whether it has a ceiling and windows.
        floors, walls: kinds of material, the likelier ones repeated.
        first: sets of families; a place without wishes gets one of each set, in this order.
        further: families that it is filled up with.
        moods: kinds of light it is seen in when the prompt names none.
    """

    indoors: bool
    floors: tuple[str, ...]
    walls: tuple[str, ...]
    first: tuple[tuple[str, ...], ...]
    further: tuple[str, ...]
    moods: tuple[str, ...] = ("day", "day", "morning", "sunset", "overcast", "lamplight", "night")


_OUTDOOR_MOODS = ("day", "day", "morning", "sunset", "overcast")
PLACES: dict[str, Place] = {
    "living_room": Place(
        True,
        ("planks", "parquet", "carpet"),
        ("plaster", "wallpaper", "painted"),
        (("sofa",), ("coffee_table", "armchair"), ("floor_lamp", "plant", "cabinet")),
        (
            "armchair",
            "bookshelf",
            "plant",
            "floor_lamp",
            "fireplace",
            "vase",
            "books",
            "cabinet",
            "side_table",
            "pouf",
            "basket",
            "table_lamp",
            "fruit_bowl",
            "television",
            "stool",
            "candles",
        ),
    ),
    "bedroom": Place(
        True,
        ("planks", "carpet", "parquet"),
        ("plaster", "wallpaper", "painted"),
        (("bed",), ("nightstand",), ("wardrobe", "cabinet", "armchair")),
        (
            "table_lamp",
            "plant",
            "floor_lamp",
            "chest",
            "pouf",
            "books",
            "chair",
            "basket",
            "nightstand",
            "vase",
            "clock",
            "desk",
            "bench",
        ),
    ),
    "kitchen": Place(
        True,
        ("tiles", "planks", "tiles"),
        ("tiles", "painted", "plaster"),
        (("kitchen_counter",), ("refrigerator", "table"), ("stool", "table", "chair")),
        (
            "fruit_bowl",
            "teapot",
            "bottles",
            "small_plant",
            "chair",
            "chair",
            "stove",
            "cabinet",
            "basket",
            "plant",
            "stool",
            "vase",
            "crate",
        ),
    ),
    "study": Place(
        True,
        ("planks", "parquet", "carpet"),
        ("plaster", "wallpaper", "painted"),
        (("desk",), ("bookshelf",), ("chair", "armchair")),
        (
            "books",
            "globe",
            "table_lamp",
            "bookshelf",
            "armchair",
            "floor_lamp",
            "plant",
            "clock",
            "cabinet",
            "piano",
            "chest",
            "side_table",
            "sculpture",
        ),
    ),
    "dining_room": Place(
        True,
        ("parquet", "planks", "tiles"),
        ("wallpaper", "plaster", "painted"),
        (("table",), ("chair",), ("chair", "cabinet")),
        (
            "chair",
            "chair",
            "vase",
            "fruit_bowl",
            "candles",
            "cabinet",
            "plant",
            "floor_lamp",
            "teapot",
            "bottles",
            "fireplace",
            "piano",
            "clock",
        ),
    ),
    "workshop": Place(
        True,
        ("concrete", "planks", "concrete"),
        ("brick", "concrete", "plaster"),
        (("workbench",), ("crate", "barrel"), ("stool", "cabinet", "easel")),
        (
            "toolbox",
            "crate",
            "barrel",
            "stool",
            "bottles",
            "chest",
            "easel",
            "bookshelf",
            "stove",
            "basket",
            "table_lamp",
            "books",
            "plant",
        ),
    ),
    "gallery": Place(
        True,
        ("concrete", "parquet", "marble"),
        ("plaster", "painted"),
        (("sculpture",), ("bench",), ("sculpture", "easel", "plant")),
        ("sculpture", "sculpture", "plant", "bench", "easel", "globe", "vase", "side_table", "stool", "piano"),
        ("day", "overcast", "morning", "day"),
    ),
    "courtyard": Place(
        False,
        ("flagstones", "tiles", "brick", "gravel"),
        ("plaster", "brick", "stone"),
        (("fountain", "tree", "table"), ("bench", "tree", "chair"), ("planter", "shrub", "barrel")),
        (
            "tree",
            "shrub",
            "planter",
            "bench",
            "barrel",
            "plant",
            "table",
            "chair",
            "chair",
            "parasol",
            "crate",
            "basket",
            "sculpture",
            "fruit_bowl",
            "side_table",
        ),
        _OUTDOOR_MOODS,
    ),
    "garden": Place(
        False,
        ("grass", "gravel", "grass"),
        ("foliage", "brick", "stone", "foliage"),
        (("tree", "fountain"), ("bench", "table"), ("shrub", "planter", "rocks")),
        (
            "tree",
            "shrub",
            "planter",
            "rocks",
            "chair",
            "barrel",
            "parasol",
            "fountain",
            "bench",
            "plant",
            "sculpture",
            "side_table",
            "basket",
            "crate",
        ),
        _OUTDOOR_MOODS,
    ),
}

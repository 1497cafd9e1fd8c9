"""Every family of object by name, and how one piece is built."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..datasets.errors import InputError
from . import furniture_outdoor as outdoor
from . import furniture_seating as seating
from . import furniture_small as small
from . import furniture_tables as tables
from .furniture_piece import Finish, Lamp, Maker, Piece, Top
from .materials import MaterialBook
from .scene_model import TriangleMesh

FAMILIES: dict[str, Callable[[Maker], Piece]] = {
    "chair": seating.chair,
    "armchair": seating.armchair,
    "sofa": seating.sofa,
    "stool": seating.stool,
    "bench": seating.bench,
    "pouf": seating.pouf,
    "bed": seating.bed,
    "table": tables.table,
    "coffee_table": tables.coffee_table,
    "side_table": tables.side_table,
    "desk": tables.desk,
    "workbench": tables.workbench,
    "cabinet": tables.cabinet,
    "nightstand": tables.nightstand,
    "wardrobe": tables.wardrobe,
    "kitchen_counter": tables.kitchen_counter,
    "refrigerator": tables.refrigerator,
    "bookshelf": tables.bookshelf,
    "fireplace": tables.fireplace,
    "stove": tables.stove,
    "piano": tables.piano,
    "crate": tables.crate,
    "chest": tables.chest,
    "basket": tables.basket,
    "floor_lamp": small.floor_lamp,
    "table_lamp": small.table_lamp,
    "vase": small.vase,
    "fruit_bowl": small.fruit_bowl,
    "books": small.books,
    "teapot": small.teapot,
    "bottles": small.bottles,
    "candles": small.candles,
    "clock": small.clock,
    "television": small.television,
    "easel": small.easel,
    "sculpture": small.sculpture,
    "globe": small.globe,
    "toolbox": small.toolbox,
    "plant": outdoor.plant,
    "small_plant": outdoor.small_plant,
    "tree": outdoor.tree,
    "shrub": outdoor.shrub,
    "planter": outdoor.planter,
    "fountain": outdoor.fountain,
    "barrel": outdoor.barrel,
    "parasol": outdoor.parasol,
    "rocks": outdoor.rocks,
}
"""Builder of every family. The names are what prompts, records and object tables use."""


def build_piece(family: str, rng: np.random.Generator, book: MaterialBook, finish: Finish | None = None) -> Piece:
    """One object of a family, drawn from `rng`, with its materials entered in `book`.

    Returns:
        A piece whose mesh is closed, y up, metres, its bounding box centred on the origin, its front towards +z.

    Raises:
        InputError: the family is not known.
    """
    if family not in FAMILIES:
        raise InputError(
            f"no family {family!r}", where="build_piece", remedy=f"Known families: {', '.join(sorted(FAMILIES))}."
        )
    wanted = finish or Finish()
    piece = FAMILIES[family](Maker(family, rng, book, wanted))
    return piece if wanted.scale == 1.0 else _scaled(piece, wanted.scale)


def _scaled(piece: Piece, factor: float) -> Piece:
    mesh = piece.mesh
    return Piece(
        piece.family,
        piece.looks,
        TriangleMesh(
            (mesh.vertices * factor).astype(np.float32), mesh.faces, mesh.uv * np.float32(factor), mesh.material
        ),
        tuple(
            Top(
                top.height * factor,
                (top.low[0] * factor, top.low[1] * factor),
                (top.high[0] * factor, top.high[1] * factor),
            )
            for top in piece.tops
        ),
        tuple(
            Lamp(
                (lamp.centre[0] * factor, lamp.centre[1] * factor, lamp.centre[2] * factor),
                lamp.half_side * factor,
                lamp.radiance,
                lamp.up,
            )
            for lamp in piece.lamps
        ),
    )

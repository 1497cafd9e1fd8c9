"""Scenes with objects for the tests of layouts: those of the tiny collection, ray cast."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from sceneloom.assets.release_objects import load_objects
from sceneloom.datasets.layouts.release import ReleaseObjects, ReleaseScene
from sceneloom.datasets.object_table import SCENEGEN_METADATA
from sceneloom.datasets.parquet import read_parquet

from .release_scenes import make_scene
from .tiny import made_collection

FOUR, ALL, TEST, VALIDATION = "1000001", "1000002", "1000003", "1000004"
"""Numbers of the scenes: four objects of the living room and all six of it to train on, the courtyard to test with, and
three objects of it to validate with."""


@functools.cache
def objects_of(place: int) -> ReleaseObjects:
    """Objects of the collection's scene at that place: 0 a living room, 1 a courtyard, 2 a picture without any."""
    made = made_collection()
    scene = made.catalog.active()[place]
    table = read_parquet(made.runtime.store.table_url("scenegen_metadata"), SCENEGEN_METADATA)
    rows = [row for row in table.to_pylist() if row["scene_name"] == scene.scene_id]
    return load_objects(made.inputs(scene), scene_number=f"100000{place + 1}", rows=rows)


def scene_of_objects(name: str, objects: ReleaseObjects | None, split: str = "train") -> ReleaseScene:
    """A scene without clips."""
    scene = make_scene(name, trajectories=(), split=split)
    return dataclasses.replace(scene, objects=None if objects is None else lambda: objects)


@functools.cache
def object_scenes() -> Sequence[ReleaseScene]:
    """The test scene first, so that layouts have to sort; a scene without objects, then one to validate with, last."""
    room, courtyard = objects_of(0), objects_of(1)
    four = dataclasses.replace(room, scene_number=FOUR, objects=room.objects[:4])
    three = dataclasses.replace(courtyard, scene_number=VALIDATION, objects=courtyard.objects[:3])
    return (
        scene_of_objects("courtyard", dataclasses.replace(courtyard, scene_number=TEST), "test"),
        scene_of_objects("room-of-four", four),
        scene_of_objects("room", dataclasses.replace(room, scene_number=ALL)),
        scene_of_objects("picture", None),
        scene_of_objects("corner", three, "validation"),
    )


def linked_copy(source: Path, target: Path) -> Path:
    """A copy that shares its files' content with `source`: change it with `put` only."""
    shutil.copytree(source, target, copy_function=os.link)
    return target


def put(path: Path, content: bytes) -> None:
    """Give a file of a linked copy other content; the source keeps its own."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

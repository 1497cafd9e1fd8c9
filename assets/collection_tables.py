"""The tables of a collection, made from what its scenes published.

Only current outputs give rows: what was made under other settings would mix clips of two sizes or latent spaces, and a
scene that the quality report has come to reject would stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from ..datasets.catalog import SceneEntry
from ..datasets.errors import InputError
from ..datasets.object_table import SCENEGEN_METADATA, ObjectRow, number_scenes, object_table, to_csv
from ..datasets.parquet import read_parquet, write_parquet
from ..datasets.training_index import TRAINING_INDEX_SCHEMA, write_table
from ..resources.records import Record
from ..resources.store import SceneStore
from . import clip_captions, gaussian_shards, scene_objects
from .catalog import Catalog
from .scene_pipeline import ScenePipeline

SCENEGEN_TABLE = "scenegen_metadata"
TRAINING_INDEX = "training_index"
SCENE_NUMBERS = "scene_numbers"
_READERS = 16

NUMBERS_SCHEMA = pa.schema(
    [pa.field("scene_name", pa.string(), nullable=False), pa.field("scene_number", pa.string(), nullable=False)],
    metadata={"format": "sceneloom.scene_numbers/1"},
)
"""Seven-digit SceneGen number of every scene that ever had a row: a number is never given to a second scene."""

PROCEDURAL_SCORE = 5.0
"""Aesthetic score given to procedural meshes, which nobody has scored: SceneGen takes rows from 4.5 on."""


def write_scenegen_metadata(catalog: Catalog, pipeline: ScenePipeline) -> pa.Table:
    """Write scenegen_metadata.parquet and metadata_scene.csv from the current objects of all active scenes.

    Raises CorruptFileError when a record or its objects.json does not hold what was published.
    """
    store = pipeline.store
    published = current_records(catalog, pipeline, scene_objects.NAME)
    rows = [row for _, record in published for row in _objects(store, record)]
    numbers = number_scenes({row.scene_name for row in rows}, store.collection, known_numbers(store))
    table = object_table(rows, numbers)
    write_parquet(
        store.table_url(SCENE_NUMBERS),
        pa.table({"scene_name": list(numbers), "scene_number": list(numbers.values())}, schema=NUMBERS_SCHEMA),
        NUMBERS_SCHEMA,
    )
    write_parquet(store.table_url(SCENEGEN_TABLE), table, SCENEGEN_METADATA)
    store.write_table_file("metadata_scene.csv", to_csv(table))
    return table


def write_training_index(catalog: Catalog, pipeline: ScenePipeline) -> pa.Table:
    """Write training_index.parquet: one row for each clip in a current shard of an active scene.

    Raises CorruptFileError when a record does not hold what was published.
    """
    published = _current(catalog, pipeline, (gaussian_shards.NAME, clip_captions.NAME))
    rows = [
        row
        for scene, records in published
        if gaussian_shards.NAME in records
        for row in _clips(scene, records[gaussian_shards.NAME], records.get(clip_captions.NAME))
    ]
    table = pa.Table.from_pylist(rows, TRAINING_INDEX_SCHEMA)
    write_table(pipeline.store.table_url(TRAINING_INDEX), table)
    return table


def current_records(catalog: Catalog, pipeline: ScenePipeline, stage: str) -> Iterator[tuple[SceneEntry, Record]]:
    """The active scenes that have an output of the stage which would be made in the same way now, with its record."""
    for scene, records in _current(catalog, pipeline, (stage,)):
        if stage in records:
            yield scene, records[stage]


def _current(
    catalog: Catalog, pipeline: ScenePipeline, stages: Sequence[str]
) -> Iterator[tuple[SceneEntry, dict[str, Record]]]:
    """Every active scene with the records of those of the stages that would be made in the same way now."""
    scenes = catalog.active()

    def read(scene: SceneEntry) -> list[Record]:
        found = [pipeline.store.record(scene.scene_id, stage) for stage in stages]
        return [record for record in found if record is not None]

    with ThreadPoolExecutor(_READERS) as pool:
        for scene, records in zip(scenes, pool.map(read, scenes), strict=True):
            plan = pipeline.plan(scene) if records else {}
            yield scene, {record.stage: record for record in records if record.key == plan[record.stage].key()}


def known_numbers(store: SceneStore) -> dict[str, str]:
    """Seven-digit SceneGen number by scene id, of every scene that ever had a row; empty before the first table."""
    try:
        table = read_parquet(store.table_url(SCENE_NUMBERS), NUMBERS_SCHEMA)
    except InputError:
        return {}
    return dict(zip(table["scene_name"].to_pylist(), table["scene_number"].to_pylist(), strict=True))


def _objects(store: SceneStore, record: Record) -> Iterator[ObjectRow]:
    published = json.loads(store.fetch(record, scene_objects.OBJECTS).read_text())
    digests = {file.path: file.sha256 for file in record.files}
    for index, item in enumerate(published["objects"]):
        yield ObjectRow(
            scene_name=record.scene,
            object_index=index,
            instance_id=item["instance_id"],
            family=item["family"],
            object_name=item["name"],
            visible_pixels=item["visible_pixels"],
            visibility=item["visibility"],
            mask_box=tuple(item["box"]),
            size=tuple(item["size"]),
            camera_from_object=tuple(value for row in item["camera_from_object"] for value in row),
            translation=tuple(item["scenegen"]["translation"]),
            rotation=tuple(item["scenegen"]["rotation"]),
            scale=item["scenegen"]["scale"],
            sha256=digests[item["obj"]],
            aesthetic_score=PROCEDURAL_SCORE,
            captions=(item["name"],),
        )


def _clips(scene: SceneEntry, record: Record, captions: Record | None) -> Iterator[dict[str, Any]]:
    """Rows of one shard: what its record says of each clip, its captions, and the scene's own row of the catalogue."""
    windows = captions.metadata["captions"] if captions is not None else {}
    shard = f"../scenes/{scene.scene_id}/{record.stage}/{record.directory}/{gaussian_shards.SHARD}"
    for index, clip in enumerate(record.metadata["clips"]):
        yield {
            **clip,
            "scene_id": scene.scene_id,
            "shard": shard,
            "clip_index": index,
            "split": scene.split,
            "kind": scene.kind,
            "prompt": scene.prompt,
            "caption": "\n".join(windows.get(clip["trajectory"], ())) or None,
            "licence": scene.licence,
            "seed": scene.seed,
            "content_key": record.key,
        }

"""The catalogue of a collection: read from its sources, kept as two tables in the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from ..datasets.catalog import (
    SCENE_CATALOG,
    SCENE_REJECTS,
    Reject,
    SceneEntry,
    catalog_entries,
    catalog_table,
    rejects_table,
)
from ..datasets.errors import InputError
from ..datasets.parquet import read_parquet, write_parquet
from ..resources.collections import merge_with_previous, read_sources
from ..resources.profiles import Profile
from ..resources.store import SceneStore

CATALOG_TABLE = "scene_catalog"
REJECTS_TABLE = "scene_rejects"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The scenes of a collection by id; retired scenes are kept."""

    entries: dict[str, SceneEntry]

    def active(self) -> list[SceneEntry]:
        """Scenes that a source still holds, in catalogue order."""
        return [entry for entry in self.entries.values() if entry.status == "active"]

    def require(self, scene_ids: Iterable[str]) -> list[SceneEntry]:
        """The entries of these scenes. Raises InputError naming the ids that the catalogue does not hold."""
        wanted = list(scene_ids)
        unknown = [scene_id for scene_id in wanted if scene_id not in self.entries]
        if unknown:
            raise InputError(
                f"{len(unknown)} of {len(wanted)} scenes are unknown: {', '.join(unknown[:5])}",
                where=CATALOG_TABLE,
                remedy="`sceneloom scenes list` names the scenes; refresh the catalogue after adding inputs.",
            )
        return [self.entries[scene_id] for scene_id in wanted]


@dataclass(frozen=True, slots=True)
class CatalogRefresh:
    """What a refresh of the catalogue found.

    Attributes:
        catalog: as it is now.
        added: ids that were not in it before.
        retired: ids that no source holds any more, since this refresh.
        rejects: rows and pictures that give no scene, with the reason.
    """

    catalog: Catalog
    added: tuple[str, ...]
    retired: tuple[str, ...]
    rejects: tuple[Reject, ...]


def read_catalog(store: SceneStore) -> Catalog:
    """The catalogue as last refreshed. Raises InputError when it never was."""
    try:
        table = read_parquet(store.table_url(CATALOG_TABLE), SCENE_CATALOG)
    except InputError as error:
        raise InputError(
            "the collection has no catalogue yet",
            where=store.table_url(CATALOG_TABLE),
            remedy="Materialize scene_catalog, or run `sceneloom make`.",
        ) from error
    return Catalog({entry.scene_id: entry for entry in catalog_entries(table)})


def refresh_catalog(profile: Profile, store: SceneStore) -> CatalogRefresh:
    """Read the sources again and write both tables.

    Scenes whose input is gone are marked retired and stay in the table. Raises InputError when a source cannot be
    read, or when all sources together hold no scene.
    """
    collection = profile.collection
    split = collection.split
    previous = _previous_table(store)
    result = read_sources(
        collection.sources,
        split={"train": split.train, "validation": split.validation, "test": split.test},
        minimum_side=collection.limits.minimum_side_pixels,
        maximum_pixels=collection.limits.maximum_pixels,
        perceptual_distance=collection.perceptual_distance,
        previous=previous,
    )
    if not result.entries:
        raise InputError(
            f"no scene in {', '.join(collection.sources)}"
            + (f" ({len(result.rejects)} rejects, the first: {result.rejects[0].message})" if result.rejects else ""),
            where=str(profile.file),
            remedy="Add prompts or pictures to one of the collection's sources.",
        )
    merged = merge_with_previous(previous, result.entries)
    write_parquet(store.table_url(CATALOG_TABLE), catalog_table(merged), SCENE_CATALOG)
    write_parquet(store.table_url(REJECTS_TABLE), rejects_table(result.rejects), SCENE_REJECTS)
    before = {} if previous is None else {entry.scene_id: entry.status for entry in catalog_entries(previous)}
    return CatalogRefresh(
        catalog=Catalog({entry.scene_id: entry for entry in merged}),
        added=tuple(entry.scene_id for entry in merged if entry.scene_id not in before),
        retired=tuple(
            entry.scene_id for entry in merged if entry.status == "retired" and before.get(entry.scene_id) == "active"
        ),
        rejects=tuple(result.rejects),
    )


def _previous_table(store: SceneStore) -> pa.Table | None:
    try:
        return read_parquet(store.table_url(CATALOG_TABLE), SCENE_CATALOG)
    except InputError:
        return None

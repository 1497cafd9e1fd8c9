"""The catalogue of a collection: read from its sources, kept as two tables in the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from ..datasets.catalog import (
    SCENE_CATALOG,
    SCENE_CATALOG_1,
    SCENE_REJECTS,
    Reject,
    SceneEntry,
    catalog_entries,
    catalog_table,
    rejects_table,
)
from ..datasets.errors import ConfigError, ContractError, InputError
from ..datasets.parquet import read_parquet, write_parquet
from ..resources.collections import CatalogResult, RowProblem, merge_with_previous, read_sources
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
        table = _read_table(store)
    except InputError as error:
        raise InputError(
            "the collection has no catalogue yet",
            where=store.table_url(CATALOG_TABLE),
            remedy="Materialize scene_catalog, or run `sceneloom make`.",
        ) from error
    return Catalog({entry.scene_id: entry for entry in catalog_entries(table)})


def refresh_catalog(profile: Profile, store: SceneStore) -> CatalogRefresh:
    """Read the sources again and write both tables.

    Scenes whose input is gone are marked retired and stay in the table. Videos that the profile's engines cannot show
    are rejects. Raises InputError when a source cannot be read, or when all sources together hold no scene; ConfigError
    when they hold nothing but such videos.
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
        video_limits=collection.video_limits,
        sampling=profile.sampling(),
        previous=previous,
    )
    result = _without_what_stands_still(profile, result)
    if not result.entries:
        raise InputError(
            f"no scene in {', '.join(collection.sources)}"
            + (f" ({len(result.rejects)} rejects, the first: {result.rejects[0].message})" if result.rejects else ""),
            where=str(profile.file),
            remedy="Add prompts, pictures or videos to one of the collection's sources.",
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


def _without_what_stands_still(profile: Profile, result: CatalogResult) -> CatalogResult:
    """The result with videos among the rejects where the engines cannot show that they move: phones put short ones
    beside their pictures. Raises ConfigError when there is nothing else."""
    try:
        profile.require_engines_for({entry.kind for entry in result.entries})
    except ConfigError as error:
        kept = [entry for entry in result.entries if entry.kind != "video"]
        if not kept:
            raise
        refused = [
            _refused(entry, f"{error.found}. {error.remedy}") for entry in result.entries if entry.kind == "video"
        ]
        return CatalogResult(kept, [*result.rejects, *refused])
    return result


def _refused(entry: SceneEntry, message: str) -> Reject:
    return Reject(
        entry.source,
        RowProblem.STILL_ENGINE,
        message,
        scene_id=entry.scene_id,
        prompt=entry.prompt,
        video_url=entry.video_url,
    )


def _previous_table(store: SceneStore) -> pa.Table | None:
    try:
        return _read_table(store)
    except InputError:
        return None


def _read_table(store: SceneStore) -> pa.Table:
    """The table as it is, or as it was before there were videos. Raises InputError when there is none."""
    try:
        return read_parquet(store.table_url(CATALOG_TABLE), SCENE_CATALOG)
    except ContractError as error:
        try:
            return read_parquet(store.table_url(CATALOG_TABLE), SCENE_CATALOG_1)
        except ContractError:
            raise error from None

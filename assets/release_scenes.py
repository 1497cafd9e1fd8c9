"""The scenes of a release: what of a collection is finished, as published layouts take it."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.catalog import SceneEntry
from ..datasets.errors import InputError
from ..datasets.latent_spaces import LatentSpace
from ..datasets.layouts.release import Needs, ReleaseClip, ReleaseObjects, ReleaseScene
from ..datasets.layouts.shard_clips import ShardClip
from ..datasets.object_table import SCENEGEN_METADATA
from ..datasets.parquet import read_parquet
from ..resources.records import Record, digest
from ..resources.store import SceneStore
from . import clip_captions, depth_and_poses, gaussian_shards, scene_objects, scene_scaffold, video_latents
from .catalog import Catalog
from .collection_tables import SCENEGEN_TABLE, current_records, known_numbers
from .release_objects import load_objects
from .scene_pipeline import ScenePipeline
from .scene_runtime import SceneRuntime
from .stage import StageInputs
from .stages import STAGES

_SOURCE_STAGE: dict[Needs, str] = {"clips": gaussian_shards.NAME, "objects": scene_objects.NAME}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which scenes of a collection a release takes.

    Attributes:
        splits: names of splits; empty for all.
        scenes: ids of scenes; empty for all that are finished.
    """

    splits: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()


def _never(scene_id: str) -> bool:
    return False


def release_scenes(
    runtime: SceneRuntime, needs: Needs, selection: Selection, *, captioned: Callable[[str], bool] = _never
) -> list[ReleaseScene]:
    """The chosen scenes whose output is current, in catalogue order.

    Args:
        needs: "clips" takes scenes with a current shard, "objects" those with current objects, at least one.
        captioned: whether a scene, by its id, is to have its clips' own captions where they are current; they and
            their engine are then a part of what it was made from.

    Raises:
        InputError: a named scene is unknown or not finished, or no scene is left.
    """
    catalog, pipeline = runtime.catalog(), runtime.pipeline()
    wanted = _wanted(catalog, selection)
    finished = {
        scene.scene_id: record
        for scene, record in current_records(wanted, pipeline, _SOURCE_STAGE[needs])
        if needs == "clips" or record.metrics["objects"]
    }
    _require_finished(selection, finished, _SOURCE_STAGE[needs], runtime)
    objects = _ObjectsOfScenes(runtime.store)
    return [
        _release_scene(scene, finished[scene.scene_id], pipeline, objects, with_captions=captioned(scene.scene_id))
        for scene in wanted.active()
        if scene.scene_id in finished
    ]


def _wanted(catalog: Catalog, selection: Selection) -> Catalog:
    named = {scene.scene_id for scene in catalog.require(selection.scenes)} if selection.scenes else None
    splits = {scene.split for scene in catalog.active()}
    unknown = sorted(set(selection.splits) - splits)
    if unknown:
        raise InputError(
            f"no active scene is in the split {', '.join(unknown)}",
            where="scene_catalog",
            remedy=f"The collection has {', '.join(sorted(splits))}.",
        )
    return Catalog(
        {
            scene.scene_id: scene
            for scene in catalog.active()
            if (named is None or scene.scene_id in named) and (not selection.splits or scene.split in selection.splits)
        }
    )


def _require_finished(selection: Selection, finished: Collection[str], stage: str, runtime: SceneRuntime) -> None:
    missing = [scene for scene in selection.scenes if scene not in finished]
    if missing or not finished:
        found = (
            f"{len(missing)} of {len(selection.scenes)} chosen scenes have nothing current from {stage}: "
            f"{', '.join(missing[:5])}"
            if missing
            else f"no chosen scene has anything current from {stage}"
        )
        raise InputError(
            found,
            where=f"collection {runtime.profile.collection.name}",
            remedy="Run `sceneloom make`; `sceneloom scenes list` shows what is open and why.",
        )


class _ObjectsOfScenes:
    """Rows and numbers of the object table, read with the first scene that asks."""

    def __init__(self, store: SceneStore) -> None:
        self._store = store

    @functools.cached_property
    def rows(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Rows of the object table by scene. Raises InputError when the table was never written."""
        by_scene: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in read_parquet(self._store.table_url(SCENEGEN_TABLE), SCENEGEN_METADATA).to_pylist():
            by_scene[row["scene_name"]].append(row)
        return by_scene

    @functools.cached_property
    def numbers(self) -> Mapping[str, str]:
        """SceneGen number by scene."""
        return known_numbers(self._store)

    def load(self, scene_id: str, inputs: StageInputs) -> ReleaseObjects:
        """The scene's view with its objects. Raises InputError when the table does not know the scene."""
        if scene_id not in self.rows or scene_id not in self.numbers:
            raise InputError(
                "the object table has no row of the scene",
                where=scene_id,
                remedy="Materialize scenegen_metadata, or run `sceneloom make`.",
            )
        return load_objects(inputs, scene_number=self.numbers[scene_id], rows=self.rows[scene_id])


def _release_scene(
    scene: SceneEntry, source: Record, pipeline: ScenePipeline, objects: _ObjectsOfScenes, *, with_captions: bool
) -> ReleaseScene:
    records = _records(pipeline, scene.scene_id)
    captions = records.pop(clip_captions.NAME, None)
    if captions is not None and with_captions and captions.key == pipeline.plan(scene)[captions.stage].key():
        records[captions.stage] = captions
    inputs = StageInputs(pipeline.store, records)
    made_from = [source, *(records[name] for name in (clip_captions.NAME,) if name in records)]
    has_shard = source.stage == gaussian_shards.NAME
    return ReleaseScene(
        scene_id=scene.scene_id,
        kind=scene.kind,
        prompt=scene.prompt,
        split=scene.split,
        seed=scene.seed,
        licence=scene.licence,
        engines={stage: record.engine for stage, record in inputs.records.items()},
        engine_licences={record.engine: record.licence for record in inputs.records.values()},
        content_key=digest({record.stage: record.key for record in made_from}),
        latent_space=_latent_space(inputs) if has_shard else None,
        clips=_clips(scene.scene_id, source, inputs) if has_shard else {},
        objects=functools.partial(objects.load, scene.scene_id, inputs)
        if scene_objects.NAME in inputs.records
        else None,
        moving=scene.kind == "video" or bool(inputs.records[scene_scaffold.NAME].metrics.get("moving_objects", 0)),
        dynamic_from=depth_and_poses.dynamic_from(inputs) if has_shard else None,
        **_captions(inputs),
    )


def _captions(inputs: StageInputs) -> dict[str, Any]:
    record = inputs.records.get(clip_captions.NAME)
    if record is None:
        return {}
    return {
        "captions": clip_captions.read_captions(inputs),
        "captioned_by": record.engine,
        "captions_stand_in": bool(record.metadata["stand_in"]),
    }


def _records(pipeline: ScenePipeline, scene_id: str) -> dict[str, Record]:
    found = {stage.name: pipeline.store.record(scene_id, stage.name) for stage in STAGES}
    return {name: record for name, record in found.items() if record is not None}


def _latent_space(inputs: StageInputs) -> LatentSpace:
    return LatentSpace.from_json(inputs.json(video_latents.NAME, video_latents.latent_space_name()))


def _clips(scene_id: str, record: Record, inputs: StageInputs) -> dict[str, ReleaseClip]:
    shard = inputs.url(gaussian_shards.NAME, gaussian_shards.SHARD)
    return {
        clip["trajectory"]: ShardClip(
            shard=shard,
            **_video(inputs, clip["trajectory"]),
            scene_id=scene_id,
            trajectory=clip["trajectory"],
            frames=clip["frames"],
            height=clip["height"],
            width=clip["width"],
            frames_per_second=clip["fps"],
            metric=clip["metric"],
        )
        for clip in record.metadata["clips"]
    }


def _video(inputs: StageInputs, trajectory: str) -> dict[str, str]:
    """Where a clip's video was published, and its checksum."""
    name = video_latents.video_name(trajectory)
    files = {file.path: file.sha256 for file in inputs.records[video_latents.NAME].files}
    return {"video": inputs.url(video_latents.NAME, name), "video_sha256": files[name]}


def default_destination(runtime: SceneRuntime, layout: str) -> Path:
    """Where a layout is published when nobody says: `releases.folder` of the profile, else beside the local store.

    Raises InputError when the store is remote and the profile names no folder.
    """
    folder = runtime.profile.releases.folder
    if folder is None and not runtime.store.is_local:
        raise InputError(
            "the store is remote and layouts are published to a local folder",
            where=f"profile {runtime.profile.file}",
            remedy="Name a folder under `releases.folder`, or give `--out`.",
        )
    base = Path(folder) if folder else Path(runtime.store.url) / runtime.store.collection / "releases"
    return base / layout

"""What is left to make of a collection and what it will take, from how its scenes stand and what was measured."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..datasets.catalog import SceneEntry
from ..datasets.errors import EngineError
from ..resources.forecast import (
    Forecast,
    ForecastSettings,
    Measured,
    StageNeed,
    make_forecast,
    measured_from,
    overlap,
    require_known_stages,
)
from ..resources.records import Record
from .catalog import Catalog
from .scene_pipeline import ScenePipeline, StageStatus

_READERS = 16


@dataclass(frozen=True, slots=True)
class CollectionForecast:
    """A forecast with what it was made from.

    Attributes:
        scenes: active ones of the catalogue.
        quarantined: scenes that are not tried again; what they lack is not counted.
        note: why nothing measured could be used, where the engines' files are not on this machine.
    """

    forecast: Forecast
    scenes: int
    quarantined: int
    note: str | None


@dataclass(slots=True)
class _Standing:
    """How the scenes stand, by stage."""

    missing: dict[str, int]
    records: dict[str, list[Record]]
    quarantined: int = 0


def forecast_collection(catalog: Catalog, pipeline: ScenePipeline, settings: ForecastSettings) -> CollectionForecast:
    """What bringing every active scene up to date takes. No engine is loaded.

    Records count as measurements where they were made with the engine and the settings of now. Where the engines'
    files are not on this machine, keys cannot be computed: then what has no record counts as missing, and only the
    profile's table is used.

    Raises:
        InputError: nothing is known of any missing stage, or the table names what is no stage.
    """
    require_known_stages(settings, (stage.name for stage in pipeline.stages))
    scenes = catalog.active()
    note = None
    try:
        standing = _standing(pipeline, scenes)
    except EngineError as error:
        standing = _standing_without_keys(pipeline, scenes)
        note = f"What was measured cannot be matched to this profile: {error}"
    concurrency = overlap(record for records in standing.records.values() for record in records)
    clips = len(pipeline.profile.trajectories.names)
    needs = [
        StageNeed(stage.name, standing.missing[stage.name], _measured(standing, stage.name, clips, concurrency))
        for stage in pipeline.stages
    ]
    return CollectionForecast(make_forecast(needs, settings), len(scenes), standing.quarantined, note)


def _measured(standing: _Standing, stage: str, clips: int, concurrency: float) -> tuple[Measured, ...]:
    return tuple(measured_from(record, clips=clips, concurrency=concurrency) for record in standing.records[stage])


def _standing(pipeline: ScenePipeline, scenes: list[SceneEntry]) -> _Standing:
    standing = _Standing(defaultdict(int), defaultdict(list))
    with ThreadPoolExecutor(_READERS) as readers:
        for statuses in readers.map(pipeline.status, scenes):
            for status in statuses:
                if status.state == "quarantined":
                    standing.quarantined += 1
                    break
                if status.state != "current":
                    standing.missing[status.stage] += 1
                if status.record is not None and _made_as_now(status):
                    standing.records[status.stage].append(status.record)
    return standing


def _made_as_now(status: StageStatus) -> bool:
    """Whether the record tells how long the stage takes now: inputs and seed may be others, engine and settings not."""
    return not any(change.part.partition(".")[0] in ("engine", "settings") for change in status.changes)


def _standing_without_keys(pipeline: ScenePipeline, scenes: list[SceneEntry]) -> _Standing:
    standing = _Standing(defaultdict(int), defaultdict(list))
    for scene in scenes:
        for stage in pipeline.stages:
            failure = pipeline.store.failure(scene.scene_id, stage.name)
            if failure is not None and failure.quarantined:
                standing.quarantined += 1
                break
            if pipeline.store.record(scene.scene_id, stage.name) is None:
                standing.missing[stage.name] += 1
    return standing

"""What is left to make of a collection and what it will take, from how its scenes stand and what was measured."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

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
_SAMPLE_SEED = 0


@dataclass(frozen=True, slots=True)
class CollectionForecast:
    """A forecast with what it was made from.

    Attributes:
        scenes: active ones of the catalogue.
        unfinished: of these, scenes that lack a stage and are tried again.
        quarantined: scenes that are not tried again; what they lack is not counted.
        looked_at: scenes whose records were read.
        measured_on: number of the records that count as measurements, by the machine that made them.
        note: why nothing measured could be used, where the engines' files are not on this machine.
    """

    forecast: Forecast
    scenes: int
    unfinished: int
    quarantined: int
    looked_at: int
    measured_on: dict[str, int]
    note: str | None


@dataclass(slots=True)
class CollectionStanding:
    """How the scenes of a collection stand.

    Attributes:
        scenes: active ones.
        looked_at: scenes whose records were read; where those are fewer than were ever begun, the counts below are
            those of a random sample, scaled.
        unfinished: scenes that lack a stage and are not quarantined.
        missing: scenes that lack a stage, by stage.
        records: those that tell how long a stage takes now, by stage.
        quarantined: scenes that are not tried again.
        note: why no record tells, where the engines' files are not on this machine.
    """

    scenes: int
    looked_at: int
    unfinished: float = 0.0
    missing: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    records: defaultdict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    quarantined: float = 0.0
    note: str | None = None


def forecast_collection(
    catalog: Catalog, pipeline: ScenePipeline, settings: ForecastSettings, *, look_at: int | None = None
) -> CollectionForecast:
    """What bringing every active scene up to date takes. No engine is loaded.

    Records count as measurements where they were made with the engine and the settings of now. Where the engines'
    files are not on this machine, keys cannot be computed: then what has no record counts as missing, and only the
    profile's table is used.

    Args:
        look_at: as `collection_standing`.

    Raises:
        InputError: nothing is known of any missing stage, or the table names what is no stage.
    """
    require_known_stages(settings, (stage.name for stage in pipeline.stages))
    return standing_forecast(collection_standing(catalog, pipeline, look_at=look_at), pipeline, settings)


def standing_forecast(
    standing: CollectionStanding, pipeline: ScenePipeline, settings: ForecastSettings
) -> CollectionForecast:
    """The forecast for a collection that stands so. Raises InputError when nothing is known of any missing stage."""
    concurrency = overlap(record for records in standing.records.values() for record in records)
    clips = len(pipeline.profile.trajectories.names)
    needs = [
        StageNeed(
            stage.name, round(standing.missing[stage.name]), _measured(standing.records[stage.name], clips, concurrency)
        )
        for stage in pipeline.stages
    ]
    machines = Counter(record.machine or "unknown" for records in standing.records.values() for record in records)
    return CollectionForecast(
        make_forecast(needs, settings),
        standing.scenes,
        round(standing.unfinished),
        round(standing.quarantined),
        standing.looked_at,
        dict(sorted(machines.items())),
        standing.note,
    )


def _measured(records: Iterable[Record], clips: int, concurrency: float) -> tuple[Measured, ...]:
    return tuple(measured_from(record, clips=clips, concurrency=concurrency) for record in records)


def collection_standing(catalog: Catalog, pipeline: ScenePipeline, *, look_at: int | None = None) -> CollectionStanding:
    """How every active scene stands. Scenes that nothing was ever written for are counted without a look at each.

    Args:
        look_at: most scenes whose records are read; of more that were begun a random sample stands for all. None: all.
    """
    scenes = catalog.active()
    begun_ids = set(pipeline.store.scenes())
    begun = [scene for scene in scenes if scene.scene_id in begun_ids]
    sample = begun if look_at is None or len(begun) <= look_at else _sample(begun, look_at)
    standing = CollectionStanding(len(scenes), len(sample))
    try:
        _look(standing, pipeline, sample, weight=len(begun) / max(len(sample), 1))
    except EngineError as error:
        standing = CollectionStanding(len(scenes), len(sample))
        standing.note = f"What was measured cannot be matched to this profile: {error}"
        _look_without_keys(standing, pipeline, sample, weight=len(begun) / max(len(sample), 1))
    untouched = len(scenes) - len(begun)
    standing.unfinished += untouched
    for stage in pipeline.stages:
        standing.missing[stage.name] += untouched
    return standing


def _sample(scenes: Sequence[SceneEntry], count: int) -> list[SceneEntry]:
    chosen = np.random.default_rng(_SAMPLE_SEED).choice(len(scenes), count, replace=False)
    return [scenes[index] for index in sorted(chosen)]


def _look(
    standing: CollectionStanding, pipeline: ScenePipeline, scenes: Sequence[SceneEntry], *, weight: float
) -> None:
    with ThreadPoolExecutor(_READERS) as readers:
        for statuses in readers.map(pipeline.status, scenes):
            unfinished = False
            for status in statuses:
                if status.state == "quarantined":
                    standing.quarantined += weight
                    unfinished = False
                    break
                if status.state != "current":
                    standing.missing[status.stage] += weight
                    unfinished = True
                if status.record is not None and _made_as_now(status):
                    standing.records[status.stage].append(status.record)
            standing.unfinished += weight if unfinished else 0.0


def _made_as_now(status: StageStatus) -> bool:
    """Whether the record tells how long the stage takes now: inputs and seed may be others, engine and settings not."""
    return not any(change.part.partition(".")[0] in ("engine", "settings") for change in status.changes)


def _look_without_keys(
    standing: CollectionStanding, pipeline: ScenePipeline, scenes: Sequence[SceneEntry], *, weight: float
) -> None:
    for scene in scenes:
        unfinished = False
        for stage in pipeline.stages:
            failure = pipeline.store.failure(scene.scene_id, stage.name)
            if failure is not None and failure.quarantined:
                standing.quarantined += weight
                unfinished = False
                break
            if pipeline.store.record(scene.scene_id, stage.name) is None:
                standing.missing[stage.name] += weight
                unfinished = True
        standing.unfinished += weight if unfinished else 0.0

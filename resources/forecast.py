"""What is left to make of a collection, and what it will take: GPU-hours, bytes, cost and the time it is finished.

Measured seconds of scenes that were made come first; what was never made here can be forecast from a table in the
profile. Pure computation: who calls it says which scenes are missing and which were measured.
"""

from __future__ import annotations

import datetime
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..datasets.errors import InputError
from .profile_sections import EveryPositive, Section
from .quantities import Duration, Memory
from .records import Record

Source = Literal["records", "profile"]


class ForecastSettings(Section):
    """What a forecast goes by: GPUs and their price, and what is known of stages that were never made here."""

    gpus: EveryPositive = 1
    """GPUs that will work on the collection at once."""
    price_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None
    """In any currency; null: no cost is forecast."""
    seconds_per_scene: dict[str, Annotated[Duration, Field(gt=0)]] = Field(default_factory=dict)
    """By stage: seconds of one GPU for one scene with all its clips, as published or measured elsewhere."""
    bytes_per_scene: Annotated[Memory, Field(gt=0)] | None = None
    """What all stages of a scene store together."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a stage of one scene took.

    Attributes:
        seconds: of one GPU, for as many clips as scenes have now.
        bytes: that it stored, likewise.
    """

    seconds: float
    bytes: float


@dataclass(frozen=True, slots=True)
class StageNeed:
    """A stage with the scenes that lack it.

    Attributes:
        measured: scenes that have it, made with the engine and settings of now.
    """

    stage: str
    scenes: int
    measured: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """How a quantity varies over scenes: the mean gives totals, the others say how far single scenes lie from it."""

    mean: float
    p10: float
    median: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value; quantiles are interpolated linearly."""
        p10, median, p90 = (float(value) for value in np.quantile(values, (0.1, 0.5, 0.9)))
        return cls(statistics.fmean(values), p10, median, p90)


@dataclass(frozen=True, slots=True)
class StageForecast:
    """One stage of a forecast.

    Attributes:
        scenes: that lack it.
        seconds: of one GPU for one scene; None where nothing is known.
        bytes: mean that one scene stores; None where nothing was measured.
        records: number of scenes that were measured.
        source: where `seconds` come from; None where nothing is known.
    """

    stage: str
    scenes: int
    seconds: Spread | None
    bytes: float | None
    records: int
    source: Source | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What making the missing scenes takes.

    Attributes:
        stages: those that any scene lacks.
        gpus: that share the work.
        gpu_hours: expected, and if every scene went like the fastest or the slowest tenth of those measured.
        bytes: that will be stored; None where it is known neither from records nor from the profile.
        cost: of the expected GPU-hours; None without a price.
        hours: until it is finished.
    """

    stages: tuple[StageForecast, ...]
    gpus: int
    gpu_hours: float
    gpu_hours_p10: float
    gpu_hours_p90: float
    bytes: float | None
    cost: float | None
    hours: float

    @property
    def unknown(self) -> tuple[str, ...]:
        """Stages that are missing and that nothing is known of: they are not in the totals."""
        return tuple(stage.stage for stage in self.stages if stage.seconds is None)

    def finish(self, start: datetime.datetime) -> datetime.datetime:
        """When work that begins at `start` is finished."""
        return start + datetime.timedelta(hours=self.hours)

    def for_metadata(self) -> dict[str, Any]:
        """Totals as JSON, for an asset's page."""
        return {
            "missing_scenes": max((stage.scenes for stage in self.stages), default=0),
            "gpus": self.gpus,
            "gpu_hours": round(self.gpu_hours, 3),
            "gpu_hours_p10": round(self.gpu_hours_p10, 3),
            "gpu_hours_p90": round(self.gpu_hours_p90, 3),
            "hours": round(self.hours, 3),
            "bytes": None if self.bytes is None else round(self.bytes),
            "cost": None if self.cost is None else round(self.cost, 2),
            "records": {stage.stage: stage.records for stage in self.stages},
            "unknown_stages": list(self.unknown),
        }


def make_forecast(needs: Iterable[StageNeed], settings: ForecastSettings) -> Forecast:
    """What making the missing scenes takes.

    Args:
        needs: of every stage.

    Raises:
        InputError: nothing is known of any stage that is missing.
    """
    stages = tuple(_stage_forecast(need, settings) for need in needs if need.scenes)
    known = [(stage.scenes, stage.seconds) for stage in stages if stage.seconds is not None]
    if stages and not known:
        names = ", ".join(stage.stage for stage in stages)
        raise InputError(
            f"nothing is known of how long the missing stages take ({names})",
            where="forecast",
            remedy="Make a few scenes first, or give forecast.seconds_per_scene in the profile.",
        )
    gpu_hours = sum(scenes * seconds.mean for scenes, seconds in known) / 3600
    return Forecast(
        stages=stages,
        gpus=settings.gpus,
        gpu_hours=gpu_hours,
        gpu_hours_p10=sum(scenes * seconds.p10 for scenes, seconds in known) / 3600,
        gpu_hours_p90=sum(scenes * seconds.p90 for scenes, seconds in known) / 3600,
        bytes=_total_bytes(stages, settings),
        cost=None if settings.price_per_gpu_hour is None else gpu_hours * settings.price_per_gpu_hour,
        hours=gpu_hours / settings.gpus,
    )


def _stage_forecast(need: StageNeed, settings: ForecastSettings) -> StageForecast:
    published = settings.seconds_per_scene.get(need.stage)
    if need.measured:
        seconds = Spread.of([each.seconds for each in need.measured])
        stored = statistics.fmean(each.bytes for each in need.measured)
        return StageForecast(need.stage, need.scenes, seconds, stored, len(need.measured), "records")
    if published is not None:
        same = Spread(published, published, published, published)
        return StageForecast(need.stage, need.scenes, same, None, 0, "profile")
    return StageForecast(need.stage, need.scenes, None, None, 0, None)


def _total_bytes(stages: Sequence[StageForecast], settings: ForecastSettings) -> float | None:
    measured = [stage.scenes * stage.bytes for stage in stages if stage.bytes is not None]
    if len(measured) == len(stages):
        return sum(measured)
    if settings.bytes_per_scene is None:
        return None
    return max(stage.scenes for stage in stages) * settings.bytes_per_scene * 1e9


def overlap(records: Iterable[Record]) -> float:
    """How many stages were under way at once, on average, while any was: what recorded seconds must be divided by.

    Scenes of a batch overlap in time, and each one's recorded seconds contain its waiting for the others. Each run
    counts by itself, as other runs may be on other machines; 1 without records.
    """
    by_run: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        end = datetime.datetime.fromisoformat(record.created_at).timestamp()
        by_run[record.run].append((end - record.seconds, end))
    busy = sum(_covered(intervals) for intervals in by_run.values())
    total = sum(end - start for intervals in by_run.values() for start, end in intervals)
    return max(total / busy, 1.0) if busy > 0 else 1.0


def _covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def measured_from(record: Record, *, clips: int, concurrency: float) -> Measured:
    """A record's seconds and bytes, brought to as many clips as scenes have now.

    Args:
        clips: of a scene now. Stages whose record counts clips scale with them, others do not.
        concurrency: as `overlap` finds it.
    """
    made = record.metrics.get("clips", 0)
    share = clips / made if made > 0 else 1.0
    return Measured(record.seconds * share / concurrency, record.bytes * share)


def require_known_stages(settings: ForecastSettings, stages: Iterable[str]) -> None:
    """Refuse a table that names what is no stage. Raises InputError naming it and the stages there are."""
    known = list(stages)
    for name in settings.seconds_per_scene:
        if name not in known:
            raise InputError(
                f'"{name}" is no stage',
                where="forecast.seconds_per_scene",
                remedy=f"Name stages: {', '.join(known)}.",
            )

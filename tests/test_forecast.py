"""Forecasts: totals from measured scenes or a published table, spread, overlap of stages, and what is refused."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sceneloom.datasets.errors import InputError
from sceneloom.resources.forecast import (
    ForecastSettings,
    Measured,
    Spread,
    StageNeed,
    make_forecast,
    measured_from,
    overlap,
    require_known_stages,
)
from sceneloom.resources.records import KeyParts, PublishedFile, Record

NOON = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)


def record(
    *, end: float = 0, seconds: float = 10, run: str = "run", size: int = 1000, clips: int | None = None
) -> Record:
    """A record that ended so many seconds after noon."""
    return Record(
        scene="scene",
        stage="video",
        key="0" * 64,
        key_parts=KeyParts(inputs={}, settings={}, code_version="1", engine={}, seed=0),
        directory="d",
        files=[PublishedFile(path="a", bytes=size, sha256="0" * 64)],
        engine="toy",
        licence="MIT",
        seconds=seconds,
        metrics={} if clips is None else {"clips": clips},
        created_at=(NOON + datetime.timedelta(seconds=end)).isoformat(timespec="milliseconds"),
        run=run,
    )


def measured(*seconds: float, size: float = 1e6) -> tuple[Measured, ...]:
    return tuple(Measured(value, size) for value in seconds)


# ---------------------------------------------------------------- totals


def test_totals_are_those_of_the_mean_scene() -> None:
    needs = [StageNeed("view", 100, measured(30, 42)), StageNeed("video", 50, measured(100, 200, 600, size=4e6))]
    found = make_forecast(needs, ForecastSettings(gpus=4, price_per_gpu_hour=2.5))
    assert found.gpu_hours == pytest.approx((100 * 36 + 50 * 300) / 3600)
    assert found.hours == pytest.approx(found.gpu_hours / 4)
    assert found.cost == pytest.approx(found.gpu_hours * 2.5)
    assert found.bytes == pytest.approx(100 * 1e6 + 50 * 4e6)
    assert found.finish(NOON) == NOON + datetime.timedelta(hours=found.hours)
    assert [stage.records for stage in found.stages] == [2, 3]
    assert found.unknown == ()


def test_the_spread_is_that_of_the_scenes_made() -> None:
    seconds = Spread.of([float(value) for value in range(101)])
    assert (seconds.mean, seconds.p10, seconds.median, seconds.p90) == (50, 10, 50, 90)
    found = make_forecast([StageNeed("video", 36, measured(*range(101)))], ForecastSettings())
    assert (found.gpu_hours_p10, found.gpu_hours, found.gpu_hours_p90) == pytest.approx((0.1, 0.5, 0.9))


@given(st.lists(st.floats(0.1, 1e5), min_size=1, max_size=30))
def test_quantiles_are_in_order_and_within_what_was_measured(values: Sequence[float]) -> None:
    spread = Spread.of(values)
    slack = 1e-9 * max(values)
    assert min(values) - slack <= spread.p10 <= spread.median <= spread.p90 <= max(values) + slack
    assert min(values) - slack <= spread.mean <= max(values) + slack


def test_measured_scenes_come_before_the_published_table() -> None:
    table = ForecastSettings(seconds_per_scene={"view": 3600, "video": 7200})
    found = make_forecast([StageNeed("view", 2, measured(36)), StageNeed("video", 2, ())], table)
    assert [(stage.source, stage.records) for stage in found.stages] == [("records", 1), ("profile", 0)]
    assert found.gpu_hours == pytest.approx((2 * 36 + 2 * 7200) / 3600)


def test_stages_that_no_scene_lacks_do_not_count() -> None:
    found = make_forecast([StageNeed("view", 0, ()), StageNeed("video", 1, measured(36))], ForecastSettings())
    assert [stage.stage for stage in found.stages] == ["video"]
    empty = make_forecast([StageNeed("view", 0, measured(5))], ForecastSettings(price_per_gpu_hour=2))
    assert (empty.stages, empty.gpu_hours, empty.bytes, empty.cost) == ((), 0, 0, 0)


def test_a_stage_that_nothing_is_known_of_is_named_and_left_out() -> None:
    found = make_forecast([StageNeed("view", 10, measured(36)), StageNeed("video", 10, ())], ForecastSettings())
    assert found.unknown == ("video",)
    assert found.gpu_hours == pytest.approx(0.1)
    assert found.bytes is None
    assert found.cost is None


def test_without_measured_bytes_of_every_stage_the_table_s_count() -> None:
    needs = [StageNeed("view", 10, measured(36)), StageNeed("video", 20, ())]
    found = make_forecast(needs, ForecastSettings(seconds_per_scene={"video": 1}, bytes_per_scene=0.5))
    assert found.bytes == pytest.approx(20 * 0.5e9)


def test_when_nothing_is_known_a_forecast_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        InputError, match=r"nothing is known.*\(view, video\).*Make a few scenes first.*seconds_per_scene"
    ):
        make_forecast([StageNeed("view", 1, ()), StageNeed("video", 1, ())], ForecastSettings())


def test_the_metadata_are_json() -> None:
    found = make_forecast([StageNeed("view", 10, measured(36)), StageNeed("video", 30, ())], ForecastSettings(gpus=2))
    assert json.loads(json.dumps(found.for_metadata())) == {
        "missing_scenes": 30,
        "gpus": 2,
        "gpu_hours": 0.1,
        "gpu_hours_p10": 0.1,
        "gpu_hours_p90": 0.1,
        "hours": 0.05,
        "bytes": None,
        "cost": None,
        "records": {"view": 1, "video": 0},
        "unknown_stages": ["video"],
    }


# ---------------------------------------------------------------- records


def test_stages_that_ran_one_after_the_other_do_not_overlap() -> None:
    assert overlap([record(end=10), record(end=20), record(end=95)]) == pytest.approx(1)
    assert overlap([]) == 1


def test_stages_that_ran_at_once_are_seen_in_their_times() -> None:
    # Two scenes side by side all the time; a pause of an hour between two batches is no work.
    pairs = [record(end=end) for end in (10, 10, 20, 20, 3610, 3610)]
    assert overlap(pairs) == pytest.approx(2)
    # Half of the time one, half of it two.
    assert overlap([record(end=10, seconds=10), record(end=10, seconds=5)]) == pytest.approx(1.5)


def test_runs_on_other_machines_do_not_count_as_overlap() -> None:
    assert overlap([record(end=10, run="a"), record(end=10, run="b")]) == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), min_size=1, max_size=12))
def test_overlap_is_the_time_spent_over_the_time_covered(intervals: list[tuple[int, int]]) -> None:
    records = [record(end=start + length, seconds=length) for start, length in intervals]
    covered = {second for start, length in intervals for second in range(start, start + length)}
    expected = sum(length for _, length in intervals) / len(covered)
    assert overlap(records) == pytest.approx(expected, rel=1e-6)


def test_a_record_is_brought_to_as_many_clips_as_scenes_have_now() -> None:
    assert measured_from(record(seconds=60, clips=6, size=600), clips=2, concurrency=1) == Measured(20, 200)
    assert measured_from(record(seconds=60), clips=2, concurrency=1) == Measured(60, 1000)
    assert measured_from(record(seconds=60, clips=0), clips=2, concurrency=3) == Measured(20, 1000)


# ---------------------------------------------------------------- settings


def test_the_table_takes_units_and_refuses_what_cannot_be() -> None:
    table = ForecastSettings.model_validate({"seconds_per_scene": {"video": "2 min"}, "bytes_per_scene": "300 MB"})
    assert table.seconds_per_scene == {"video": 120}
    assert table.bytes_per_scene == pytest.approx(0.3)
    for wrong in ({"gpus": 0}, {"seconds_per_scene": {"video": 0}}, {"price_per_gpu_hour": -1}, {"price": 1}):
        with pytest.raises(ValidationError):
            ForecastSettings.model_validate(wrong)


def test_a_table_of_something_that_is_no_stage_is_refused() -> None:
    table = ForecastSettings(seconds_per_scene={"video": 1, "vidoe": 2})
    with pytest.raises(InputError, match=r'"vidoe" is no stage.*Name stages: view, video'):
        require_known_stages(table, ["view", "video"])
    require_known_stages(ForecastSettings(seconds_per_scene={"video": 1}), ["view", "video"])

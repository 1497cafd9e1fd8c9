from __future__ import annotations

import json

import dagster as dg
import pytest

from sceneloom.assets.stage import Made, StageContext
from sceneloom.orchestration import automation
from sceneloom.orchestration.code_location import build_definitions
from sceneloom.orchestration.jobs import REFRESH
from sceneloom.orchestration.make_command import QUIET

from .conftest import ToyProject
from .toy_stages import run, toy_pipeline, toy_stages


def tick(
    project: ToyProject, instance: dg.DagsterInstance, sensor: str, cursor: str | None = None
) -> dg.SensorResult | dg.SkipReason:
    definitions = build_definitions(project.runtime())
    context = dg.build_sensor_context(instance=instance, cursor=cursor, definitions=definitions)
    result = definitions.resolve_sensor_def(sensor)(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def requested(result: dg.SensorResult | dg.SkipReason) -> list[list[str]]:
    """The scenes of every run that the tick asks for."""
    assert isinstance(result, dg.SensorResult)
    return [
        request.run_config["ops"]["repair_scenes"]["config"]["scenes"]  # pyright: ignore[reportIndexIssue]
        for request in result.run_requests or []
    ]


def refresh(project: ToyProject, instance: dg.DagsterInstance) -> None:
    job = build_definitions(project.runtime()).resolve_job_def(REFRESH)
    assert job.execute_in_process(instance=instance, run_config=QUIET).success


def cursor_of(result: dg.SensorResult | dg.SkipReason) -> str:
    assert isinstance(result, dg.SensorResult)
    assert result.cursor is not None
    return result.cursor


def test_a_changed_source_asks_for_one_refresh(project: ToyProject, instance: dg.DagsterInstance) -> None:
    first = tick(project, instance, "new_inputs")
    assert isinstance(first, dg.SensorResult)
    assert len(first.run_requests or []) == 1
    assert isinstance(tick(project, instance, "new_inputs", cursor_of(first)), dg.SkipReason)

    project.write_prompts("a red room", "a white room")
    second = tick(project, instance, "new_inputs", cursor_of(first))
    assert isinstance(second, dg.SensorResult)
    assert len(second.run_requests or []) == 1
    assert isinstance(tick(project, instance, "new_inputs", cursor_of(second)), dg.SkipReason)


def test_a_source_that_goes_back_is_read_again(project: ToyProject, instance: dg.DagsterInstance) -> None:
    """A run key made of the sources' state would keep Dagster from launching it: that key was used before."""
    project.write_prompts("a red room")
    first = tick(project, instance, "new_inputs")
    project.write_prompts("a red room", "a white room")
    second = tick(project, instance, "new_inputs", cursor_of(first))
    project.write_prompts("a red room")
    third = tick(project, instance, "new_inputs", cursor_of(second))
    assert isinstance(third, dg.SensorResult)
    assert [request.run_key for request in third.run_requests or []] == [None]


def test_before_the_first_refresh_nothing_is_asked_for(project: ToyProject, instance: dg.DagsterInstance) -> None:
    result = tick(project, instance, "missing_scenes")
    assert isinstance(result, dg.SkipReason)
    assert result.skip_message == "The collection has no catalogue yet."


def test_a_refresh_brings_its_scenes_in_batches_once(project: ToyProject, instance: dg.DagsterInstance) -> None:
    refresh(project, instance)
    scenes = sorted(project.scenes())

    result = tick(project, instance, "missing_scenes")

    assert requested(result) == [scenes[:2], scenes[2:]]
    assert isinstance(tick(project, instance, "missing_scenes", cursor_of(result)), dg.SkipReason)
    refresh(project, instance)
    again = tick(project, instance, "missing_scenes", cursor_of(result))
    assert requested(again) == [scenes[:2], scenes[2:]], "scenes that no run has finished are asked for after a refresh"
    keys = [request.run_key for each in (result, again) for request in each.run_requests or []]  # pyright: ignore[reportAttributeAccessIssue]
    assert len(set(keys)) == 4


def test_finished_and_quarantined_scenes_are_not_asked_for(project: ToyProject, instance: dg.DagsterInstance) -> None:
    refresh(project, instance)
    catalog = project.runtime().catalog()
    finished, quarantined, waiting = sorted(project.scenes())
    run(toy_pipeline(project.profile(), toy_stages()), catalog.entries[finished])

    def fail(_: StageContext) -> Made:
        raise ValueError("no words")

    broken = toy_pipeline(project.profile(), toy_stages(makes={"words": fail}))
    run(broken, catalog.entries[quarantined])
    assert requested(tick(project, instance, "missing_scenes")) == [[quarantined, waiting]]
    run(broken, catalog.entries[quarantined])
    assert requested(tick(project, instance, "missing_scenes")) == [[waiting]]


def test_a_large_collection_is_asked_for_over_several_ticks(
    project: ToyProject, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automation, "BATCHES_PER_TICK", 2)
    project.write_prompts(*(f"a room with {number} chairs" for number in range(1, 8)))
    refresh(project, instance)
    scenes = sorted(project.scenes())

    first = tick(project, instance, "missing_scenes")
    second = tick(project, instance, "missing_scenes", cursor_of(first))

    assert requested(first) == [scenes[:2], scenes[2:4]]
    assert requested(second) == [scenes[4:6], scenes[6:]]
    assert isinstance(tick(project, instance, "missing_scenes", cursor_of(second)), dg.SkipReason)


def test_a_slow_store_ends_the_tick_and_the_next_one_goes_on(
    project: ToyProject, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(project, instance)
    scenes = sorted(project.scenes())
    clock = iter(range(0, 1000, 20))  # every look at the clock is 20 s later
    monkeypatch.setattr(automation.time, "monotonic", lambda: float(next(clock)))

    first = tick(project, instance, "missing_scenes")

    assert requested(first) == [scenes[:1]]
    assert json.loads(cursor_of(first))["after"] == scenes[0]


def test_three_hundred_new_prompts_are_scenes_with_partitions(
    project: ToyProject, instance: dg.DagsterInstance
) -> None:
    project.write_prompts(*(f"a room with {number} chairs" for number in range(300)))
    refresh(project, instance)
    assert set(instance.get_dynamic_partitions("scenes_toys")) == set(project.scenes())
    assert len(project.scenes()) == 300


def test_the_schedule_refreshes(project: ToyProject) -> None:
    [schedule] = automation.build_schedules()
    assert (schedule.name, schedule.job_name, schedule.cron_schedule) == ("nightly_refresh", REFRESH, "0 3 * * *")

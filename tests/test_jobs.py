from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from sceneloom.assets.stage import Made, StageContext
from sceneloom.datasets.errors import InputError
from sceneloom.orchestration.code_location import build_definitions
from sceneloom.orchestration.jobs import MAKE_SCENES, REBUILD_TABLES, REFRESH, REPAIR, chosen_stages
from sceneloom.orchestration.make_command import QUIET

from .conftest import ToyProject
from .toy_stages import MAKES, STAGE_NAMES, toy_stages


def execute(project: ToyProject, instance: dg.DagsterInstance, job: str, **config: Any) -> dg.ExecuteInProcessResult:
    run_config = {"ops": {"repair_scenes": {"config": config}}} if config else {}
    return (
        build_definitions(project.runtime())
        .resolve_job_def(job)
        .execute_in_process(instance=instance, run_config={**QUIET, **run_config}, raise_on_error=False)
    )


def materialized(result: dg.ExecuteInProcessResult) -> set[tuple[str | None, str]]:
    return {
        (event.partition, event.asset_key.to_user_string())
        for event in result.all_events
        if event.is_step_materialization and event.asset_key is not None
    }


def told(result: dg.ExecuteInProcessResult) -> str:
    """The description of the failure of a run's only failed step."""
    [data] = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    assert data is not None
    return data.description or ""


def test_repair_takes_scattered_scenes_in_one_run(project: ToyProject, instance: dg.DagsterInstance) -> None:
    execute(project, instance, REFRESH)
    first, _, third = project.scenes()

    result = execute(project, instance, REPAIR, scenes=[third, first])

    assert result.success
    assert materialized(result) == {(scene, stage) for scene in (first, third) for stage in STAGE_NAMES}
    assert instance.get_materialized_partitions(dg.AssetKey("total")) == {first, third}


def test_repair_without_a_list_takes_what_is_not_whole(project: ToyProject, instance: dg.DagsterInstance) -> None:
    execute(project, instance, REFRESH)
    execute(project, instance, REPAIR, scenes=project.scenes()[:1])
    project.made.clear()
    assert execute(project, instance, REPAIR, stages=[]).success
    assert sorted(project.made) == sorted((scene, stage) for scene in project.scenes()[1:] for stage in STAGE_NAMES)


def test_repair_can_be_kept_to_some_stages(project: ToyProject, instance: dg.DagsterInstance) -> None:
    execute(project, instance, REFRESH)
    result = execute(project, instance, REPAIR, stages=["title", "words"])
    assert {stage for _, stage in materialized(result)} == {"words", "title"}


def test_repair_lifts_a_quarantine_only_when_asked(project: ToyProject, instance: dg.DagsterInstance) -> None:
    def fail(context: StageContext) -> Made:
        raise InputError("the picture is gone", where="red.png", remedy="Put it back.")

    execute(project, instance, REFRESH)
    red = project.scenes()[0]
    project.use_stages(toy_stages(makes={"numbers": fail}))
    failed = [execute(project, instance, REPAIR, scenes=[red]) for _ in range(2)]
    assert told(failed[-1]) == (
        f"1 scene failed: {red} at numbers: invalid_input. The first: red.png: the picture is gone. Put it back."
    )
    project.use_stages(toy_stages(made=project.made, makes=MAKES))

    assert not execute(project, instance, REPAIR, scenes=[red]).success
    assert project.made == []
    assert execute(project, instance, REPAIR, scenes=[red], lift_quarantine=True).success
    assert (red, "total") in project.made


def test_unknown_scenes_and_stages_are_named(project: ToyProject, instance: dg.DagsterInstance) -> None:
    execute(project, instance, REFRESH)
    unknown = told(execute(project, instance, REPAIR, scenes=["no-such-room", project.scenes()[0]]))
    assert unknown.startswith("scene_catalog: 1 of 2 scenes are unknown: no-such-room.")
    assert "`sceneloom scenes list`" in unknown
    assert told(execute(project, instance, REPAIR, stages=["titel"])) == (
        "Unknown stages: titel. Known: words, numbers, title, total."
    )


def test_without_a_catalogue_every_job_says_what_to_do(project: ToyProject, instance: dg.DagsterInstance) -> None:
    for job, config in ((REPAIR, {"stages": ["words"]}), (REBUILD_TABLES, {})):
        result = execute(project, instance, job, **config)
        messages = {
            event.step_failure_data.user_failure_data.description
            for event in result.all_events
            if event.is_step_failure and event.step_failure_data.user_failure_data is not None
        }
        assert len(messages) == 1
        assert "the collection has no catalogue yet. Materialize scene_catalog" in (messages.pop() or "")


def test_the_refresh_registers_new_scenes_and_keeps_retired_ones(
    project: ToyProject, instance: dg.DagsterInstance
) -> None:
    execute(project, instance, REFRESH)
    before = instance.get_dynamic_partitions("scenes_toys")
    assert list(before) == project.scenes()
    project.write_prompts("a red room", "a white room")
    execute(project, instance, REFRESH)
    assert list(instance.get_dynamic_partitions("scenes_toys")) == [*before, project.scenes()[-1]]
    assert len(project.scenes()) == 2


def test_make_scenes_is_partitioned_by_scene(project: ToyProject) -> None:
    job = build_definitions(project.runtime()).resolve_job_def(MAKE_SCENES)
    assert isinstance(job.partitions_def, dg.DynamicPartitionsDefinition)
    assert job.partitions_def.name == "scenes_toys"


@pytest.mark.parametrize(("named", "chosen"), [([], list(STAGE_NAMES)), (["total", "words"], ["words", "total"])])
def test_stages_keep_their_order(project: ToyProject, named: list[str], chosen: list[str]) -> None:
    assert chosen_stages(named) == chosen

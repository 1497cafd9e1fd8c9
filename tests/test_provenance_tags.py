"""What the UI shows as synced and unsynced, asked of Dagster the way its pages ask."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from sceneloom.assets.provenance_tags import CATALOG_VERSION, provenance_tags
from sceneloom.orchestration.code_location import build_definitions
from sceneloom.orchestration.jobs import REFRESH, REPAIR
from sceneloom.orchestration.make_command import QUIET

from .conftest import ToyProject
from .toy_stages import STAGE_NAMES


def execute(project: ToyProject, instance: dg.DagsterInstance, job: str, stages: list[str] | None = None) -> None:
    config = {"ops": {"repair_scenes": {"config": {"stages": stages or []}}}} if job == REPAIR else {}
    definitions = build_definitions(project.runtime())
    done = definitions.resolve_job_def(job).execute_in_process(instance=instance, run_config={**QUIET, **config})
    assert done.success


def unsynced(project: ToyProject, instance: dg.DagsterInstance, scene: str) -> set[str]:
    """The stages of a scene that the UI shows as unsynced."""
    graph = build_definitions(project.runtime()).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {stage for stage in STAGE_NAMES if resolver.get_stale_causes(dg.AssetKey(stage), scene)}


def test_finished_scenes_are_synced_and_stay_so_when_a_refresh_brings_others(
    project: ToyProject, instance: dg.DagsterInstance
) -> None:
    execute(project, instance, REFRESH)
    scene = project.scenes()[0]
    execute(project, instance, REPAIR)
    assert unsynced(project, instance, scene) == set()

    project.write_prompts("a red room", "a white room")
    execute(project, instance, REFRESH)
    assert unsynced(project, instance, scene) == set()


def test_what_follows_from_a_stage_made_anew_is_unsynced_until_it_is_made_too(
    project: ToyProject, instance: dg.DagsterInstance
) -> None:
    execute(project, instance, REFRESH)
    execute(project, instance, REPAIR)
    scene = project.scenes()[0]
    project.change(video={"constant_rate_factor": 23})

    execute(project, instance, REPAIR, ["words", "numbers"])
    assert unsynced(project, instance, scene) == {"total"}
    execute(project, instance, REPAIR)
    assert unsynced(project, instance, scene) == set()


def test_a_run_that_changed_nothing_leaves_what_follows_synced(
    project: ToyProject, instance: dg.DagsterInstance
) -> None:
    execute(project, instance, REFRESH)
    execute(project, instance, REPAIR)
    execute(project, instance, REPAIR, ["words"])
    assert unsynced(project, instance, project.scenes()[0]) == set()


def test_the_tags_name_the_inputs(project: ToyProject, instance: dg.DagsterInstance) -> None:
    execute(project, instance, REFRESH)
    execute(project, instance, REPAIR)
    scene = project.scenes()[0]
    store = project.runtime().store
    words, numbers = store.record(scene, "words"), store.record(scene, "numbers")
    assert words is not None
    assert numbers is not None

    assert provenance_tags(instance, words) == {
        "dagster/data_version": words.key,
        "dagster/code_version": "1",
        "dagster/input_data_version/scene_catalog": CATALOG_VERSION,
        "dagster/input_event_pointer/scene_catalog": "NULL",
    }
    tags = provenance_tags(instance, numbers)
    assert tags["dagster/input_data_version/words"] == words.key
    assert tags["dagster/input_event_pointer/words"].isdigit()


def test_an_input_that_dagster_does_not_know_has_no_event(project: ToyProject, instance: dg.DagsterInstance) -> None:
    execute(project, instance, REFRESH)
    execute(project, instance, REPAIR)
    numbers = project.runtime().store.record(project.scenes()[0], "numbers")
    assert numbers is not None
    with dg.DagsterInstance.ephemeral() as other:
        assert provenance_tags(other, numbers)["dagster/input_event_pointer/words"] == "NULL"

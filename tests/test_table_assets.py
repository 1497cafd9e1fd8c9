from __future__ import annotations

import time

import dagster as dg
import pyarrow as pa
import pyarrow.parquet
import pytest

from sceneloom.assets.provenance_tags import CATALOG_VERSION
from sceneloom.assets.table_assets import column_schema
from sceneloom.datasets.catalog import SCENE_CATALOG
from sceneloom.orchestration.code_location import build_definitions
from sceneloom.orchestration.jobs import REBUILD_TABLES, REFRESH
from sceneloom.orchestration.make_command import QUIET

from .conftest import ToyProject


def execute(
    project: ToyProject, instance: dg.DagsterInstance, job: str, selection: list[dg.AssetKey] | None = None
) -> dg.ExecuteInProcessResult:
    definitions = build_definitions(project.runtime())
    resolved = definitions.resolve_job_def(job)
    return resolved.execute_in_process(
        instance=instance, run_config=QUIET, raise_on_error=False, asset_selection=selection
    )


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    [event] = [event for event in result.get_asset_materialization_events() if event.asset_key == dg.AssetKey(asset)]
    return {name: entry.value for name, entry in event.materialization.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def told(result: dg.ExecuteInProcessResult) -> str:
    [data] = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    assert data is not None
    return data.description or ""


def test_the_catalogue_says_what_it_holds(project: ToyProject, instance: dg.DagsterInstance) -> None:
    project.write_prompts("a red room", "a green room", "a red room")

    found = metadata(execute(project, instance, REFRESH), "scene_catalog")

    assert (found["scenes"], found["added"], found["retired"], found["rejects"]) == (2, 2, 0, 1)
    assert found["rejects_by_reason"] == {"exact_duplicate": 1}
    assert found["dagster/row_count"] == 2
    assert sum(found["splits"].values()) == 2  # pyright: ignore[reportAttributeAccessIssue]
    assert pyarrow.parquet.read_table(str(found["dagster/uri"])).num_rows == 2


def test_a_vanished_prompt_is_counted_as_retired(project: ToyProject, instance: dg.DagsterInstance) -> None:
    execute(project, instance, REFRESH)
    project.write_prompts("a red room")
    found = metadata(execute(project, instance, REFRESH), "scene_catalog")
    assert (found["scenes"], found["retired"], found["retired_now"], found["dagster/row_count"]) == (1, 2, 2, 3)
    assert metadata(execute(project, instance, REFRESH), "scene_catalog")["retired_now"] == 0


def test_a_refresh_makes_no_scene_stale(project: ToyProject, instance: dg.DagsterInstance) -> None:
    for prompts in (["a red room"], ["a red room", "a white room"]):
        project.write_prompts(*prompts)
        execute(project, instance, REFRESH)
        event = instance.get_latest_materialization_event(dg.AssetKey("scene_catalog"))
        assert event is not None
        assert event.asset_materialization is not None
        assert (event.asset_materialization.tags or {})["dagster/data_version"] == CATALOG_VERSION


def test_a_refresh_forecasts_what_is_missing(project: ToyProject, instance: dg.DagsterInstance) -> None:
    before = metadata(execute(project, instance, REFRESH), "scene_catalog")
    scenes = before["scenes"]
    assert isinstance(scenes, int)
    # Nothing was made yet, and the profile has no table: how much is known, how long it takes is not.
    assert (before["forecast/missing_scenes"], before["forecast/scenes_looked_at"]) == (scenes, 0)
    assert "nothing is known" in str(before["forecast/note"])
    assert "forecast/gpu_hours" not in before

    project.change(
        forecast={"seconds_per_scene": {"words": 36}, "price_per_gpu_hour": 2.0, "bytes_per_scene": "1 kB", "gpus": 2}
    )
    found = metadata(execute(project, instance, REFRESH), "scene_catalog")
    assert found["forecast/gpu_hours"] == pytest.approx(scenes * 0.01)
    assert found["forecast/cost"] == pytest.approx(scenes * 0.02)
    assert found["forecast/bytes"] == scenes * 1000
    assert found["forecast/gpus"] == 2
    assert found["forecast/measured_on"] == {}
    assert isinstance(found["forecast/stages"], dict)
    assert found["forecast/stages"]["unknown_stages"] == ["numbers", "title", "total"]
    finish = found["forecast/finish"]
    assert isinstance(finish, float)
    assert finish == pytest.approx(time.time() + scenes * 18, abs=60)


def test_both_tables_of_the_catalogue_are_checked(project: ToyProject, instance: dg.DagsterInstance) -> None:
    assert checks(execute(project, instance, REFRESH)) == {"scene_catalog_schema": True, "scene_rejects_schema": True}


def test_tables_of_a_collection_without_finished_scenes_are_empty_and_valid(
    project: ToyProject, instance: dg.DagsterInstance
) -> None:
    execute(project, instance, REFRESH)
    result = execute(project, instance, REBUILD_TABLES)
    assert metadata(result, "training_index")["clips"] == 0
    assert metadata(result, "scenegen_metadata")["objects"] == 0
    assert checks(result) == {"scenegen_metadata_schema": True, "training_index_schema": True}


def test_a_table_of_another_form_fails_its_check_with_expected_against_found(
    project: ToyProject, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another(_catalog: object, store: object) -> pa.Table:
        table = pa.table({"clip": [1]})
        pyarrow.parquet.write_table(table, project.runtime().store.table_url("training_index"))
        return pa.table({"split": ["train"]})

    execute(project, instance, REFRESH)
    monkeypatch.setattr("sceneloom.assets.table_assets.write_training_index", write_another)

    result = execute(project, instance, REBUILD_TABLES)

    assert checks(result) == {"scenegen_metadata_schema": True, "training_index_schema": False}
    [failed] = [evaluation for evaluation in result.get_asset_check_evaluations() if not evaluation.passed]
    assert "scene_id: string" in str(failed.metadata["expected"].value)
    assert "clip" in str(failed.metadata["found"].value)


def test_an_empty_collection_is_the_runs_failure_in_our_words(
    project: ToyProject, instance: dg.DagsterInstance
) -> None:
    project.write_prompts("", "   ")
    message = told(execute(project, instance, REFRESH))
    assert message.startswith(f"{project.file}: no scene in {project.file.parent / 'prompts.txt'}")
    assert message.endswith("Add prompts, pictures or videos to one of the collection's sources.")


def test_columns_keep_their_types_and_nullability() -> None:
    columns = {column.name: column for column in column_schema(SCENE_CATALOG).columns}
    assert columns["seed"].type == "int64"
    assert not columns["seed"].constraints.nullable
    assert columns["prompt"].constraints.nullable

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from sceneloom.assets.catalog import Catalog
from sceneloom.assets.observations import observe
from sceneloom.assets.scene_assets import RUNTIME_RESOURCE, build_scene_assets
from sceneloom.assets.scene_partitions import register_scenes, scene_partitions
from sceneloom.assets.scene_pipeline import ScenePipeline, StageEvent
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.assets.stage import Made, Stage, StageContext
from sceneloom.datasets.errors import ConfigError
from sceneloom.datasets.tensors import TensorContract
from sceneloom.resources.profiles import Profile

from .toy_stages import MAKES, STAGE_NAMES, toy_pipeline, toy_profile, toy_scene, toy_stages

PARTITIONS = scene_partitions("toys")
SCENES = {name: toy_scene(name, f"a {name}") for name in ("blue-room", "green-room", "red-room")}
CHECKS = {"numbers": {"numbers": "Numbers are float32."}}


class ToyRuntime(SceneRuntime):
    """A runtime over the toy stages and three scenes."""

    def __init__(self, profile: Profile, stages: Sequence[Stage]) -> None:
        self.ended: list[StageEvent] = []
        super().__init__(profile, self.ended.append)
        self.stages = stages

    def pipeline(self, run_id: str = "") -> ScenePipeline:
        return toy_pipeline(self.profile, self.stages, run_id)

    def catalog(self) -> Catalog:
        return Catalog(SCENES)


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return toy_profile(tmp_path)


def make_numbers(context: StageContext) -> Made:
    """The usual numbers, held to a contract; those of the green room break it."""
    made = MAKES["numbers"](context)
    array = np.zeros(3, np.float64 if context.scene.scene_id == "green-room" else np.float32)
    observe(made, TensorContract("numbers", ("n",), "float32", unit="none", convention="none"), "all", array)
    return made


@dataclasses.dataclass
class Run:
    """A finished run over all three scenes; `materialized` holds the scenes that Dagster shows as such, by asset."""

    result: dg.ExecuteInProcessResult
    runtime: ToyRuntime
    materialized: dict[str, set[str]]

    def failure(self) -> dg.Failure:
        data = self.result.failure_data_for_node("scene_stages")
        assert data is not None
        assert data.user_failure_data is not None
        return data.user_failure_data  # pyright: ignore[reportReturnType]

    def message(self) -> str:
        return self.failure().description or ""

    def checks(self) -> dict[tuple[str, str], bool]:
        return {
            (evaluation.asset_key.to_user_string(), evaluation.check_name): evaluation.passed
            for evaluation in self.result.get_asset_check_evaluations()
        }


def run(profile: Profile, stages: Sequence[Stage], selection: Sequence[str] = STAGE_NAMES) -> Run:
    """One Dagster run that carries all three scenes."""
    runtime = ToyRuntime(profile, stages)
    assets = build_scene_assets(stages, PARTITIONS, scenes_per_run=10, pool=None)
    catalog = dg.AssetSpec("scene_catalog")
    with dg.DagsterInstance.ephemeral() as instance:
        register_scenes(instance, PARTITIONS, sorted(SCENES))
        result = dg.materialize(
            [assets, catalog],
            instance=instance,
            resources={RUNTIME_RESOURCE: runtime},
            selection=list(selection),
            tags={ASSET_PARTITION_RANGE_START_TAG: "blue-room", ASSET_PARTITION_RANGE_END_TAG: "red-room"},
            raise_on_error=False,
        )
        materialized = {stage: instance.get_materialized_partitions(dg.AssetKey(stage)) for stage in STAGE_NAMES}
    return Run(result, runtime, {stage: scenes for stage, scenes in materialized.items() if scenes})


def test_one_run_materializes_every_stage_of_every_scene(profile: Profile) -> None:
    finished = run(profile, toy_stages())

    assert finished.result.success
    assert finished.materialized == {stage: set(SCENES) for stage in STAGE_NAMES}
    assert len(finished.runtime.ended) == len(STAGE_NAMES) * len(SCENES)


def test_materializations_carry_the_content_key_and_the_record(profile: Profile) -> None:
    finished = run(profile, toy_stages(code_versions={"title": "7"}))
    [event] = [
        event
        for event in finished.result.asset_materializations_for_node("scene_stages")
        if event.partition == "red-room" and event.asset_key == dg.AssetKey("title")
    ]
    record = finished.runtime.store.record("red-room", "title")
    assert record is not None
    assert event.tags is not None
    assert event.tags["dagster/data_version"] == record.key
    assert event.tags["dagster/code_version"] == "7"
    assert event.metadata["outcome"].value == "made"
    assert record.run == finished.result.run_id


def test_a_second_run_leaves_everything_alone_and_says_so(profile: Profile) -> None:
    run(profile, toy_stages())
    made: list[tuple[str, str]] = []
    finished = run(profile, toy_stages(made=made))
    assert finished.result.success
    assert made == []
    assert {event.outcome for event in finished.runtime.ended} == {"current"}
    assert finished.materialized == {stage: set(SCENES) for stage in STAGE_NAMES}


def test_only_the_selected_stages_run(profile: Profile) -> None:
    finished = run(profile, toy_stages(checks=CHECKS), ["words", "title"])
    assert finished.result.success
    assert finished.materialized == {"words": set(SCENES), "title": set(SCENES)}
    assert finished.checks() == {}


def test_one_bad_scene_fails_the_run_by_name_and_stops_no_other(profile: Profile) -> None:
    def fail_green(context: StageContext) -> Made:
        if context.scene.scene_id == "green-room":
            raise ValueError("no green today")
        return MAKES["numbers"](context)

    finished = run(profile, toy_stages(makes={"numbers": fail_green}))

    assert not finished.result.success
    assert finished.message().startswith("1 scene failed: green-room at numbers: internal_error. The first: ValueError")
    others = {"blue-room", "red-room"}
    assert finished.materialized == {"words": set(SCENES), "numbers": others, "title": others, "total": others}
    table = finished.failure().metadata["failures"]
    assert isinstance(table, dg.TableMetadataValue)
    [row] = [record.data for record in table.records]
    assert (row["scene"], row["stage"], row["reason"]) == ("green-room", "numbers", "internal_error")
    assert row["meaning"] == "A fault in sceneloom or in a library it uses."
    assert "no green today" in str(row["message"])


def test_contracts_of_all_scenes_become_one_check(profile: Profile) -> None:
    def keep(context: StageContext) -> Made:
        return Made() if context.scene.scene_id == "green-room" else make_numbers(context)

    finished = run(profile, toy_stages(makes={"numbers": keep, "total": lambda _: Made()}, checks=CHECKS))
    assert finished.result.success
    assert finished.checks() == {("numbers", "numbers"): True}


def test_a_broken_contract_fails_its_check_and_names_the_scene(profile: Profile) -> None:
    finished = run(profile, toy_stages(makes={"numbers": make_numbers}, checks=CHECKS))

    assert finished.message().startswith("1 scene failed: green-room at numbers: contract_violation. The first: all: ")
    [evaluation] = finished.result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.metadata["violations"].value == 1
    table = evaluation.metadata["violations_listed"]
    assert isinstance(table, dg.TableMetadataValue)
    assert table.records[0].data == {
        "scene": "green-room",
        "array": "all",
        "expected": "dtype float32",
        "found": "dtype float64",
    }


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The batch was stopped (store_full): "),
        (ConfigError("17 frames", where="profile", remedy="Ask for 33."), "The batch was stopped (invalid_config): "),
    ],
)
def test_what_would_fail_every_scene_stops_the_batch(profile: Profile, error: Exception, message: str) -> None:
    def fail(context: StageContext) -> Made:
        raise error

    finished = run(profile, toy_stages(makes={"words": fail}))

    assert not finished.result.success
    assert finished.message().startswith(message)
    assert (getattr(error, "strerror", None) or str(error)) in finished.message()
    assert str(finished.failure().metadata["stopped"].value) in message
    assert finished.materialized == {}


def test_assets_declare_their_stage() -> None:
    assets = build_scene_assets(toy_stages(checks=CHECKS), PARTITIONS, scenes_per_run=7, pool="accelerator")
    specs = assets.specs_by_key
    assert [dep.asset_key for dep in specs[dg.AssetKey("words")].deps] == [dg.AssetKey("scene_catalog")]
    assert [dep.asset_key for dep in specs[dg.AssetKey("total")].deps] == [dg.AssetKey("numbers")]
    assert specs[dg.AssetKey("title")].code_version == "1"
    assert assets.backfill_policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=7)
    assert assets.partitions_def == PARTITIONS
    assert {key.name for key in assets.check_keys} == {"numbers"}
    assert assets.op.pool == "accelerator"

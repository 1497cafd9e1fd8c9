"""A backfill of twenty scenes through real servers: two fail and eighteen do not; a repair makes the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.assets.stages import STAGES
from sceneloom.orchestration.code_location import build_definitions
from sceneloom.orchestration.instance_storage import URL_VARIABLE
from sceneloom.orchestration.jobs import REFRESH, REPAIR
from sceneloom.orchestration.make_command import QUIET
from sceneloom.resources.profiles import load_profile

from . import tiny
from .dagster_servers import Servers, dagster_home, environment, running_servers

STAGE_NAMES = [stage.name for stage in STAGES]
PICTURES = 19
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "sceneloom"}

LAUNCH_BACKFILL = """
mutation ($assets: [AssetKeyInput!]!, $scenes: [String!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, partitionNames: $scenes}) {
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
BACKFILL = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status runs(limit: 10) { runId status } }
  }
}"""
PARTITIONS = """
query ($asset: AssetKeyInput!) {
  assetNodeOrError(assetKey: $asset) {
    ... on AssetNode {
      assetPartitionStatuses {
        ... on DefaultPartitionStatuses { materializedPartitions failedPartitions unmaterializedPartitions }
      }
      assetMaterializations(limit: 100) {
        partition
        tags { key value }
        metadataEntries { label ... on TextMetadataEntry { text } ... on FloatMetadataEntry { floatValue } }
      }
    }
  }
}"""
LAUNCH_REPAIR = """
mutation ($selector: JobOrPipelineSelector!, $config: RunConfigData!) {
  launchRun(executionParams: {selector: $selector, runConfigData: $config}) {
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PythonError { message }
  }
}"""
RUN = """
query ($id: ID!) {
  runOrError(runId: $id) {
    ... on Run {
      status
      eventConnection {
        events {
          ... on ExecutionStepFailureEvent { failureMetadata { description metadataEntries {
            label ... on TableMetadataEntry { table { records } } } } }
        }
      }
    }
  }
}"""


class Collection:
    """Twenty scenes on disk: a prompt and nineteen pictures, two of which are no longer what the catalogue saw."""

    def __init__(self, folder: Path) -> None:
        self.pictures = folder / "images"
        self.pictures.mkdir(parents=True)
        (folder / "prompts.txt").write_text("a bedroom with a bed and two lamps\n")
        for number in range(PICTURES):
            _write_picture(self.picture(number), number)
        self.profile = tiny.write_profile(
            folder,
            ["prompts.txt", "images"],
            collection={"name": "twenty", "sources": ["prompts.txt", "images"], "perceptual_distance": 0},
            frames={"count": 9, "height": 64, "width": 64},
            trajectories={"names": ["left"]},
            execution={"scenes_per_run": 20, "parallel_scenes": 2},
        )
        self.runtime = SceneRuntime(load_profile(self.profile))

    def picture(self, number: int) -> Path:
        return self.pictures / f"picture-{number:02}.png"

    def scene_of(self, number: int) -> str:
        [scene] = [
            scene.scene_id
            for scene in self.runtime.catalog().active()
            if (scene.image_url or "").endswith(self.picture(number).name)
        ]
        return scene

    def scenes(self) -> list[str]:
        return [scene.scene_id for scene in self.runtime.catalog().active()]


def _write_picture(file: Path, number: int) -> None:
    blocks = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(blocks).resize((144, 144), Image.Resampling.BICUBIC).save(file)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return Collection(tmp_path_factory.mktemp("twenty"))


@pytest.fixture(scope="module")
def servers(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers over the collection's catalogue; two pictures are gone or changed since it was read."""
    folder = tmp_path_factory.mktemp("servers")
    home = dagster_home(folder / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.delenv(URL_VARIABLE, raising=False)
        variables = environment(home, collection.profile)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            definitions = build_definitions(collection.runtime)
            definitions.resolve_job_def(REFRESH).execute_in_process(instance=instance, run_config=QUIET)
        with running_servers(folder, variables) as running:
            yield running


def statuses(servers: Servers, asset: str) -> dict[str, Any]:
    return servers.ask(PARTITIONS, asset={"path": [asset]})["assetNodeOrError"]


def finished_run(servers: Servers, run: str, seconds: float) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = servers.ask(RUN, id=run)["runOrError"]
        return found if found["status"] in {"SUCCESS", "FAILURE", "CANCELED"} else None

    return servers.until(look, seconds, "the run")


def finished_backfill(servers: Servers, backfill: str, seconds: float) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = servers.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]
        return found if found["status"].startswith("COMPLETED") or found["status"] in {"FAILED", "CANCELED"} else None

    return servers.until(look, seconds, "the backfill")


def test_two_bad_scenes_fail_alone_and_a_repair_makes_them(servers: Servers, collection: Collection) -> None:
    scenes = collection.scenes()
    assert len(scenes) == 20
    removed, changed = collection.scene_of(4), collection.scene_of(11)
    kept = {number: collection.picture(number).read_bytes() for number in (4, 11)}
    collection.picture(4).unlink()
    _write_picture(collection.picture(11), 99)

    launched = servers.ask(LAUNCH_BACKFILL, assets=[{"path": [name]} for name in STAGE_NAMES], scenes=scenes)
    backfill = finished_backfill(servers, launched["launchPartitionBackfill"]["backfillId"], 240)

    assert backfill["status"] == "COMPLETED_FAILED"
    [run] = backfill["runs"]
    assert run["status"] == "FAILURE"
    _assert_exactly_these_failed(servers, collection, {removed, changed})
    _assert_the_run_says_why(servers, run["runId"], removed, changed)

    for number, content in kept.items():
        collection.picture(number).write_bytes(content)
    repair = servers.ask(
        LAUNCH_REPAIR,
        selector={**REPOSITORY, "pipelineName": REPAIR},
        config={"ops": {"repair_scenes": {"config": {"scenes": [removed, changed], "lift_quarantine": True}}}},
    )
    assert finished_run(servers, repair["launchRun"]["run"]["runId"], 150)["status"] == "SUCCESS"
    for name in STAGE_NAMES:
        assert set(statuses(servers, name)["assetPartitionStatuses"]["materializedPartitions"]) == set(scenes)


def _assert_exactly_these_failed(servers: Servers, collection: Collection, failed: set[str]) -> None:
    scenes = set(collection.scenes())
    store = collection.runtime.store
    unexpected = [store.failure(scene, name) for scene in scenes - failed for name in STAGE_NAMES]
    assert not [noted.last.message for noted in unexpected if noted is not None]
    for name in STAGE_NAMES:
        node = statuses(servers, name)
        assert set(node["assetPartitionStatuses"]["failedPartitions"]) == failed, name
        assert set(node["assetPartitionStatuses"]["materializedPartitions"]) == scenes - failed, name
        assert set(node["assetPartitionStatuses"]["unmaterializedPartitions"]) == failed, name
        events = {event["partition"]: event for event in node["assetMaterializations"]}
        assert set(events) == scenes - failed, name
        for scene, event in events.items():
            record = collection.runtime.store.record(scene, name)
            assert record is not None
            tags = {tag["key"]: tag["value"] for tag in event["tags"]}
            metadata = {entry["label"]: entry for entry in event["metadataEntries"]}
            assert tags["dagster/data_version"] == record.key
            assert metadata["seconds"]["floatValue"] == pytest.approx(record.seconds, abs=1e-3)
            assert metadata["engine"]["text"] == record.engine


def _assert_the_run_says_why(servers: Servers, run: str, removed: str, changed: str) -> None:
    events = servers.ask(RUN, id=run)["runOrError"]["eventConnection"]["events"]
    [told] = [event["failureMetadata"] for event in events if event.get("failureMetadata")]
    first, second = sorted([removed, changed])
    assert told["description"].startswith(
        f"2 scenes failed: {first} at conditioning_view: invalid_input; {second} at conditioning_view: invalid_input. "
    )
    [table] = [entry["table"]["records"] for entry in told["metadataEntries"] if entry["label"] == "failures"]
    assert "picture-04.png" in "".join(table)
    assert "the picture was changed after the catalogue was made" in "".join(table)

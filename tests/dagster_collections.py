"""Collections made the way users make them: by runs of the assets that Dagster knows, on an instance in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from sceneloom.assets.scene_partitions import scene_partitions
from sceneloom.assets.scene_pipeline import StageEvent
from sceneloom.assets.scene_runtime import SceneRuntime
from sceneloom.orchestration.code_location import build_definitions
from sceneloom.orchestration.jobs import MAKE_SCENES, REBUILD_TABLES, REFRESH
from sceneloom.orchestration.make_command import QUIET
from sceneloom.resources.profiles import Profile

from .tiny import STAGE_NAMES, MadeCollection


@dataclass
class DagsterProject:
    """The code location of a profile, with an instance to run it on.

    Attributes:
        events: of every stage of every scene, as they ended.
    """

    runtime: SceneRuntime
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    events: list[StageEvent] = field(default_factory=list)

    def refresh(self) -> None:
        """Read the catalogue, which registers the scenes as partitions."""
        self._run(REFRESH)

    def backfill(self) -> None:
        """All stages of all scenes in one run over the range of partitions, as a backfill launches it."""
        partitions = scene_partitions(self.runtime.profile.collection.name)
        name = partitions.name
        assert name is not None
        scenes = self.instance.get_dynamic_partitions(name)
        self._run(
            MAKE_SCENES,
            tags={ASSET_PARTITION_RANGE_START_TAG: scenes[0], ASSET_PARTITION_RANGE_END_TAG: scenes[-1]},
        )
        for stage in STAGE_NAMES:
            assert self.instance.get_materialized_partitions(dg.AssetKey(stage)) == set(scenes), stage

    def tables(self) -> None:
        """Rebuild the tables."""
        self._run(REBUILD_TABLES)

    def publish(self, layout: str, options: Mapping[str, str] | None = None) -> Path:
        """Materialize `release/<layout>` with its check, which must pass; returns what was published."""
        key = dg.AssetKey(["release", layout])
        config = {"ops": {key.to_python_identifier(): {"config": {"options": dict(options or {})}}}}
        result = self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance, run_config={**QUIET, **config}, asset_selection=[key]
        )
        [check] = result.get_asset_check_evaluations()
        assert check.passed, check.metadata
        [event] = result.asset_materializations_for_node(key.to_python_identifier())
        return Path(str(event.metadata["dagster/uri"].value))

    def made(self) -> MadeCollection:
        """What was made."""
        return MadeCollection(self.runtime.profile, self.runtime, self.runtime.catalog(), tuple(self.events))

    def _run(self, job: str, tags: Mapping[str, str] | None = None) -> None:
        resolved = self.definitions.resolve_job_def(job)
        result = resolved.execute_in_process(
            instance=self.instance, run_config=QUIET, tags=dict(tags or {}), raise_on_error=False
        )
        failures = [f"{event.stage}: {event.failure.message}" for event in self.events if event.failure is not None]
        assert result.success, failures


@contextmanager
def dagster_project(profile: Profile) -> Iterator[DagsterProject]:
    """The profile's code location on an instance of its own."""
    events: list[StageEvent] = []
    runtime = SceneRuntime(profile, events.append)
    with dg.DagsterInstance.ephemeral() as instance:
        yield DagsterProject(runtime, build_definitions(runtime), instance, events)

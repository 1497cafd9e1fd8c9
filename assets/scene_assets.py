"""The per-scene assets: one factory turns the list of stages into a multi-asset partitioned by scene.

One run carries a batch of scenes. Every stage of every scene is logged as a materialization of its own the moment it
ends, so a run that is killed keeps its progress and a bad scene stops only itself; the run fails at the end, naming
the scenes that failed, and only those show as failed.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from ..datasets.catalog import SceneEntry
from ..resources.failures import RULES, Reason
from ..resources.machine_checks import require_engines
from ..resources.records import Attempt
from .contract_checks import BatchObservations, contract_check_specs
from .event_metadata import plain_failures, stage_metadata
from .provenance_tags import provenance_tags
from .scene_pipeline import BatchStopped, Report, ScenePipeline, StageEvent
from .scene_runtime import SceneRuntime
from .stage import Stage

OWNERS = ["team:scene-data"]
SCENE_GROUP = "scenes"
RUNTIME_RESOURCE = "scene_runtime"
LISTED_FAILURES = 50
"""Scenes that the message of a run's failure lists; the table beside it has all."""
STOPPED = "stopped"
"""Metadata of a run's failure: the reason why the rest of the batch was not tried."""


def stage_spec(stage: Stage) -> dg.AssetSpec:
    """The asset that a stage makes. A stage without inputs reads the catalogue."""
    return dg.AssetSpec(
        stage.name,
        deps=list(stage.inputs) or ["scene_catalog"],
        description=stage.description,
        kinds=set(stage.kinds),
        group_name=SCENE_GROUP,
        code_version=stage.code_version,
        owners=OWNERS,
        skippable=True,
    )


def build_scene_assets(
    stages: Sequence[Stage],
    partitions: dg.DynamicPartitionsDefinition,
    *,
    scenes_per_run: int,
    pool: str | None,
) -> dg.AssetsDefinition:
    """The multi-asset that makes the stages of a batch of scenes.

    Args:
        stages: in the order of their dependencies.
        partitions: one key a scene.
        scenes_per_run: how many scenes a backfill puts into one run.
        pool: concurrency pool of the device that the engines share, None where nothing is shared.
    """

    @dg.multi_asset(
        name="scene_stages",
        specs=[stage_spec(stage) for stage in stages],
        check_specs=contract_check_specs(stages),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=scenes_per_run),
        can_subset=True,
        pool=pool,
        required_resource_keys={RUNTIME_RESOURCE},
    )
    def scene_stages(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult]:
        runtime: SceneRuntime = getattr(context.resources, RUNTIME_RESOURCE)
        selected = [stage.name for stage in stages if dg.AssetKey(stage.name) in context.selected_asset_keys]
        pipeline = runtime.pipeline(context.run.run_id)
        batch = BatchLog(context)
        with plain_failures():
            scenes = runtime.catalog().require(context.partition_keys)
        batch.follow(runtime, pipeline, scenes, selected)
        wanted = {key.name for key in context.selected_asset_check_keys}
        for result in batch.observations.results(selected):
            if result.check_name in wanted:
                yield result
        batch.raise_failures()

    return scene_stages


@dataclass
class BatchLog:
    """Logs the events of a batch to Dagster and keeps what failed.

    Attributes:
        context: of the asset's or op's execution.
        failures: the last failed attempt of each scene that failed, by scene id, with its stage.
    """

    context: dg.AssetExecutionContext | dg.OpExecutionContext
    failures: dict[str, tuple[str, Attempt]] = field(default_factory=dict)
    observations: BatchObservations = field(default_factory=BatchObservations)
    stopped: Attempt | None = None

    def follow(
        self, runtime: SceneRuntime, pipeline: ScenePipeline, scenes: Sequence[SceneEntry], selected: Sequence[str]
    ) -> None:
        """Run the selected stages of the scenes and log each stage as it ends.

        Raises EngineError before the first scene when an engine of the profile cannot run on this machine.
        """
        require_engines(runtime.profile, {scene.kind for scene in scenes})

        def run_scene(scene: SceneEntry, report: Report) -> bool:
            return pipeline.run_scene(scene, selected, report)

        events = runtime.mapper.map(run_scene, scenes)
        try:
            with contextlib.closing(events):
                for event in events:
                    self._log(runtime, event)
                    runtime.progress(event)
        except BatchStopped as stop:
            self.stopped = stop.attempt
        finally:
            pipeline.stop()

    def _log(self, runtime: SceneRuntime, event: StageEvent) -> None:
        if event.failure is not None:
            self.failures[event.scene] = (event.stage, event.failure)
            if event.broken is not None:
                self.observations.add_broken(event.scene, event.stage, event.broken)
            return
        assert event.record is not None
        self.observations.add(event.record)
        self.context.log_event(
            dg.AssetMaterialization(
                event.stage,
                partition=event.scene,
                metadata=stage_metadata(runtime.store, event),
                tags=provenance_tags(self.context.instance, event.record),
            )
        )

    def raise_failures(self) -> None:
        """Fail the step when scenes failed, with a table of what failed and why."""
        if self.stopped is not None:
            raise dg.Failure(
                f"The batch was stopped ({self.stopped.reason}): {self.stopped.message}",
                metadata={STOPPED: dg.MetadataValue.text(self.stopped.reason), **_failure_metadata(self.failures)},
                allow_retries=False,
            )
        if self.failures:
            raise dg.Failure(
                _failure_message(self.failures), metadata=_failure_metadata(self.failures), allow_retries=False
            )


def _failure_message(failures: Mapping[str, tuple[str, Attempt]]) -> str:
    """Which scenes failed where and why, and the first of them in full: the table of all is in the metadata."""
    ordered = sorted(failures.items())
    listed = [f"{scene} at {stage}: {attempt.reason}" for scene, (stage, attempt) in ordered[:LISTED_FAILURES]]
    more = [f"and {len(ordered) - LISTED_FAILURES} more"] if len(ordered) > LISTED_FAILURES else []
    count = "1 scene" if len(ordered) == 1 else f"{len(ordered)} scenes"
    _, (_, first) = ordered[0]
    return f"{count} failed: {'; '.join([*listed, *more])}. The first: {first.message}"


def _failure_metadata(failures: Mapping[str, tuple[str, Attempt]]) -> dict[str, dg.MetadataValue]:
    records = [
        dg.TableRecord(
            {
                "scene": scene,
                "stage": stage,
                "reason": attempt.reason,
                "meaning": RULES[Reason(attempt.reason)].meaning,
                "message": attempt.message,
            }
        )
        for scene, (stage, attempt) in sorted(failures.items())
    ]
    return {"failed_scenes": dg.MetadataValue.int(len(records)), "failures": dg.MetadataValue.table(records, _SCHEMA)}


_SCHEMA = dg.TableSchema(
    columns=[dg.TableColumn(name, "string") for name in ("scene", "stage", "reason", "meaning", "message")]
)

"""Jobs: making scenes, rebuilding tables, refreshing the catalogue, and repairing any list of scenes in one run."""

import dagster as dg
from pydantic import Field

from ..assets.event_metadata import plain_failures
from ..assets.scene_assets import RUNTIME_RESOURCE, BatchLog
from ..assets.scene_partitions import register_scenes
from ..assets.scene_runtime import SceneRuntime
from ..assets.stages import STAGES

MAKE_SCENES = "make_scenes"
REBUILD_TABLES = "rebuild_tables"
REFRESH = "refresh"
REPAIR = "repair"


class RepairConfig(dg.Config):
    """What to repair; the launchpad shows the descriptions."""

    scenes: list[str] = Field(default=[], description="Ids of scenes; empty for every active one that is not current.")
    stages: list[str] = Field(default=[], description="Names of stages; empty for all.")
    lift_quarantine: bool = Field(default=False, description="Forget earlier failed attempts at these scenes first.")


def build_jobs(partitions: dg.DynamicPartitionsDefinition) -> list:
    """All jobs of the code location."""
    stage_names = [stage.name for stage in STAGES]
    return [
        dg.define_asset_job(
            MAKE_SCENES,
            selection=stage_names,
            executor_def=dg.in_process_executor,
            description="Every stage of the chosen scenes. Finished stages are left alone.",
        ),
        dg.define_asset_job(
            REBUILD_TABLES,
            selection=["scenegen_metadata", "training_index"],
            executor_def=dg.in_process_executor,
            description="The collection's tables, from what its scenes published.",
        ),
        dg.define_asset_job(
            REFRESH,
            selection=["scene_catalog"],
            executor_def=dg.in_process_executor,
            description="Read the collection's sources again: new inputs become scenes, vanished ones are retired.",
        ),
        _repair_job(partitions),
    ]


def _repair_job(partitions: dg.DynamicPartitionsDefinition) -> dg.JobDefinition:
    @dg.op(required_resource_keys={RUNTIME_RESOURCE})
    def repair_scenes(context: dg.OpExecutionContext, config: RepairConfig) -> None:
        runtime: SceneRuntime = getattr(context.resources, RUNTIME_RESOURCE)
        stages = chosen_stages(config.stages)
        with plain_failures():
            catalog = runtime.catalog()
            scenes = catalog.require(config.scenes) if config.scenes else catalog.active()
            if config.lift_quarantine:
                for scene in scenes:
                    for stage in stages:
                        runtime.store.clear_failure(scene.scene_id, stage)
        register_scenes(context.instance, partitions, [scene.scene_id for scene in scenes])
        batch = BatchLog(context)
        batch.follow(runtime, runtime.pipeline(context.run.run_id), scenes, stages)
        batch.raise_failures()

    @dg.job(
        name=REPAIR,
        executor_def=dg.in_process_executor,
        description="Any list of scenes in one run. A backfill over scattered scenes would become one run for each "
        "contiguous range of partitions.",
    )
    def repair() -> None:
        repair_scenes()

    return repair


def chosen_stages(names: list[str]) -> list[str]:
    """The named stages in their order, all of them when none is named. Raises Failure naming unknown ones."""
    known = [stage.name for stage in STAGES]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise dg.Failure(f"Unknown stages: {', '.join(unknown)}. Known: {', '.join(known)}.", allow_retries=False)
    return [name for name in known if not names or name in names]

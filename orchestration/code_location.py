"""What Dagster knows about sceneloom, for one profile: assets, checks, jobs, schedules, sensors."""

import dagster as dg

from ..assets.release_assets import build_release_assets, build_release_checks
from ..assets.scene_assets import RUNTIME_RESOURCE, build_scene_assets
from ..assets.scene_partitions import scene_partitions
from ..assets.scene_runtime import SceneRuntime
from ..assets.stages import STAGES
from ..assets.table_assets import build_table_assets, build_table_checks
from ..resources.profiles import Profile
from .automation import build_schedules, build_sensors
from .jobs import build_jobs

ACCELERATOR_POOL = "accelerator"


def build_definitions(runtime: SceneRuntime) -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors over one runtime."""
    profile = runtime.profile
    partitions = scene_partitions(profile.collection.name)
    scene_assets = build_scene_assets(
        STAGES,
        partitions,
        scenes_per_run=profile.execution.scenes_per_run,
        pool=device_pool(profile),
    )
    return dg.Definitions(
        assets=[scene_assets, *build_table_assets(partitions), *build_release_assets()],
        asset_checks=[*build_table_checks(), *build_release_checks()],
        jobs=build_jobs(partitions),
        schedules=build_schedules(),
        sensors=build_sensors(runtime, partitions),
        resources={RUNTIME_RESOURCE: runtime},
        executor=dg.in_process_executor,
    )


def device_pool(profile: Profile) -> str | None:
    """The concurrency pool of the stages: runs that share a device take turns."""
    engines = profile.engines
    on_device = engines.video_latents.device != "cpu" or engines.latent_codec.device != "cpu"
    return ACCELERATOR_POOL if on_device else None

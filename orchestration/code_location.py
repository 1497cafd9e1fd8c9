"""What Dagster knows about sceneloom, for one profile: assets, checks, jobs, schedules, sensors."""

from collections.abc import Iterator, Mapping

import dagster as dg

from ..assets.release_assets import build_release_assets, build_release_checks
from ..assets.scene_assets import RUNTIME_RESOURCE, build_scene_assets
from ..assets.scene_partitions import scene_partitions
from ..assets.scene_runtime import SceneRuntime
from ..assets.stages import STAGES
from ..assets.table_assets import build_table_assets, build_table_checks
from ..resources.profile_sections import Section
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
    return ACCELERATOR_POOL if set(_devices(profile.engines)) - {"cpu"} else None


def _devices(value: object, name: str = "") -> Iterator[str]:
    """The devices that sections below a value name."""
    if isinstance(value, Section):
        for inner_name, inner in value:
            yield from _devices(inner, inner_name)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _devices(inner)
    elif name == "device":
        yield str(value)

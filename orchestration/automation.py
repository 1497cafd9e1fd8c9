"""What runs by itself: the refresh of the catalogue, and the making of scenes that new inputs bring."""

import json
import time

import dagster as dg

from ..assets.catalog import CATALOG_TABLE
from ..assets.scene_partitions import register_scenes
from ..assets.scene_runtime import SceneRuntime
from ..assets.stages import STAGES
from ..datasets.errors import CorruptFileError
from ..resources.records import digest
from ..resources.source_fingerprint import source_fingerprint
from .jobs import REFRESH, REPAIR

BATCHES_PER_TICK = 20
"""Runs asked for in one tick: the queue need not hold a whole collection."""
SECONDS_PER_TICK = 30.0
"""Time for looking at scenes in one tick; Dagster gives up a tick after 60 s."""


def build_schedules() -> list[dg.ScheduleDefinition]:
    """Refresh the catalogue every night, for sources that the sensor cannot see change."""
    return [
        dg.ScheduleDefinition(
            name="nightly_refresh",
            job_name=REFRESH,
            cron_schedule="0 3 * * *",
            description="Read the collection's sources again every night at 03:00 UTC.",
        )
    ]


def build_sensors(runtime: SceneRuntime, partitions: dg.DynamicPartitionsDefinition) -> list[dg.SensorDefinition]:
    """`new_inputs` asks for a refresh when a source changes; `missing_scenes` for the scenes that a refresh brought."""

    @dg.sensor(
        name="new_inputs",
        job_name=REFRESH,
        minimum_interval_seconds=60,
        description="Refreshes the catalogue when a file of the collection's sources appears, vanishes or changes.",
    )
    def new_inputs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        fingerprint = source_fingerprint(runtime.profile.collection.sources)
        if fingerprint == context.cursor:
            return dg.SkipReason("The sources have not changed.")
        # No run key: sources that go back to an earlier state must be read again, too.
        return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=fingerprint)

    @dg.sensor(
        name="missing_scenes",
        job_name=REPAIR,
        minimum_interval_seconds=60,
        description="After every refresh, asks for the scenes that have never been finished, in batches.",
    )
    def missing_scenes(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        refreshes = context.instance.fetch_materializations(dg.AssetKey(CATALOG_TABLE), limit=1).records
        if not refreshes:
            return dg.SkipReason("The collection has no catalogue yet.")
        seen = json.loads(context.cursor) if context.cursor else {"refresh": None, "after": ""}
        refresh = refreshes[0].storage_id
        after = seen["after"] if seen["refresh"] == refresh else ""
        if after is None:
            return dg.SkipReason("Every scene of the last refresh has been finished or asked for.")
        per_run = runtime.profile.execution.scenes_per_run
        waiting, after = _unfinished(runtime, after, per_run * BATCHES_PER_TICK)
        requests = [_request(refresh, waiting[start : start + per_run]) for start in range(0, len(waiting), per_run)]
        register_scenes(context.instance, partitions, waiting)
        return dg.SensorResult(run_requests=requests, cursor=json.dumps({"refresh": refresh, "after": after}))

    return [new_inputs, missing_scenes]


def _unfinished(runtime: SceneRuntime, after: str, at_most: int) -> tuple[list[str], str | None]:
    """Ids of active scenes behind `after` that have never been finished, and how far it looked (None: to the end)."""
    deadline = time.monotonic() + SECONDS_PER_TICK
    waiting: list[str] = []
    for scene_id in sorted(scene.scene_id for scene in runtime.catalog().active()):
        if scene_id <= after:
            continue
        if len(waiting) == at_most or time.monotonic() > deadline:
            return waiting, after
        if not _is_finished(runtime, scene_id):
            waiting.append(scene_id)
        after = scene_id
    return waiting, None


def _is_finished(runtime: SceneRuntime, scene_id: str) -> bool:
    """Whether the scene's last stage has a record, or a stage of it is quarantined."""
    try:
        if runtime.store.record(scene_id, STAGES[-1].name) is not None:
            return True
        failures = [runtime.store.failure(scene_id, stage.name) for stage in STAGES]
    except CorruptFileError:
        return False
    return any(failure is not None and failure.quarantined for failure in failures)


def _request(refresh: int, scenes: list[str]) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=digest([refresh, scenes]),
        run_config={"ops": {"repair_scenes": {"config": {"scenes": scenes}}}},
        tags={"sceneloom/scenes": str(len(scenes))},
    )

"""`sceneloom make`: the whole graph for a collection in one command, with a progress bar and a summary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import dagster as dg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from ..assets.scene_assets import STOPPED
from ..assets.scene_partitions import scene_partitions
from ..assets.scene_pipeline import ScenePipeline, StageEvent
from ..assets.scene_runtime import SceneRuntime
from ..assets.stages import STAGES
from ..datasets.catalog import SceneEntry
from ..datasets.errors import SceneloomError
from ..resources.profiles import Profile
from .code_location import build_definitions
from .instance import open_instance
from .jobs import MAKE_SCENES, REBUILD_TABLES, REFRESH, REPAIR

_INTERRUPTIONS = {dg.DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__}

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Tally:
    """What the stages of a run took.

    Attributes:
        seconds: by stage, of what was made.
        outcomes: how many scene-stages were made, left alone, failed.
    """

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    outcomes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: list[StageEvent] = field(default_factory=list)

    def add(self, event: StageEvent) -> None:
        """Count one stage of one scene."""
        self.outcomes[event.outcome] += 1
        if event.outcome == "made":
            self.seconds[event.stage] += event.seconds
        if event.outcome == "failed":
            self.failures.append(event)


def make_collection(profile: Profile, console: Console) -> bool:
    """Refresh the catalogue, make every scene that is not current, rebuild the tables, and print what was made.

    Returns whether every scene is whole. Raises SceneloomError when the catalogue cannot be read, or when the rest of
    the scenes was not tried because all would fail in the same way (after printing the scenes that failed until then).
    """
    tally = Tally()
    with open_instance() as instance, _progress(console) as progress:
        listener = _ProgressListener(progress, tally)
        runtime = SceneRuntime(profile, listener.stage_ended)
        definitions = build_definitions(runtime)
        _run(definitions, REFRESH, instance)
        catalog = runtime.catalog()
        pipeline = runtime.pipeline()
        scenes = [scene for scene in catalog.active() if not _is_current(pipeline, scene)]
        listener.start(scenes)
        stopped = None
        if scenes:
            stopped = _make(definitions, instance, runtime, scenes)
        if stopped is None:
            _run(definitions, REBUILD_TABLES, instance)
    _print_failures(console, tally)
    if stopped is not None:
        raise stopped
    _print_summary(console, runtime, tally)
    return not tally.failures


def _is_current(pipeline: ScenePipeline, scene: SceneEntry) -> bool:
    return all(status.state == "current" for status in pipeline.status(scene))


def _make(
    definitions: dg.Definitions, instance: dg.DagsterInstance, runtime: SceneRuntime, scenes: Sequence[SceneEntry]
) -> SceneloomError | None:
    """One run over the scenes: of the assets where they are a range of partitions, of the repair job otherwise.

    Returns why the run ended before all scenes were tried, None when they were: scenes that failed are in the tally.
    """
    wanted = {scene.scene_id for scene in scenes}
    partitions = scene_partitions(runtime.profile.collection.name)
    assert partitions.name is not None
    keys = instance.get_dynamic_partitions(partitions.name)
    places = [place for place, key in enumerate(keys) if key in wanted]
    first, last = places[0], places[-1]
    if last - first + 1 == len(places):
        span = {
            "dagster/asset_partition_range_start": keys[first],
            "dagster/asset_partition_range_end": keys[last],
        }
        result = _execute(definitions, MAKE_SCENES, instance, tags=span)
    else:
        config = {"ops": {"repair_scenes": {"config": {"scenes": sorted(wanted)}}}}
        result = _execute(definitions, REPAIR, instance, run_config=config)
    return None if result.success or _tried_all_scenes(result) else _job_error(result)


def _run(definitions: dg.Definitions, job: str, instance: dg.DagsterInstance) -> None:
    result = _execute(definitions, job, instance)
    if not result.success:
        raise _job_error(result)


def _execute(
    definitions: dg.Definitions,
    job: str,
    instance: dg.DagsterInstance,
    *,
    tags: dict[str, str] | None = None,
    run_config: dict | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job in this process. Raises KeyboardInterrupt when that is what ended it."""
    result = definitions.resolve_job_def(job).execute_in_process(
        instance=instance, tags=tags, run_config={**QUIET, **(run_config or {})}, raise_on_error=False
    )
    if any(_root_error(event)[0] in _INTERRUPTIONS for event in _failed_steps(result)):
        raise KeyboardInterrupt
    return result


def _tried_all_scenes(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a failed run failed only because of single scenes."""
    told = [event.step_failure_data.user_failure_data for event in _failed_steps(result)]
    return bool(told) and all(
        data is not None and "failures" in data.metadata and STOPPED not in data.metadata for data in told
    )


def _job_error(result: dg.ExecuteInProcessResult) -> SceneloomError:
    """Why the run failed: its first failed step in the words of the step, else in those of the error at its root."""
    reasons = [_reason(event) for event in _failed_steps(result)]
    return SceneloomError(
        reasons[0].rstrip(".") if reasons else "the run failed, and no step says why",
        where=result.job_def.name,
        remedy=f"Run {result.run_id} in the Dagster UI has the whole story.",
    )


def _failed_steps(result: dg.ExecuteInProcessResult) -> list[dg.DagsterEvent]:
    return [event for event in result.all_events if event.is_step_failure]


def _reason(event: dg.DagsterEvent) -> str:
    told = event.step_failure_data.user_failure_data
    return (told.description if told is not None else None) or _root_error(event)[1]


def _root_error(event: dg.DagsterEvent) -> tuple[str, str]:
    """Class and message of the error that a failed step's error goes back to."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return ("", "the step failed") if error is None else (error.cls_name or "", error.message.strip())


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        console=console,
        expand=True,
    )


class _ProgressListener:
    """Moves the two bars: whole scenes, and stages of scenes."""

    def __init__(self, progress: Progress, tally: Tally) -> None:
        self.progress = progress
        self.tally = tally
        self.scenes = progress.add_task("scenes", total=None, now="reading the catalogue")
        self.stages = progress.add_task("stages", total=None, now="")

    def start(self, scenes: Sequence[SceneEntry]) -> None:
        self.progress.update(self.scenes, total=len(scenes), now="")
        self.progress.update(self.stages, total=len(scenes) * len(STAGES))

    def stage_ended(self, event: StageEvent) -> None:
        self.tally.add(event)
        self.progress.update(self.stages, advance=1, now=f"{event.scene} · {event.stage}: {event.outcome}")
        if event.stage == STAGES[-1].name or event.outcome == "failed":
            self.progress.update(self.scenes, advance=1)


def _print_failures(console: Console, tally: Tally) -> None:
    for event in tally.failures:
        assert event.failure is not None
        note = " (quarantined)" if event.quarantined else ""
        console.print(f"[red]failed[/] {event.scene} at {event.stage}{note}: {event.failure.reason}")
        console.print(f"  {event.failure.message}", markup=False, highlight=False, soft_wrap=True)


def _print_summary(console: Console, runtime: SceneRuntime, tally: Tally) -> None:
    """What the collection holds now, stage by stage, and how to open it."""
    table = Table(Column("stage", no_wrap=True), title="seconds: of making what stands, and of this time")
    for heading in ("scenes", "files", "MB", "seconds", "now"):
        table.add_column(heading, justify="right", no_wrap=True)
    active = runtime.catalog().active()
    scenes_done, clips, total_bytes = 0, 0, 0
    for stage in STAGES:
        records = [runtime.store.record(scene.scene_id, stage.name) for scene in active]
        made = [record for record in records if record is not None]
        size = sum(record.bytes for record in made)
        total_bytes += size
        scenes_done = len(made)
        clips += sum(int(record.metrics.get("clips", 0)) for record in made if stage.name == "video_latents")
        table.add_row(
            stage.name,
            str(len(made)),
            str(sum(len(record.files) for record in made)),
            f"{size / 1e6:.1f}",
            f"{sum(record.seconds for record in made):.1f}",
            f"{tally.seconds.get(stage.name, 0.0):.1f}",
        )
    console.print(table)
    console.print(
        f"{scenes_done} of {len(active)} scenes, {clips} clips, {total_bytes / 1e6:.1f} MB "
        f"in {runtime.profile.store.url}",
        soft_wrap=True,
    )
    if not tally.outcomes:
        console.print("Nothing was stale.")
    console.print("Open it:  make ui   (or: sceneloom scenes list, sceneloom view SCENE)")

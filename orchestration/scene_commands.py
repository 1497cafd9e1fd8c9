"""`sceneloom scenes …` and `sceneloom view`: how scenes stand, why, and what they look like."""

from __future__ import annotations

import subprocess
import sys
from pathlib import PurePosixPath
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from ..assets.scene_preview import NAME as PREVIEW_STAGE
from ..assets.scene_preview import RECORDING
from ..assets.scene_runtime import SceneRuntime
from ..assets.stages import STAGES
from ..datasets.errors import InputError
from ..resources.profiles import load_profile

scenes_app = typer.Typer(no_args_is_help=True, help="How scenes stand, why, and what to do about it.")
LOG_LINES = 12
"""Lines of a worker's log that are shown of a failed attempt."""

PIPE_WIDTH = 200
SHOWN_CHARACTERS = 60
"""Of a prompt in the list."""

_Config = Annotated[str | None, typer.Option(help="The profile; without it SCENELOOM_CONFIG, else the demo's.")]
_Scene = Annotated[str, typer.Argument(help="Id of the scene.")]


@scenes_app.command("list")
def list_scenes(
    config: _Config = None,
    state: Annotated[str | None, typer.Option(help="Only scenes with a stage in this state, e.g. quarantined.")] = None,
) -> None:
    """Every scene of the catalogue with the state of its stages."""
    runtime = SceneRuntime(load_profile(config))
    pipeline = runtime.pipeline()
    headings = ("scene", "kind", "split", "state", "stage", "prompt or file")
    table = Table(*(Column(name, no_wrap=True) for name in headings))
    for scene in runtime.catalog().entries.values():
        statuses = pipeline.status(scene)
        open_stages = [status for status in statuses if status.state != "current"]
        shown = scene.status if scene.status == "retired" else (open_stages[0].state if open_stages else "current")
        if state is None or shown == state or any(status.state == state for status in statuses):
            stage = open_stages[0].stage if open_stages else ""
            made_from = scene.prompt or PurePosixPath(scene.image_url or scene.video_url or "").name
            table.add_row(scene.scene_id, scene.kind, scene.split, shown, stage, _shortened(made_from))
    # A pipe has no width of its own; who reads it wants whole rows.
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


@scenes_app.command("why")
def why(scene: _Scene, config: _Config = None) -> None:
    """Why each stage of a scene would be made again, or would not: what changed, from the keys."""
    runtime = SceneRuntime(load_profile(config))
    console = Console(soft_wrap=True)
    for status in runtime.pipeline().status(runtime.catalog().require([scene])[0]):
        made = f"made {status.record.created_at} in {status.record.seconds:.1f} s" if status.record else ""
        console.print(f"{status.stage}: [bold]{status.state}[/] {made}", highlight=False)
        for change in status.changes:
            console.print(f"    {change}", markup=False, highlight=False)
        if status.failure is not None:
            for number, attempt in enumerate(status.failure.attempts, start=1):
                console.print(
                    f"    attempt {number} ({attempt.at}): {attempt.reason}: {attempt.message}",
                    markup=False,
                    highlight=False,
                )
                for line in attempt.log.splitlines()[-LOG_LINES:]:
                    console.print(f"        {line}", markup=False, highlight=False)


@scenes_app.command("retry")
def retry(scene: _Scene, config: _Config = None) -> None:
    """Lift a scene's quarantine: forget its failed attempts, so that the next run tries again."""
    runtime = SceneRuntime(load_profile(config))
    runtime.catalog().require([scene])
    cleared = [stage.name for stage in STAGES if runtime.store.clear_failure(scene, stage.name)]
    print(f"{scene}: cleared {', '.join(cleared)}" if cleared else f"{scene}: there was nothing to clear")


def view(
    scene: _Scene,
    config: _Config = None,
    path_only: Annotated[
        bool, typer.Option("--path", help="Print the recording's path instead of opening it.")
    ] = False,
) -> None:
    """Open the Rerun recording of a scene: cameras, frames, depth clouds, objects."""
    runtime = SceneRuntime(load_profile(config))
    runtime.catalog().require([scene])
    record = runtime.store.record(scene, PREVIEW_STAGE)
    if record is None:
        raise InputError(
            "the scene has no recording yet",
            where=scene,
            remedy=f"Materialize {PREVIEW_STAGE} for it; `sceneloom scenes list` names the scenes.",
        )
    recording = runtime.store.fetch(record, RECORDING)
    if path_only:
        print(recording)
        return
    sys.exit(subprocess.call([sys.executable, "-m", "rerun", str(recording)]))

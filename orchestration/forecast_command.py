"""`sceneloom forecast`: GPU-hours, bytes, cost and finish time of what is left to make, before it is launched."""

from __future__ import annotations

import datetime
import math
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from ..assets.collection_forecast import CollectionForecast, forecast_collection
from ..assets.scene_runtime import SceneRuntime
from ..resources.forecast import Forecast, StageForecast
from ..resources.profiles import load_profile

PIPE_WIDTH = 200
_UNITS = ("B", "kB", "MB", "GB", "TB")
_TEXT_COLUMNS = ("stage", "from")


def forecast(
    config: Annotated[
        str | None, typer.Option(help="The profile; without it SCENELOOM_CONFIG, else the demo's.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs that work at once, instead of the profile's.")] = None,
) -> None:
    """Forecast GPU-hours, bytes, cost and finish time of the scenes that are not up to date."""
    profile = load_profile(config)
    settings = profile.forecast
    if gpus is not None:
        settings = settings.model_copy(update={"gpus": gpus})
    runtime = SceneRuntime(profile)
    found = forecast_collection(runtime.catalog(), runtime.pipeline(), settings)
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    print_forecast(console, found, datetime.datetime.now().astimezone())


def print_forecast(console: Console, found: CollectionForecast, start: datetime.datetime) -> None:
    """Print a table of the stages, then the totals.

    Args:
        start: when the work would begin.
    """
    total = found.forecast
    if found.note is not None:
        console.print(found.note, markup=False, highlight=False)
    if not total.stages:
        console.print(f"{found.scenes} scenes: nothing is missing", highlight=False)
        _print_quarantined(console, found)
        return
    headings = ("stage", "scenes", "seconds a scene", "p10", "median", "p90", "bytes a scene", "from")
    table = Table(
        *(Column(name, no_wrap=True, justify="left" if name in _TEXT_COLUMNS else "right") for name in headings)
    )
    for stage in total.stages:
        table.add_row(*_row(stage))
    console.print(table)
    for line in _totals(total, start):
        console.print(line, highlight=False, markup=False)
    if found.measured_on:
        machines = "; ".join(f"{name} ({records} records)" for name, records in found.measured_on.items())
        console.print(f"measured on: {machines}", highlight=False, markup=False)
    _print_quarantined(console, found)


def _row(stage: StageForecast) -> tuple[str, ...]:
    seconds = stage.seconds
    if seconds is None:
        return (stage.stage, str(stage.scenes), "unknown", "", "", "", "", "neither records nor profile")
    stored = "" if stage.bytes is None else _size(stage.bytes)
    if stage.source == "profile":
        return (stage.stage, str(stage.scenes), f"{seconds.mean:.1f}", "", "", "", stored, "the profile's table")
    spread = (f"{value:.1f}" for value in (seconds.mean, seconds.p10, seconds.median, seconds.p90))
    return (
        stage.stage,
        str(stage.scenes),
        *spread,
        stored,
        f"{stage.records} {'scene' if stage.records == 1 else 'scenes'} made",
    )


def _totals(total: Forecast, start: datetime.datetime) -> list[str]:
    finish = total.finish(start)
    stored = "unknown: give forecast.bytes_per_scene" if total.bytes is None else _size(total.bytes)
    cost = "unknown: give forecast.price_per_gpu_hour" if total.cost is None else f"{total.cost:.2f}"
    lines = [
        f"GPU-hours: {total.gpu_hours:.2f} (if all scenes went like the fastest tenth {total.gpu_hours_p10:.2f}, "
        f"like the slowest {total.gpu_hours_p90:.2f})",
        f"bytes: {stored}",
        f"cost: {cost}",
        f"finished: {finish:%Y-%m-%d %H:%M %Z}, after {_duration(total.hours)} on {total.gpus} "
        f"{'GPU' if total.gpus == 1 else 'GPUs'}",
    ]
    if total.unknown:
        lines.append(f"not in these figures, as nothing is known of them: {', '.join(total.unknown)}")
    return lines


def _print_quarantined(console: Console, found: CollectionForecast) -> None:
    if found.quarantined:
        console.print(f"{found.quarantined} quarantined scenes are not counted", highlight=False)


def _duration(hours: float) -> str:
    minutes = round(hours * 60)
    if minutes < 60:
        return f"{hours * 60:.1f} min"
    days, left = divmod(minutes, 24 * 60)
    return (f"{days} d " if days else "") + f"{left // 60} h {left % 60} min"


def _size(count: float) -> str:
    power = min(max(int(math.log10(max(count, 1))) // 3, 0), len(_UNITS) - 1)
    return f"{count / 1000**power:.3g} {_UNITS[power]}"

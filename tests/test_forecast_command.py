"""What `sceneloom forecast` prints."""

from __future__ import annotations

import datetime
import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sceneloom.assets.catalog import refresh_catalog
from sceneloom.assets.collection_forecast import CollectionForecast, forecast_collection
from sceneloom.datasets.errors import InputError
from sceneloom.orchestration.cli import app
from sceneloom.orchestration.forecast_command import print_forecast
from sceneloom.resources.forecast import Forecast, ForecastSettings, Measured, StageNeed, make_forecast

from .conftest import ToyProject

START = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)


def printed(
    forecast: Forecast,
    *,
    quarantined: int = 0,
    note: str | None = None,
    measured_on: dict[str, int] | None = None,
) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    print_forecast(console, CollectionForecast(forecast, 12, 12, quarantined, 12, measured_on or {}, note), START)
    return stream.getvalue()


def sceneloom(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_a_row_says_how_scenes_spread_and_from_how_many_records() -> None:
    seconds = tuple(Measured(float(value), 2.5e6) for value in range(101))
    text = printed(make_forecast([StageNeed("video_latents", 1000, seconds)], ForecastSettings()))
    [row] = [line for line in text.splitlines() if "video_latents" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["video_latents", "1000", "50.0", "10.0", "50.0", "90.0", "2.5 MB", "101 scenes made"]


def test_totals_name_hours_bytes_cost_and_the_hour_it_is_finished() -> None:
    needs = [StageNeed("video", 1000, (Measured(3600, 3e9),))]
    text = printed(make_forecast(needs, ForecastSettings(gpus=8, price_per_gpu_hour=2)))
    assert "GPU-hours: 1000.00 (if all scenes went like the fastest tenth 1000.00, like the slowest 1000.00)" in text
    assert "bytes: 3 TB" in text
    assert "cost: 2000.00" in text
    assert "finished: 2026-05-06 17:00 UTC, after 5 d 5 h 0 min on 8 GPUs" in text


def test_what_is_not_known_is_said() -> None:
    needs = [StageNeed("view", 3, (Measured(60, 1),)), StageNeed("video", 3, ())]
    text = printed(make_forecast(needs, ForecastSettings()), quarantined=2, note="The files are elsewhere.")
    assert text.startswith("The files are elsewhere.\n")
    assert "neither records nor profile" in text
    assert "bytes: unknown: give forecast.bytes_per_scene" in text
    assert "cost: unknown: give forecast.price_per_gpu_hour" in text
    assert "after 3.0 min on 1 GPU\n" in text
    assert "not in these figures, as nothing is known of them: video" in text
    assert "2 quarantined scenes are not counted" in text


def test_the_table_is_named_as_the_source() -> None:
    table = ForecastSettings(seconds_per_scene={"video": 90})
    assert "the profile's table" in printed(make_forecast([StageNeed("video", 3, ())], table))


def test_where_it_was_measured_is_said() -> None:
    forecast = make_forecast([StageNeed("video_latents", 2, (Measured(36.0, 5.0),))], ForecastSettings())
    said = printed(forecast, measured_on={"16 cores of EPYC, 1 × H100": 7, "2 cores of Xeon": 3})
    assert "measured on: 16 cores of EPYC, 1 × H100 (7 records); 2 cores of Xeon (3 records)\n" in said
    assert "measured on" not in printed(forecast)


def test_a_whole_collection_misses_nothing() -> None:
    assert printed(make_forecast([], ForecastSettings())) == "12 scenes: nothing is missing\n"


def test_the_command_forecasts_from_the_scenes_made(project: ToyProject) -> None:
    with pytest.raises(InputError, match="no catalogue yet"):
        sceneloom("forecast")
    runtime = project.runtime()
    catalog = refresh_catalog(runtime.profile, runtime.store).catalog
    with pytest.raises(InputError, match="nothing is known"):
        sceneloom("forecast")
    runtime.pipeline("run").run_scene(catalog.active()[0], ["words", "numbers", "title", "total"], lambda event: None)
    status, text = sceneloom("forecast", "--gpus", "2")
    assert status == 0
    assert sum("1 scene made" in line for line in text.splitlines()) == 4
    assert "on 2 GPUs" in text
    expected = forecast_collection(catalog, runtime.pipeline(), ForecastSettings(gpus=2)).forecast
    assert f"GPU-hours: {expected.gpu_hours:.2f}" in text


def test_gpus_are_at_least_one(project: ToyProject) -> None:
    assert CliRunner().invoke(app, ["forecast", "--gpus", "0"]).exit_code == 2

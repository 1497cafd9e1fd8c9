"""The command line of sceneloom: its commands and groups of commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from ..datasets.errors import SceneloomError
from ..resources.profiles import load_profile
from .config_commands import app as config_app
from .forecast_command import forecast
from .release_commands import doctor, publish
from .scene_commands import scenes_app, view
from .store_commands import store_app
from .worker_commands import workers_app

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(config_app, name="config")
app.add_typer(scenes_app, name="scenes")
app.add_typer(store_app, name="store")
app.add_typer(workers_app, name="workers")
app.command("view")(view)
app.command("publish")(publish)
app.command("doctor")(doctor)
app.command("forecast")(forecast)


@app.command("make")
def make(
    config: Annotated[
        str | None, typer.Option(help="The profile; without it SCENELOOM_CONFIG, else the demo's.")
    ] = None,
) -> None:
    """Bring the whole collection up to date: catalogue, every scene that is not current, tables."""
    from .make_command import make_collection

    try:
        whole = make_collection(load_profile(config), Console())
    except KeyboardInterrupt:
        typer.echo("Interrupted: what is finished is kept, and the same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    if not whole:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: an error of ours is one message, not a traceback."""
    try:
        app()
    except SceneloomError as error:
        print(f"sceneloom: {error}", file=sys.stderr)
        sys.exit(2)

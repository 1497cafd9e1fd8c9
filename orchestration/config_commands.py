"""The `config` commands: check a profile, show it with its defaults, print its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..datasets.errors import ConfigError
from ..resources import profiles

app = typer.Typer(help="Check and show profiles.", no_args_is_help=True)

_ProfileArgument = Annotated[
    Path | None, typer.Argument(help=f"Profile; default: ${profiles.PROFILE_VARIABLE}, then configs/demo.yaml.")
]


@app.command()
def validate(profile: _ProfileArgument = None) -> None:
    """Check a profile; exit with status 1 and the reasons when it is refused."""
    loaded = _load(profile)
    typer.echo(f"{loaded.file}: valid ({loaded.format})")


@app.command()
def show(profile: _ProfileArgument = None) -> None:
    """Print a profile with every default filled in."""
    typer.echo(profiles.show(_load(profile)), nl=False)


@app.command()
def schema() -> None:
    """Print the JSON schema of profiles."""
    typer.echo(json.dumps(profiles.schema(), indent=2, ensure_ascii=False))


def _load(profile: Path | None) -> profiles.Profile:
    try:
        return profiles.load_profile(profile)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error

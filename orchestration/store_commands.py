"""`sceneloom store …`: check what was published against its checksums, and remove what nothing refers to."""

from __future__ import annotations

from typing import Annotated

import typer

from ..assets.scene_runtime import SceneRuntime
from ..assets.stages import STAGES
from ..datasets.errors import CorruptFileError
from ..resources.profiles import load_profile

store_app = typer.Typer(no_args_is_help=True, help="Check and clean the store.")

_Config = Annotated[str | None, typer.Option(help="The profile; without it SCENELOOM_CONFIG, else the demo's.")]


@store_app.command("verify")
def verify(
    config: _Config = None,
    set_aside: Annotated[
        bool,
        typer.Option("--set-aside", help="Set faulty records aside: the next make repairs them."),
    ] = False,
) -> None:
    """Read every published file and compare it with the checksum in its record."""
    store = SceneRuntime(load_profile(config)).store
    files, faults = 0, 0
    for scene in store.scenes():
        for stage in STAGES:
            try:
                record = store.record(scene, stage.name)
                for file in record.files if record else []:
                    files += 1
                    assert record is not None
                    store.fetch(record, file.path)
            except CorruptFileError as error:
                faults += 1
                print(error)
                if set_aside:
                    store.set_aside_record(scene, stage.name)
    print(f"{files} files read, {faults} faults")
    if faults:
        raise typer.Exit(1)


@store_app.command("clean")
def clean(
    config: _Config = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete them; without it they are only counted.")] = False,
) -> None:
    """Find outputs that no record names: superseded ones, and what crashes left. Not while a run is under way."""
    store = SceneRuntime(load_profile(config)).store
    leftovers = store.leftovers()
    if remove:
        store.remove(leftovers)
    done = "removed" if remove else "could be removed with --remove"
    print(f"{len(leftovers.directories)} folders, {leftovers.bytes / 1e6:.1f} MB {done}")

"""`sceneloom workers …`: what workers there are, whether one can run here, and how it is run."""

from __future__ import annotations

import ast
import re
import shlex
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..datasets.errors import ConfigError
from ..resources.worker_failures import WorkerFailed
from ..resources.worker_process import WorkerProcess
from ..resources.worker_protocol import FileTransport
from ..resources.worker_settings import VipeSettings, WorkerSettings, worker_file, worker_names

workers_app = typer.Typer(no_args_is_help=True, help="Models that run in environments of their own.")

_Interpreter = Annotated[str | None, typer.Option(help="Python of the worker's environment.")]
_Uv = Annotated[bool, typer.Option("--uv", help="Let uv build the environment.")]
_Container = Annotated[str | None, typer.Option(help="Image of the worker's environment.")]
_Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
_Name = Annotated[str, typer.Argument(help="The worker's name, as `workers list` shows it.")]

_SETTINGS: Mapping[str, type[WorkerSettings]] = {"vipe": VipeSettings}
_METADATA = re.compile(r"^# /// script\n((?:#.*\n)+?)# ///$", re.MULTILINE)


@workers_app.command("list")
def list_workers() -> None:
    """Name, purpose, and what the environment of each worker must hold."""
    for name in worker_names():
        source = worker_file(name).read_text()
        summary = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
        print(f"{name}: {summary}")
        for requirement in script_metadata(source)["dependencies"]:
            print(f"    {requirement}")


@workers_app.command("check")
def check(
    name: _Name,
    interpreter: _Interpreter = None,
    uv: _Uv = False,
    container: _Container = None,
    device: _Device = "cuda",
) -> None:
    """Start the worker without any work, and print what it finds in its environment."""
    settings = _settings(name, interpreter, uv, container, device)
    missing = settings.missing()
    if missing is not None:
        raise ConfigError(missing, where=f"the environment of {name}", remedy="Correct the worker's settings.")
    told = settings.model_dump(mode="json", exclude=set(WorkerSettings.model_fields))
    with tempfile.TemporaryDirectory(prefix="sceneloom-check-") as folder:
        try:
            ready = WorkerProcess(name, settings, FileTransport()).check(told, Path(folder))
        except WorkerFailed as failure:
            print(f"{name} cannot run: {failure}")
            if failure.log:
                print(failure.log)
            raise typer.Exit(1) from None
    for package, version in ready.versions.items():
        print(f"{package} {version}")
    for problem in ready.problems:
        print(f"problem: {problem}")
    if ready.problems:
        raise typer.Exit(1)
    print(f"{name} can be started")


@workers_app.command("command")
def command(
    name: _Name,
    interpreter: _Interpreter = None,
    uv: _Uv = False,
    container: _Container = None,
    device: _Device = "cuda",
) -> None:
    """Print the command line that runs the worker, with the variables that differ from this shell's."""
    settings = _settings(name, interpreter, uv, container, device)
    shown = {
        "DAGSTER_PIPES_CONTEXT": "<from the transport>",
        "DAGSTER_PIPES_MESSAGES": "<from the transport>",
    }
    scratch = Path(settings.scratch or tempfile.gettempdir()) / "<batch>"
    launch = settings.launch(name, scratch, shown, name=f"sceneloom-{name}-<launch>")
    own = {**shown, **settings.variables, **settings.device_variables()}
    print(shlex.join(["env", *(f"{key}={value}" for key, value in own.items()), *launch.command]))


def _settings(name: str, interpreter: str | None, uv: bool, container: str | None, device: str) -> WorkerSettings:
    if name not in _SETTINGS:
        known = ", ".join(sorted(_SETTINGS))
        raise ConfigError(f"there is no worker {name!r}", where="sceneloom workers", remedy=f"Known are: {known}.")
    given: dict[str, Any] = {"interpreter": interpreter, "uv": uv, "container": container}
    chosen = {key: value for key, value in given.items() if value}
    if not chosen:
        raise ConfigError(
            "no environment is given", where=f"worker {name}", remedy="Give --interpreter, --uv or --container."
        )
    return _SETTINGS[name].model_validate({"environment": chosen, "device": device})


def script_metadata(source: str) -> dict[str, Any]:
    """The environment that a worker's file declares (PEP 723)."""
    block = _METADATA.search(source)
    assert block is not None, "every worker's file declares its environment"
    return tomllib.loads("\n".join(line[2:] for line in block[1].splitlines()))

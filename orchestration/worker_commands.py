"""`sceneloom workers …`: what workers there are, whether one can run here, and how it is run."""

from __future__ import annotations

import ast
import re
import shlex
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ..datasets.errors import ConfigError
from ..resources.worker_engine_settings import Gen3cSettings, MogeSettings, TrellisLatentSettings, VggtModelSettings
from ..resources.worker_failures import WorkerFailed
from ..resources.worker_process import started_without_tasks
from ..resources.worker_settings import VipeSettings, WorkerSettings, worker_file, worker_names

workers_app = typer.Typer(no_args_is_help=True, help="Models that run in environments of their own.")

_SETTINGS: Mapping[str, type[WorkerSettings]] = {
    "gen3c": Gen3cSettings,
    "moge": MogeSettings,
    "trellis_ss": TrellisLatentSettings,
    "vggt": VggtModelSettings,
    "vipe": VipeSettings,
}
_METADATA = re.compile(r"^# /// script\n((?:#.*\n)+?)# ///$", re.MULTILINE)


def _on_a_worker(act: Callable[[str, WorkerSettings], None]) -> Callable[..., None]:
    """A command on a worker whose environment its options describe."""

    def command(
        name: Annotated[str, typer.Argument(help="The worker's name, as `workers list` shows it.")],
        interpreter: Annotated[str | None, typer.Option(help="Python of the worker's environment.")] = None,
        uv: Annotated[bool, typer.Option("--uv", help="Let uv build the environment.")] = False,
        container: Annotated[str | None, typer.Option(help="Image of the worker's environment.")] = None,
        device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cuda",
        setting: Annotated[
            list[str] | None, typer.Option("--set", help="Another of the worker's settings, KEY=VALUE.")
        ] = None,
    ) -> None:
        act(name, _settings(name, interpreter, uv, container, device, setting))

    command.__doc__ = act.__doc__
    return command


@workers_app.command("list")
def list_workers() -> None:
    """Name, purpose, and what the environment of each worker must hold."""
    for name in worker_names():
        source = worker_file(name).read_text()
        summary = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
        print(f"{name}: {summary}")
        metadata = script_metadata(source)
        for requirement in metadata["dependencies"]:
            print(f"    {requirement}")
        checkout = metadata.get("tool", {}).get("sceneloom", {}).get("source")
        if checkout is not None:
            print(f"    a checkout of {checkout}")


@workers_app.command("check")
@_on_a_worker
def check(name: str, settings: WorkerSettings) -> None:
    """Start the worker without any work, and print what it finds in its environment."""
    missing = settings.missing()
    if missing is not None:
        raise ConfigError(missing, where=f"the environment of {name}", remedy="Correct the worker's settings.")
    try:
        ready = started_without_tasks(name, settings)
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
@_on_a_worker
def show_command(name: str, settings: WorkerSettings) -> None:
    """Print the command line that runs the worker, with the variables that differ from this shell's."""
    shown = {
        "DAGSTER_PIPES_CONTEXT": "<from the transport>",
        "DAGSTER_PIPES_MESSAGES": "<from the transport>",
    }
    scratch = Path(settings.scratch or tempfile.gettempdir()) / "<batch>"
    launch = settings.launch(name, scratch, shown, name=f"sceneloom-{name}-<launch>")
    own = {**shown, **settings.variables, **settings.device_variables()}
    print(shlex.join(["env", *(f"{key}={value}" for key, value in own.items()), *launch.command]))


def _settings(
    name: str, interpreter: str | None, uv: bool, container: str | None, device: str, further: Sequence[str] | None
) -> WorkerSettings:
    if name not in _SETTINGS:
        known = ", ".join(sorted(_SETTINGS))
        raise ConfigError(f"there is no worker {name!r}", where="sceneloom workers", remedy=f"Known are: {known}.")
    given: dict[str, Any] = {"interpreter": interpreter, "uv": uv, "container": container}
    chosen = {key: value for key, value in given.items() if value}
    if not chosen:
        raise ConfigError(
            "no environment is given", where=f"worker {name}", remedy="Give --interpreter, --uv or --container."
        )
    for setting in further or ():
        if "=" not in setting:
            raise ConfigError(f"{setting!r} sets nothing", where=f"worker {name}", remedy="Write --set KEY=VALUE.")
    values = dict(setting.split("=", 1) for setting in further or ())
    try:
        return _SETTINGS[name].model_validate({"environment": chosen, "device": device, **values})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{key}: {first['msg']}", where=f"worker {name}", remedy=f"Give it: --set {key}=VALUE."
        ) from None


def script_metadata(source: str) -> dict[str, Any]:
    """The environment that a worker's file declares (PEP 723)."""
    block = _METADATA.search(source)
    assert block is not None, "every worker's file declares its environment"
    return tomllib.loads("\n".join(line[2:] for line in block[1].splitlines()))

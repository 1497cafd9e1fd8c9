"""`sceneloom workers …`: what workers there are, whether one can run here, and how it is run."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from ..datasets.errors import ConfigError
from ..resources.cluster_environments import KubernetesEnvironment
from ..resources.kubernetes_pod import pod_manifest
from ..resources.ray_job import job_submission
from ..resources.remote_worker import remote_launch
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
        environment: Annotated[
            Path | None, typer.Option(help="YAML file with the mapping that a profile has under `environment`.")
        ] = None,
        device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cuda",
        setting: Annotated[
            list[str] | None, typer.Option("--set", help="Another of the worker's settings, KEY=VALUE.")
        ] = None,
    ) -> None:
        given = {"interpreter": interpreter, "uv": uv, "container": container}
        act(name, _settings(name, _environment(name, given, environment), device, setting, environment))

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
    """Print what runs the worker: a command line, with the variables that differ from this shell's; the manifest of a
    pod; what a Ray job is submitted with."""
    shown = {
        "DAGSTER_PIPES_CONTEXT": "<from the transport>",
        "DAGSTER_PIPES_MESSAGES": "<from the transport>",
    }
    scratch = settings.scratch_folder() / "<batch>"
    own = {**shown, **settings.device_variables(), **settings.variables}
    if settings.environment.cluster is not None:
        print(yaml.safe_dump(_asked_of_cluster(name, settings, own, scratch / "<launch>"), sort_keys=False), end="")
        return
    launch = settings.launch(name, scratch, shown, name=f"sceneloom-{name}-<launch>")
    print(shlex.join(["env", *(f"{key}={value}" for key, value in own.items()), *launch.command]))


def _asked_of_cluster(
    worker: str, settings: WorkerSettings, variables: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    cluster = settings.environment.cluster
    assert cluster is not None
    name = f"sceneloom-{worker}-<launch>".replace("_", "-")
    command = remote_launch(cluster, worker_file(worker), folder).command
    if isinstance(cluster, KubernetesEnvironment):
        return pod_manifest(cluster, worker, name, command, variables)
    return job_submission(cluster, worker, name, command, variables, gpu=settings.device != "cpu")


def _environment(worker: str, given: Mapping[str, Any], file: Path | None) -> Any:
    """The mapping that a profile has under `environment`."""
    chosen = {key: value for key, value in given.items() if value}
    if file is None and not chosen:
        raise ConfigError(
            "no environment is given",
            where=f"worker {worker}",
            remedy="Give --interpreter, --uv, --container or --environment.",
        )
    if file is None:
        return chosen
    if chosen:
        found = f"--environment and --{next(iter(chosen))}"
        raise ConfigError(found, where=f"worker {worker}", remedy="Give one of them.")
    try:
        return yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        found = f"{file} cannot be read as YAML: {error}"
        raise ConfigError(found, where=f"worker {worker}", remedy="Correct the file.") from error


def _settings(
    name: str, environment: Any, device: str, further: Sequence[str] | None, file: Path | None
) -> WorkerSettings:
    if name not in _SETTINGS:
        known = ", ".join(sorted(_SETTINGS))
        raise ConfigError(f"there is no worker {name!r}", where="sceneloom workers", remedy=f"Known are: {known}.")
    for setting in further or ():
        if "=" not in setting:
            raise ConfigError(f"{setting!r} sets nothing", where=f"worker {name}", remedy="Write --set KEY=VALUE.")
    values = dict(setting.split("=", 1) for setting in further or ())
    try:
        # Paths in a file are those beside it, as in a profile.
        return _SETTINGS[name].model_validate(
            {"environment": environment, "device": device, **values},
            context={} if file is None else {"folder": str(file.parent)},
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        remedy = f"Correct {file}." if first["loc"][:1] == ("environment",) else f"Give it: --set {key}=VALUE."
        raise ConfigError(f"{key}: {first['msg']}", where=f"worker {name}", remedy=remedy) from None


def script_metadata(source: str) -> dict[str, Any]:
    """The environment that a worker's file declares (PEP 723)."""
    block = _METADATA.search(source)
    assert block is not None, "every worker's file declares its environment"
    return tomllib.loads("\n".join(line[2:] for line in block[1].splitlines()))

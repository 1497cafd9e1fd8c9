"""Where a worker runs and how long it may take, as a profile says it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..datasets.errors import ConfigError
from .cluster_environments import KubernetesEnvironment, RayEnvironment
from .profile_sections import Device, EngineSettings, LocationText, Section, refusal
from .quantities import Duration, Memory

WORKERS_FOLDER = Path(__file__).parent / "workers"

_OWN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
"""Variables of this process's environment that would lead the worker's interpreter to it."""

Texts = Annotated[tuple[str, ...], Field(strict=False)]
PositiveDuration = Annotated[Duration, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Launch:
    """A command line with its environment.

    Attributes:
        command: program and arguments.
        variables: the whole environment.
        stop: a command that ends what the command started elsewhere, such as a container.
    """

    command: tuple[str, ...]
    variables: Mapping[str, str]
    stop: tuple[str, ...] = ()


class WorkerEnvironment(Section):
    """The environment that a worker runs in: one of an interpreter, uv, a container image, a Kubernetes pod and a Ray
    job."""

    interpreter: LocationText | None = None
    """Python of a venv, conda or pixi environment that holds dagster-pipes and the model's packages."""
    uv: bool = False
    """Build the environment that the worker's file declares (PEP 723) with `uv run`, and keep it in uv's cache."""
    container: str | None = None
    """Image whose `python` has dagster-pipes and the model's packages."""
    runtime: Literal["docker", "podman"] = "docker"
    """What runs the image."""
    options: Texts = ()
    """Further options of `docker run`, such as mounts of weights."""
    kubernetes: KubernetesEnvironment | None = None
    """A pod of a Kubernetes cluster."""
    ray: RayEnvironment | None = None
    """A job of a Ray cluster."""

    @property
    def cluster(self) -> KubernetesEnvironment | RayEnvironment | None:
        """Where it runs, if that is not this machine."""
        return self.kubernetes or self.ray

    @property
    def sees_only_scratch(self) -> bool:
        """Whether the worker sees nothing of this machine's files but its private directories: inputs are copied there
        for it, where others find links."""
        return self.container is not None or self.cluster is not None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        chosen = [name for name in ("interpreter", "uv", "container", "kubernetes", "ray") if getattr(self, name)]
        if len(chosen) != 1:
            found = "no environment is chosen" if not chosen else f"{' and '.join(chosen)} are chosen"
            raise refusal(found, "Give one of interpreter, uv: true, container, kubernetes and ray.")
        if self.options and self.container is None:
            raise refusal("options without a container", "They are options of `docker run`; remove them.")
        return self


class WorkerSettings(EngineSettings):
    """Settings that every worker has."""

    environment: WorkerEnvironment
    """Where it runs."""
    device: Device = "cuda"
    """The only device that the worker sees: cuda:N is the N-th of those that this process may use; cuda all of them."""
    variables: Mapping[str, str] = {}
    """Environment variables for the worker, such as HF_HOME, TORCH_HOME and HF_HUB_OFFLINE."""
    scratch: LocationText | None = None
    """Where its private directories are made; null: the folder that it shares with a cluster, else the system's
    directory for temporary files."""
    start_timeout: PositiveDuration = 600.0
    """From the launch, or from the end of a clip, until the worker takes a clip in hand."""
    clip_timeout: PositiveDuration = 900.0
    """For one clip, whatever its length: models are loaded in it."""
    frame_timeout: PositiveDuration = 2.0
    """Added to it for every frame."""
    idle_time: PositiveDuration = 600.0
    """So long it keeps its models when it has no clip; then it ends, and starts again when there is one."""
    device_memory: Annotated[Memory, Field(gt=0)] | None = None
    """What the worker takes on its device. It leases that from execution.device_memory while it works, and ends where
    others need the room. null: it is not counted; what the other engines may use must then leave room for it."""
    memory_limit: Annotated[Memory, Field(gt=0)] | None = None
    """Host memory that the worker may take; null: what is available when the batch begins."""

    @model_validator(mode="after")
    def _fits_the_cluster(self) -> Self:
        cluster = self.environment.cluster
        if cluster is None:
            return self
        if not self.scratch_folder().is_relative_to(cluster.shared):
            raise refusal(
                f"scratch is {self.scratch}, which the worker does not see: it shares {cluster.shared} alone",
                "Give a folder in that one, or leave scratch out.",
                ("scratch",),
            )
        if self.device_memory is not None:
            raise refusal(
                "device_memory on a cluster",
                "Remove it: the worker takes nothing of this machine's device.",
                ("device_memory",),
            )
        if self.device.startswith("cuda:"):
            raise refusal(
                f"device {self.device} on a cluster",
                "Write cuda: which devices it sees follows from the resources that it asks for.",
                ("device",),
            )
        return self

    def scratch_folder(self) -> Path:
        """Where its private directories are made."""
        cluster = self.environment.cluster
        return Path(self.scratch or (cluster.shared if cluster is not None else tempfile.gettempdir()))

    def deadline(self, frames: int) -> float:
        """Seconds that a clip of so many frames may take."""
        return self.clip_timeout + frames * self.frame_timeout

    def launch(self, worker: str, folder: Path, variables: Mapping[str, str], *, name: str) -> Launch:
        """The command that runs the worker's file on this machine.

        Args:
            worker: its name; the file is workers/<name>_worker.py.
            folder: private to the batch; a container sees it under the same path.
            variables: how the worker finds its context and says where to.
            name: of a container.
        """
        file = worker_file(worker)
        environment = self.environment
        own = {**variables, **self.device_variables(), **self.variables}
        inherited = {key: value for key, value in os.environ.items() if key not in _OWN_VARIABLES}
        if environment.interpreter is not None:
            return Launch((environment.interpreter, "-u", str(file)), inherited | own)
        if environment.uv:
            return Launch(("uv", "run", "--no-project", "--script", str(file)), inherited | own)
        assert environment.container is not None
        mounts = [f"--volume={folder}:{folder}", f"--volume={file}:/worker/{file.name}:ro"]
        devices = ["--gpus=all"] if self.device != "cpu" else []
        passed = [f"--env={key}" for key in sorted(own)]
        return Launch(
            (
                *(environment.runtime, "run", "--rm", "--init", "--interactive", f"--name={name}", "--ipc=host"),
                *(f"--user={os.getuid()}:{os.getgid()}", *devices, *mounts, *passed, *environment.options),
                *(environment.container, "python", "-u", f"/worker/{file.name}"),
            ),
            inherited | own,
            stop=(environment.runtime, "kill", name),
        )

    def device_variables(self) -> dict[str, str]:
        """What keeps the worker to its device. Raises ConfigError where this process may not use that device."""
        if self.device == "cuda":
            return {}
        if self.device == "cpu":
            return {"CUDA_VISIBLE_DEVICES": ""}
        index = int(self.device.removeprefix("cuda:"))
        visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
        if visible and index >= len(visible):
            raise ConfigError(
                f"cuda:{index}, but CUDA_VISIBLE_DEVICES leaves {len(visible)} devices",
                where=f"engine {getattr(self, 'engine', 'worker')}: device",
                remedy="Choose one of those.",
            )
        return {"CUDA_VISIBLE_DEVICES": visible[index] if visible else str(index)}

    def missing(self) -> str | None:
        """What of the environment is not on this machine, None where it can be launched."""
        environment = self.environment
        if environment.cluster is not None:
            shared = environment.cluster.shared
            return None if os.access(shared, os.W_OK | os.X_OK) else f"{shared} is no folder that can be written to"
        if environment.interpreter is not None:
            found = os.access(environment.interpreter, os.X_OK)
            return None if found else f"{environment.interpreter} is no program"
        program = "uv" if environment.uv else environment.runtime
        return None if shutil.which(program) else f"{program} is not on the PATH"


@dataclass(frozen=True, slots=True)
class VipePreset:
    """What a preset of ViPE writes.

    Attributes:
        camera: PINHOLE, MEI or PANORAMA.
        depth: whether there is depth.
        masks: whether there are instance masks.
        metric: whether its authors call its scale metric.
    """

    camera: str
    depth: bool
    masks: bool
    metric: bool


VIPE_PRESETS = {
    "default": VipePreset("PINHOLE", depth=True, masks=True, metric=True),
    "lyra": VipePreset("PINHOLE", depth=True, masks=True, metric=False),
    "no_vda": VipePreset("PINHOLE", depth=True, masks=True, metric=True),
    "static_vda": VipePreset("PINHOLE", depth=True, masks=False, metric=True),
    "dav3": VipePreset("PINHOLE", depth=True, masks=True, metric=True),
    "wide_angle": VipePreset("MEI", depth=False, masks=True, metric=True),
    "panorama": VipePreset("PANORAMA", depth=False, masks=True, metric=False),
    "pose_only": VipePreset("PINHOLE", depth=False, masks=False, metric=True),
}
"""nv-tlabs/vipe, configs of 1.1; pose_only is in its sources after 1.2."""

PresetName = Literal["default", "lyra", "no_vda", "static_vda", "dav3", "wide_angle", "panorama", "pose_only"]


class VipeSettings(WorkerSettings):
    """NVIDIA ViPE: depth and cameras estimated from a clip's frames."""

    engine: Literal["vipe"] = "vipe"
    preset: PresetName = "default"
    """ViPE's pipeline. lyra is what Lyra's authors used; its scale is MoGe's, not metric."""
    mode: Literal["command", "driver"] = "command"
    """command: ViPE's command line, once a clip; driver: its pipeline in the worker's process, built once a batch."""
    command: Texts = ("vipe",)
    """ViPE's program, looked for beside the worker's interpreter first."""
    overrides: Texts = ()
    """Hydra overrides, such as pipeline.slam.optimize_intrinsics=false; only the driver can pass them on."""
    minimum_field_of_view: Annotated[float, Field(gt=0, lt=180)] = 15.0
    """Vertical, degrees; below it the estimated focal length is taken for diverged."""
    maximum_field_of_view: Annotated[float, Field(gt=0, lt=180)] = 120.0
    """Vertical, degrees; above it likewise."""
    finite_depth_fraction: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Of every frame's pixels at least so many must be finite."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.overrides and self.mode != "driver":
            raise refusal("overrides with mode command", "Use mode driver: ViPE's command line takes none.")
        if not self.command:
            raise refusal("an empty command", "Name ViPE's program.", ("command",))
        if self.minimum_field_of_view >= self.maximum_field_of_view:
            raise refusal("no field of view is allowed", "Give a minimum below the maximum.")
        return self

    def require_pinhole_depth(self, place: tuple[str, ...]) -> None:
        """Refuse a preset that cannot give the depth and the pinhole cameras of a stage; for the profile's validation.

        Args:
            place: keys under `engines` where the settings stand.

        Raises:
            PydanticCustomError: naming those that can.
        """
        preset = VIPE_PRESETS[self.preset]
        if preset.camera == "PINHOLE" and preset.depth:
            return
        lacking = "no depth" if preset.camera == "PINHOLE" else f"{preset.camera} cameras"
        can = [name for name, each in VIPE_PRESETS.items() if each.camera == "PINHOLE" and each.depth]
        raise refusal(
            f"the preset {self.preset} gives {lacking}, and clips need depth and pinhole cameras",
            f"Choose one of {', '.join(can)}.",
            (*place, "preset"),
        )


def worker_file(worker: str) -> Path:
    """The file that runs in the worker's environment."""
    return WORKERS_FOLDER / f"{worker}_worker.py"


def worker_names() -> Sequence[str]:
    """Names of the workers that come with sceneloom."""
    return sorted(path.name.removesuffix("_worker.py") for path in WORKERS_FOLDER.glob("*_worker.py"))

"""What this machine has, and what the engines of a profile need of it. Nothing is fetched and no model is loaded."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..datasets.errors import EngineError, SceneloomError
from ..datasets.licences import read_licence
from .model_files import device_memory_bytes, has_hub_token, model_folder, model_licence
from .model_loading import require_device, require_loadable, require_readable
from .model_settings import ModelSettings
from .profile_sections import Section
from .profiles import LatentCodecSettings, Profile
from .transformers_settings import TextEncoderSettings
from .worker_settings import WorkerSettings

Verdict = Literal["ok", "note", "missing"]

NEEDED_LIBRARIES = {
    "accelerate": "offload, quantisation, fast loading, and models that keep layers in float32 (Wan)",
    "ftfy": "the prompts of Wan",
}
"""Libraries that an installation with engines comes with, and what for."""

OPTIONAL_LIBRARIES = {
    "bitsandbytes": "quantisation bitsandbytes_8bit and bitsandbytes_4bit",
    "torchao": "quantisation torchao_int8 and torchao_float8",
    "gsplat": "Gaussians on CUDA",
    "torchvision": "image processors of some transformers models",
}
"""Libraries that some settings need, and what for."""

_LITTLE_DISK = 10e9
_BY_KIND = ("conditioning_view", "scene_scaffold")
"""Engines of a profile that are chosen for each kind of scene."""
_OF_LAYOUTS = ("text_encoder",)
"""Engines of a profile that no stage uses."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        subject: of the machine, or the key path of an engine in the profile.
        found: what is there.
        verdict: "missing" where something needed is not there; "note" where that hinders nothing that was asked for.
        remedy: what to do about it; empty where all is well.
    """

    subject: str
    found: str
    verdict: Verdict = "ok"
    remedy: str = ""


def machine_checks(profile: Profile) -> list[Check]:
    """Processor, memory, disk of the store, GPUs, video, libraries and the hub's token and cache."""
    return [_processor(), _memory(), _store(profile), *_gpus(), _video(), *_libraries(), _hub()]


def engine_checks(profile: Profile) -> list[Check]:
    """What each engine of the profile needs: its weights, a device with enough memory, libraries or an environment."""
    return [check for name, value in profile for check in section_checks(name, value, profile)]


def section_checks(where: str, value: Any, profile: Profile) -> list[Check]:
    """What the engines under one key of the profile need.

    Args:
        where: the key's path.
        value: what is there: a section, or anything that may hold some.
    """
    checks: list[Check] = []
    for place, section in _sections(value, where):
        if isinstance(section, ModelSettings):
            checks.append(_checked(place, section, lambda model=section: _model(model, profile)))
        elif isinstance(section, LatentCodecSettings):
            checks.append(_checked(place, section, lambda codec=section: _codec(codec, profile)))
        elif isinstance(section, WorkerSettings):
            checks.append(_worker(place, section, profile))
        elif hasattr(section, "engine"):
            checks.append(_checked(place, section, lambda embedded=section: _embedded(embedded)))
    return checks


def started_worker_checks(profile: Profile) -> list[Check]:
    """Start each worker of the profile without any work, and say what it finds in its environment.

    Environments that uv builds are left alone: building one takes minutes and downloads. So are those that are missing,
    which `engine_checks` says.
    """
    checks = []
    for name, value in profile:
        for place, section in _sections(value, name):
            if isinstance(section, WorkerSettings) and not section.environment.uv and section.missing() is None:
                checks.append(_started(place, section))
    return checks


def _started(where: str, settings: WorkerSettings) -> Check:
    from .worker_failures import WorkerFailed
    from .worker_process import started_without_tasks

    worker = str(getattr(settings, "engine", ""))
    subject = f"worker {worker} ({where})"
    try:
        ready = started_without_tasks(worker, settings)
    except (WorkerFailed, SceneloomError, OSError) as failure:
        return Check(subject, str(failure), "missing", "Correct the worker's environment.")
    if ready.problems:
        return Check(subject, "; ".join(ready.problems), "missing", "Install it in the worker's environment.")
    return Check(subject, ", ".join(f"{name} {version}" for name, version in ready.versions.items()))


def require_engines(profile: Profile, kinds: Collection[str]) -> None:
    """Refuse a profile whose engines cannot run on this machine, before any scene is tried.

    Engines for scenes of other kinds are not asked for, nor is what only layouts need.

    Args:
        kinds: of the scenes that are to be made.

    Raises:
        EngineError: naming everything that is missing, each with its remedy.
    """
    needed: list[Check] = []
    for name, value in profile.engines:
        place = f"engines.{name}"
        if name in _BY_KIND:
            needed += [
                check
                for kind, one in value
                if kind in kinds
                for check in section_checks(f"{place}.{kind}", one, profile)
            ]
        elif name not in _OF_LAYOUTS:
            needed += section_checks(place, value, profile)
    missing = [check for check in needed if check.verdict == "missing"]
    if missing:
        first, others = missing[0], missing[1:]
        more = "".join(f"\n{check.subject}: {check.found}. {check.remedy}" for check in others)
        raise EngineError(first.found, where=first.subject, remedy=first.remedy + more)


# ---------------------------------------------------------------- the machine


def _processor() -> Check:
    import torch

    return Check("processor", f"{os.cpu_count()} cores, {platform.machine()}, {torch.get_num_threads()} torch threads")


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    return Check("memory", f"{_gigabytes(memory.total)}, {_gigabytes(memory.available)} available")


def _store(profile: Profile) -> Check:
    if "://" in profile.store.url and not profile.store.url.startswith("file://"):
        return Check("store", profile.store.url)
    folder = Path(profile.store.url.removeprefix("file://"))
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{folder}, {_gigabytes(free)} free"
    if not os.access(there, os.W_OK):
        return Check("store", f"{found}, {there} cannot be written", "missing", "Give a folder that can be written.")
    if free < _LITTLE_DISK:
        return Check("store", found, "note", "Free some disk; `sceneloom forecast` says what the scenes need.")
    return Check("store", found)


def _gpus() -> list[Check]:
    import torch

    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi") is None:
            return [Check("GPU", f"none (torch {torch.__version__})", "note")]
        return [
            Check(
                "GPU",
                f"a driver is installed, but torch {torch.__version__} sees no GPU",
                "note",
                "Install a CUDA build of torch that the driver supports.",
            )
        ]
    checks = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        checks.append(Check(f"GPU cuda:{index}", f"{name}, {_gigabytes(total)}, {_gigabytes(free)} free"))
    return checks


def _video() -> Check:
    import av

    program = "with" if shutil.which("ffmpeg") else "without"
    found = f"PyAV {av.__version__}, {program} the ffmpeg program"
    if "libx264" not in av.codecs_available:
        return Check("video", f"{found}, no H.264 encoder", "missing", "Install PyAV from its wheel (pip install av).")
    return Check("video", found)


def _libraries() -> Iterator[Check]:
    for name, purpose in (NEEDED_LIBRARIES | OPTIONAL_LIBRARIES).items():
        if importlib.util.find_spec(name) is not None:
            yield Check(name, importlib.metadata.version(name))
        else:
            verdict = "missing" if name in NEEDED_LIBRARIES else "note"
            yield Check(name, "not installed", verdict, f"pip install {name}, for {purpose}")


def _hub() -> Check:
    from huggingface_hub import constants

    token = "a token is set" if has_hub_token() else "no token"
    found = f"{token}, cache {constants.HF_HUB_CACHE}"
    if has_hub_token():
        return Check("model hub", found)
    return Check("model hub", found, "note", "`hf auth login`, for models whose licence must be accepted")


# ---------------------------------------------------------------- the engines


def _sections(value: Any, where: str) -> Iterator[tuple[str, Section]]:
    """Every section under a value, itself first, with its key path."""
    if isinstance(value, Section):
        yield where, value
        for name, inner in value:
            yield from _sections(inner, f"{where}.{name}")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _sections(inner, f"{where}.{name}")
    elif isinstance(value, tuple | list):
        for index, inner in enumerate(value):
            yield from _sections(inner, f"{where}.{index}")


def _checked(where: str, section: Section, look: Callable[[], str]) -> Check:
    """What `look` finds, or its error as something missing."""
    engine = getattr(section, "engine", None)
    subject = f"{where} ({engine})" if engine else where
    try:
        return Check(subject, look())
    except SceneloomError as error:
        return Check(subject, f"{error.where}: {error.found}", "missing", error.remedy)


def _embedded(section: Section) -> str:
    device = getattr(section, "device", "cpu")
    require_device(device, getattr(section, "engine", ""))
    return f"comes with sceneloom, {device}"


def _model(settings: ModelSettings, profile: Profile) -> str:
    subfolder = settings.subfolder if isinstance(settings, TextEncoderSettings) else None
    folder = model_folder(settings, subfolder=subfolder)
    require_loadable(settings)
    require_readable(folder.path)
    needed = device_memory_bytes(settings, subfolder=subfolder)
    _require_memory(settings.device, needed, profile)
    licence = _licence_text(model_licence(settings, folder.path))
    return f"{settings.weights}, {_gigabytes(needed)} on {settings.device} as {settings.precision}, {licence}"


def _codec(settings: LatentCodecSettings, profile: Profile) -> str:
    from .latent_codec import weights_licence
    from .resident_codec import ResidentCodec
    from .resident_models import ResidentModels

    codec = ResidentCodec(settings, ResidentModels(None))
    space = codec.space
    require_device(settings.device, settings.weights)
    needed = codec.device_memory_bytes
    _require_memory(settings.device, needed, profile)
    licence = _licence_text(weights_licence(settings.weights, revision=settings.revision))
    return f"{space.id}, {_gigabytes(needed)} on {settings.device} as {settings.precision}, {licence}"


def _worker(where: str, settings: WorkerSettings, profile: Profile) -> Check:
    subject = f"{where} ({getattr(settings, 'engine', 'worker')})"
    missing = settings.missing()
    if missing is not None:
        return Check(subject, missing, "missing", "Correct the worker's environment; `sceneloom workers` checks it.")
    memory, budget = settings.device_memory, profile.execution.device_memory
    if memory is not None and budget is not None and memory > budget:
        found = f"{_gigabytes(memory * 1e9)} are needed, execution.device_memory is {_gigabytes(budget * 1e9)}"
        return Check(subject, found, "missing", "Raise execution.device_memory, or correct the worker's device_memory.")
    share = f"{_gigabytes(memory * 1e9)} of {settings.device}" if memory is not None else settings.device
    return Check(subject, f"environment of its own, {share}; `sceneloom workers check` starts it")


def _require_memory(device: str, needed: int, profile: Profile) -> None:
    limits = {f"the memory of {device}": _device_total(device)}
    if profile.execution.device_memory is not None:
        limits["execution.device_memory"] = round(profile.execution.device_memory * 1e9)
    for name, limit in limits.items():
        if needed > limit:
            raise EngineError(
                f"{_gigabytes(needed)} are needed, {name} is {_gigabytes(limit)}",
                where=device,
                remedy="Choose offload, quantisation, a smaller model or a larger device.",
            )


def _device_total(device: str) -> int:
    if device == "cpu":
        import psutil

        return psutil.virtual_memory().total
    import torch

    return torch.cuda.get_device_properties(device).total_memory


def _licence_text(licence: str) -> str:
    return f"licence {licence} (commercial use: {read_licence(licence).commercial})"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB"

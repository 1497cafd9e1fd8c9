"""What engines that run as workers have in common: the worker, what they declare, and what identifies their weights."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ..datasets.errors import EngineError
from .engines import EngineContract, EngineIdentity, Part
from .model_files import READ_BY_LIBRARIES, UNKNOWN_LICENCE, file_digest
from .resident_models import ResidentModels
from .worker_batches import WorkerBatches
from .worker_engine_settings import WorkerModelSettings
from .worker_protocol import Event, Transport
from .worker_settings import WorkerSettings

_Settings = TypeVar("_Settings", bound=WorkerSettings)
_ModelSettings = TypeVar("_ModelSettings", bound=WorkerModelSettings)

_READ_BY_WORKERS = READ_BY_LIBRARIES | {".jit"}


class WorkerEngine(Generic[_Settings]):
    """An engine whose model runs in an environment of its own; all scenes of a process share its worker.

    Args:
        settings: what of the model, limits, where it runs.
        models: in whose budget of device memory the worker takes part; None: in none.
        transport: how messages come back; Pipes' protocol over files where none is given.
        report: told of every event of the worker's.

    Attributes:
        name: of the engine and of its worker.
        needs, gives: as the contract declares them.
        told: settings that the worker is told.
        worker: its process, shared by all threads.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Part]] = frozenset()
    gives: ClassVar[frozenset[Part]] = frozenset()
    told: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        settings: _Settings,
        models: ResidentModels | None = None,
        transport: Transport | None = None,
        report: Callable[[Event], None] | None = None,
    ) -> None:
        self.settings = settings
        self.worker = self.new_worker(models, transport, report)

    def new_worker(
        self, models: ResidentModels | None, transport: Transport | None, report: Callable[[Event], None] | None
    ) -> WorkerBatches:
        """The engine's worker; nothing is started before its first task."""
        told = self.settings.model_dump(mode="json", include=set(self.told))
        return WorkerBatches(self.name, self.settings, told, models, transport, report)

    @property
    def contract(self) -> EngineContract:
        """What the engine needs and gives; nothing is started."""
        memory = round((self.settings.device_memory or 0) * 1e9)
        return EngineContract(self.name, "worker", self.needs, self.gives, self.licence, memory)

    @property
    def identity(self) -> EngineIdentity:
        """The engine with what identifies its weights. Raises EngineError where that cannot be told."""
        return EngineIdentity(self.name, self.licence, self.weights)

    @property
    def licence(self) -> str:
        """Of the model's code and weights."""
        raise NotImplementedError

    @functools.cached_property
    def weights(self) -> Mapping[str, str]:
        """Digests or versions of the weights by their names; empty where they are not the profile's to choose."""
        return {}

    def close(self) -> None:
        """End the worker's process for good."""
        self.worker.close()


class HubModelWorker(WorkerEngine[_ModelSettings]):
    """An engine that runs a single model of the hub, or one whose files lie under a path.

    Attributes:
        licences: of published weights, by hub id.
    """

    licences: ClassVar[Mapping[str, str]]

    @property
    def licence(self) -> str:
        """What the settings say, else that of the published weights; "unknown" for others."""
        return self.settings.licence or self.licences.get(self.settings.model, UNKNOWN_LICENCE)

    @functools.cached_property
    def weights(self) -> Mapping[str, str]:
        """A hub id with its revision; of weights under a path the declared version, else the digests of their files."""
        settings = self.settings
        if settings.path is None:
            return {settings.model: settings.revision or "main"}
        return declared_or_digests(settings.weights_version, self.name, lambda path=settings.path: self.files_at(path))

    def files_at(self, path: Path) -> Mapping[str, Path]:
        """The files that the worker reads of weights under a path, by names that do not depend on where they lie."""
        return files_below(path)

    def model_facts(self) -> dict[str, Any]:
        """Which model it is, JSON; where its files lie is not among it."""
        path = self.settings.path
        return {
            "id": self.settings.model if path is None else path.name,
            "revision": self.settings.revision,
            "weights": dict(self.weights),
        }


def declared_or_digests(declared: str | None, engine: str, files: Callable[[], Mapping[str, Path]]) -> dict[str, str]:
    """What identifies weights that lie under a path: the version that is declared for them, else the SHA-256 of each of
    their files.

    Raises:
        EngineError: none is declared, and the files are not to be found on this machine.
    """
    if declared is not None:
        return {"version": declared}
    found = files()
    absent = [path for path in found.values() if not path.is_file()]
    if absent or not found:
        raise EngineError(
            f"{absent[0]} is not on this machine" if absent else "there are no weights under the path that is given",
            where=f"engine {engine}: weights",
            remedy="Correct the path; of weights that only the worker sees, give weights_version: a text that names "
            "them and is changed with them.",
        )
    return {name: file_digest(path) for name, path in found.items()}


def files_below(place: Path, folder: str = "") -> dict[str, Path]:
    """The weights and configurations anywhere below a folder, by their path inside it.

    Args:
        place: where the names begin.
        folder: take only what is below this folder of it.
    """
    found: dict[str, Path] = {}
    for parent, folders, files in os.walk(place / folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(parent, name)
            if path.suffix in _READ_BY_WORKERS:
                found[path.relative_to(place).as_posix()] = path
    return found

"""Tasks for a worker, whatever it makes: private directories, refusals, second attempts, results read back.

What every worker shares is here; an engine's own module (`moge.py` is one) says what its model is given and how its
output is read. It makes a `BatchTask` of each thing that is asked for: with a function that writes what the model reads
into the task's private directory, one that reads the finished output back and raises `WorkerFailed` unless all of it is
sound, and one that refuses the task by a look at it, before anything is launched.

What is asked for are results that become directories (`BatchTask.destination`), or answers that are read at once, after
which nothing is left on the disk.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..datasets.errors import ConfigError, InputError
from .resident_models import ResidentModels
from .resident_worker import ResidentWorker
from .worker_failures import WorkerFailed
from .worker_process import TaskEnded, WorkerTask, end_of_file
from .worker_protocol import Event, Transport
from .worker_settings import WorkerSettings

LOG_NAME = "worker.log"
"""File of a result's directory with what the model printed."""

_Result = TypeVar("_Result")


def _nothing_against() -> WorkerFailed | None:
    return None


@dataclass(frozen=True, slots=True)
class BatchTask(Generic[_Result]):
    """A task for a worker, and how its output is read.

    Attributes:
        id: unique in the batch.
        write: writes what the model reads into the given directory, and returns what the worker is told beside
            `output`, the directory that it is to make, and `log`, the file for what the model prints.
        read: reads the output directory, given also the figures that the worker reports. Raises WorkerFailed
            (invalid-output, diverged) where the output is not whole and sane.
        frames: the task's size, from which its deadline follows.
        destination: what the output becomes, with the log, once it has been read; it must not exist. None: nothing is
            kept of the output but what was read.
        refuse: why the model would fail, by a look at the task; None where nothing speaks against it.
    """

    id: str
    write: Callable[[Path], Mapping[str, Any]]
    read: Callable[[Path, Mapping[str, Any]], _Result]
    frames: int = 1
    destination: Path | None = None
    refuse: Callable[[], WorkerFailed | None] = _nothing_against


@dataclass(frozen=True, slots=True)
class WorkerOutcome(Generic[_Result]):
    """How a task fared.

    Attributes:
        attempts: how often the worker was tried; 0 for a task that was refused beforehand.
        result: what was read; None where it failed.
        failure: why there is none.
        seconds: the worker's own time, the loading of its model included where this task waited for it.
        versions: of the model and its libraries, as the worker found them.
    """

    task: str
    attempts: int
    result: _Result | None = None
    failure: WorkerFailed | None = None
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    def get(self) -> _Result:
        """The result. Raises WorkerFailed where there is none."""
        if self.failure is not None:
            raise self.failure
        assert self.result is not None
        return self.result

    def facts(self) -> dict[str, Any]:
        """How the result was made, JSON."""
        return {"attempts": self.attempts, "versions": dict(self.versions)}


class WorkerBatches:
    """Runs tasks on one worker, which stays; threads may run theirs at the same time, and are served in turn.

    Args:
        worker: its name.
        settings: where it runs and how long it may take.
        told: what it is told for all tasks, JSON; `device` is added.
        models: in whose budget of device memory it takes part, with what its settings declare.
        transport: how messages come back; Pipes' protocol over files where none is given.
        report: told of every event of the worker's.
    """

    def __init__(
        self,
        worker: str,
        settings: WorkerSettings,
        told: Mapping[str, Any],
        models: ResidentModels | None = None,
        transport: Transport | None = None,
        report: Callable[[Event], None] | None = None,
    ) -> None:
        self.name = worker
        self._settings = settings
        # The worker sees only the device that it may use, so whichever that is, it is its first.
        device = "cpu" if settings.device == "cpu" else "cuda"
        self._resident = ResidentWorker(worker, settings, {**told, "device": device}, models, transport, report)

    def run(self, batch: Sequence[BatchTask[_Result]]) -> Generator[WorkerOutcome[_Result], None, None]:
        """Yield the outcome of every task once, as it is known.

        Tasks that the model cannot take are refused first. A task whose class of failure allows it is tried once more
        after the others, from an empty directory. After a failure that every task would share, tasks that have not
        begun are given up with the same failure. Leaving the iteration early gives up the rest.

        Raises:
            ConfigError: the environment or the scratch directory cannot be used.
            InputError: two tasks share an id or a destination, or a destination exists.
            StageFailed: the worker was closed meanwhile (reason interrupted).
        """
        _require_distinct(batch)
        missing = self._settings.missing()
        if missing is not None:
            where = f"the environment of the worker {self.name}"
            raise ConfigError(missing, where=where, remedy="Correct the worker's settings.")
        accepted: list[BatchTask[_Result]] = []
        for task in batch:
            refusal = task.refuse()
            if refusal is None:
                accepted.append(task)
            else:
                yield WorkerOutcome(task.id, 0, failure=refusal)
        if accepted:
            with self._resident.scratch() as scratch:
                yield from self._attempts(accepted, scratch)

    def ask_all(self, batch: Sequence[BatchTask[_Result]]) -> list[WorkerOutcome[_Result]]:
        """The outcome of every task, in their order. Raises what `run` raises."""
        found = {outcome.task: outcome for outcome in self.run(batch)}
        return [found[task.id] for task in batch]

    def ask(self, task: BatchTask[_Result]) -> WorkerOutcome[_Result]:
        """The outcome of a single task, which has a result.

        Raises:
            WorkerFailed: it has none.
            ConfigError, StageFailed: as `run`.
        """
        (outcome,) = self.run([task])
        outcome.get()
        return outcome

    def close(self) -> None:
        """End the worker's process for good; tasks that are left, and those that come later, fail."""
        self._resident.close()

    def _attempts(self, tasks: Sequence[BatchTask[_Result]], scratch: Path) -> Iterator[WorkerOutcome[_Result]]:
        again: list[BatchTask[_Result]] = []
        stopped: WorkerFailed | None = None
        for outcome in self._attempt(tasks, scratch, 1):
            if outcome.failure is not None and outcome.failure.rule.again == "at_once":
                again += [task for task in tasks if task.id == outcome.task]
                continue
            if outcome.failure is not None and outcome.failure.rule.stops_batch:
                stopped = outcome.failure
            yield outcome
        if stopped is None:
            yield from self._attempt(again, scratch, 2)
        else:
            for task in again:
                yield WorkerOutcome(task.id, 1, failure=stopped)

    def _attempt(
        self, tasks: Sequence[BatchTask[_Result]], scratch: Path, number: int
    ) -> Iterator[WorkerOutcome[_Result]]:
        folder = scratch / f"attempt-{number}"
        folder.mkdir()
        attempts = {task.id: _Attempt(task, folder / f"{index:05d}") for index, task in enumerate(tasks)}
        told = [attempt.told() for attempt in attempts.values()]
        with contextlib.closing(self._resident.run(told)) as results:
            for ended in results:
                attempt = attempts[ended.task]
                outcome = attempt.outcome(ended, number if ended.tried else number - 1)
                attempt.remove()
                yield outcome


class _Attempt(Generic[_Result]):
    """One task and attempt with its private directory."""

    def __init__(self, task: BatchTask[_Result], folder: Path) -> None:
        self._task = task
        self._folder = folder
        self._output = folder / "out"
        self._log = folder / "log"

    def told(self) -> WorkerTask:
        """Write what the model reads; what the worker is told."""
        self._folder.mkdir()
        content = {**self._task.write(self._folder), "output": str(self._output), "log": str(self._log)}
        return WorkerTask(self._task.id, self._task.frames, content)

    def outcome(self, ended: TaskEnded, number: int) -> WorkerOutcome[_Result]:
        """Read back what the worker says is done; publish it if it is."""
        task, failure = self._task, ended.failure
        if ended.done is not None:
            try:
                result = task.read(self._output, ended.done.figures)
            except WorkerFailed as error:
                failure = error
            else:
                if task.destination is not None:
                    self._publish(task.destination)
                seconds = ended.done.seconds
                return WorkerOutcome(task.id, number, result=result, seconds=seconds, versions=ended.versions)
        assert failure is not None
        # A task that the model never saw has no log of its own, but the launch has one.
        failure.log = (end_of_file(self._log) if self._log.exists() else "") or failure.log
        return WorkerOutcome(task.id, number, failure=failure, versions=ended.versions)

    def remove(self) -> None:
        """Free the disk."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _publish(self, destination: Path) -> None:
        """Make the output appear whole under its destination, on another file system too."""
        if self._log.exists():
            shutil.copyfile(self._log, self._output / LOG_NAME)
        destination.parent.mkdir(parents=True, exist_ok=True)
        unfinished = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
        try:
            shutil.move(self._output, unfinished)
            unfinished.rename(destination)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def _require_distinct(batch: Sequence[BatchTask[Any]]) -> None:
    destinations = [task.destination for task in batch if task.destination is not None]
    for what, values in (("id", [task.id for task in batch]), ("destination", [str(each) for each in destinations])):
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise InputError(f"two tasks have the {what} {repeated[0]!r}", where="batch", remedy="Give each its own.")
    for destination in destinations:
        if destination.exists():
            raise InputError("it exists", where=str(destination), remedy="Give a destination that does not.")


def host_memory(settings: WorkerSettings) -> float:
    """Bytes of host memory that a worker may take: the settings' limit, else what machine and control group have
    left; infinite on a cluster, of whose machines nothing is known here."""
    import psutil

    if settings.memory_limit is not None:
        return settings.memory_limit * 1e9
    if settings.environment.cluster is not None:
        return float("inf")
    return min(psutil.virtual_memory().available, _control_group_memory())


def _control_group_memory() -> float:
    """Bytes that the control group of this process has left; infinite where it sets no limit."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        # Pages of files that were read or written long ago count as used, and are given back when memory is asked for.
        statistics = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
        used -= int(statistics.get("inactive_file", 0))
    except (OSError, ValueError):
        return float("inf")
    return float("inf") if limit == "max" else int(limit) - used

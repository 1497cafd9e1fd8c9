"""Tasks for a worker, whatever it makes: private directories, second attempts, reading back, whole results only.

What every worker shares is here; a worker's own module (`vipe.py` is one) says what its model is given and how its
output is read back. It

1. turns what it is asked for into `WorkerTask`s' contents: a `BatchTask` each, with the files that the model reads
   (`inputs`) and what else it is told (`content`);
2. gives a function that refuses a task by a look at it, before anything is launched;
3. gives a function that reads a finished output directory back and raises `WorkerFailed` unless all of it is sound;
4. calls `WorkerBatches.run`, and has one `WorkerOutcome` for every task.

The worker is told, for each task, the paths of its inputs under their names, `output` (an absent directory, which
becomes the destination), `log` (a file for what the model prints) and the content.
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
from .resident_worker import ResidentWorker
from .worker_failures import WorkerFailed
from .worker_process import TaskEnded, WorkerTask, end_of_file
from .worker_protocol import Done
from .worker_settings import WorkerSettings

LOG_NAME = "worker.log"
"""File of a result with what the model printed."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class TaskInput:
    """A file or folder that the model reads.

    Attributes:
        source: where it is; its own name and folder never reach the model.
        name: of the file or folder that the model sees.
    """

    source: Path
    name: str


@dataclass(frozen=True, slots=True)
class BatchTask:
    """A task.

    Attributes:
        id: unique in the batch.
        frames: its size, from which its deadline follows.
        destination: the directory that the result becomes; it must not exist.
        inputs: files and folders, by the name under which the worker is told their paths.
        content: what else the worker is told of it.
    """

    id: str
    frames: int
    destination: Path
    inputs: Mapping[str, TaskInput]
    content: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerOutcome(Generic[_Result]):
    """How a task fared: a result, whole and checked under its destination, or why there is none.

    Attributes:
        attempts: how often the worker was tried; 0 for a task that was refused beforehand.
        seconds: the worker's own time for the result.
        versions: of the model and its libraries, as the worker found them.
    """

    task: str
    attempts: int
    result: _Result | None = None
    failure: WorkerFailed | None = None
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)


Refuse = Callable[[BatchTask], WorkerFailed | None]
"""Why the model would fail on a task, by a look at it; None where nothing speaks against it."""
ReadBack = Callable[[BatchTask, Path, Done, Mapping[str, str]], _Result]
"""Reads an output directory, given what the worker said of it and its versions. Raises WorkerFailed unless it is sound.
The directory becomes the task's destination afterwards."""


class WorkerBatches(Generic[_Result]):
    """Runs tasks on a worker that other threads may share.

    Args:
        worker: the process.
        settings: its settings.
        refuse: a look at a task before anything is launched.
        read_back: the check of a result.
    """

    def __init__(
        self, worker: ResidentWorker, settings: WorkerSettings, refuse: Refuse, read_back: ReadBack[_Result]
    ) -> None:
        self._worker = worker
        self._settings = settings
        self._refuse = refuse
        self._read_back = read_back

    def run(self, batch: Sequence[BatchTask]) -> Generator[WorkerOutcome[_Result], None, None]:
        """Yield the outcome of every task once, as it is known.

        Tasks that the model cannot take are refused first. A task whose class of failure allows it is tried once more
        after the others, from an empty directory. After a failure that every task would share, tasks that have not
        begun are given up with the same failure. Leaving the iteration early gives up the rest.

        Raises:
            ConfigError: the environment or the scratch directory cannot be used.
            InputError: two tasks share an id or a destination, or a destination exists.
        """
        _require_distinct(batch)
        missing = self._settings.missing()
        if missing is not None:
            raise ConfigError(missing, where="the worker's environment", remedy="Correct the worker's settings.")
        accepted: list[BatchTask] = []
        for task in batch:
            refusal = self._refuse(task)
            if refusal is None:
                accepted.append(task)
            else:
                yield WorkerOutcome(task.id, 0, failure=refusal)
        if accepted:
            with self._worker.scratch() as scratch:
                yield from self._attempts(accepted, scratch)

    def _attempts(self, tasks: Sequence[BatchTask], scratch: Path) -> Iterator[WorkerOutcome[_Result]]:
        again: list[BatchTask] = []
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

    def _attempt(self, tasks: Sequence[BatchTask], scratch: Path, number: int) -> Iterator[WorkerOutcome[_Result]]:
        folder = scratch / f"attempt-{number}"
        folder.mkdir()
        copied = self._settings.environment.container is not None
        attempts = {task.id: _Attempt(task, folder / f"{index:05d}", copied=copied) for index, task in enumerate(tasks)}
        told = [WorkerTask(name, attempt.task.frames, attempt.told()) for name, attempt in attempts.items()]
        with contextlib.closing(self._worker.run(told)) as results:
            for ended in results:
                attempt = attempts[ended.task]
                outcome = self._outcome(attempt, ended, number if ended.tried else number - 1)
                attempt.remove()
                yield outcome

    def _outcome(self, attempt: _Attempt, ended: TaskEnded, number: int) -> WorkerOutcome[_Result]:
        """Read back what the worker says is done; publish it if it is."""
        task = attempt.task
        if ended.done is None:
            assert ended.failure is not None
            ended.failure.log = attempt.end_of_log() or ended.failure.log
            return WorkerOutcome(task.id, number, failure=ended.failure, versions=ended.versions)
        try:
            result = self._read_back(task, attempt.output, ended.done, ended.versions)
        except WorkerFailed as failure:
            failure.log = attempt.end_of_log()
            return WorkerOutcome(task.id, number, failure=failure, versions=ended.versions)
        if attempt.log.exists():
            shutil.copyfile(attempt.log, attempt.output / LOG_NAME)
        _publish(attempt.output, task.destination)
        return WorkerOutcome(task.id, number, result=result, seconds=ended.done.seconds, versions=ended.versions)


class _Attempt:
    """The private directory of one task and attempt.

    Args:
        copied: whether inputs are copied into it, as a container sees nothing beside it; else they are linked.
    """

    def __init__(self, task: BatchTask, folder: Path, *, copied: bool) -> None:
        folder.mkdir()
        self.task = task
        self.inputs = {role: folder / given.name for role, given in task.inputs.items()}
        for role, given in task.inputs.items():
            if not copied:
                self.inputs[role].symlink_to(given.source.absolute())
            elif given.source.is_dir():
                shutil.copytree(given.source, self.inputs[role])
            else:
                shutil.copyfile(given.source, self.inputs[role])
        self.output = folder / "out"
        self.log = folder / "log"
        self._folder = folder

    def told(self) -> dict[str, Any]:
        """What the worker is told."""
        paths = {role: str(path) for role, path in self.inputs.items()}
        return {**self.task.content, **paths, "output": str(self.output), "log": str(self.log)}

    def end_of_log(self) -> str:
        """The last lines that the model printed; empty where it was never started."""
        return end_of_file(self.log) if self.log.exists() else ""

    def remove(self) -> None:
        """Free the disk."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _publish(finished: Path, destination: Path) -> None:
    """Make a finished directory appear whole under another name, on another file system too."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    unfinished = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
    try:
        shutil.move(finished, unfinished)
        unfinished.rename(destination)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _require_distinct(batch: Sequence[BatchTask]) -> None:
    for what, values in (
        ("id", [task.id for task in batch]),
        ("destination", [str(task.destination) for task in batch]),
    ):
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise InputError(f"two tasks have the {what} {repeated[0]!r}", where="batch", remedy="Give each its own.")
    for task in batch:
        if task.destination.exists():
            raise InputError("it exists", where=str(task.destination), remedy="Give a destination that does not.")


def host_memory(settings: WorkerSettings) -> float:
    """Bytes of host memory that a worker may take: the settings' limit, else what machine and control group have
    left."""
    import psutil

    if settings.memory_limit is not None:
        return settings.memory_limit * 1e9
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

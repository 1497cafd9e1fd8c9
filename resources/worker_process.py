"""Launching a worker on a batch of tasks and watching over it.

One launch carries the whole batch. A worker that dies or hangs loses the task in hand and is launched again on those
that are left; one that never takes a task in hand fails all of them. It runs in a process group of its own, which ends
with it, with its deadline, with the caller's loop over the results, and with the caller's process.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .worker_failures import Evidence, FailureClass, WorkerFailed, failed, kernel_kills
from .worker_protocol import (
    Channel,
    Done,
    Event,
    Failed,
    FileTransport,
    Progress,
    Ready,
    Started,
    Transport,
    manifest,
    parse_event,
)
from .worker_settings import Launch, WorkerSettings

_LOGGER = logging.getLogger("sceneloom.workers")

POLL_INTERVAL = 0.03
"""Seconds between two looks at the messages and the process."""
EXIT_GRACE = 20.0
"""Seconds that a worker has to end after its last task."""
TERMINATION_GRACE = 3.0
"""Seconds from SIGTERM to SIGKILL."""
STOP_TIMEOUT = 60.0
"""Seconds that the command has which ends what was started elsewhere."""
_LOG_END = 2000


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """One task of a batch.

    Attributes:
        id: unique in the batch.
        frames: its size, from which its deadline follows.
        content: what the worker is told of it.
    """

    id: str
    frames: int
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """How a task ended: `done` is what the worker says of it, to be checked; else `failure`.

    Attributes:
        tried: whether the worker was launched for it; false where what ended another task would end every task.
    """

    task: str
    done: Done | None = None
    failure: WorkerFailed | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    tried: bool = True


class WorkerProcess:
    """Runs a worker on batches.

    Args:
        worker: its name.
        settings: where it runs and how long it may take.
        transport: how messages come back.
        report: told of every event as it comes, for logs and progress.
    """

    def __init__(
        self,
        worker: str,
        settings: WorkerSettings,
        transport: Transport,
        report: Callable[[Event], None] | None = None,
    ) -> None:
        self._worker = worker
        self._settings = settings
        self._transport = transport
        self._report = report or log_event

    def run(
        self, tasks: Sequence[WorkerTask], worker_settings: Mapping[str, Any], folder: Path
    ) -> Generator[TaskEnded, None, None]:
        """Yield every task once, as it ends.

        Args:
            tasks: in the order in which they are taken.
            worker_settings: what the worker is told for the whole batch.
            folder: private to the batch; each launch leaves its manifest, messages and log there.
        """
        pending = {task.id: task for task in tasks}
        launches = 0
        while pending:
            launch = folder / f"launch-{launches}"
            launches += 1
            supervision = Supervision(list(pending.values()), self._settings, self._report)
            for ended in self._launch(supervision, worker_settings, launch):
                del pending[ended.task]
                yield ended
            if supervision.fruitless is not None:
                for task in pending:
                    yield TaskEnded(task, failure=supervision.fruitless)
                return

    def check(self, worker_settings: Mapping[str, Any], folder: Path) -> Ready:
        """Launch the worker without any task; what it says of its environment.

        Raises:
            WorkerFailed: it cannot be launched, or says nothing.
        """
        supervision = Supervision([], self._settings, self._report)
        list(self._launch(supervision, worker_settings, folder / "check"))
        if supervision.ready is None:
            raise supervision.fruitless or WorkerFailed(FailureClass.KILLED, "the worker ended without a word")
        return supervision.ready

    def _launch(
        self, supervision: Supervision, worker_settings: Mapping[str, Any], folder: Path
    ) -> Iterator[TaskEnded]:
        folder.mkdir()
        tasks = [{"id": task.id, **task.content} for task in supervision.tasks]
        (folder / "manifest.json").write_text(manifest(worker_settings, tasks))
        extras = {"manifest": str(folder / "manifest.json"), "end_with_input": True}
        log = folder / "worker.log"
        with self._transport.open(folder, extras) as channel:
            try:
                process = start(self._worker, self._settings, channel, folder.parent, log)
            except WorkerFailed as failure:
                supervision.fruitless = failure
                return
            try:
                yield from _watch(supervision, channel, process)
            finally:
                process.end()
        yield from supervision.take(channel.take())
        yield from supervision.conclude(process.exit_code, end_of_file(log))


def started_without_tasks(worker: str, settings: WorkerSettings) -> Ready:
    """Launch a worker without any task, and end it; what it says of its environment.

    Raises:
        WorkerFailed: it cannot be launched, or says nothing.
    """
    told = settings.model_dump(mode="json", exclude=set(WorkerSettings.model_fields))
    told["device"] = "cpu" if settings.device == "cpu" else "cuda"
    if settings.scratch is not None:
        Path(settings.scratch).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sceneloom-check-", dir=settings.scratch) as folder:
        return WorkerProcess(worker, settings, FileTransport()).check(told, Path(folder))


def _watch(supervision: Supervision, channel: Channel, process: Process) -> Iterator[TaskEnded]:
    while not process.has_exited() and not supervision.is_over():
        yield from supervision.take(channel.take())
        time.sleep(POLL_INTERVAL)


def start(worker: str, settings: WorkerSettings, channel: Channel, folder: Path, log: Path) -> Process:
    """Start a worker's file in its environment.

    Args:
        worker: its name.
        settings: where it runs.
        channel: by which it is told and answers.
        folder: private to it; a container sees it under the same path.
        log: takes what it prints.

    Raises:
        WorkerFailed: usage, where its environment cannot be started.
    """
    name = f"sceneloom-{worker}-{uuid.uuid4().hex[:12]}"
    launch = settings.launch(worker, folder, channel.environment, name=name)
    try:
        return Process(launch, log)
    except OSError as error:
        raise WorkerFailed(FailureClass.USAGE, f"{launch.command[0]} cannot be started ({error})") from error


class Process:
    """A process with a group of its own."""

    def __init__(self, launch: Launch, log: Path) -> None:
        self._stop = launch.stop
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                launch.command,
                env=dict(launch.variables),
                # The worker reads it in order to learn that this process has gone.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.exit_code: int | None = None
        """Of a process that ended by itself; None where it was ended here."""

    def has_exited(self) -> bool:
        """Whether it has ended; its id stays taken until `end`, so that no other process's group can be hit."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._popen.pid, options) is not None

    def wait(self, seconds: float) -> None:
        """Wait until it has ended by itself, at most so long."""
        limit = time.monotonic() + seconds
        while not self.has_exited() and time.monotonic() < limit:
            time.sleep(POLL_INTERVAL)

    def end(self) -> None:
        """End it and all that it started, if it has not ended; afterwards nothing of its group is left."""
        ended_itself = self.has_exited()
        if not ended_itself:
            self._terminate()
        self._signal(signal.SIGKILL)
        code = self._popen.wait()
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.close()
        self.exit_code = code if ended_itself else None

    def _terminate(self) -> None:
        if self._stop:
            try:
                with self._log.open("ab") as output:
                    subprocess.run(self._stop, stdout=output, stderr=output, check=False, timeout=STOP_TIMEOUT)
            except (subprocess.TimeoutExpired, OSError) as error:
                _LOGGER.warning(
                    "%s did not end what it should (%s); its process is ended all the same", self._stop[0], error
                )
        self._signal(signal.SIGTERM)
        self.wait(TERMINATION_GRACE)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


def _of_no_task(failure: WorkerFailed) -> WorkerFailed:
    """A failure before any task was taken in hand says nothing of the tasks, whatever its words are."""
    if failure.failure in {FailureClass.INPUT, FailureClass.OVERSIZE, FailureClass.DIVERGED}:
        return WorkerFailed(FailureClass.USAGE, failure.found, log=failure.log)
    return failure


class Supervision:
    """What is known of the tasks of one launch, from its messages and the clock.

    Args:
        tasks: that the worker was launched with.
        settings: its time limits.
        report: told of every event.
        resident: whether the worker stays when it has no task: it then has all the time there is.
    """

    def __init__(
        self,
        tasks: Sequence[WorkerTask],
        settings: WorkerSettings,
        report: Callable[[Event], None],
        *,
        resident: bool = False,
    ) -> None:
        self.tasks = tasks
        self.fruitless: WorkerFailed | None = None
        """Why no task was ever taken in hand; None where one was."""
        self._settings = settings
        self._report = report
        self._resident = resident
        self._open = {task.id: task for task in tasks}
        self._in_hand: str | None = None
        self._took_one = False
        self.ready: Ready | None = None
        self._kills = kernel_kills()
        self._began = time.monotonic()
        self._limit = settings.start_timeout
        self._expired: float | None = None

    def add(self, task: WorkerTask) -> None:
        """A task has been handed to the worker while it runs, which had none."""
        self._open[task.id] = task
        self._begin(self._settings.start_timeout)

    def is_over(self) -> bool:
        """Whether the worker is to be ended: its time is up, for the task in hand or for what comes after."""
        if time.monotonic() - self._began <= self._limit:
            return False
        self._expired = self._limit
        return True

    def take(self, payloads: Sequence[Any]) -> Iterator[TaskEnded]:
        """Tasks that ended by what the worker says."""
        for payload in payloads:
            event = parse_event(payload)
            if event is None:
                continue
            self._report(event)
            if isinstance(event, Ready):
                self.ready = event
            elif isinstance(event, Started):
                yield from self._start(event.task)
            elif event.task != self._in_hand:
                _LOGGER.warning("%s of task %r, which is not in hand", event.kind, event.task)
            elif isinstance(event, Done):
                yield self._ended(done=event)
            elif isinstance(event, Failed):
                yield self._ended(failure=failed(self._evidence(event)))

    def conclude(self, exit_code: int | None, log: str) -> Iterator[TaskEnded]:
        """The task that was in hand when the worker ended, or why it never took one."""
        if self._took_one and not self._open:
            return
        evidence = Evidence(
            exit_code=exit_code,
            message="" if exit_code else "the worker ended without a word on the task",
            log=log,
            deadline_seconds=self._expired,
            kernel_kills=kernel_kills() - self._kills,
        )
        if self._in_hand is not None:
            yield self._ended(failure=failed(evidence))
        elif not self._took_one:
            self.fruitless = _of_no_task(failed(evidence))

    def _start(self, task: str) -> Iterator[TaskEnded]:
        if task not in self._open:
            _LOGGER.warning("started on task %r, which is not open", task)
            return
        if self._in_hand is not None:
            found = "the worker went on to the next task without a word on this one"
            yield self._ended(failure=WorkerFailed(FailureClass.INVALID_OUTPUT, found))
        self._in_hand, self._took_one = task, True
        self._begin(self._settings.deadline(self._open[task].frames))

    def _ended(self, *, done: Done | None = None, failure: WorkerFailed | None = None) -> TaskEnded:
        assert self._in_hand is not None
        task, self._in_hand = self._in_hand, None
        del self._open[task]
        idle = math.inf if self._resident else EXIT_GRACE
        self._begin(self._settings.start_timeout if self._open else idle)
        return TaskEnded(task, done, failure, self.ready.versions if self.ready else {})

    def _begin(self, limit: float) -> None:
        self._began, self._limit = time.monotonic(), limit

    def _evidence(self, event: Failed) -> Evidence:
        return Evidence(
            exit_code=event.exit_code,
            type=event.type,
            message=event.message,
            log=event.log,
            kernel_kills=kernel_kills() - self._kills,
        )


def log_event(event: Event) -> None:
    """Say an event in the log."""
    if isinstance(event, Progress):
        _LOGGER.info("%s: %s %.0f %%", event.task, event.phase, 100 * event.fraction)
    elif not isinstance(event, Ready):
        _LOGGER.info("%s: %s", event.task, event.kind)


def end_of_file(log: Path) -> str:
    """The last 2000 characters of a log, of every progress bar only its last state."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4 * _LOG_END))
        text = file.read().decode("utf-8", "replace")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))[-_LOG_END:]

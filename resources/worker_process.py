"""Launching a worker, and what is known of its tasks from its messages and the clock.

On this machine a worker runs in a process group of its own, which ends with it, with its deadline, and with the
caller's process; `remote_worker` has those that run on a cluster.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

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
    """One task.

    Attributes:
        id: unique among those that are handed in together.
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


def started_without_tasks(
    worker: str, settings: WorkerSettings, report: Callable[[Event], None] | None = None
) -> Ready:
    """Launch a worker without any task, and wait for its end; what it says of its environment.

    Args:
        worker: its name.
        settings: where it runs, and how long it may take to start.
        report: told of every event as it comes.

    Raises:
        WorkerFailed: it cannot be launched, or says nothing.
        EngineError: the package that speaks to its cluster is not installed.
    """
    told = settings.model_dump(mode="json", exclude=set(WorkerSettings.model_fields))
    told["device"] = "cpu" if settings.device == "cpu" else "cuda"
    scratch = settings.scratch_folder()
    scratch.mkdir(parents=True, exist_ok=True)
    supervision = Supervision(settings, report or log_event)
    with tempfile.TemporaryDirectory(prefix="sceneloom-check-", dir=scratch) as name:
        folder = Path(name)
        (folder / "manifest.json").write_text(manifest(told, []))
        log = folder / "worker.log"
        with FileTransport().open(folder, launch_extras(folder)) as channel:
            process = start(worker, settings, channel, folder, log)
            try:
                while not process.has_exited() and not supervision.is_over():
                    process.wait(POLL_INTERVAL)
            finally:
                process.end()
        for _ in supervision.take(channel.take()):
            _LOGGER.warning("%s answers tasks that it has not been told", worker)
        for _ in supervision.conclude(process, log):
            pass
    if supervision.ready is None:
        raise supervision.fruitless or WorkerFailed(FailureClass.KILLED, "the worker ended without a word")
    return supervision.ready


def launch_extras(folder: Path) -> dict[str, Any]:
    """What a launch is told by Pipes: its manifest, and that its standard input closes with its caller."""
    return {"manifest": str(folder / "manifest.json"), "end_with_input": True}


def start(worker: str, settings: WorkerSettings, channel: Channel, folder: Path, log: Path) -> LaunchedWorker:
    """Start a worker's file in its environment.

    Args:
        worker: its name.
        settings: where it runs.
        channel: by which it is told and answers.
        folder: private to it; a container or a cluster sees it under the same path.
        log: takes what it prints, in a folder private to the launch.

    Raises:
        WorkerFailed: usage, where its environment cannot be started.
        EngineError: the package that speaks to the cluster is not installed.
    """
    # Kubernetes' names hold no underscore.
    name = f"sceneloom-{worker}-{uuid.uuid4().hex[:12]}".replace("_", "-")
    if settings.environment.cluster is not None:
        from .remote_worker import start_on_cluster

        return start_on_cluster(worker, settings, channel.environment, name, log)
    launch = settings.launch(worker, folder, channel.environment, name=name)
    try:
        return ProcessGroup(launch, log)
    except OSError as error:
        raise WorkerFailed(FailureClass.USAGE, f"{launch.command[0]} cannot be started ({error})") from error


class LaunchedWorker(Protocol):
    """A worker from its launch to its end, wherever it runs."""

    exit_code: int | None
    """Of a worker that ended by itself, negative for a signal; None where it was ended here."""
    said: str
    """What the cluster that runs it says of its waiting or its end; empty for a process of this machine."""

    def has_exited(self) -> bool:
        """Whether it has ended by itself."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until it has ended by itself, at most so long."""
        ...

    def end(self) -> None:
        """End it and all that it started, if it has not ended."""
        ...


class ProcessGroup:
    """A process of this machine with a group of its own; see `LaunchedWorker`."""

    said = ""

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
        settings: its time limits. A worker that has taken a task in hand has all the time there is when it has none.
        report: told of every event.
    """

    def __init__(self, settings: WorkerSettings, report: Callable[[Event], None]) -> None:
        self.fruitless: WorkerFailed | None = None
        """Why no task was ever taken in hand; None where one was."""
        self._settings = settings
        self._report = report
        self._open: dict[str, WorkerTask] = {}
        self._in_hand: str | None = None
        self._took_one = False
        self.ready: Ready | None = None
        self._kills = kernel_kills()
        self._began = time.monotonic()
        self._limit = settings.start_timeout
        self._expired: float | None = None

    def add(self, task: WorkerTask) -> None:
        """A task has been handed to the worker, which had none."""
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

    def conclude(self, process: LaunchedWorker, log: Path) -> Iterator[TaskEnded]:
        """The task that was in hand when the worker ended, or why it never took one.

        Args:
            process: it has ended.
            log: what it printed.
        """
        if self._took_one and not self._open:
            return
        evidence = Evidence(
            exit_code=process.exit_code,
            message="" if process.exit_code else "the worker ended without a word on the task",
            log=end_of_file(log),
            cluster=process.said,
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
        self._begin(self._settings.start_timeout if self._open else math.inf)
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

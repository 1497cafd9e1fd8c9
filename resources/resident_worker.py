"""A worker that stays: its models are loaded once, and tasks of many scenes go through it one by one.

All threads of a process share one `ResidentWorker` an engine. Each hands in its tasks and waits for them; they are told
to the worker one at a time, in the order in which they came, by the feed that its manifest names.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import itertools
import logging
import queue
import shutil
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.errors import ConfigError
from .failures import Reason, StageFailed
from .resident_models import ResidentModels
from .worker_failures import FailureClass, WorkerFailed
from .worker_process import (
    EXIT_GRACE,
    POLL_INTERVAL,
    LaunchedWorker,
    Supervision,
    TaskEnded,
    WorkerTask,
    launch_extras,
    log_event,
    start,
)
from .worker_protocol import Channel, Event, Feed, FileTransport, Transport, manifest
from .worker_settings import WorkerSettings

_LOGGER = logging.getLogger("sceneloom.workers")

IDLE_POLL_INTERVAL = 0.25
"""Seconds between two looks at a worker that has no task."""

_LIVE: weakref.WeakSet[ResidentWorker] = weakref.WeakSet()
_PLACES = itertools.count()
"""Numbers of workers among the models of their devices: each has a process, and so memory, of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A task in the queue: `told` has an id that no other task of this worker has, `answers` is its caller's."""

    task: WorkerTask
    told: WorkerTask
    answers: queue.SimpleQueue[TaskEnded | BaseException]


class ResidentWorker:
    """A worker's process, launched with the first task and kept for those that follow.

    A worker that dies or hangs loses the task in hand and is launched again for those that wait. One that cannot take
    any task in hand fails all that wait, once; so does a failure that every task would share. It ends after the
    settings' idle time, where other models need its room on the device, and is launched again when it is needed; for
    good with `close`, and when this process ends or is killed.

    Where its settings declare what it takes on its device, it has tasks only while it leases that from the memory that
    all models of the device share. It is one of them: without a task it stays, until it is the least recently used and
    another needs its room.

    Args:
        worker: its name; the file is workers/<name>_worker.py.
        settings: where it runs and how long it may take. Deadlines run only while there is a task.
        told: settings of the model, the same for every task.
        models: the models of this process, with the budget of each device; None: it shares its device with nothing.
        transport: how messages come back; Pipes' protocol over files where none is given.
        report: told of every event as it comes, in a thread of its own; ids of tasks have a number added there.
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
        self._worker = worker
        self._models = models
        self._place = f"worker {worker} {next(_PLACES)}"
        self._settings = settings
        self._told = told
        self._transport = transport or FileTransport()
        self._report = report or log_event
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._given: _Entry | None = None
        """The task that the worker has been told of."""
        self._ending = False
        """Whether the process is to be ended without waiting for the task that it has."""
        self._closed = False
        self._thread: threading.Thread | None = None
        self._root: Path | None = None
        self._scratches = 0
        """Private directories that are in use."""
        self._numbers = itertools.count()
        _LIVE.add(self)

    def run(self, tasks: Sequence[WorkerTask]) -> Generator[TaskEnded, None, None]:
        """Yield each of the tasks once, as it ends; other threads may run theirs meanwhile.

        Leaving the iteration early gives up the tasks that are left; the worker's process ends if it has one in hand.

        Raises:
            ConfigError: the scratch directory cannot be used.
            EngineError: the worker is declared larger than the memory of its device, or cannot fit beside what is used.
            StageFailed: it was closed (reason interrupted).
        """
        if not tasks:
            return
        answers: queue.SimpleQueue[TaskEnded | BaseException] = queue.SimpleQueue()
        with self._room():
            self._hand_in(tasks, answers)
            try:
                for _ in tasks:
                    answer = answers.get()
                    if isinstance(answer, BaseException):
                        raise answer
                    yield answer
            finally:
                self._give_up(answers)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private directory that the worker, in a container too, sees under the same path; removed at the end.

        Raises:
            ConfigError: it cannot be made.
            StageFailed: the worker was closed (reason interrupted).
        """
        with self._changed:
            folder = Path(tempfile.mkdtemp(prefix="tasks-", dir=self._own_root()))
            self._scratches += 1
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with self._changed:
                self._scratches -= 1
                self._remove_root_when_closed()

    def end(self) -> None:
        """End the process and so free its memory; it is launched again when it is needed. Called while it has no task:
        one that it had would be given up."""
        with self._changed:
            thread = self._thread
            self._ending = thread is not None
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def close(self) -> None:
        """End the process for good. Tasks that are left, and those that come later, fail as interrupted; none of them
        launches it again."""
        with self._changed:
            self._closed = True
            self._interrupt_waiting()
        self.end()
        with self._changed:
            self._remove_root_when_closed()

    def _was_closed(self) -> StageFailed:
        found = f"the worker {self._worker} was closed while scenes were worked on"
        return StageFailed(Reason.INTERRUPTED, f"{found}. What is finished is kept; run again to go on from there.")

    # ---------------------------------------------------------------- callers' side

    def _hand_in(self, tasks: Sequence[WorkerTask], answers: queue.SimpleQueue[TaskEnded | BaseException]) -> None:
        with self._changed:
            self._own_root()
            for task in tasks:
                told = dataclasses.replace(task, id=f"{task.id}#{next(self._numbers)}")
                self._waiting.append(_Entry(task, told, answers))
            if self._waiting and self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=f"worker-{self._worker}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _give_up(self, answers: queue.SimpleQueue[TaskEnded | BaseException]) -> None:
        """Forget a caller's tasks; on return the worker is at none of them."""
        with self._changed:
            while True:
                self._waiting = deque(entry for entry in self._waiting if entry.answers is not answers)
                if self._given is None or self._given.answers is not answers:
                    return
                self._ending = True
                self._changed.notify_all()
                self._changed.wait()

    def _own_root(self) -> Path:
        with self._changed:
            if self._closed:
                raise self._was_closed()
            if self._root is None:
                parent = self._settings.scratch_folder()
                try:
                    parent.mkdir(parents=True, exist_ok=True)
                    self._root = Path(tempfile.mkdtemp(prefix=f"sceneloom-{self._worker}-", dir=parent))
                except OSError as error:
                    found = f"{parent} cannot be written to ({error.strerror})"
                    raise ConfigError(found, where="scratch", remedy="Give another directory.") from error
                weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True).atexit = False
            return self._root

    def _remove_root_when_closed(self) -> None:
        """Leave nothing behind; what a caller still reads from stays until it has read it."""
        if self._closed and self._thread is None and not self._scratches and self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None

    def _room(self) -> contextlib.AbstractContextManager[object]:
        """A lease of the memory that the worker is declared to take on its device."""
        declared = self._settings.device_memory
        if self._models is None or declared is None:
            return contextlib.nullcontext()
        size = round(declared * 1e9)
        return self._models.get(self._place, size, self._settings.device, lambda: self, release=ResidentWorker.end)

    # ---------------------------------------------------------------- the thread that holds the process

    def _serve(self) -> None:
        try:
            while (root := self._next_root()) is not None:
                self._launch(root)
        except BaseException as error:
            with self._changed:
                if self._given is None and not self._waiting:
                    _LOGGER.exception("worker %s could not be ended as it should", self._worker)
                if self._given is not None:
                    self._answer_given(error)
                for entry in self._waiting:
                    entry.answers.put(error)
                self._waiting.clear()
                self._thread, self._ending = None, False
                self._changed.notify_all()

    def _next_root(self) -> Path | None:
        """Where the process is launched; None where no task waits for it: this thread is then none of the worker's."""
        with self._changed:
            self._ending = False
            if self._closed:
                self._interrupt_waiting()
            if not self._waiting:
                self._thread = None
                self._changed.notify_all()
                return None
            return self._root

    def _launch(self, root: Path) -> None:
        """One process, from its launch to its end."""
        folder = root / f"launch-{next(self._numbers)}"
        folder.mkdir()
        try:
            self._run_process(root, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run_process(self, root: Path, folder: Path) -> None:
        feed = Feed(folder / "feed.jsonl")
        (folder / "manifest.json").write_text(manifest(self._told, [], feed.path))
        log = folder / "worker.log"
        supervision = Supervision(self._settings, self._report)
        self._give_next(supervision, feed)
        with self._transport.open(folder, launch_extras(folder)) as channel:
            if self._closed:
                self._take_back()
                return
            try:
                process = start(self._worker, self._settings, channel, root, log)
            except WorkerFailed as failure:
                self._fail_all(failure)
                return
            try:
                self._watch(supervision, channel, process, feed)
            finally:
                process.end()
        self._answer(supervision.take(channel.take()))
        with self._changed:
            if self._ending and self._given is not None:
                self._answer_given(self._was_closed() if self._closed else _ended(self._given, _was_ended()))
        if self._given is not None:
            self._answer(supervision.conclude(process, log))
        if supervision.fruitless is not None:
            self._fail_all(supervision.fruitless)
        # It ended between two tasks: this one was never in hand.
        self._take_back()

    def _watch(self, supervision: Supervision, channel: Channel, process: LaunchedWorker, feed: Feed) -> None:
        """Until the process has ended, is to be ended, or has been idle for too long."""
        idle_since: float | None = None
        while not process.has_exited() and not supervision.is_over():
            self._answer(supervision.take(channel.take()))
            self._give_next(supervision, feed)
            with self._changed:
                if self._ending:
                    break
                if self._given is not None:
                    idle_since = None
                    self._changed.wait(POLL_INTERVAL)
                    continue
                idle_since = idle_since or time.monotonic()
                if time.monotonic() - idle_since > self._settings.idle_time:
                    break
                self._changed.wait(IDLE_POLL_INTERVAL)
        if self._given is None:
            feed.end()
            process.wait(EXIT_GRACE)

    def _give_next(self, supervision: Supervision, feed: Feed) -> None:
        with self._changed:
            if self._given is None and self._waiting and not self._ending:
                self._given = self._waiting.popleft()
                told = self._given.told
                supervision.add(told)
                feed.add({"id": told.id, **told.content})

    def _answer(self, ended: Iterable[TaskEnded]) -> None:
        """Hand on how the task ended that the worker was told of."""
        for one in ended:
            with self._changed:
                entry = self._given
                assert entry is not None
                assert entry.told.id == one.task
                self._answer_given(dataclasses.replace(one, task=entry.task.id))
                if one.failure is not None and one.failure.rule.stops_batch:
                    self._ending = True
                    self._fail_all(one.failure)

    def _take_back(self) -> None:
        """The task that the worker was told of waits again."""
        with self._changed:
            if self._given is not None:
                self._waiting.appendleft(self._given)
                self._given = None

    def _interrupt_waiting(self) -> None:
        for entry in self._waiting:
            entry.answers.put(self._was_closed())
        self._waiting.clear()

    def _fail_all(self, failure: WorkerFailed) -> None:
        """The task that the worker was told of, and those that wait."""
        with self._changed:
            if self._given is not None:
                self._answer_given(_ended(self._given, failure))
            # Another launch would end the same way.
            tried = not failure.rule.stops_batch
            self._fail_waiting(failure, tried=tried)

    def _answer_given(self, answer: TaskEnded | BaseException) -> None:
        assert self._given is not None
        self._given.answers.put(answer)
        self._given = None
        self._changed.notify_all()

    def _fail_waiting(self, failure: WorkerFailed, *, tried: bool = True) -> None:
        for entry in self._waiting:
            entry.answers.put(_ended(entry, failure, tried=tried))
        self._waiting.clear()


def _ended(entry: _Entry, failure: WorkerFailed, *, tried: bool = True) -> TaskEnded:
    # Every caller raises an error of its own.
    own = WorkerFailed(failure.failure, failure.found, log=failure.log)
    return TaskEnded(entry.task.id, failure=own, tried=tried)


def _was_ended() -> WorkerFailed:
    return WorkerFailed(FailureClass.KILLED, "the worker was ended from here")


@atexit.register
def _close_all() -> None:
    for worker in list(_LIVE):
        worker.close()

"""A worker on a cluster: asked for, looked at and ended over the network, and told by a heartbeat that it is wanted.

What it reads and writes lies on a volume that it shares with this process: its file, its manifest and feed, messages,
inputs and results. A program beside it (`workers/guard.py`) gives it what a process of this machine has: a standard
input that closes when this process has gone. It knows that from the heartbeat, a file that changes while this process
lives, so nothing runs on where nobody waits for it, whatever ended this process or its machine.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .cluster_environments import ClusterEnvironment, KubernetesEnvironment
from .worker_failures import WorkerFailed
from .worker_settings import WorkerSettings, worker_file

_LOGGER = logging.getLogger("sceneloom.workers")

GUARD = Path(__file__).parent / "workers" / "guard.py"

LOOK_INTERVAL = 2.0
"""Seconds between two questions to the cluster."""
BEAT_INTERVAL = 10.0
"""Seconds between two beats."""
HEARTBEAT_LIMIT = 120.0
"""So long without a beat, and the worker ends by itself."""
REMOVAL_INTERVAL = 0.5
"""Seconds between two questions whether it has gone."""
ENDING_TIMEOUT = 60.0
"""Seconds that the cluster has to end it."""
DELETION_LIMIT = 60.0
"""So long something may be on its way out before it counts as lost: its node may never answer again."""


class Unavailable(Exception):
    """The cluster does not answer, or has no room, at the moment."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How a job stands.

    Attributes:
        exited: whether it has ended.
        exit_code: of the worker, negative for a signal; None where nobody knows it.
        said: what the cluster says of its waiting or its end; empty where there is nothing to say.
    """

    exited: bool
    exit_code: int | None = None
    said: str = ""


class ClusterJob(Protocol):
    """What a cluster runs for us. Every call raises `Unavailable` where another try may help."""

    name: str
    """By which people find it."""

    def submit(self) -> None:
        """Ask for it; harmless where it has been asked for. Raises WorkerFailed where it is refused."""
        ...

    def look(self) -> Seen:
        """How it stands."""
        ...

    def log(self) -> str:
        """The end of what the worker printed."""
        ...

    def remove(self) -> bool:
        """End it and clear it away; whether nothing of it is left."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteLaunch:
    """Files of a launch and what runs them there.

    Attributes:
        command: program and arguments.
        heartbeat: the file that this process changes.
        file: the worker's, a copy beside the manifest.
    """

    command: tuple[str, ...]
    heartbeat: Path
    file: Path

    def copy_files(self, worker_file: Path) -> None:
        """Put there what runs there."""
        shutil.copyfile(GUARD, self.file.parent / GUARD.name)
        shutil.copyfile(worker_file, self.file)
        self.heartbeat.write_text("0")


def remote_launch(environment: ClusterEnvironment, worker_file: Path, folder: Path) -> RemoteLaunch:
    """The command that runs a worker's file there, from a private folder on the shared volume."""
    heartbeat, file = folder / "heartbeat", folder / worker_file.name
    guarded = (str(folder / GUARD.name), str(heartbeat), f"{HEARTBEAT_LIMIT:g}", str(file))
    return RemoteLaunch((environment.python, "-u", *guarded), heartbeat, file)


def start_on_cluster(
    worker: str, settings: WorkerSettings, channel: Mapping[str, str], name: str, log: Path
) -> RemoteWorker:
    """Start a worker's file on the cluster that its settings name.

    Args:
        worker: its name.
        settings: where it runs.
        channel: variables by which it is told and answers.
        name: of the pod or the job, unique.
        log: takes the end of what it printed, in a folder private to the launch.

    Raises:
        WorkerFailed: usage, where the cluster refuses it.
        EngineError: the package that speaks to the cluster is not installed.
    """
    file = worker_file(worker)
    job, launch = cluster_job(worker, settings, channel, name, log.parent)
    launch.copy_files(file)
    return RemoteWorker(job, log, launch.heartbeat)


def cluster_job(
    worker: str, settings: WorkerSettings, channel: Mapping[str, str], name: str, folder: Path
) -> tuple[ClusterJob, RemoteLaunch]:
    """What the cluster is asked for, and the files of the launch; neither is there yet. Arguments and errors as
    `start_on_cluster`, `folder` being the launch's."""
    environment = settings.environment.cluster
    assert environment is not None
    launch = remote_launch(environment, worker_file(worker), folder)
    # None of this process's: its paths are not those of the image.
    variables = {**channel, **settings.device_variables(), **settings.variables}
    if isinstance(environment, KubernetesEnvironment):
        from .kubernetes_pod import KubernetesPod

        return KubernetesPod(environment, worker, name, launch.command, variables), launch
    from .ray_job import RayJob

    return RayJob(environment, worker, name, launch.command, variables, gpu=settings.device != "cpu"), launch


class RemoteWorker:
    """A worker on a cluster, from when it is asked for to its end; see `worker_process.LaunchedWorker`.

    All that is asked of the cluster is asked in one thread, so that a cluster that does not answer holds up nobody.

    Args:
        job: not asked for yet.
        log: takes the end of what it printed, once it has ended.
        heartbeat: file on the shared volume.

    Raises:
        WorkerFailed: the cluster refuses it. Where it cannot be asked now, that is tried until the worker is ended.
    """

    def __init__(self, job: ClusterJob, log: Path, heartbeat: Path) -> None:
        self.exit_code: int | None = None
        self.said = ""
        self._job = job
        self._log = log
        self._heartbeat = heartbeat
        self._submitted = False
        self._error: BaseException | None = None
        self._exited, self._closing, self._gone = threading.Event(), threading.Event(), threading.Event()
        self._still = threading.Event()
        log.touch()
        self._ask()
        threading.Thread(target=self._beat, name=f"heartbeat-{job.name}", daemon=True).start()
        threading.Thread(target=self._hold, name=job.name, daemon=True).start()

    def has_exited(self) -> bool:
        """Whether it has ended by itself. Raises what went wrong in the thread that asks."""
        if self._error is not None:
            raise self._error
        return self._exited.is_set()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended by itself, at most so long."""
        self._exited.wait(seconds)

    def end(self) -> None:
        """End it if it has not ended, keep the end of its log, and clear it away.

        Where the cluster does not end it in time there is a warning; it then ends by itself, as its heartbeat stops.
        """
        ended_itself = self._exited.is_set()
        self._closing.set()
        if not self._gone.wait(2 * ENDING_TIMEOUT):
            _LOGGER.warning("%s: the cluster does not answer; it ends by itself without a heartbeat", self._job.name)
        self._still.set()
        if not ended_itself:
            self.exit_code = None

    # ---------------------------------------------------------------- the two threads

    def _beat(self) -> None:
        for number in itertools.count(1):
            if self._still.wait(BEAT_INTERVAL):
                return
            try:
                self._heartbeat.write_text(str(number))
            except OSError as error:
                _LOGGER.warning("%s: its heartbeat cannot be written (%s)", self._job.name, error)

    def _hold(self) -> None:
        try:
            while not self._closing.is_set() and not self._look():
                self._closing.wait(LOOK_INTERVAL)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that watches
            self._error = error
        self._closing.wait()
        self._clear_away()
        self._gone.set()

    def _look(self) -> bool:
        """Ask how it stands, for it where that has not succeeded yet; whether it has ended."""
        try:
            if not self._submitted:
                self._ask()
                return False
            seen = self._job.look()
        except Unavailable as error:
            self._note(error)
            return False
        except WorkerFailed as failure:
            seen = Seen(True, said=failure.found)
        self.said = seen.said
        if seen.exited:
            self.exit_code = seen.exit_code
            self._exited.set()
        return seen.exited

    def _ask(self) -> None:
        try:
            self._job.submit()
            self._submitted, self.said = True, ""
        except Unavailable as error:
            self._note(error)

    def _note(self, error: Unavailable) -> None:
        if self.said != str(error):
            _LOGGER.warning("%s: %s", self._job.name, error)
            self.said = str(error)

    def _clear_away(self) -> None:
        limit = time.monotonic() + ENDING_TIMEOUT
        with contextlib.suppress(Unavailable, WorkerFailed):
            self._log.write_text(self._job.log(), encoding="utf-8")
        found = "it is still there"
        while time.monotonic() < limit:
            try:
                if self._job.remove():
                    return
            except (Unavailable, WorkerFailed) as error:
                if not self._submitted:
                    # It is hardly there. If a request got through whose answer did not, its heartbeat stops.
                    return
                found = str(error)
            time.sleep(REMOVAL_INTERVAL)
        _LOGGER.warning("%s was not ended within %.0f s (%s)", self._job.name, ENDING_TIMEOUT, found)


def signalled(status: int) -> int:
    """An exit status as a shell writes it, with a signal's number made negative."""
    number = status - 128
    return -number if number in set(signal.Signals) else status

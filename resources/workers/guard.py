"""Runs a worker's file where whoever asked for it is on another machine, and ends it when that one is gone.

    python guard.py HEARTBEAT SECONDS WORKER

HEARTBEAT is a file that the caller writes something else into again and again. When its content has been the same for
SECONDS the caller is taken for gone; no clock but this machine's is asked. The worker is started in a process group of
its own with a pipe for standard input, as it would be beside its caller. The group ends with the worker, with this
process (the pipe closes, which the worker waits for), with a SIGTERM to it, and with the heartbeat.

The exit status is the worker's; 128 and the signal's number where a signal ended it; 143 where it was ended from here.
Needs the standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

POLL_INTERVAL = 0.1
"""Seconds between two looks at the worker."""
TERMINATION_GRACE = 3.0
"""Seconds from SIGTERM to SIGKILL."""
MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")


class Heartbeat:
    """Whether the caller lives.

    Args:
        path: its file.
        seconds: so long its content may stay the same.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self._seconds = seconds
        self._content = b""
        self._looked = self._changed = time.monotonic()

    def stopped(self) -> bool:
        """Whether it has been still for too long. A file that cannot be read is still, too."""
        now = time.monotonic()
        if now - self._looked >= min(5.0, self._seconds / 4):
            self._looked = now
            with contextlib.suppress(OSError):
                content = self._path.read_bytes()
                if content != self._content:
                    self._content, self._changed = content, now
        return now - self._changed > self._seconds


def kernel_kills() -> int:
    """Processes of this container that the kernel has ended for want of memory; 0 where it does not say."""
    with contextlib.suppress(OSError):
        for line in MEMORY_EVENTS.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def end(worker: subprocess.Popen[bytes]) -> None:
    """End the worker's process group."""
    _signal(worker, signal.SIGTERM)
    limit = time.monotonic() + TERMINATION_GRACE
    while worker.poll() is None and time.monotonic() < limit:
        time.sleep(POLL_INTERVAL)
    _signal(worker, signal.SIGKILL)


def _signal(worker: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, number)


def main() -> int:
    heartbeat = Heartbeat(Path(sys.argv[1]), float(sys.argv[2]))
    told_to_end: list[int] = []

    def note(number: int, _: Any) -> None:
        told_to_end.append(number)

    signal.signal(signal.SIGTERM, note)
    kills = kernel_kills()
    worker = subprocess.Popen([sys.executable, "-u", sys.argv[3]], stdin=subprocess.PIPE, start_new_session=True)
    while worker.poll() is None:
        if told_to_end:
            end(worker)
            return 128 + signal.SIGTERM
        if heartbeat.stopped():
            print("whoever asked for this worker is gone: its heartbeat has stopped", file=sys.stderr, flush=True)
            end(worker)
            return 128 + signal.SIGTERM
        time.sleep(POLL_INTERVAL)
    # What it left behind.
    _signal(worker, signal.SIGKILL)
    if worker.returncode == -signal.SIGKILL and kernel_kills() > kills:
        print("the kernel ended the worker for want of memory (OOMKilled)", file=sys.stderr, flush=True)
    return worker.returncode if worker.returncode >= 0 else 128 - worker.returncode


if __name__ == "__main__":
    sys.exit(main())

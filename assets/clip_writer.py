"""Writing the files of a clip in a thread of its own while the device works on the next clip."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

CLIPS_WAITING = 2
"""Clips that may be written or wait for it; who makes the next one then waits: memory stays bounded."""


class ClipWriter:
    """Runs what it is given in one thread, in order; leaving the block waits for all of it.

    The first error stops everything that has not begun, and is raised by the next `submit` or on leaving the block.
    An error in the block itself wins; then nothing further is begun.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clip writer")
        self._waiting: deque[Future[object]] = deque()
        self._stopped = threading.Event()

    def submit(self, write: Callable[[], object]) -> None:
        """Write a clip as soon as those before it are written; waits while CLIPS_WAITING are not."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= CLIPS_WAITING):
            self._waiting.popleft().result()
        self._waiting.append(self._executor.submit(self._run, write))

    def _run(self, write: Callable[[], object]) -> None:
        if self._stopped.is_set():
            return
        try:
            write()
        except BaseException:
            self._stopped.set()
            raise

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._stopped.set()
        self._executor.shutdown(wait=True)
        if error is None:
            while self._waiting:
                self._waiting.popleft().result()

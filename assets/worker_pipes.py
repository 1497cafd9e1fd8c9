"""Workers inside a Dagster run: their messages over a session of Dagster Pipes.

The session is opened explicitly, once a launch, and read while the worker runs; the process itself is launched and
watched by `ResidentWorker`, because Pipes' clients wait without deadlines for single tasks and restart nothing. The
worker's file and messages are the same under either, and under `FileTransport`.

Pipes' own clients run a worker's file on a manifest that holds all tasks: `PipesSubprocessClient`, and on a cluster
`PipesK8sClient` and `PipesRayJobClient`. Those two read standard output unless they are given another reader, so give
them `PipesFileContextInjector` and `LineMessageReader` with files on a volume that both sides mount.

A session demands that the step yields a result for every one of its assets. A step that logs one materialization a
scene and yields none, as the stages of scenes do, would fail at its end; it uses `FileTransport`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import dagster as dg
from dagster_pipes import PipesMessage, PipesParams

from ..resources.worker_protocol import Channel, MessageFile

POLL_INTERVAL = 0.03
"""Seconds between two looks at the file of messages."""


class PipesTransport:
    """A channel of Dagster's own for each launch; logs of the worker become logs of the step.

    Args:
        context: of the op or asset that runs the worker.
    """

    def __init__(self, context: dg.OpExecutionContext | dg.AssetExecutionContext) -> None:
        self._context = context

    @contextmanager
    def open(self, folder: Path, extras: Mapping[str, Any]) -> Iterator[Channel]:
        """See `worker_protocol.Transport`."""
        with dg.open_pipes_session(
            context=self._context,
            context_injector=dg.PipesFileContextInjector(str(folder / "context.json")),
            message_reader=LineMessageReader(folder / "messages.jsonl"),
            extras=dict(extras),
        ) as session:
            yield _SessionChannel(session)


class LineMessageReader(dg.PipesMessageReader):
    """Reads messages from a file whose last line may be unfinished, and passes over lines that are no message.

    `PipesFileMessageReader` takes what is there for a line and stops reading for good at one that is not JSON, so that
    a worker ended in the middle of a line, or a stray line, would lose every message after it.

    Args:
        path: the file; it is made here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[PipesParams]:
        """Hand messages to `handler` as they come, until the block has ended and the file is read to its end."""
        self._path.touch()
        messages, closing = MessageFile(self._path), Event()
        reader = Thread(target=_read, args=(messages, handler, closing), daemon=True)
        reader.start()
        try:
            yield {"path": str(self._path), "include_stdio_in_messages": False}
        finally:
            closing.set()
            reader.join()

    def no_messages_debug_text(self) -> str:
        """Where messages were expected."""
        return f"Messages were to be read from the file {self._path}."


def _read(messages: MessageFile, handler: dg.PipesMessageHandler, closing: Event) -> None:
    last = False
    while not last:
        last = closing.wait(POLL_INTERVAL)
        for message in messages.take():
            try:
                handler.handle_message(PipesMessage(**message))
            except Exception:  # noqa: BLE001 - noted in the run; the messages after it still count
                handler.report_pipes_framework_exception(LineMessageReader.__name__, sys.exc_info())


class _SessionChannel:
    def __init__(self, session: dg.PipesSession) -> None:
        self.environment = session.get_bootstrap_env_vars()
        self._session = session
        self._taken = 0

    def take(self) -> list[Any]:
        """See `worker_protocol.Channel`; a session keeps all of its custom messages."""
        messages = self._session.get_custom_messages()
        new = list(messages[self._taken :])
        self._taken = len(messages)
        return new

"""What is said between sceneloom and a worker: a manifest goes in, messages come out, both by Dagster Pipes' protocol.

A worker is one file that runs in a model's own environment with `dagster-pipes`. It is given one file, the manifest,
whose path is the Pipes extra `manifest`, and reports each task by custom messages: `ready`, then for each task
`started`, any number of `progress`, and `done` or `failed`. Messages are JSON lines in a file, so nothing that the
worker or its libraries print can be taken for one.

A manifest holds all tasks of a batch, or names a feed: a file to which tasks are added while the worker runs, so that
its models stay loaded between them.

The protocol is Pipes' own, so the same worker file runs under any transport that speaks it: `FileTransport` here, which
needs no Dagster run, or a session of Dagster's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

FORMAT = "sceneloom.worker/1"

_LOGGER = logging.getLogger("sceneloom.workers")
_LOG_LEVELS = {"debug", "info", "warning", "error", "critical"}


class _Said(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Ready(_Said):
    """The worker has read its manifest."""

    kind: Literal["ready"]
    versions: dict[str, str] = {}
    problems: list[str] = []
    """What of the model is not to be found in the worker's environment."""


class Started(_Said):
    """A task is in hand."""

    kind: Literal["started"]
    task: str


class Progress(_Said):
    """How far a phase of the task in hand is, 0 … 1."""

    kind: Literal["progress"]
    task: str
    phase: str
    fraction: Annotated[float, Field(ge=0, le=1)]


class Done(_Said):
    """The worker says that a task's output is whole; that is believed once the output has been read back."""

    kind: Literal["done"]
    task: str
    seconds: float
    figures: dict[str, Any] = {}


class Failed(_Said):
    """The worker gave a task up. All fields but the task are what it saw."""

    kind: Literal["failed"]
    task: str
    seconds: float
    type: str = ""
    message: str = ""
    log: str = ""
    exit_code: int | None = None


Event = Ready | Started | Progress | Done | Failed
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def parse_event(payload: Any) -> Event | None:
    """The event that a custom message stands for; None, with a line in the log, where it is none."""
    try:
        return _EVENT.validate_python(payload)
    except ValidationError as error:
        _LOGGER.warning("not a worker's event (%s): %.200r", error.errors()[0]["msg"], payload)
        return None


def manifest(settings: Mapping[str, Any], tasks: list[dict[str, Any]], feed: Path | None = None) -> str:
    """The text of a manifest.

    Args:
        settings: what holds for every task.
        tasks: each with at least `id`; the worker says what else it needs.
        feed: a `Feed`'s file, where more tasks come after those.
    """
    content: dict[str, Any] = {"format": FORMAT, "settings": dict(settings), "tasks": tasks}
    if feed is not None:
        content["feed"] = str(feed)
    return json.dumps(content, indent=1, ensure_ascii=True)


class Feed:
    """Tasks for a worker that runs: a growing file of JSON lines, each `{"task": …}`, the last one `{"end": true}`.

    Args:
        path: the file; it is made here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def add(self, task: Mapping[str, Any]) -> None:
        """Hand a task to the worker."""
        self._write({"task": dict(task)})

    def end(self) -> None:
        """Tell the worker that no task comes any more."""
        self._write({"end": True})

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="ascii") as file:
            file.write(json.dumps(line, ensure_ascii=True) + "\n")


class Channel(Protocol):
    """A worker's end of the line."""

    environment: Mapping[str, str]
    """Variables by which the worker finds its context and says where to."""

    def take(self) -> list[Any]:
        """Payloads of the custom messages that came since the last call; all of them once the channel is closed."""
        ...


class Transport(Protocol):
    """How a worker's context gets to it, and its messages back."""

    def open(self, folder: Path, extras: Mapping[str, Any]) -> AbstractContextManager[Channel]:
        """A channel for one launch.

        Args:
            folder: private to the launch, seen by the worker under the same path.
            extras: what the worker is told: its manifest.
        """
        ...


class MessageFile:
    """Reads a growing file of JSON lines, one Pipes message each.

    A line is taken once its end is there. What is no message is noted in the log and passed over: a broken line of a
    dying worker loses no other line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def take(self) -> list[dict[str, Any]]:
        """The messages of all lines that were finished since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            content = file.read()
        finished = content.rfind(b"\n") + 1
        self._position += finished
        return [message for line in content[:finished].splitlines() for message in _messages(line)]


def _messages(line: bytes) -> Iterator[dict[str, Any]]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if isinstance(message, dict) and isinstance(message.get("method"), str):
        yield message
    else:
        _LOGGER.warning("not a message of a worker: %.200r", line)


class FileTransport:
    """Pipes' protocol over two files, without a Dagster run: the plainest way to run a worker.

    What a worker logs goes to the logger `sceneloom.workers`.
    """

    @contextmanager
    def open(self, folder: Path, extras: Mapping[str, Any]) -> Iterator[Channel]:
        """See `Transport`."""
        import dagster_pipes

        context = dagster_pipes.PipesContextData(
            asset_keys=None,
            code_version_by_asset_key=None,
            provenance_by_asset_key=None,
            partition_key=None,
            partition_key_range=None,
            partition_time_window=None,
            run_id="",
            job_name=None,
            retry_number=0,
            extras=dict(extras),
        )
        context_path, messages = folder / "context.json", folder / "messages.jsonl"
        context_path.write_text(json.dumps(context))
        messages.touch()
        yield _FileChannel(
            {
                dagster_pipes.DAGSTER_PIPES_CONTEXT_ENV_VAR: dagster_pipes.encode_param({"path": str(context_path)}),
                dagster_pipes.DAGSTER_PIPES_MESSAGES_ENV_VAR: dagster_pipes.encode_param({"path": str(messages)}),
            },
            MessageFile(messages),
        )


class _FileChannel:
    def __init__(self, environment: Mapping[str, str], messages: MessageFile) -> None:
        self.environment = environment
        self._messages = messages

    def take(self) -> list[Any]:
        payloads = []
        for message in self._messages.take():
            content = message.get("params") or {}
            if message["method"] == "report_custom_message":
                payloads.append(content.get("payload"))
            elif message["method"] == "log":
                level = str(content.get("level", "info")).lower()
                _LOGGER.log(
                    getattr(logging, level.upper()) if level in _LOG_LEVELS else logging.INFO,
                    "%s",
                    content.get("message", ""),
                )
        return payloads

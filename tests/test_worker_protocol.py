"""What workers and sceneloom say to each other: events, files of messages, the transport over two files."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneloom.resources.worker_protocol import (
    Done,
    Failed,
    FileTransport,
    MessageFile,
    Progress,
    Ready,
    Started,
    manifest,
    parse_event,
)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"kind": "ready", "versions": {"torch": "2"}, "more": 1}, Ready(kind="ready", versions={"torch": "2"})),
        ({"kind": "started", "task": "a"}, Started(kind="started", task="a")),
        (
            {"kind": "progress", "task": "a", "phase": "Caching", "fraction": 1},
            Progress(kind="progress", task="a", phase="Caching", fraction=1.0),
        ),
        ({"kind": "done", "task": "a", "seconds": 1.5}, Done(kind="done", task="a", seconds=1.5)),
        (
            {"kind": "failed", "task": "a", "seconds": 1, "exit_code": -9},
            Failed(kind="failed", task="a", seconds=1.0, exit_code=-9),
        ),
    ],
)
def test_events(payload: dict[str, Any], expected: object) -> None:
    assert parse_event(payload) == expected


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "done",
        {},
        {"kind": "finished"},
        {"kind": "done", "task": 3, "seconds": 1.0},
        {"kind": "done", "task": "a", "seconds": float("nan")},
        {"kind": "progress", "task": "a", "phase": "Caching", "fraction": 2.0},
    ],
)
def test_what_is_no_event_is_noted_and_not_believed(payload: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert parse_event(payload) is None
    assert "not a worker's event" in caplog.text


MESSAGES = st.lists(st.fixed_dictionaries({"method": st.text(min_size=1), "params": st.text()}), max_size=5)


@given(MESSAGES, st.data())
def test_messages_come_out_whole_wherever_the_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, messages: list[dict[str, str]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("messages") / "file"
    content = "".join(json.dumps(message) + "\n" for message in messages).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=4)))
    path.touch()
    reader, found = MessageFile(path), []
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        with path.open("ab") as file:
            file.write(content[start:end])
        found += reader.take()
    assert found == messages


def test_lines_that_are_no_messages_lose_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "messages"
    path.write_bytes(b'{"method": "log"}\n{"meth\n[]\n\xff\xfe\n{"method": 3}\n{"method": "closed"}\n{"method": "cu')
    reader = MessageFile(path)
    assert [message["method"] for message in reader.take()] == ["log", "closed"]
    assert reader.take() == []


def test_a_manifest_is_ascii() -> None:
    text = manifest({"preset": "lyra"}, [{"id": "ä", "input": "b.mp4"}])
    assert text.isascii()
    assert json.loads(text) == {
        "format": "sceneloom.worker/1",
        "settings": {"preset": "lyra"},
        "tasks": [{"id": "ä", "input": "b.mp4"}],
    }


WORKER = """
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    print('{"method": "report_custom_message", "params": {"payload": "printed"}}')
    pipes.log.warning("careful")
    pipes.report_custom_message({"extras": dict(pipes.extras)})
"""


def test_a_worker_finds_its_context_and_is_heard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FileTransport().open(tmp_path, {"manifest": "m.json"}) as channel:
        environment = {**os.environ, **channel.environment}
        subprocess.run([sys.executable, "-c", WORKER], env=environment, check=True, stdout=subprocess.DEVNULL)
    with caplog.at_level(logging.WARNING, "sceneloom.workers"):
        assert channel.take() == [{"extras": {"manifest": "m.json"}}]
    assert channel.take() == []
    assert "careful" in caplog.text

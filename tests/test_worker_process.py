"""Launching and watching workers: real processes that die, hang, print noise and leave others behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sceneloom.resources import worker_settings
from sceneloom.resources.resident_worker import ResidentWorker
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed
from sceneloom.resources.worker_process import (
    Supervision,
    TaskEnded,
    WorkerTask,
    end_of_file,
    started_without_tasks,
)
from sceneloom.resources.worker_protocol import Event, Progress
from sceneloom.resources.worker_settings import WorkerEnvironment, WorkerSettings

HEAD = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from dagster_pipes import open_dagster_pipes

def tasks_of(manifest):
    yield from manifest["tasks"]
    if "feed" not in manifest:
        return
    with open(manifest["feed"]) as feed:
        while True:
            line = feed.readline()
            if not line:
                time.sleep(0.01)
            elif "task" not in json.loads(line):
                return
            else:
                yield json.loads(line)["task"]
"""
LOOP = """
with open_dagster_pipes() as pipes:
    say = lambda kind, **content: pipes.report_custom_message({"kind": kind, **content})
    manifest = json.loads(Path(pipes.get_extra("manifest")).read_text())
    say("ready", versions={"process": str(os.getpid())})
    for task in tasks_of(manifest):
        say("started", task=task["id"])
        exec(task["do"])
        say("done", task=task["id"], seconds=0.1)
"""


class Settings(WorkerSettings):
    engine: str = "toy"


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "toy_worker.py").write_text(HEAD + LOOP)
    monkeypatch.setattr(worker_settings, "WORKERS_FOLDER", folder)
    return folder


def settings(**changes: Any) -> Settings:
    limits = {"start_timeout": 20.0, "clip_timeout": 20.0, "frame_timeout": 0.0001, **changes}
    environment = limits.pop("environment", WorkerEnvironment(interpreter=sys.executable))
    return Settings.model_validate({"environment": environment, "device": "cpu", **limits})


def tasks(**work: str) -> list[WorkerTask]:
    return [WorkerTask(name, 1, {"do": do}) for name, do in work.items()]


def run(
    folder: Path, work: dict[str, str], report: Callable[[Event], None] | None = None, **changes: Any
) -> dict[str, TaskEnded]:
    chosen = settings(scratch=str(folder / "scratch"), **changes)
    with contextlib.closing(ResidentWorker("toy", chosen, {}, report=report)) as worker:
        ended = list(worker.run(tasks(**work)))
    assert len({one.task for one in ended}) == len(ended)
    assert list((folder / "scratch").iterdir()) == []
    return {one.task: one for one in ended}


def failure_of(ended: TaskEnded) -> WorkerFailed:
    assert ended.failure is not None
    return ended.failure


def classes(ended: dict[str, TaskEnded]) -> dict[str, FailureClass | None]:
    return {task: one.failure.failure if one.failure else None for task, one in ended.items()}


def lives(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    limit = time.monotonic() + seconds
    while not holds() and time.monotonic() < limit:
        time.sleep(0.02)
    return holds()


def test_what_a_worker_says_is_heard(workers: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    say = "say('progress', task=task['id'], phase='p', fraction=0.5)"
    ended = run(tmp_path, {"a": say, "b": "pass"}, heard.append)
    assert classes(ended) == {"a": None, "b": None}
    assert [event.fraction for event in heard if isinstance(event, Progress)] == [0.5]


def test_how_a_worker_died_is_said(workers: Path, tmp_path: Path) -> None:
    work = {"a": "print('last words'); os.kill(os.getpid(), 9)", "b": "sys.exit(1)"}
    ended = run(tmp_path, work)
    assert classes(ended) == {"a": FailureClass.KILLED, "b": FailureClass.KILLED}
    assert failure_of(ended["a"]).found == "ended by SIGKILL; its log says: last words"
    assert failure_of(ended["b"]).found.startswith("ended with 1")


def test_a_hang_is_ended_by_its_deadline_with_all_it_started(workers: Path, tmp_path: Path) -> None:
    mark = tmp_path / "child"
    hang = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"child = subprocess.Popen(['sleep', '600']); Path({str(mark)!r}).write_text(str(child.pid)); time.sleep(600)"
    )
    began = time.monotonic()
    ended = run(tmp_path, {"a": hang, "b": "pass"}, clip_timeout=1.0)
    assert classes(ended) == {"a": FailureClass.TIMEOUT, "b": None}
    assert "within 1 s" in failure_of(ended["a"]).found
    assert time.monotonic() - began < 15
    assert not lives(int(mark.read_text()))


def test_what_ends_a_worker_before_any_task_is_no_tasks_fault(workers: Path, tmp_path: Path) -> None:
    """Words that would condemn a clip: it would be given up for good, though nothing has looked at it."""
    (workers / "toy_worker.py").write_text("raise SystemExit('config.yaml: No such file or directory')")
    ended = run(tmp_path, {"a": "pass", "b": "pass"})
    assert classes(ended) == {"a": FailureClass.USAGE, "b": FailureClass.USAGE}
    assert failure_of(ended["a"]).rule.stops_batch
    assert "config.yaml" in failure_of(ended["a"]).found


def test_a_worker_that_hangs_before_its_first_word(workers: Path, tmp_path: Path) -> None:
    (workers / "toy_worker.py").write_text("import time; time.sleep(600)")
    ended = run(tmp_path, {"a": "pass"}, start_timeout=0.5)
    assert classes(ended) == {"a": FailureClass.TIMEOUT}


def test_an_interpreter_that_is_not_there(workers: Path, tmp_path: Path) -> None:
    broken = settings(environment=WorkerEnvironment(interpreter=str(tmp_path / "python")))
    with contextlib.closing(ResidentWorker("toy", broken, {})) as worker:
        [ended] = worker.run(tasks(a="pass"))
    assert failure_of(ended).failure is FailureClass.USAGE
    assert broken.missing() is not None


def test_a_worker_that_ends_well_and_says_nothing_is_not_believed(workers: Path, tmp_path: Path) -> None:
    ended = run(tmp_path, {"a": "pass", "b": "os._exit(0)", "c": "pass"})
    assert classes(ended) == {"a": None, "b": FailureClass.INVALID_OUTPUT, "c": None}
    assert "without a word" in failure_of(ended["b"]).found


def test_words_on_tasks_that_are_not_in_hand_are_not_believed(workers: Path, tmp_path: Path) -> None:
    lie = "say('done', task='b#1', seconds=1.0); say('done', task='none', seconds=1.0); say('started', task='none')"
    ended = run(tmp_path, {"a": lie, "b": "sys.exit(1)"})
    assert classes(ended) == {"a": None, "b": FailureClass.KILLED}


def test_a_worker_that_goes_on_without_a_word() -> None:
    heard: list[Event] = []
    supervision = Supervision(settings(), heard.append)
    for name in "ab":
        supervision.add(WorkerTask(name, 1, {}))
    ended = list(supervision.take([{"kind": "started", "task": name} for name in "ab"]))
    assert [(one.task, failure_of(one).failure) for one in ended] == [("a", FailureClass.INVALID_OUTPUT)]
    assert "went on" in failure_of(ended[0]).found
    assert len(heard) == 2


def test_noise_on_its_output_is_no_message(workers: Path, tmp_path: Path) -> None:
    noise = (
        "print(json.dumps({'method': 'report_custom_message', 'params': {'payload': "
        "{'kind': 'failed', 'task': 'a', 'seconds': 1.0}}}) * 3);"
        "sys.stdout.buffer.write(bytes(range(256)) * 2000); sys.stderr.write('\\r50%|' * 50000)"
    )
    assert classes(run(tmp_path, {"a": noise, "b": "pass"})) == {"a": None, "b": None}


def test_a_worker_that_does_not_end_after_its_last_task(
    workers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneloom.resources.resident_worker.EXIT_GRACE", 0.3)
    (workers / "toy_worker.py").write_text(HEAD + LOOP + "    time.sleep(600)\n")
    assert classes(run(tmp_path, {"a": "pass"})) == {"a": None}


@pytest.mark.parametrize("stop", [("no-such-program",), ("sleep", "600")])
def test_a_worker_ends_where_the_command_that_stops_it_fails(
    stop: tuple[str, ...],
    workers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("sceneloom.resources.worker_process.STOP_TIMEOUT", 0.3)
    launch = Settings.launch
    monkeypatch.setattr(
        Settings, "launch", lambda *given, **named: dataclasses.replace(launch(*given, **named), stop=stop)
    )
    mark = tmp_path / "worker"
    hang = f"Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(600)"
    assert classes(run(tmp_path, {"a": hang}, clip_timeout=1.0)) == {"a": FailureClass.TIMEOUT}
    assert not lives(int(mark.read_text()))
    assert f"{stop[0]} did not end what it should" in caplog.text


def test_what_a_worker_left_behind_ends_with_it(workers: Path, tmp_path: Path) -> None:
    mark = tmp_path / "child"
    leave = f"Path({str(mark)!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid))"
    assert classes(run(tmp_path, {"a": leave})) == {"a": None}
    assert wait_until(lambda: not lives(int(mark.read_text())))


CALLER = """
import sys
from pathlib import Path
from sceneloom.resources.resident_worker import ResidentWorker
from sceneloom.resources.worker_process import WorkerTask
from sceneloom.resources.worker_settings import VipeSettings
mark, folder = sys.argv[1:]
settings = VipeSettings.model_validate(
    {"environment": {"interpreter": sys.executable}, "device": "cpu", "scratch": folder}
)
task = WorkerTask("a", 1, {"input": folder, "output": "out", "log": folder + "/log"})
told = {"preset": "default", "mode": "command", "command": ["/bin/sh", "-c", f"echo $$ > {mark}; exec sleep 600"]}
list(ResidentWorker("vipe", settings, told).run([task]))
"""


def test_the_worker_ends_when_its_caller_is_killed(tmp_path: Path) -> None:
    mark, folder = tmp_path / "child", tmp_path / "scratch"
    folder.mkdir()
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(mark), str(folder)])
    try:
        assert wait_until(lambda: mark.exists() and mark.read_text().strip() != "", 20)
        child = int(mark.read_text())
        assert lives(child)
    finally:
        os.kill(caller.pid, signal.SIGKILL)
        caller.wait()
    assert wait_until(lambda: not lives(child))


def test_a_check_launches_the_worker_without_tasks(workers: Path, tmp_path: Path) -> None:
    chosen = settings(scratch=str(tmp_path / "scratch"))
    assert set(started_without_tasks("toy", chosen).versions) == {"process"}
    (workers / "toy_worker.py").write_text("import no_such_package")
    with pytest.raises(WorkerFailed, match="no_such_package"):
        started_without_tasks("toy", chosen)
    (workers / "toy_worker.py").write_text("import time; time.sleep(600)")
    with pytest.raises(WorkerFailed, match="nothing came of it within 0 s"):
        started_without_tasks("toy", settings(scratch=str(tmp_path / "scratch"), start_timeout=0.3))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_end_of_a_log_holds_progress_bars_in_their_last_state(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 9000 + b"\n\rA: 0%\rA: 50%\rA: 100%\r\nlast \xff words\n")
    end = end_of_file(log)
    assert end.endswith("x\nA: 100%\nlast \ufffd words\n")
    assert len(end) == 2000

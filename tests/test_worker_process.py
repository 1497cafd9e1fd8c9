"""Launching and watching workers: real processes that die, hang, print noise and leave others behind."""

from __future__ import annotations

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
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed
from sceneloom.resources.worker_process import TaskEnded, WorkerProcess, WorkerTask, end_of_file
from sceneloom.resources.worker_protocol import Event, FileTransport, Progress
from sceneloom.resources.worker_settings import WorkerEnvironment, WorkerSettings

HEAD = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from dagster_pipes import open_dagster_pipes

def tasks_of(pipes):
    return json.loads(Path(pipes.get_extra("manifest")).read_text())["tasks"]
"""
LOOP = """
with open_dagster_pipes() as pipes:
    say = lambda kind, **content: pipes.report_custom_message({"kind": kind, **content})
    say("ready", versions={"process": str(os.getpid())})
    for task in tasks_of(pipes):
        say("started", task=task["id"])
        exec(task["do"])
        say("done", task=task["id"], seconds=0.1)
"""


class Settings(WorkerSettings):
    engine: str = "toy"


Run = Callable[..., list[TaskEnded]]


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "toy_worker.py").write_text(HEAD + LOOP)
    monkeypatch.setattr(worker_settings, "WORKERS_FOLDER", folder)
    return folder


def settings(**changes: Any) -> Settings:
    limits = {"start_timeout": 20.0, "clip_timeout": 20.0, "frame_timeout": 0.0001, **changes}
    environment = WorkerEnvironment(interpreter=sys.executable)
    return Settings.model_validate({"environment": environment, "device": "cpu", **limits})


def process(report: Callable[[Event], None] | None = None, **changes: Any) -> WorkerProcess:
    return WorkerProcess("toy", settings(**changes), FileTransport(), report)


def tasks(**work: str) -> list[WorkerTask]:
    return [WorkerTask(name, 1, {"do": do}) for name, do in work.items()]


def run(folder: Path, work: dict[str, str], **changes: Any) -> dict[str, TaskEnded]:
    scratch = folder / "scratch"
    scratch.mkdir()
    ended = list(process(**changes).run(tasks(**work), {}, scratch))
    assert len({one.task for one in ended}) == len(ended)
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


def test_one_launch_carries_the_batch(workers: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    say = "say('progress', task=task['id'], phase='p', fraction=0.5)"
    ended = list(process(heard.append).run(tasks(a=say, b="pass", c="pass"), {}, scratch))
    assert [one.task for one in ended] == ["a", "b", "c"]
    assert all(one.done is not None and one.failure is None for one in ended)
    assert len({one.versions["process"] for one in ended}) == 1
    assert [event for event in heard if isinstance(event, Progress)] == [
        Progress(kind="progress", task="a", phase="p", fraction=0.5)
    ]
    assert [path.name for path in scratch.iterdir()] == ["launch-0"]


def test_a_worker_that_dies_loses_only_the_task_in_hand(workers: Path, tmp_path: Path) -> None:
    work = {"a": "pass", "b": "print('last words'); os.kill(os.getpid(), 9)", "c": "pass", "d": "sys.exit(1)"}
    ended = run(tmp_path, work)
    assert classes(ended) == {"a": None, "b": FailureClass.KILLED, "c": None, "d": FailureClass.KILLED}
    assert ended["a"].versions != ended["c"].versions
    assert failure_of(ended["b"]).found.startswith("ended by SIGKILL")


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


def test_the_deadline_grows_with_the_frames(workers: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    long, short = (
        WorkerTask(name, frames, {"do": "time.sleep(1.2)"}) for name, frames in (("long", 100), ("short", 1))
    )
    watching = process(clip_timeout=0.1, frame_timeout=0.1)
    ended = {one.task: one for one in watching.run([long, short], {}, scratch)}
    assert classes(ended) == {"long": None, "short": FailureClass.TIMEOUT}


def test_a_worker_that_never_starts_fails_every_task_once(workers: Path, tmp_path: Path) -> None:
    (workers / "toy_worker.py").write_text("import no_such_package")
    ended = run(tmp_path, {"a": "pass", "b": "pass"})
    assert classes(ended) == {"a": FailureClass.MODEL_MISSING, "b": FailureClass.MODEL_MISSING}
    assert "No module named 'no_such_package'" in failure_of(ended["a"]).found
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["launch-0"]


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
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    broken = settings().model_copy(update={"environment": WorkerEnvironment(interpreter=str(tmp_path / "python"))})
    [ended] = WorkerProcess("toy", broken, FileTransport()).run(tasks(a="pass"), {}, scratch)
    assert failure_of(ended).failure is FailureClass.USAGE
    assert broken.missing() is not None


def test_a_worker_that_ends_well_and_says_nothing_is_not_believed(workers: Path, tmp_path: Path) -> None:
    ended = run(tmp_path, {"a": "pass", "b": "os._exit(0)", "c": "pass"})
    assert classes(ended) == {"a": None, "b": FailureClass.INVALID_OUTPUT, "c": None}
    assert "without a word" in failure_of(ended["b"]).found


def test_words_on_tasks_that_are_not_in_hand_are_not_believed(workers: Path, tmp_path: Path) -> None:
    lie = "say('done', task='b', seconds=1.0); say('done', task='none', seconds=1.0); say('started', task='none')"
    ended = run(tmp_path, {"a": lie, "b": "sys.exit(1)"})
    assert classes(ended) == {"a": None, "b": FailureClass.KILLED}


def test_a_worker_that_forgets_a_task(workers: Path, tmp_path: Path) -> None:
    ended = run(tmp_path, {"a": "say('started', task='b'); say('done', task='b', seconds=1.0)", "b": "pass"})
    assert classes(ended) == {"a": FailureClass.INVALID_OUTPUT, "b": None}
    assert "went on" in failure_of(ended["a"]).found


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
    monkeypatch.setattr("sceneloom.resources.worker_process.EXIT_GRACE", 0.3)
    (workers / "toy_worker.py").write_text(HEAD + LOOP + "    time.sleep(600)\n")
    assert classes(run(tmp_path, {"a": "pass"})) == {"a": None}


def test_leaving_the_results_early_ends_the_worker(workers: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    results = process().run(tasks(a="pass", b="time.sleep(600)"), {}, scratch)
    worker = int(next(results).versions["process"])
    assert lives(worker)
    results.close()
    assert not lives(worker)


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
from sceneloom.resources.worker_process import WorkerProcess, WorkerTask
from sceneloom.resources.worker_protocol import FileTransport
from sceneloom.resources.worker_settings import VipeSettings
settings = VipeSettings.model_validate({"environment": {"interpreter": sys.executable}, "device": "cpu"})
mark, folder = sys.argv[1:]
task = WorkerTask("a", 1, {"input": folder, "output": "out", "log": folder + "/log"})
told = {"preset": "default", "mode": "command", "command": ["/bin/sh", "-c", f"echo $$ > {mark}; exec sleep 600"]}
list(WorkerProcess("vipe", settings, FileTransport()).run([task], told, Path(folder)))
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
    assert set(process().check({}, tmp_path).versions) == {"process"}
    (workers / "toy_worker.py").write_text("import no_such_package")
    again = tmp_path / "again"
    again.mkdir()
    with pytest.raises(WorkerFailed, match="no_such_package"):
        process().check({}, again)


def test_the_end_of_a_log_holds_progress_bars_in_their_last_state(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 9000 + b"\n\rA: 0%\rA: 50%\rA: 100%\r\nlast \xff words\n")
    end = end_of_file(log)
    assert end.endswith("x\nA: 100%\nlast \ufffd words\n")
    assert len(end) == 2000

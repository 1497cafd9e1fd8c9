"""A worker's process that many threads share: one launch, tasks fed one by one, deaths, deadlines and idle times."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sceneloom.datasets.errors import ConfigError, EngineError
from sceneloom.resources import resident_worker, worker_settings
from sceneloom.resources.failures import Reason, StageFailed
from sceneloom.resources.resident_models import ResidentModels
from sceneloom.resources.resident_worker import ResidentWorker
from sceneloom.resources.worker_failures import FailureClass
from sceneloom.resources.worker_process import TaskEnded, WorkerTask
from sceneloom.resources.worker_protocol import Channel, Event, FileTransport

from .test_worker_process import classes, failure_of, lives, settings, tasks, wait_until

HEAD = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from dagster_pipes import open_dagster_pipes

def tasks_of(manifest):
    assert manifest["tasks"] == []
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
        say("done", task=task["id"], seconds=0.1, figures=manifest["settings"])
    if "mark" in manifest["settings"]:
        Path(manifest["settings"]["mark"]).write_text("ended by itself")
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "toy_worker.py").write_text(HEAD + LOOP)
    monkeypatch.setattr(worker_settings, "WORKERS_FOLDER", folder)
    return folder / "toy_worker.py"


@pytest.fixture(autouse=True)
def nothing_goes_wrong_unheard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@contextlib.contextmanager
def resident(
    folder: Path, told: dict[str, Any] | None = None, report: Any = None, **changes: Any
) -> Iterator[ResidentWorker]:
    scratch = folder / "scratch"
    worker = ResidentWorker("toy", settings(scratch=str(scratch), **changes), told or {}, report=report)
    with contextlib.closing(worker):
        yield worker
    assert list(scratch.iterdir()) == []


def run(worker: ResidentWorker, **work: str) -> dict[str, TaskEnded]:
    ended = list(worker.run(tasks(**work)))
    assert sorted(one.task for one in ended) == sorted(work)
    return {one.task: one for one in ended}


def processes(*runs: dict[str, TaskEnded]) -> set[str]:
    return {one.versions["process"] for ended in runs for one in ended.values()}


def test_one_process_serves_run_after_run(toy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with resident(tmp_path, {"mark": str(mark)}) as worker:
        assert run(worker) == {}
        first, second = run(worker, a="pass", b="pass"), run(worker, a="pass")
        assert classes(first | second) == {"a": None, "b": None}
        [process] = processes(first, second)
        assert second["a"].done is not None
        assert second["a"].done.figures == {"mark": str(mark)}
        assert lives(int(process))
        assert not mark.exists()
    assert not lives(int(process))
    # It was told that no more comes, not killed.
    assert mark.read_text() == "ended by itself"


def test_threads_share_the_process_and_get_their_own_tasks(toy: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    with resident(tmp_path, report=heard.append) as worker, ThreadPoolExecutor(8) as pool:
        # All of them call their tasks the same.
        runs = list(
            pool.map(
                lambda number: run(worker, left=f"open({str(tmp_path / str(number))!r}, 'w')", up="pass"), range(8)
            )
        )
    assert len(processes(*runs)) == 1
    assert all(classes(ended) == {"left": None, "up": None} for ended in runs)
    assert all((tmp_path / str(number)).exists() for number in range(8))
    started = [event.task for event in heard if event.kind == "started"]
    assert len(started) == len(set(started)) == 16


def test_tasks_of_threads_are_taken_in_the_order_in_which_they_came(toy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "order"
    note = f"open({str(mark)!r}, 'a').write(task['id'][0])"
    with resident(tmp_path) as worker, ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, worker, a=f"time.sleep(0.5);{note}", b=note)
        assert wait_until(lambda: worker._given is not None)
        second = pool.submit(run, worker, c=note)
        assert classes(first.result() | second.result()) == {"a": None, "b": None, "c": None}
    assert mark.read_text() == "abc"


def test_a_death_loses_the_task_in_hand_and_no_other_threads(toy: Path, tmp_path: Path) -> None:
    with resident(tmp_path) as worker, ThreadPoolExecutor(3) as pool:
        works = [
            {"a": "os.kill(os.getpid(), 9)", "b": "pass"},
            {"c": "pass", "d": "sys.exit(3)"},
            {"e": "pass"},
        ]
        ended = {
            name: one for found in pool.map(lambda work: run(worker, **work), works) for name, one in found.items()
        }
    assert classes(ended) == {"a": FailureClass.KILLED, "b": None, "c": None, "d": FailureClass.KILLED, "e": None}


def test_a_hang_is_ended_by_its_deadline_and_the_next_is_taken(toy: Path, tmp_path: Path) -> None:
    with resident(tmp_path, clip_timeout=1.0) as worker:
        ended = run(worker, a="pass", b="time.sleep(600)", c="pass")
    assert classes(ended) == {"a": None, "b": FailureClass.TIMEOUT, "c": None}
    assert "within 1 s" in failure_of(ended["b"]).found
    assert ended["a"].versions != ended["c"].versions


def test_no_deadline_runs_while_there_is_no_task(toy: Path, tmp_path: Path) -> None:
    with resident(tmp_path, start_timeout=1.0, clip_timeout=1.0) as worker:
        first = run(worker, a="pass")
        time.sleep(1.5)
        assert len(processes(first, run(worker, b="pass"))) == 1


def test_an_idle_worker_ends_and_is_launched_again(toy: Path, tmp_path: Path) -> None:
    with resident(tmp_path, idle_time=0.3) as worker:
        first = run(worker, a="pass")
        [process] = processes(first)
        assert wait_until(lambda: not lives(int(process)))
        assert wait_until(lambda: worker._thread is None)
        assert processes(run(worker, a="pass")).isdisjoint({process})


def test_a_worker_that_dies_between_tasks_is_launched_again(toy: Path, tmp_path: Path) -> None:
    with resident(tmp_path) as worker:
        [process] = processes(run(worker, a="pass"))
        os.kill(int(process), 9)
        again = run(worker, b="pass")
    assert classes(again) == {"b": None}
    assert processes(again).isdisjoint({process})


def test_a_worker_that_never_starts_fails_all_that_wait_once(toy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "launches"
    toy.write_text(f"open({str(mark)!r}, 'a').write('x'); import no_such_package")
    with resident(tmp_path) as worker:
        ended = run(worker, a="pass", b="pass")
        assert classes(ended) == {"a": FailureClass.MODEL_MISSING, "b": FailureClass.MODEL_MISSING}
        assert [ended[name].tried for name in "ab"] == [True, False]
        assert mark.read_text() == "x"
        # What was mended meanwhile is found.
        toy.write_text(HEAD + LOOP)
        assert classes(run(worker, a="pass")) == {"a": None}


def test_a_failure_that_every_task_shares_stops_what_waits_in_all_threads(toy: Path, tmp_path: Path) -> None:
    missing = "say('failed', task=task['id'], seconds=1.0, message='No module named moge'); continue"
    toy.write_text(HEAD + LOOP.replace('exec(task["do"])', 'if task["do"] == "missing":\n            ' + missing))
    with resident(tmp_path) as worker, ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(run, worker, a="missing", b="pass"), pool.submit(run, worker, c="missing", d="pass")]
        ended = [one for future in futures for one in future.result().values()]
        assert {failure_of(one).failure for one in ended} == {FailureClass.MODEL_MISSING}
        assert len({id(one.failure) for one in ended}) == 4
        assert 1 <= sum(one.tried for one in ended) <= 2
        # The worker is not stopped for good.
        assert classes(run(worker, e="pass")) == {"e": None}


def test_leaving_early_ends_the_task_in_hand_and_leaves_the_others_to_their_callers(toy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with resident(tmp_path) as worker, ThreadPoolExecutor(1) as pool:
        results = worker.run(tasks(a="pass", b="time.sleep(600)", c=f"open({str(mark)!r}, 'w')"))
        process = int(next(results).versions["process"])
        other = pool.submit(run, worker, d="pass")
        assert wait_until(lambda: len(worker._waiting) == 2)
        results.close()
        assert not lives(process)
        assert classes(other.result()) == {"d": None}
    assert not mark.exists()


def test_closing_interrupts_what_is_left_in_all_threads_and_what_comes_later(toy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "launches"
    toy.write_text(f"open({str(mark)!r}, 'a').write('x')\n" + HEAD + LOOP)
    with resident(tmp_path) as worker, ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run, worker, a="time.sleep(600)") for _ in range(2)]
        assert wait_until(lambda: mark.exists() and len(worker._waiting) == 1)
        worker.close()
        for ended in runs:
            with pytest.raises(StageFailed, match="the worker toy was closed") as raised:
                ended.result(timeout=10)
            assert raised.value.reason is Reason.INTERRUPTED
        for later in (lambda: run(worker, c="pass"), lambda: worker.scratch().__enter__()):
            with pytest.raises(StageFailed, match="the worker toy was closed"):
                later()
    assert mark.read_text() == "x"


def test_closing_before_the_launch_prevents_it(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opening, go_on = threading.Event(), threading.Event()

    class SlowTransport(FileTransport):
        @contextlib.contextmanager
        def open(self, folder: Path, extras: Any) -> Iterator[Channel]:
            opening.set()
            assert go_on.wait(10)
            with super().open(folder, extras) as channel:
                yield channel

    launched: list[Any] = []
    monkeypatch.setattr(resident_worker, "start", lambda *given: launched.append(given))
    worker = ResidentWorker("toy", settings(scratch=str(tmp_path / "scratch")), {}, transport=SlowTransport())
    with ThreadPoolExecutor(2) as pool:
        ended = pool.submit(run, worker, a="pass", b="pass")
        assert opening.wait(10)
        closed = pool.submit(worker.close)
        assert wait_until(lambda: worker._closed)
        go_on.set()
        closed.result(timeout=10)
        with pytest.raises(StageFailed, match="was closed"):
            ended.result(timeout=10)
    assert launched == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_being_read_stays_until_it_has_been_read(toy: Path, tmp_path: Path) -> None:
    with resident(tmp_path) as worker, worker.scratch() as folder:
        (folder / "result").write_text("whole")
        worker.close()
        assert (folder / "result").read_text() == "whole"
    assert not folder.exists()


# ---------------------------------------------------------------- the memory of a device


def alternate(folder: Path, budget: float) -> tuple[list[bool], int]:
    """Let two workers of 2 GB each work in turn; for each turn whether the other one lives after it, and how many
    processes there were."""
    models = ResidentModels(round(budget * 1e9))
    chosen = settings(scratch=str(folder / "scratch"), device_memory=2.0)
    workers = [ResidentWorker("toy", chosen, {}, models) for _ in range(2)]
    lives_on, turns = [], []
    try:
        for turn in range(4):
            turns += processes(run(workers[turn % 2], a="pass"))
            lives_on += [lives(int(turns[-2]))] if turn else []
    finally:
        for worker in workers:
            worker.close()
    assert models.counters()["peak_bytes"]["cpu"] <= budget * 1e9
    return lives_on, len(set(turns))


def test_workers_that_do_not_fit_together_end_each_other(toy: Path, tmp_path: Path) -> None:
    assert alternate(tmp_path, budget=3.0) == ([False] * 3, 4)


def test_workers_that_fit_together_stay(toy: Path, tmp_path: Path) -> None:
    assert alternate(tmp_path, budget=4.0) == ([True] * 3, 2)


def test_a_model_waits_for_a_workers_task_and_then_ends_the_worker(toy: Path, tmp_path: Path) -> None:
    models = ResidentModels(3_000_000_000)
    busy, done = tmp_path / "busy", tmp_path / "done"
    work = f"open({str(busy)!r}, 'w'); time.sleep(0.5); open({str(done)!r}, 'w')"
    worker = ResidentWorker("toy", settings(scratch=str(tmp_path / "scratch"), device_memory=2.0), {}, models)
    with contextlib.closing(worker), ThreadPoolExecutor(1) as pool:
        ended = pool.submit(run, worker, a=work)
        assert wait_until(busy.exists)
        with models.get("model", 2_000_000_000, "cpu", done.exists) as loaded_after_the_task:
            assert loaded_after_the_task
            [process] = processes(ended.result(timeout=10))
            assert not lives(int(process))
        # It comes back once there is room.
        assert classes(run(worker, b="pass")) == {"b": None}
        assert "model" in models.counters()["evictions"]


def test_a_worker_larger_than_its_device_is_refused(toy: Path, tmp_path: Path) -> None:
    chosen = settings(scratch=str(tmp_path / "scratch"), device_memory=4.0)
    worker = ResidentWorker("toy", chosen, {}, ResidentModels(3_000_000_000))
    with pytest.raises(EngineError, match="takes 4 GB, the budget of cpu is 3 GB"):
        run(worker, a="pass")


def test_an_error_in_the_thread_that_watches_reaches_every_caller(toy: Path, tmp_path: Path) -> None:
    def report(event: Event) -> None:
        if event.kind == "done":
            raise ZeroDivisionError("in the report")

    with resident(tmp_path, report=report) as worker:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                run(worker, a="pass", b="pass")
        assert threading.active_count() >= 1
        assert worker._thread is None


def test_private_directories_are_removed_and_seen_by_the_worker(toy: Path, tmp_path: Path) -> None:
    with resident(tmp_path) as worker:
        with worker.scratch() as first, worker.scratch() as second:
            assert first != second
            write = f"Path({str(first / 'file')!r}).write_text('from the worker')"
            assert classes(run(worker, a=write)) == {"a": None}
            assert (first / "file").read_text() == "from the worker"
        assert not first.exists()
        assert not second.exists()


def test_a_scratch_directory_that_cannot_be_made(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    worker = ResidentWorker("toy", settings(scratch=str(tmp_path / "file" / "below")), {})
    with pytest.raises(ConfigError, match="cannot be written to"):
        list(worker.run(tasks(a="pass")))


CALLER = """
import sys
from pathlib import Path
from sceneloom.resources import worker_settings
from sceneloom.resources.resident_worker import ResidentWorker
from sceneloom.resources.worker_process import WorkerTask
from tests.test_worker_process import settings
worker_settings.WORKERS_FOLDER = Path(sys.argv[1])
worker = ResidentWorker("toy", settings(scratch=sys.argv[2]), {})
[ended] = worker.run([WorkerTask("a", 1, {"do": "pass"})])
print(ended.versions["process"])
"""


def test_it_ends_with_the_interpreter(toy: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    arguments = [sys.executable, "-c", CALLER, str(toy.parent), str(scratch)]
    root = Path(__file__).parents[1]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, timeout=60, check=True)
    assert not lives(int(done.stdout))
    assert list(scratch.iterdir()) == []


def test_the_size_of_a_task_gives_its_deadline(toy: Path, tmp_path: Path) -> None:
    with resident(tmp_path, clip_timeout=0.2, frame_timeout=0.1) as worker:
        works = [WorkerTask("l", 100, {"do": "time.sleep(0.6)"}), WorkerTask("s", 1, {"do": "time.sleep(600)"})]
        ended = {one.task: one for one in worker.run(works)}
    assert classes(ended) == {"l": None, "s": FailureClass.TIMEOUT}

"""Batches on a worker that stays: private directories, second attempts, results that are whole or not there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sceneloom.datasets.errors import InputError
from sceneloom.resources import worker_batches, worker_settings
from sceneloom.resources.resident_worker import ResidentWorker
from sceneloom.resources.worker_batches import BatchTask, TaskInput, WorkerBatches, WorkerOutcome, host_memory
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed
from sceneloom.resources.worker_protocol import Done

from .test_resident_worker import HEAD
from .test_worker_process import settings

WORKER = (
    HEAD
    + """
with open_dagster_pipes() as pipes:
    say = lambda kind, **content: pipes.report_custom_message({"kind": kind, **content})
    manifest = json.loads(Path(pipes.get_extra("manifest")).read_text())
    say("ready", versions={"process": str(os.getpid())})
    for task in tasks_of(manifest):
        say("started", task=task["id"])
        Path(task["log"]).write_text("the model's last words")
        output = Path(task["output"])
        output.mkdir()
        (output / "text").write_text(Path(task["text"]).read_text() + manifest["settings"]["end"])
        exec(task.get("do", "pass"))
        say("done", task=task["id"], seconds=0.5, figures={"name": Path(task["text"]).name})
"""
)


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "toy_worker.py").write_text(WORKER)
    monkeypatch.setattr(worker_settings, "WORKERS_FOLDER", folder)


def refuse(task: BatchTask) -> WorkerFailed | None:
    return WorkerFailed(FailureClass.INPUT, "it is empty") if task.frames == 0 else None


def read_back(task: BatchTask, output: Path, done: Done, versions: Mapping[str, str]) -> str:
    text = (output / "text").read_text()
    if "broken" in text:
        raise WorkerFailed(FailureClass.INVALID_OUTPUT, "text: it is broken")
    return f"{text} {done.figures['name']} {sorted(versions)}"


@contextlib.contextmanager
def batches(folder: Path, **changes: Any) -> Iterator[WorkerBatches[str]]:
    chosen = settings(scratch=str(folder / "scratch"), **changes)
    with contextlib.closing(ResidentWorker("toy", chosen, {"end": "!"})) as worker:
        yield WorkerBatches(worker, chosen, refuse, read_back)
        assert list((folder / "scratch").glob("*/tasks-*")) == []
    assert not list((folder / "scratch").iterdir())


def task(folder: Path, name: str, text: str = "hello", do: str = "pass", frames: int = 1) -> BatchTask:
    source = folder / f"{name} (source).txt"
    source.write_text(text)
    return BatchTask(name, frames, folder / "results" / name, {"text": TaskInput(source, "in.txt")}, {"do": do})


def outcomes(made: WorkerBatches[str], *tasks: BatchTask) -> dict[str, WorkerOutcome[str]]:
    found = list(made.run(tasks))
    assert sorted(outcome.task for outcome in found) == sorted(each.id for each in tasks)
    return {outcome.task: outcome for outcome in found}


def test_a_result_is_read_back_and_published_with_the_models_log(tmp_path: Path) -> None:
    with batches(tmp_path) as made:
        found = outcomes(made, task(tmp_path, "a"), task(tmp_path, "b", "bye"))
    assert found["a"].result == "hello! in.txt ['process']"
    assert (found["a"].attempts, found["a"].seconds) == (1, 0.5)
    assert found["b"].result == "bye! in.txt ['process']"
    assert (tmp_path / "results" / "b" / "worker.log").read_text() == "the model's last words"


def test_what_fails_leaves_nothing_and_is_tried_as_often_as_its_class_allows(tmp_path: Path) -> None:
    mark = tmp_path / "tried"
    flaky = f"mark = Path({str(mark)!r}); known = mark.exists(); mark.touch(); known or os.kill(os.getpid(), 9)"
    with batches(tmp_path) as made:
        found = outcomes(
            made,
            task(tmp_path, "refused", frames=0),
            task(tmp_path, "flaky", do=flaky),
            task(tmp_path, "dies", do="os.kill(os.getpid(), 9)"),
            task(tmp_path, "broken", "broken"),
            task(tmp_path, "good"),
        )
    tried = {name: (outcome.attempts, outcome.failure and outcome.failure.failure) for name, outcome in found.items()}
    assert tried == {
        "refused": (0, FailureClass.INPUT),
        "flaky": (2, None),
        "dies": (2, FailureClass.KILLED),
        "broken": (1, FailureClass.INVALID_OUTPUT),
        "good": (1, None),
    }
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["flaky", "good"]
    assert found["broken"].failure is not None
    assert found["broken"].failure.log == "the model's last words"


def test_threads_run_their_batches_on_one_process(tmp_path: Path) -> None:
    lists = [[task(tmp_path, f"{number}-{name}", f"{number}{name}") for name in "ab"] for number in range(4)]
    with batches(tmp_path) as made, ThreadPoolExecutor(4) as pool:
        found = [outcome for each in pool.map(lambda tasks: list(made.run(tasks)), lists) for outcome in each]
    assert {outcome.task: (outcome.result or "")[:3] for outcome in found} == {
        f"{number}-{name}": f"{number}{name}!" for number in range(4) for name in "ab"
    }
    assert len({outcome.versions["process"] for outcome in found}) == 1


def test_tasks_that_share_an_id_or_a_destination_are_refused(tmp_path: Path) -> None:
    first = task(tmp_path, "a")
    with batches(tmp_path) as made:
        with pytest.raises(InputError, match="the id 'a'"):
            outcomes(made, first, first)
        with pytest.raises(InputError, match="destination"):
            outcomes(made, first, dataclasses.replace(first, id="b"))
        first.destination.mkdir(parents=True)
        with pytest.raises(InputError, match="it exists"):
            outcomes(made, first)
        assert outcomes(made, task(tmp_path, "c"))["c"].failure is None


def test_host_memory_is_the_settings_limit_else_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host_memory(settings(memory_limit=2.0)) == 2e9
    monkeypatch.setattr(worker_batches, "_control_group_memory", lambda: 1000.0)
    assert host_memory(settings()) == 1000.0

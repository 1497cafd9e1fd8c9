"""Tasks on a worker that stays: private directories, second attempts, results that are whole or not there, answers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sceneloom.datasets.errors import ConfigError, InputError
from sceneloom.resources import worker_batches, worker_settings
from sceneloom.resources.failures import Reason, StageFailed
from sceneloom.resources.worker_batches import BatchTask, WorkerBatches, WorkerOutcome, host_memory
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed

from .test_resident_worker import HEAD
from .test_worker_process import settings, wait_until

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


def refuse(frames: int) -> WorkerFailed | None:
    return WorkerFailed(FailureClass.INPUT, "it is empty") if frames == 0 else None


def write(text: str, do: str, folder: Path) -> dict[str, Any]:
    (folder / "in.txt").write_text(text)
    return {"text": str(folder / "in.txt"), "do": do}


def read(output: Path, figures: Mapping[str, Any]) -> str:
    text = (output / "text").read_text()
    if "broken" in text:
        raise WorkerFailed(FailureClass.INVALID_OUTPUT, "text: it is broken")
    return f"{text} {figures['name']}"


@contextlib.contextmanager
def batches(folder: Path, **changes: Any) -> Iterator[WorkerBatches]:
    with contextlib.closing(
        WorkerBatches("toy", settings(scratch=str(folder / "scratch"), **changes), {"end": "!"})
    ) as made:
        yield made
        assert list((folder / "scratch").glob("*/tasks-*")) == []
    assert not list((folder / "scratch").iterdir())


def question(name: str, text: str = "hello", do: str = "pass", frames: int = 1) -> BatchTask[str]:
    return BatchTask(
        name, functools.partial(write, text, do), read, frames=frames, refuse=functools.partial(refuse, frames)
    )


def task(folder: Path, name: str, text: str = "hello", do: str = "pass", frames: int = 1) -> BatchTask[str]:
    return dataclasses.replace(question(name, text, do, frames), destination=folder / "results" / name)


def outcomes(made: WorkerBatches, *tasks: BatchTask[str]) -> dict[str, WorkerOutcome[str]]:
    found = list(made.run(tasks))
    assert sorted(outcome.task for outcome in found) == sorted(each.id for each in tasks)
    return {outcome.task: outcome for outcome in found}


def test_a_result_is_read_back_and_published_with_the_models_log(tmp_path: Path) -> None:
    with batches(tmp_path) as made:
        found = outcomes(made, task(tmp_path, "a"), task(tmp_path, "b", "bye"))
    assert found["a"].result == "hello! in.txt"
    assert list(found["a"].versions) == ["process"]
    assert (found["a"].attempts, found["a"].seconds) == (1, 0.5)
    assert found["b"].result == "bye! in.txt"
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
        assert first.destination is not None
        first.destination.mkdir(parents=True)
        with pytest.raises(InputError, match="it exists"):
            outcomes(made, first)
        assert outcomes(made, task(tmp_path, "c"))["c"].failure is None


def test_answers_are_read_in_the_order_of_their_questions_and_nothing_is_kept(tmp_path: Path) -> None:
    """Tried as results are that become directories: the second attempt comes after the others."""
    mark = tmp_path / "tried"
    flaky = f"mark = Path({str(mark)!r}); known = mark.exists(); mark.touch(); known or os.kill(os.getpid(), 9)"
    with batches(tmp_path) as made:
        found = made.ask_all([question("flaky", do=flaky), question("broken", "broken"), question("good", "bye")])
        assert [(each.task, each.attempts) for each in found] == [("flaky", 2), ("broken", 1), ("good", 1)]
        assert [found[0].get(), found[2].get()] == ["hello! in.txt", "bye! in.txt"]
        assert found[2].facts() == {"attempts": 1, "versions": dict(found[2].versions)}
        with pytest.raises(WorkerFailed, match="it is broken"):
            found[1].get()
        with pytest.raises(WorkerFailed, match="it is broken") as raised:
            made.ask(question("broken", "broken"))
        assert raised.value.log == "the model's last words"
        assert made.ask(question("again")).get() == "hello! in.txt"
    assert not (tmp_path / "results").exists()


def not_to_be_written(folder: Path) -> dict[str, Any]:
    raise AssertionError("written")


def test_an_environment_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    asked = BatchTask("a", not_to_be_written, read)
    chosen = settings(scratch=str(tmp_path / "scratch"), environment={"interpreter": "/nowhere/python"})
    with pytest.raises(ConfigError, match="is no program"):
        WorkerBatches("toy", chosen, {}).ask(asked)
    assert not (tmp_path / "scratch").exists()


def test_an_error_while_inputs_are_written_reaches_the_caller_and_leaves_nothing(tmp_path: Path) -> None:
    with batches(tmp_path) as made, pytest.raises(AssertionError, match="written"):
        made.ask(BatchTask("a", not_to_be_written, read))


def test_an_interpreter_without_the_protocol_fails_all_tasks_with_one_launch(tmp_path: Path) -> None:
    """The worker's file ends at its first import: no task is taken in hand, and all are told why."""
    (tmp_path / "dagster_pipes.py").write_text("raise ModuleNotFoundError(\"No module named 'dagster_pipes'\")\n")
    with batches(tmp_path, variables={"PYTHONPATH": str(tmp_path)}) as made:
        found = made.ask_all([question("a"), question("b")])
    for outcome in found:
        with pytest.raises(WorkerFailed, match="dagster_pipes") as raised:
            outcome.get()
        assert raised.value.failure is FailureClass.MODEL_MISSING
        assert "dagster_pipes" in raised.value.log
    assert [outcome.attempts for outcome in found] == [1, 0]


def test_closing_while_scenes_run_starts_nothing_again(tmp_path: Path) -> None:
    """A killed process allows a second attempt, and a closed worker does not."""
    launches, hangs = tmp_path / "launches", f"open({str(tmp_path / 'launches')!r}, 'a').write('x'); time.sleep(600)"

    def work(name: str) -> list[WorkerOutcome[str]]:
        return made.ask_all([question(f"{name}-1", do=hangs), question(f"{name}-2", do=hangs)])

    with batches(tmp_path) as made, ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(work, name) for name in "abc"]
        assert wait_until(launches.exists)
        made.close()
        for future in futures:
            with pytest.raises(StageFailed, match="the worker toy was closed while scenes were worked on") as raised:
                future.result(timeout=10)
            assert raised.value.reason is Reason.INTERRUPTED
        with pytest.raises(StageFailed, match="was closed"):
            made.ask(question("later"))
    assert launches.read_text() == "x"


def test_host_memory_is_the_settings_limit_else_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host_memory(settings(memory_limit=2.0)) == 2e9
    monkeypatch.setattr(worker_batches, "_control_group_memory", lambda: 1000.0)
    assert host_memory(settings()) == 1000.0

"""Questions to workers: how arrays are read back, and what becomes of questions that fail."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from sceneloom.datasets.errors import ConfigError
from sceneloom.resources.worker_calls import Question, WorkerCalls, read_array
from sceneloom.resources.worker_engine_settings import MogeSettings
from sceneloom.resources.worker_failures import FailureClass, WorkerFailed

from .worker_stand_ins import stand_in_settings


def failure(output: Path, shape: tuple[int, ...], kind: type[np.generic]) -> str:
    with pytest.raises(WorkerFailed) as raised:
        read_array(output, "a.npy", shape, kind)
    assert raised.value.failure is FailureClass.INVALID_OUTPUT
    return raised.value.found


def test_an_array_that_is_what_it_should_be(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    assert read_array(tmp_path, "a.npy", (-1, 3), np.floating).sum() == 15


def test_arrays_that_are_not(tmp_path: Path) -> None:
    assert "missing" in failure(tmp_path, (2,), np.floating)
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    assert "expected (2) of floating" in failure(tmp_path, (2,), np.floating)
    assert "expected (2, 3) of integer" in failure(tmp_path, (2, 3), np.integer)
    np.save(tmp_path / "a.npy", np.array([1.0, np.nan, np.inf, 2.0]))
    assert "50.0% of it is not finite" in failure(tmp_path, (4,), np.floating)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00")
    assert "cannot be read" in failure(tmp_path, (4,), np.floating)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "cannot be read" in failure(tmp_path, (1,), np.floating)


def calls(scratch: Path, **changes: object) -> WorkerCalls:
    settings = MogeSettings.model_validate(stand_in_settings(scratch, **changes))
    told = settings.model_dump(include={"model", "revision", "version", "resolution_level", "half_precision"})
    return WorkerCalls("moge", settings, told)


def test_an_environment_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, str]:
        raise AssertionError("written")

    question = Question("a", write, lambda output, figures: None)
    with pytest.raises(ConfigError, match="is no program"):
        calls(tmp_path / "scratch", environment={"interpreter": "/nowhere/python"}).ask(question)
    assert not (tmp_path / "scratch").exists()


def test_a_scratch_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written to"):
        calls(tmp_path / "file").ask(Question("a", lambda folder: {}, lambda output, figures: None))


def test_an_interpreter_without_the_protocol_fails_all_questions_with_one_launch(tmp_path: Path) -> None:
    """The worker's file ends at its first import: no question is taken in hand, and all are told why."""
    (tmp_path / "dagster_pipes.py").write_text("raise ModuleNotFoundError(\"No module named 'dagster_pipes'\")\n")
    questions = [Question(name, lambda folder: {}, lambda output, figures: None) for name in "ab"]
    with contextlib.closing(calls(tmp_path / "scratch", variables={"PYTHONPATH": str(tmp_path)})) as asked:
        answers = asked.ask_all(questions)
    assert [answer.id for answer in answers] == ["a", "b"]
    for answer in answers:
        assert answer.failure is not None
        assert answer.failure.failure is FailureClass.MODEL_MISSING
        with pytest.raises(WorkerFailed, match="dagster_pipes"):
            answer.get()
    assert list((tmp_path / "scratch").iterdir()) == []

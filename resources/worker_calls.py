"""Single questions to a worker: input files go in, an answer comes out once its files have been read back and checked.

A question that fails in a way that another try can mend is asked once more, from an empty directory. Nothing of a
question is left on the disk when it has been answered.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ConfigError
from .resident_worker import ResidentWorker
from .worker_failures import FailureClass, WorkerFailed
from .worker_process import TaskEnded, WorkerTask, end_of_file
from .worker_protocol import Event, Transport
from .worker_settings import WorkerSettings

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Question(Generic[_Value]):
    """One task for a worker, and how its output is read.

    Attributes:
        id: unique among the questions asked together.
        write: writes input files into the given directory, and returns what the worker is told beside `output`, the
            directory it is to make, and `log`.
        read: reads the output directory, given also the figures that the worker reports. Raises WorkerFailed
            (invalid-output, diverged) where the output is not whole and sane.
        frames: the question's size, from which its deadline follows.
    """

    id: str
    write: Callable[[Path], Mapping[str, Any]]
    read: Callable[[Path, Mapping[str, Any]], _Value]
    frames: int = 1


@dataclass(frozen=True, slots=True)
class Answer(Generic[_Value]):
    """How a question fared.

    Attributes:
        value: what was read; None where it failed.
        failure: why there is none.
        attempts: how often the worker was asked.
        seconds: the worker's own time, the loading of its model included where this question waited for it.
        versions: of the model's packages, as the worker found them.
    """

    id: str
    value: _Value | None
    failure: WorkerFailed | None
    attempts: int
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    def get(self) -> _Value:
        """The value. Raises WorkerFailed where there is none."""
        if self.failure is not None:
            raise self.failure
        assert self.value is not None
        return self.value

    def facts(self) -> dict[str, Any]:
        """How the answer was made, JSON."""
        return {"attempts": self.attempts, "versions": dict(self.versions)}


class WorkerCalls:
    """Asks one worker, which stays resident; threads may ask at the same time, and are served in turn.

    Args:
        worker: its name.
        settings: where it runs and how long it may take.
        told: what it is told for all questions, JSON; `device` is added.
        transport: how messages come back; Pipes' protocol over files where none is given.
        report: told of every event of the worker's.
    """

    def __init__(
        self,
        worker: str,
        settings: WorkerSettings,
        told: Mapping[str, Any],
        transport: Transport | None = None,
        report: Callable[[Event], None] | None = None,
    ) -> None:
        self.worker = worker
        self.settings = settings
        # The worker sees only the device that it may use, so whichever that is, it is its first.
        self.told = {**told, "device": "cpu" if settings.device == "cpu" else "cuda"}
        self._resident = ResidentWorker(worker, settings, self.told, transport, report)

    def ask(self, question: Question[_Value]) -> Answer[_Value]:
        """The answer to a single question.

        Raises:
            WorkerFailed: there is none.
            ConfigError: the environment or the scratch directory cannot be used.
        """
        (answer,) = self.ask_all([question])
        answer.get()
        return answer

    def ask_all(self, questions: Sequence[Question[_Value]]) -> list[Answer[_Value]]:
        """The answer to every question, in their order.

        Raises:
            ConfigError: the environment or the scratch directory cannot be used.
        """
        missing = self.settings.missing()
        if missing is not None:
            where = f"the environment of the worker {self.worker}"
            raise ConfigError(missing, where=where, remedy="Correct the worker's settings.")
        answers: dict[str, Answer[_Value]] = {}
        with self._resident.scratch() as scratch:
            left = list(questions)
            for number in (1, 2):
                folder = scratch / f"attempt-{number}"
                folder.mkdir()
                for answer in self._attempt(left, folder, number):
                    answers[answer.id] = answer
                left = [each for each in left if _can_be_asked_again(answers[each.id])]
                if not left:
                    break
        return [answers[question.id] for question in questions]

    def _attempt(self, questions: Sequence[Question[_Value]], folder: Path, number: int) -> Iterator[Answer[_Value]]:
        asked = {question.id: (question, folder / f"{index:05d}") for index, question in enumerate(questions)}
        tasks = [_task(question, place) for question, place in asked.values()]
        with contextlib.closing(self._resident.run(tasks)) as results:
            for ended in results:
                question, place = asked[ended.task]
                yield _answer(question, place, ended, number if ended.tried else number - 1)
                shutil.rmtree(place, ignore_errors=True)

    def close(self) -> None:
        """End the worker's process; a question that comes later launches it again."""
        self._resident.close()


def _task(question: Question[Any], place: Path) -> WorkerTask:
    place.mkdir()
    told = question.write(place)
    content = {**told, "output": str(place / "output"), "log": str(place / "log")}
    return WorkerTask(question.id, question.frames, content)


def _answer(question: Question[_Value], place: Path, ended: TaskEnded, number: int) -> Answer[_Value]:
    """Read back what the worker says is done."""
    failure = ended.failure
    if ended.done is not None:
        try:
            value = question.read(place / "output", ended.done.figures)
        except WorkerFailed as error:
            failure = error
        else:
            return Answer(question.id, value, None, number, ended.done.seconds, ended.versions)
    assert failure is not None
    if (place / "log").exists():
        failure.log = end_of_file(place / "log")
    return Answer(question.id, None, failure, number, versions=ended.versions)


def _can_be_asked_again(answer: Answer[Any]) -> bool:
    return answer.failure is not None and answer.failure.rule.again == "at_once"


def read_array(
    output: Path, name: str, shape: tuple[int, ...], kind: type[np.generic], *, finite: bool = True
) -> NDArray[Any]:
    """An array that a worker wrote, held to its shape and kind; nothing is unpickled.

    Args:
        output: the directory that the worker made.
        name: of the file.
        shape: expected; -1 for a side of any length.
        kind: of its elements, such as np.floating or np.bool_.
        finite: whether every element has to be finite.

    Raises:
        WorkerFailed: invalid-output, naming the file and what is wrong with it.
    """
    path = output / name
    if not path.is_file():
        raise invalid_output(name, "the file is missing")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise invalid_output(name, f"it cannot be read ({error})") from error
    fits = array.ndim == len(shape) and all(side in (-1, found) for side, found in zip(shape, array.shape, strict=True))
    if not fits or not np.issubdtype(array.dtype, kind):
        expected = f"({', '.join('any' if side == -1 else str(side) for side in shape)}) of {kind.__name__}"
        raise invalid_output(name, f"an array {array.shape} of {array.dtype}, expected {expected}")
    if finite and not np.isfinite(array).all():
        raise invalid_output(name, f"{1 - np.isfinite(array).mean():.1%} of it is not finite")
    return array


def invalid_output(name: str, found: str) -> WorkerFailed:
    """The failure that stands for a file that is not what it should be."""
    return WorkerFailed(FailureClass.INVALID_OUTPUT, f"{name}: {found}")


def write_picture(path: Path, picture: NDArray[np.uint8]) -> Path:
    """Write an (H, W, 3) uint8 picture as a PNG file."""
    from PIL import Image

    Image.fromarray(picture).save(path, "png", compress_level=1)
    return path

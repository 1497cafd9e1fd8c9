"""What is done when memory runs out: a declared order of steps, each of which makes the work smaller or slower.

An engine declares its ladder from the step that costs least to the one that costs most (tiling, offload, smaller
chunks, lower batch). A step stays in force for the work that follows, and the record of each output names those that
were in force when it was made.
"""

from __future__ import annotations

import importlib.util
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .failures import Reason, StageFailed, classify
from .model_settings import ModelSettings
from .resident_models import free_device_memory

_Output = TypeVar("_Output")

_ALLOCATION_FAILED = (
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)
"""Parts of messages by which torch reports, as plain RuntimeErrors, that memory ran out."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step down.

    Attributes:
        name: for records, such as "vae_tiling" or "chunk 41".
        apply: puts it into force for all work that follows.
    """

    name: str
    apply: Callable[[], object]


@dataclass(frozen=True, slots=True)
class LadderOutcome(Generic[_Output]):
    """What the work gave, and how it came to fit.

    Attributes:
        steps: in force when it was made, in order.
        attempts: tries of this output, the one that succeeded included.
    """

    output: _Output
    steps: tuple[str, ...]
    attempts: int

    def for_record(self) -> dict[str, Any]:
        """The part for a record, JSON."""
        return {"steps": list(self.steps), "attempts": self.attempts}


class MemoryLadder:
    """The steps of one loaded model, shared by all threads that use it, one of which runs it at a time.

    Args:
        steps: in the order in which they are taken.
        device: whose caches are freed before another try.
        where: the model's name, for the error.
        make_room: releases what else lies on the device and nobody uses; returns its names. It costs only time, so it
            comes before every step.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        device: str,
        where: str,
        make_room: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.steps = tuple(steps)
        self.device = device
        self.where = where
        self._make_room = make_room
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> tuple[str, ...]:
        """Names of the steps in force."""
        return self._names(self._taken)

    def run(self, work: Callable[[], _Output]) -> LadderOutcome[_Output]:
        """Do the work; when memory runs out, make room, free caches and do it again from the start; when that was not
        enough, take the next step.

        Args:
            work: may be called several times, and reads what the steps change each time.

        Raises:
            StageFailed: memory ran out with every step in force (reason out_of_memory). Other errors pass.
        """
        attempts = 0
        may_make_room = True
        while True:
            attempts += 1
            before = self._taken
            try:
                return LadderOutcome(work(), self._names(before), attempts)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if before == len(self.steps) and not (may_make_room and self._make_room()):
                    raise self._ended(error) from error
            # Only here, with the error and the frames it kept alive gone, can their tensors be freed.
            free_device_memory(self.device)
            if before < len(self.steps) and not (may_make_room and self._make_room()):
                self._step_down(before)
            may_make_room = False

    def _names(self, count: int) -> tuple[str, ...]:
        return tuple(step.name for step in self.steps[:count])

    def _step_down(self, before: int) -> None:
        """Take the step after those that the failed try ran with, unless another thread did meanwhile."""
        with self._lock:
            if self._taken == before:
                self.steps[before].apply()
                self._taken = before + 1

    def _ended(self, error: Exception) -> StageFailed:
        tried = f"with {', '.join(self.taken)}" if self.steps else "and nothing is declared that makes it smaller"
        return StageFailed(
            Reason.OUT_OF_MEMORY,
            f"{self.where}: memory of {self.device} ran out {tried} ({_first_line(error)}). "
            "Use a device with more memory, fewer pixels or frames, or quantisation.",
        )


@contextmanager
def out_of_memory_told(device: str, where: str) -> Iterator[None]:
    """Around work that cannot be made smaller: memory that runs out becomes a failure that says what can be done.

    Raises:
        StageFailed: memory ran out (reason out_of_memory). Other errors pass.
    """
    try:
        yield
    except StageFailed:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise StageFailed(
            Reason.OUT_OF_MEMORY,
            f"{where}: memory of {device} ran out ({_first_line(error)}). Use a device with more memory, a lower "
            "execution.parallel_scenes, fewer pixels or frames, offload or quantisation.",
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that a device or the host ran out of memory."""
    return any(
        classify(each) is Reason.OUT_OF_MEMORY
        or (isinstance(each, RuntimeError) and any(part in str(each) for part in _ALLOCATION_FAILED))
        for each in _chain(error)
    )


def pipeline_steps(pipeline: Any, settings: ModelSettings) -> tuple[Step, ...]:
    """The steps that a diffusers pipeline has beyond its settings: decode in tiles and slices, then offload.

    Offload is a step only on a CUDA device and where accelerate is installed.
    """
    vae = getattr(pipeline, "vae", None)
    steps = [
        Step(f"vae_{what}", getattr(vae, f"enable_{what}"))
        for what, on in (("tiling", settings.vae_tiling), ("slicing", settings.vae_slicing))
        if not on and hasattr(vae, f"enable_{what}")
    ]
    if settings.device.startswith("cuda") and importlib.util.find_spec("accelerate") is not None:
        if settings.offload == "none":
            steps.append(Step("offload_model", lambda: pipeline.enable_model_cpu_offload(device=settings.device)))
        if settings.offload != "sequential":
            steps.append(
                Step("offload_sequential", lambda: pipeline.enable_sequential_cpu_offload(device=settings.device))
            )
    return tuple(steps)


def steps_to(name: str, values: Sequence[int], apply: Callable[[int], object]) -> tuple[Step, ...]:
    """Steps through falling values of one number, such as frames of a chunk or clips of a batch.

    Args:
        name: of the number.
        values: each smaller than the one before.
        apply: called with the value that is to hold from now on.
    """
    if any(later >= earlier for earlier, later in itertools.pairwise(values)):
        raise ValueError(f"values of {name} must fall, found {list(values)}")
    return tuple(Step(f"{name} {value}", lambda value=value: apply(value)) for value in values)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

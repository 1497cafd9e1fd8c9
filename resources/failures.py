"""Why a scene failed: a fixed taxonomy, and what each reason means for retries, quarantine and the batch."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from ..datasets.errors import (
    ConfigError,
    ContractError,
    CorruptFileError,
    EngineError,
    InputError,
    StoreError,
)


class Reason(StrEnum):
    """The reasons a stage can fail for. The words are part of the record format: never rename one."""

    INVALID_INPUT = "invalid_input"
    MISSING_INPUT = "missing_input"
    CORRUPT_INPUT = "corrupt_input"
    INVALID_CONFIG = "invalid_config"
    CONTRACT_VIOLATION = "contract_violation"
    QUALITY_REJECTED = "quality_rejected"
    SAFETY_FLAGGED = "safety_flagged"
    OUT_OF_MEMORY = "out_of_memory"
    ENGINE_FAILED = "engine_failed"
    ESTIMATION_DIVERGED = "estimation_diverged"
    TIMED_OUT = "timed_out"
    WORKER_KILLED = "worker_killed"
    STORE_FULL = "store_full"
    STORE_UNAVAILABLE = "store_unavailable"
    INTERRUPTED = "interrupted"
    INTERNAL_ERROR = "internal_error"


Again = Literal["at_once", "next_run", "after_change"]
"""When another attempt can help: in the same run, in the next one, or only after the key has changed."""


@dataclass(frozen=True, slots=True)
class ReasonRule:
    """What follows from a reason.

    Attributes:
        meaning: one sentence for people.
        counts: whether the attempt counts towards quarantine (faults of the machine do not).
        retry_at_once: whether a second attempt in the same run can help, where the failure itself does not say.
        stops_batch: whether every other scene would fail the same way, so that the run should stop here.
    """

    meaning: str
    counts: bool = True
    retry_at_once: bool = False
    stops_batch: bool = False


RULES: dict[Reason, ReasonRule] = {
    Reason.INVALID_INPUT: ReasonRule("The prompt, picture or camera file cannot be used."),
    Reason.MISSING_INPUT: ReasonRule("An earlier stage has not been made, or is stale.", counts=False),
    Reason.CORRUPT_INPUT: ReasonRule(
        "A published file or record does not hold what was written; it is set aside and made again.", counts=False
    ),
    Reason.INVALID_CONFIG: ReasonRule("The profile asks for something impossible.", counts=False, stops_batch=True),
    Reason.CONTRACT_VIOLATION: ReasonRule("An array broke its contract before it was published."),
    Reason.QUALITY_REJECTED: ReasonRule("A clip is outside the profile's quality thresholds."),
    Reason.SAFETY_FLAGGED: ReasonRule("The safety checker of a pipeline flagged what it painted."),
    Reason.OUT_OF_MEMORY: ReasonRule("The device or the host ran out of memory.", retry_at_once=True),
    Reason.ENGINE_FAILED: ReasonRule("The engine could not do its work.", retry_at_once=True),
    Reason.ESTIMATION_DIVERGED: ReasonRule("Depth or cameras could not be estimated from the clip."),
    Reason.TIMED_OUT: ReasonRule("A worker did not end within its deadline."),
    Reason.WORKER_KILLED: ReasonRule("A worker's process ended before its result was whole."),
    Reason.STORE_FULL: ReasonRule("No space is left in the store.", counts=False, stops_batch=True),
    Reason.STORE_UNAVAILABLE: ReasonRule("The store cannot be read or written.", counts=False, stops_batch=True),
    Reason.INTERRUPTED: ReasonRule("The run was ended while the scene was worked on.", counts=False, stops_batch=True),
    Reason.INTERNAL_ERROR: ReasonRule("A fault in sceneloom or in a library it uses."),
}

_BY_TYPE: tuple[tuple[type[BaseException], Reason], ...] = (
    (CorruptFileError, Reason.CORRUPT_INPUT),
    (ContractError, Reason.CONTRACT_VIOLATION),
    (ConfigError, Reason.INVALID_CONFIG),
    (InputError, Reason.INVALID_INPUT),
    (EngineError, Reason.ENGINE_FAILED),
    (MemoryError, Reason.OUT_OF_MEMORY),
)


class StageFailed(Exception):
    """Raised by a stage that knows its reason better than its exception's type tells.

    Args:
        reason: why.
        message: for people.
        again: when another attempt can help; None: as the reason's rule has it.
        log: the end of what a worker printed.
    """

    def __init__(self, reason: Reason, message: str, *, again: Again | None = None, log: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.log = log
        self.again: Again = again or _again(reason)


def _again(reason: Reason) -> Again:
    return "at_once" if RULES[reason].retry_at_once else "next_run"


def again_after(error: BaseException) -> Again:
    """When another attempt can help after an exception."""
    return error.again if isinstance(error, StageFailed) else _again(classify(error))


def classify(error: BaseException) -> Reason:
    """The reason that an exception stands for, following its chain of causes where its own type says nothing."""
    if isinstance(error, StageFailed):
        return error.reason
    if isinstance(error, OSError):
        return _classify_os_error(error)
    for kind, reason in _BY_TYPE:
        if isinstance(error, kind):
            return reason
    if type(error).__name__ in {"OutOfMemoryError", "AcceleratorOutOfMemoryError"}:
        return Reason.OUT_OF_MEMORY
    if error.__cause__ is not None:
        return classify(error.__cause__)
    return Reason.INTERNAL_ERROR


def _classify_os_error(error: OSError) -> Reason:
    code = error.errno
    if code is None and isinstance(error.__cause__, OSError):
        code = error.__cause__.errno
    if code in {errno.ENOSPC, errno.EDQUOT}:
        return Reason.STORE_FULL
    if code == errno.ENOMEM:
        return Reason.OUT_OF_MEMORY
    if isinstance(error, StoreError) or code in {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}:
        return Reason.STORE_UNAVAILABLE
    return Reason.INTERNAL_ERROR

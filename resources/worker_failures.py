"""Why a worker had no result for a task: ten classes, told from what was seen, and what each means for another try.

A worker reports what it saw (exit code, exception, the end of its log), whoever launched it adds what only it can know
(a deadline that passed, a signal, memory that the kernel took back), and `classify` names the class.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .failures import Again, Reason, StageFailed


class FailureClass(StrEnum):
    """The classes. The words stand in records: never rename one."""

    USAGE = "usage"
    INPUT = "input"
    OVERSIZE = "oversize"
    OUT_OF_MEMORY = "oom"
    MODEL_MISSING = "model-missing"
    DIVERGED = "diverged"
    WRITE = "write"
    TIMEOUT = "timeout"
    KILLED = "killed"
    INVALID_OUTPUT = "invalid-output"


@dataclass(frozen=True, slots=True)
class FailureRule:
    """What follows from a class.

    Attributes:
        meaning: one sentence for people.
        remedy: what to do about it.
        reason: the reason in the record.
        again: when another try can help: "at_once" (once more in the same batch, then in the next run), "next_run", or
            only "after_change" of the input, the profile or the machine.
        stops_batch: whether every other task would fail the same way.
    """

    meaning: str
    remedy: str
    reason: Reason
    again: Again
    stops_batch: bool = False


RULES: dict[FailureClass, FailureRule] = {
    FailureClass.USAGE: FailureRule(
        "The worker was asked for something that it does not know.",
        "Mend the worker's settings in the profile.",
        Reason.INVALID_CONFIG,
        "after_change",
        stops_batch=True,
    ),
    FailureClass.INPUT: FailureRule(
        "The clip cannot be used.", "Make the clip again, or leave it out.", Reason.INVALID_INPUT, "after_change"
    ),
    FailureClass.OVERSIZE: FailureRule(
        "The clip is too long or too large for the worker.",
        "Make shorter or smaller clips, or give the worker more memory.",
        Reason.INVALID_INPUT,
        "after_change",
    ),
    FailureClass.OUT_OF_MEMORY: FailureRule(
        "The device or the host ran out of memory.",
        "Run fewer workers at once, or choose a preset that needs less.",
        Reason.OUT_OF_MEMORY,
        "next_run",
    ),
    FailureClass.MODEL_MISSING: FailureRule(
        "A model's weights or package are not on this machine.",
        "Install what the message names in the worker's environment.",
        Reason.INVALID_CONFIG,
        "after_change",
        stops_batch=True,
    ),
    FailureClass.DIVERGED: FailureRule(
        "The estimation did not converge.",
        "Another run may, as it is not deterministic; else leave the clip out.",
        Reason.ESTIMATION_DIVERGED,
        "at_once",
    ),
    FailureClass.WRITE: FailureRule(
        "The result could not be written.",
        "Make room where the worker's scratch directory lies.",
        Reason.STORE_FULL,
        "next_run",
        stops_batch=True,
    ),
    FailureClass.TIMEOUT: FailureRule(
        "The worker did not end within its deadline.",
        "Look at its log; raise the worker's time limits if it was at work.",
        Reason.TIMED_OUT,
        "next_run",
    ),
    FailureClass.KILLED: FailureRule(
        "The worker ended before its result was whole.", "Look at its log.", Reason.WORKER_KILLED, "at_once"
    ),
    FailureClass.INVALID_OUTPUT: FailureRule(
        "What the worker wrote is not a whole and sane result.",
        "Look at its log and its output.",
        Reason.CONTRACT_VIOLATION,
        "next_run",
    ),
}


class WorkerFailed(StageFailed):
    """A worker has no result for a task.

    Args:
        failure: its class.
        found: what was seen.
        log: the end of the worker's log.
    """

    def __init__(self, failure: FailureClass, found: str, *, log: str = "") -> None:
        rule = RULES[failure]
        # Whoever launches workers has tried once more already where that can help at once.
        again: Again = "next_run" if rule.again == "at_once" else rule.again
        super().__init__(rule.reason, f"{failure}: {found}. {rule.remedy}", again=again, log=log)
        self.failure = failure
        self.found = found

    @property
    def rule(self) -> FailureRule:
        """What follows from it."""
        return RULES[self.failure]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of a failure.

    Attributes:
        exit_code: of the process that failed; negative for a signal, None where it did not end by itself.
        type: name of the exception.
        message: of the exception, or of whoever reports.
        log: the end of the log.
        deadline_seconds: the deadline that passed.
        kernel_kills: processes that the kernel ended for want of memory meanwhile.
        cluster: what the cluster that ran it says of its waiting or its end; empty for a process of this machine.
    """

    exit_code: int | None = None
    type: str = ""
    message: str = ""
    log: str = ""
    deadline_seconds: float | None = None
    kernel_kills: int = 0
    cluster: str = ""


_TEXTS: tuple[tuple[FailureClass, re.Pattern[str]], ...] = (
    (
        FailureClass.OUT_OF_MEMORY,
        re.compile(
            r"OutOfMemoryError|CUDA out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|\bMemoryError"
            r"|Cannot allocate memory|std::bad_alloc|OOMKilled|low on resource: memory"
        ),
    ),
    # The buffer of SLAM keyframes is full.
    (FailureClass.OVERSIZE, re.compile(r"IndexError: index (1024|256) is out of bounds|keyframe buffer")),
    (
        FailureClass.WRITE,
        re.compile(
            r"No space left on device|Disk quota exceeded|Read-only file system|BrokenPipe"
            r"|low on resource: ephemeral-storage|ephemeral local storage usage exceeds"
        ),
    ),
    (
        FailureClass.MODEL_MISSING,
        re.compile(
            r"is not found in the environment|ModelMissing|ModuleNotFoundError|No module named|ImportError"
            r"|cannot open shared object file|No CUDA GPUs are available|Found no NVIDIA driver|not compiled with CUDA"
            r"|LocalEntryNotFoundError"
            r"|OfflineModeIsEnabled|RepositoryNotFoundError|GatedRepoError|FileURLRetrievalError|URLError"
            r"|ConnectionError|ConnectTimeout|Failed to resolve"
        ),
    ),
    (
        FailureClass.DIVERGED,
        re.compile(r"LinAlgError|MatrixRankWarning|spsolve|[Ss]ingular matrix|is singular|not positive.definite"),
    ),
    (
        FailureClass.USAGE,
        re.compile(
            r"cannot be started|No such option|^Usage:|Aborted!|ConfigCompositionException|MissingConfigException"
            r"|OverrideParseException"
            r"|LexerNoViableAlt|mismatched input|Could not find 'pipeline/|Could not override",
            re.MULTILINE,
        ),
    ),
    (
        FailureClass.INPUT,
        re.compile(
            r"might be malformed|moov atom not found|ZeroDivisionError|list index out of range|No such file"
            r"|Could not open|Invalid data found when processing input"
        ),
    ),
)
"""What libraries print, in the order in which it is looked for: a failed allocation explains what follows from it."""

_PATTERNS: dict[FailureClass, re.Pattern[str]] = dict(_TEXTS)
_SIGKILL_STATUS = 128 + signal.SIGKILL


def classify(evidence: Evidence) -> FailureClass:
    """The class of what was seen."""
    if evidence.deadline_seconds is not None:
        return FailureClass.TIMEOUT
    text = f"{evidence.type}: {evidence.message}\n{evidence.cluster}\n{evidence.log}"
    for failure, pattern in _TEXTS:
        if pattern.search(text):
            return failure
    if evidence.exit_code == 2:
        return FailureClass.USAGE
    # A shell and a container turn the kernel's SIGKILL into 137. A bare SIGKILL may be anybody's, unless it is counted.
    killed = evidence.exit_code == -signal.SIGKILL and evidence.kernel_kills > 0
    if killed or evidence.exit_code == _SIGKILL_STATUS:
        return FailureClass.OUT_OF_MEMORY
    if evidence.exit_code == 0 or evidence.type == "SystemExit":
        return FailureClass.INVALID_OUTPUT
    return FailureClass.KILLED


def failed(evidence: Evidence) -> WorkerFailed:
    """The error that stands for what was seen."""
    failure = classify(evidence)
    return WorkerFailed(failure, _found(failure, evidence), log=evidence.log)


def _found(failure: FailureClass, evidence: Evidence) -> str:
    if evidence.deadline_seconds is not None:
        late = f"nothing came of it within {evidence.deadline_seconds:.0f} s"
        return "; ".join(filter(None, [late, evidence.cluster.rstrip(".")]))
    said = f"{evidence.type}: {evidence.message}" if evidence.type else evidence.message
    parts = [said or _ended(evidence.exit_code), *([evidence.cluster] if evidence.cluster else [])]
    if failure is FailureClass.OUT_OF_MEMORY and evidence.exit_code in {-signal.SIGKILL, _SIGKILL_STATUS}:
        parts.append("ended by SIGKILL, as the kernel does when memory runs out")
    last = _last_line(evidence.log, _PATTERNS.get(failure))
    if last and last not in said:
        parts.append(f"its log says: {last}")
    return "; ".join(part.rstrip(".") for part in parts)


def _ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "it ended"
    if exit_code < 0:
        return f"ended by {signal.Signals(-exit_code).name}"
    return f"ended with {exit_code}"


def _last_line(log: str, pattern: re.Pattern[str] | None) -> str:
    """The log's line that told the class, else the last that is no news of the ordinary."""
    lines = [line.strip() for line in log.splitlines() if line.strip() and " - INFO - " not in line]
    telling = [line for line in lines if pattern is not None and pattern.search(line)]
    return (telling or lines or [""])[-1][:300]


def kernel_kills() -> int:
    """Processes that the kernel has ended for want of memory since the machine started; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

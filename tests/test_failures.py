from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sceneloom.assets.observations import ContractBroken
from sceneloom.datasets.errors import (
    ConfigError,
    ContractError,
    CorruptFileError,
    EngineError,
    InputError,
    StoreError,
)
from sceneloom.resources.failures import RULES, Reason, StageFailed, again_after, classify
from sceneloom.resources.records import ContractObservation
from sceneloom.resources.store import CorruptOutputError


def said(kind: type[Exception]) -> Exception:
    return kind("found", where="here/there/file", remedy="Do this.")  # pyright: ignore[reportCallIssue]


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


OBSERVATION = ContractObservation(contract="depth", array="left", expected="float32", found="int8", passed=False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (said(InputError), Reason.INVALID_INPUT),
        (said(ConfigError), Reason.INVALID_CONFIG),
        (said(ContractError), Reason.CONTRACT_VIOLATION),
        (ContractBroken(OBSERVATION, "Make it float32."), Reason.CONTRACT_VIOLATION),
        (said(CorruptFileError), Reason.CORRUPT_INPUT),
        (said(CorruptOutputError), Reason.CORRUPT_INPUT),
        (said(EngineError), Reason.ENGINE_FAILED),
        (said(StoreError), Reason.STORE_UNAVAILABLE),
        (StageFailed(Reason.QUALITY_REJECTED, "blurred"), Reason.QUALITY_REJECTED),
        (MemoryError(), Reason.OUT_OF_MEMORY),
        (OutOfMemoryError("CUDA out of memory"), Reason.OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, "no memory"), Reason.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "no space"), Reason.STORE_FULL),
        (OSError(errno.EDQUOT, "quota"), Reason.STORE_FULL),
        (OSError(errno.EROFS, "read-only"), Reason.STORE_UNAVAILABLE),
        (PermissionError(errno.EACCES, "denied"), Reason.STORE_UNAVAILABLE),
        (FileNotFoundError(errno.ENOENT, "a program"), Reason.INTERNAL_ERROR),
        (ZeroDivisionError(), Reason.INTERNAL_ERROR),
    ],
)
def test_exceptions_stand_for_reasons(error: Exception, reason: Reason) -> None:
    assert classify(error) is reason


def test_the_video_library_s_full_disk_is_a_full_store() -> None:
    import av.error

    with pytest.raises(av.error.FFmpegError) as raised:
        av.error.err_check(-errno.ENOSPC)
    assert classify(raised.value) is Reason.STORE_FULL


def test_an_unknown_exception_takes_the_reason_of_its_cause() -> None:
    def wrapped(cause: Exception) -> Exception:
        try:
            raise RuntimeError("worker failed") from cause
        except RuntimeError as error:
            return error

    assert classify(wrapped(OSError(errno.ENOSPC, "no space"))) is Reason.STORE_FULL
    assert classify(wrapped(wrapped(MemoryError()))) is Reason.OUT_OF_MEMORY
    assert classify(wrapped(KeyError("a"))) is Reason.INTERNAL_ERROR


def test_a_store_error_tells_a_full_store_from_one_that_is_gone() -> None:
    full = StoreError("No space left on device", where="/store", remedy="Make room.")
    full.errno = errno.ENOSPC
    assert classify(full) is Reason.STORE_FULL
    with pytest.raises(StoreError) as raised:
        raise StoreError("cannot write", where="/store", remedy="Make room.") from OSError(errno.ENOSPC, "no space")
    assert classify(raised.value) is Reason.STORE_FULL


def test_every_reason_has_a_rule_and_its_word_is_stable() -> None:
    assert set(RULES) == set(Reason)
    assert all(rule.meaning.endswith(".") for rule in RULES.values())
    assert sorted(Reason) == [
        "contract_violation",
        "corrupt_input",
        "engine_failed",
        "estimation_diverged",
        "internal_error",
        "interrupted",
        "invalid_config",
        "invalid_input",
        "missing_input",
        "out_of_memory",
        "quality_rejected",
        "safety_flagged",
        "store_full",
        "store_unavailable",
        "timed_out",
        "worker_killed",
    ]


def test_faults_that_are_not_the_scene_s_never_count_towards_quarantine() -> None:
    machine = {Reason.STORE_FULL, Reason.STORE_UNAVAILABLE, Reason.INVALID_CONFIG, Reason.INTERRUPTED}
    assert {reason for reason, rule in RULES.items() if rule.stops_batch} == machine
    assert not any(RULES[reason].counts for reason in machine | {Reason.MISSING_INPUT, Reason.CORRUPT_INPUT})
    assert {reason for reason, rule in RULES.items() if rule.retry_at_once} == {
        Reason.OUT_OF_MEMORY,
        Reason.ENGINE_FAILED,
    }


def test_a_real_missing_folder_is_no_store_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        (tmp_path / "absent" / "file").read_bytes()
    assert classify(raised.value) is Reason.INTERNAL_ERROR


def test_a_failure_says_when_another_attempt_can_help() -> None:
    assert again_after(EngineError("no", where="x", remedy="y")) == "at_once"
    assert again_after(ValueError("no")) == "next_run"
    assert again_after(StageFailed(Reason.OUT_OF_MEMORY, "no")) == "at_once"
    assert again_after(StageFailed(Reason.OUT_OF_MEMORY, "no", again="next_run")) == "next_run"
    assert again_after(StageFailed(Reason.INVALID_INPUT, "no", again="after_change")) == "after_change"

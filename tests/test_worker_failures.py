"""Classes of workers' failures: what was seen gives one class, and the class says what follows."""

from __future__ import annotations

import signal

import pytest

from sceneloom.resources import failures
from sceneloom.resources.worker_failures import RULES, Evidence, FailureClass, WorkerFailed, classify, failed

SEEN: dict[str, tuple[Evidence, str]] = {
    "command line refused": (Evidence(exit_code=2, log="Usage: vipe infer\nError: No such option: -q"), "usage"),
    "status 2 alone": (Evidence(exit_code=2), "usage"),
    "unknown preset": (Evidence(exit_code=1, log="hydra.errors.MissingConfigException: x"), "usage"),
    "no program": (Evidence(message="vipe cannot be started: [Errno 2] No such file or directory"), "usage"),
    "no frame decoded": (Evidence(exit_code=1, log="IndexError: list index out of range"), "input"),
    "malformed": (Evidence(exit_code=1, log="ValueError: Your video might be malformed. Try"), "input"),
    "keyframe buffer": (
        Evidence(exit_code=1, log="IndexError: index 1024 is out of bounds for dimension 0 with size 1024"),
        "oversize",
    ),
    "device memory": (
        Evidence(exit_code=1, log="torch.OutOfMemoryError: CUDA out of memory.\nRuntimeError: spsolve failed"),
        "oom",
    ),
    "container out of memory": (Evidence(exit_code=137), "oom"),
    "kernel out of memory": (Evidence(exit_code=-9, kernel_kills=1), "oom"),
    "somebody's SIGKILL": (Evidence(exit_code=-9), "killed"),
    "segmentation fault": (Evidence(exit_code=-signal.SIGSEGV), "killed"),
    "unknown crash": (Evidence(exit_code=1, log="RuntimeError: something new"), "killed"),
    "no MoGe": (Evidence(type="RuntimeError", message="moge is not found in the environment"), "model-missing"),
    "no library": (
        Evidence(exit_code=1, log="ImportError: libGL.so.1: cannot open shared object file: No such file or directory"),
        "model-missing",
    ),
    "no checkpoint": (
        Evidence(type="ModelMissing", message="[Errno 2] No such file or directory: 'x'"),
        "model-missing",
    ),
    "no driver": (Evidence(type="RuntimeError", message="No CUDA GPUs are available"), "model-missing"),
    "no network": (Evidence(exit_code=1, log="urllib.error.URLError: <urlopen error"), "model-missing"),
    "singular": (Evidence(exit_code=1, log="MatrixRankWarning: Matrix is exactly singular"), "diverged"),
    "full disk": (Evidence(exit_code=1, log="OSError: [Errno 28] No space left on device"), "write"),
    "writer's pipe": (Evidence(exit_code=1, log="BrokenPipeError: [Errno 32] Broken pipe"), "write"),
    "deadline": (Evidence(exit_code=None, log="CUDA out of memory", deadline_seconds=5.0), "timeout"),
    "pod out of memory": (Evidence(exit_code=-9, cluster="the pod scenes/a: OOMKilled"), "oom"),
    "evicted for memory": (Evidence(cluster="ended as Failed. Evicted: The node was low on resource: memory."), "oom"),
    "evicted for disk": (
        Evidence(cluster="Evicted: The node was low on resource: ephemeral-storage. Threshold quantity: 1"),
        "write",
    ),
    "node lost": (Evidence(cluster="the pod scenes/a is gone: it was deleted, or its node was lost"), "killed"),
    "pod refused": (Evidence(cluster="the pod scenes/a cannot be started (422 Unprocessable Entity)"), "usage"),
    "ended well without result": (Evidence(exit_code=0), "invalid-output"),
    "called exit": (Evidence(type="SystemExit", message="ViPE called exit(None)"), "invalid-output"),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_was_seen_gives_one_class(name: str) -> None:
    evidence, expected = SEEN[name]
    assert classify(evidence) == expected


def test_every_class_has_its_rule_and_is_told_from_something() -> None:
    assert set(RULES) == set(FailureClass)
    assert {expected for _, expected in SEEN.values()} == set(FailureClass)


@pytest.mark.parametrize("failure", list(FailureClass))
def test_the_reason_in_the_record_follows_from_the_class(failure: FailureClass) -> None:
    error = WorkerFailed(failure, "seen")
    assert failures.classify(error) is RULES[failure].reason
    assert str(error).startswith(f"{failure}: seen. ")
    assert RULES[failure].remedy in str(error)
    # What fails every task alike stops the batch by the pipeline's rules too.
    assert RULES[failure].stops_batch == failures.RULES[RULES[failure].reason].stops_batch


def test_the_message_quotes_the_line_that_told_the_class() -> None:
    log = "2026 - vipe - INFO - Finished reading\nTraceback (most recent call last):\nURLError: no route\nbye"
    error = failed(Evidence(exit_code=1, message="vipe infer ended with 1", log=log))
    assert error.found == "vipe infer ended with 1; its log says: URLError: no route"
    assert error.log == log


def test_a_signal_is_named() -> None:
    assert failed(Evidence(exit_code=-signal.SIGSEGV)).found == "ended by SIGSEGV"


def test_what_a_cluster_says_is_told() -> None:
    waits = "the pod scenes/a waits: ErrImagePull: denied."
    assert failed(Evidence(deadline_seconds=5.0, cluster=waits)).found == (
        "nothing came of it within 5 s; the pod scenes/a waits: ErrImagePull: denied"
    )
    assert failed(Evidence(exit_code=1, cluster="evicted.", log="last words")).found == (
        "ended with 1; evicted; its log says: last words"
    )

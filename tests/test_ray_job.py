"""Workers as jobs of a real Ray cluster of one node: batches, deaths, deadlines, and the end of the caller."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sceneloom.assets.worker_pipes import LineMessageReader
from sceneloom.datasets.errors import EngineError
from sceneloom.resources import remote_worker, worker_settings
from sceneloom.resources.cluster_environments import RayEnvironment
from sceneloom.resources.ray_job import job_submission
from sceneloom.resources.resident_worker import ResidentWorker
from sceneloom.resources.worker_failures import FailureClass
from sceneloom.resources.worker_process import TaskEnded

from .ray_head import ray_head
from .test_resident_worker import HEAD, LOOP
from .test_vipe_worker import FILE as VIPE_WORKER
from .test_worker_pipes import NOISE_AND_A_FAILURE, require_three_clips
from .test_worker_process import Settings, classes, failure_of, lives, tasks, wait_until
from .worker_stand_ins import CALLER_OF_A_CLUSTER

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed (pip install 'sceneloom[ray]')"
)


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    with ray_head() as address:
        yield address


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "toy_worker.py").write_text(HEAD + LOOP)
    monkeypatch.setattr(worker_settings, "WORKERS_FOLDER", folder)
    monkeypatch.setattr(remote_worker, "LOOK_INTERVAL", 0.2)
    return folder


def job_settings(address: str, folder: Path, **changes: Any) -> Settings:
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    environment = {
        "address": address,
        "shared": str(shared),
        "python": sys.executable,
        **changes.pop("environment", {}),
    }
    limits = {"start_timeout": 60.0, "clip_timeout": 60.0, "frame_timeout": 0.0001, "device": "cpu", **changes}
    return Settings.model_validate({"environment": {"ray": environment}, **limits})


@contextlib.contextmanager
def resident(address: str, folder: Path, **changes: Any) -> Iterator[ResidentWorker]:
    with contextlib.closing(ResidentWorker("toy", job_settings(address, folder, **changes), {})) as worker:
        yield worker
    assert list((folder / "shared").iterdir()) == []


def run(worker: ResidentWorker, **work: str) -> dict[str, TaskEnded]:
    return {one.task: one for one in worker.run(tasks(**work))}


@needs_ray
def test_one_job_serves_run_after_run_and_a_death_loses_the_task_in_hand(head: str, toy: Path, tmp_path: Path) -> None:
    import ray.job_submission  # pyright: ignore[reportMissingImports]

    environment = {"runtime_env": {"env_vars": {"KEPT": "1", "SET": "by the runtime_env"}}}
    with resident(head, tmp_path, environment=environment, variables={"SET": "here"}) as worker:
        seen = "assert (os.environ['KEPT'], os.environ['SET'], os.environ['CUDA_VISIBLE_DEVICES']) == ('1', 'here', '')"
        first, second = run(worker, a=seen, b="pass"), run(worker, a="pass")
        assert classes(first | second) == {"a": None, "b": None}
        assert first["a"].versions == second["a"].versions
        third = run(worker, c="print('last words', flush=True); os.kill(os.getpid(), 9)", d="pass")
    assert classes(third) == {"c": FailureClass.KILLED, "d": None}
    assert failure_of(third["c"]).found == "ended by SIGKILL; its log says: last words"
    jobs = ray.job_submission.JobSubmissionClient(head).list_jobs()
    ours = [job for job in jobs if (job.metadata or {}).get("sceneloom/worker") == "toy"]
    assert sorted(str(job.status) for job in ours) == ["FAILED", "SUCCEEDED"]


@needs_ray
def test_a_hang_is_stopped_with_all_it_started(head: str, toy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "child"
    hang = f"Path({str(mark)!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid)); time.sleep(600)"
    with resident(head, tmp_path, clip_timeout=1.0) as worker:
        ended = run(worker, a=hang)
    assert classes(ended) == {"a": FailureClass.TIMEOUT}
    assert not lives(int(mark.read_text()))


@needs_ray
def test_a_job_that_no_node_can_take(head: str, toy: Path, tmp_path: Path) -> None:
    with resident(head, tmp_path, environment={"entrypoint_resources": {"absent": 1.0}}, start_timeout=2.0) as worker:
        ended = run(worker, a="pass")
    assert classes(ended) == {"a": FailureClass.TIMEOUT}
    assert "It may be waiting for resources" in failure_of(ended["a"]).found


@needs_ray
def test_a_runtime_environment_that_cannot_be_made(head: str, toy: Path, tmp_path: Path) -> None:
    with resident(head, tmp_path, environment={"runtime_env": {"conda": "no-such-environment"}}) as worker:
        ended = run(worker, a="pass", b="pass")
    assert classes(ended) == {"a": FailureClass.USAGE, "b": FailureClass.USAGE}
    assert "RUNTIME_ENV_SETUP_FAILURE" in failure_of(ended["a"]).found


@needs_ray
def test_a_head_that_does_not_answer(toy: Path, tmp_path: Path) -> None:
    with resident("http://127.0.0.1:1", tmp_path, start_timeout=0.5) as worker:
        ended = run(worker, a="pass")
    assert classes(ended) == {"a": FailureClass.TIMEOUT}
    assert "the Ray cluster cannot be reached" in failure_of(ended["a"]).found


@needs_ray
def test_the_job_ends_when_its_caller_is_killed(head: str, toy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "worker"
    settings = job_settings(head, tmp_path).model_dump_json()
    hang = f"Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(600)"
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER_OF_A_CLUSTER, str(toy), settings, hang], cwd=Path(__file__).parents[1]
    )
    try:
        assert wait_until(lambda: mark.exists() and mark.read_text() != "", 40)
        worker = int(mark.read_text())
        time.sleep(2.0)
        assert lives(worker)
    finally:
        os.kill(caller.pid, signal.SIGKILL)
        caller.wait()
    assert wait_until(lambda: not lives(worker))


@needs_ray
def test_the_workers_file_runs_under_pipes_own_client(head: str, tmp_path: Path) -> None:
    """PipesRayJobClient, with the context and the messages in files that both see."""
    client = pytest.importorskip("dagster_ray").PipesRayJobClient(
        address=head,
        context_injector=dg.PipesFileContextInjector(str(tmp_path / "context.json")),
        message_reader=LineMessageReader(tmp_path / "messages.jsonl"),
        poll_interval=0.2,
    )

    file = Path(shutil.copy(VIPE_WORKER, tmp_path))

    def launch(context: dg.AssetExecutionContext, manifest: Path) -> Any:
        variables = {"VIPE_STAND_IN_FAULTS": json.dumps(NOISE_AND_A_FAILURE)}
        return client.run(
            context=context,
            submit_job_params={
                "entrypoint": shlex.join([sys.executable, "-u", str(file)]),
                "runtime_env": {"env_vars": variables},
            },
            extras={"manifest": str(manifest)},
        )

    require_three_clips(tmp_path, launch)


def test_what_a_job_asks_for(tmp_path: Path) -> None:
    environment = RayEnvironment(
        address="http://head:8265",
        shared=str(tmp_path),
        runtime_env={"pip": ["moge"], "env_vars": {"A": "1", "B": "2"}},
        entrypoint_memory=1 << 30,
    )
    asked = job_submission(environment, "moge", "sceneloom-moge-1", ("python", "a file"), {"B": "3"}, gpu=True)
    assert asked == {
        "entrypoint": "python 'a file'",
        "submission_id": "sceneloom-moge-1",
        "runtime_env": {"pip": ["moge"], "env_vars": {"A": "1", "B": "3"}},
        "metadata": {"sceneloom/worker": "moge"},
        "entrypoint_num_cpus": 1.0,
        "entrypoint_num_gpus": 1.0,
        "entrypoint_memory": 1 << 30,
    }
    half = environment.model_copy(update={"entrypoint_num_gpus": 0.5})
    assert job_submission(half, "moge", "a", (), {}, gpu=True)["entrypoint_num_gpus"] == 0.5
    assert "entrypoint_num_gpus" not in job_submission(environment, "moge", "a", (), {}, gpu=False)


def test_the_extra_is_named_where_ray_is_not_installed(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with resident("http://head:8265", tmp_path) as worker, pytest.raises(EngineError, match=r"sceneloom\[ray\]"):
        run(worker, a="pass")

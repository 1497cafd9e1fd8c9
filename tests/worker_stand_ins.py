"""Settings under which workers of this interpreter run stand-ins of their models' packages."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sceneloom.resources.resident_worker import ResidentWorker
from sceneloom.resources.worker_process import TaskEnded, WorkerTask
from sceneloom.resources.worker_settings import WorkerSettings

STAND_INS = Path(__file__).parent / "stand_ins"


def stand_in_settings(scratch: Path, **changes: Any) -> dict[str, Any]:
    """Keys of a worker's settings: this interpreter, on the CPU, with the stand-ins' packages before all others."""
    variables = {"PYTHONPATH": str(STAND_INS), "OMP_NUM_THREADS": "1", **changes.pop("variables", {})}
    return {
        "environment": {"interpreter": sys.executable},
        "device": "cpu",
        "scratch": str(scratch),
        "variables": variables,
        **changes,
    }


def answers_of(
    worker: str, settings: WorkerSettings, told: Mapping[str, Any], tasks: Sequence[WorkerTask]
) -> list[TaskEnded]:
    """Run tasks on a worker of their own, which is ended afterwards."""
    with contextlib.closing(ResidentWorker(worker, settings, told)) as resident:
        return list(resident.run(tasks))


def lyra_settings(folder: Path, frames: int, height: int, width: int, **changes: Any) -> dict[str, Any]:
    """Settings of the worker gen3c with a checkout and checkpoints of stand-ins, made in the folder."""
    import torch

    source, checkpoints = folder / "Lyra-1", folder / "checkpoints"
    if not source.exists():
        shutil.copytree(STAND_INS / "cosmos_predict1", source / "cosmos_predict1")
        config = source / "cosmos_predict1" / "diffusion" / "config"
        config.mkdir()
        (config / "config.py").touch()
        (checkpoints / "Gen3C-Cosmos-7B").mkdir(parents=True)
        (checkpoints / "Gen3C-Cosmos-7B" / "model.pt").write_text(str(frames))
        tokenizer = checkpoints / "Cosmos-Tokenize1-CV8x8x8-720p"
        tokenizer.mkdir()
        mean, std = 0.01 * torch.arange(256.0), 1 + 0.01 * torch.arange(256.0)
        torch.save((mean.bfloat16(), std.bfloat16()), tokenizer / "mean_std.pt")
        (tokenizer / "encoder.jit").write_bytes(b"weights")
        (checkpoints / "google-t5" / "t5-11b").mkdir(parents=True)
        (checkpoints / "google-t5" / "t5-11b" / "config.json").write_text("{}")
    settings = stand_in_settings(folder / "scratch", **changes)
    places = {"source": str(source), "checkpoints": str(checkpoints)}
    return {**settings, **places, "frames": frames, "height": height, "width": width}


def require_empty(scratch: Path) -> None:
    """Whatever happened, nothing is left in the scratch directory."""
    assert list(scratch.iterdir()) == []


SHARED_PART = "# ---------------------------------------------------------------- the same in every worker"


def shared_part(source: str) -> str:
    """The part of a worker's file that is the same in all workers that answer single tasks."""
    _, marker, shared = source.partition(SHARED_PART)
    assert marker
    return shared


def imported_packages(source: str) -> set[str]:
    """Top-level packages that a file imports by name, outside the standard library."""
    import ast

    names: Sequence[str] = [
        name
        for node in ast.walk(ast.parse(source))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)


CALLER_OF_A_CLUSTER = """
import sys
from pathlib import Path
from sceneloom.resources import remote_worker, worker_settings
from sceneloom.resources.resident_worker import ResidentWorker
from sceneloom.resources.worker_process import WorkerTask
from tests.test_worker_process import Settings
remote_worker.BEAT_INTERVAL, remote_worker.HEARTBEAT_LIMIT = 0.2, 1.5
worker_settings.WORKERS_FOLDER = Path(sys.argv[1])
settings = Settings.model_validate_json(sys.argv[2])
list(ResidentWorker("toy", settings, {}).run([WorkerTask("a", 1, {"do": sys.argv[3]})]))
"""
"""A process that runs a task on a cluster, with a heartbeat that beats fast; its arguments: folder of the worker's
file, settings, what the task does."""

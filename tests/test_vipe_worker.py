"""The file that runs in ViPE's environment: alone in another one, and driving minimal modules in ViPE's place."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import dagster as dg
import dagster_pipes
import numpy as np
import pytest

from sceneloom.orchestration.worker_commands import script_metadata
from sceneloom.resources.vipe import ViPEWorker
from sceneloom.resources.worker_failures import FailureClass
from sceneloom.resources.worker_protocol import FORMAT, Done, Failed, parse_event
from sceneloom.resources.worker_settings import worker_file

from .vipe_clips import STAND_IN, batch, vipe_settings, write_clip

FILE = worker_file("vipe")

# ---------------------------------------------------------------- what the file is


def test_the_file_needs_dagster_pipes_and_the_standard_library() -> None:
    tree = ast.parse(FILE.read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == {"dagster_pipes"}


def test_the_file_is_python_of_vipes_own_version() -> None:
    ast.parse(FILE.read_text(), feature_version=(3, 10))


def test_its_environment_is_pinned_to_a_commit() -> None:
    metadata = script_metadata(FILE.read_text())
    [source] = [text for text in metadata["dependencies"] if text.startswith("nvidia-vipe")]
    url, _, commit = source.rpartition("@")
    assert url == "nvidia-vipe @ git+https://github.com/nv-tlabs/vipe"
    assert len(commit) == 40
    assert int(commit, 16)
    assert any(text.startswith("dagster-pipes") for text in metadata["dependencies"])
    # Of one MoGe for both workers that have it.
    [moge] = [text for text in metadata["dependencies"] if text.startswith("moge")]
    assert moge in script_metadata(worker_file("moge").read_text())["dependencies"]
    assert metadata["tool"]["uv"]["sources"]["torch"]["index"] == metadata["tool"]["uv"]["index"][0]["name"]


# ---------------------------------------------------------------- an environment of its own


@pytest.fixture(scope="module")
def foreign_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a venv that holds dagster-pipes and numpy, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    python = folder / "bin" / "python"
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "dagster_pipes").symlink_to(Path(dagster_pipes.__file__).parent)
    numpy_folder = Path(np.__file__).parent
    (packages / "numpy").symlink_to(numpy_folder)
    (packages / "numpy.libs").symlink_to(numpy_folder.with_name("numpy.libs"))
    return python


def test_the_environment_is_bare(foreign_python: Path) -> None:
    program = (
        "import importlib.util, json, numpy, dagster_pipes;"
        "print(json.dumps([name for name in ('sceneloom', 'dagster', 'pydantic', 'torch', 'av', 'PIL')"
        " if importlib.util.find_spec(name)]))"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([foreign_python, "-c", program], cwd="/", env=clean, capture_output=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_batch_in_an_environment_without_any_package_of_ours(foreign_python: Path, tmp_path: Path) -> None:
    settings = vipe_settings(tmp_path / "scratch", environment={"interpreter": str(foreign_python)})
    outcomes = list(ViPEWorker(settings).estimate(batch(tmp_path, "a", "b")))
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert set(outcomes[0].versions) == {"python"}


def test_the_same_file_under_dagsters_subprocess_client(
    foreign_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run of an asset with four scenes: the real Pipes client, the other environment, messages for every scene."""
    names = [f"scene-{index}" for index in range(4)]
    monkeypatch.setenv("VIPE_STAND_IN_FAULTS", json.dumps({"scene-1": "slam"}))
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(manifest_of(tmp_path, *names)))
    heard: list[Any] = []

    @dg.asset
    def poses(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient) -> dg.MaterializeResult:
        invocation = pipes.run(
            context=context, command=[str(foreign_python), str(FILE)], extras={"manifest": str(manifest)}
        )
        heard.extend(invocation.get_custom_messages())
        return dg.MaterializeResult()

    done = dg.materialize([poses], resources={"pipes": dg.PipesSubprocessClient(env={"PYTHONPATH": ""})})
    assert done.success
    events = [event for event in map(parse_event, heard) if event is not None]
    assert len(events) == len(heard)
    ends = {event.task: event.kind for event in events if isinstance(event, Done | Failed)}
    assert ends == {"scene-0": "done", "scene-1": "failed", "scene-2": "done", "scene-3": "done"}
    assert (tmp_path / "scene-3-out/vipe/scene-3_info.pkl").exists()


def manifest_of(folder: Path, *names: str, **settings: Any) -> dict[str, Any]:
    told = {
        "preset": "default",
        "mode": "command",
        "command": [sys.executable, str(STAND_IN)],
        "overrides": [],
        **settings,
    }
    return {
        "format": FORMAT,
        "settings": told,
        "tasks": [
            {
                "id": name,
                "input": str(write_clip(folder / f"{name}.mp4")),
                "output": str(folder / f"{name}-out"),
                "log": str(folder / f"{name}.log"),
            }
            for name in names
        ],
    }


def test_messages_stay_small_whatever_a_log_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIPE_STAND_IN_FAULT", "noise,slam")
    messages = run_worker(tmp_path, manifest_of(tmp_path, "a"))
    assert max(map(len, messages)) < 4096
    assert (tmp_path / "a.log").stat().st_size > 100_000


@pytest.mark.parametrize("text", ["a" * 5000, "█" * 5000, "line\n" * 1000 + "█", "short", ""])
def test_what_a_message_carries_of_a_text_is_its_end(text: str) -> None:
    specification = importlib.util.spec_from_file_location("vipe_worker", FILE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    carried = module.shortened(text)
    assert text.endswith(carried)
    assert len(json.dumps(carried)) <= 1500
    assert len(carried) >= min(len(text), 150)


def run_worker(folder: Path, manifest: dict[str, Any], **variables: str) -> list[str]:
    """Run the worker's file over two files; the lines of its messages."""
    (folder / "manifest.json").write_text(json.dumps(manifest))
    context = {"extras": {"manifest": str(folder / "manifest.json")}}
    (folder / "context.json").write_text(json.dumps(context))
    environment = {
        **os.environ,
        "DAGSTER_PIPES_CONTEXT": dagster_pipes.encode_param({"path": str(folder / "context.json")}),
        "DAGSTER_PIPES_MESSAGES": dagster_pipes.encode_param({"path": str(folder / "messages.jsonl")}),
        **variables,
    }
    subprocess.run([sys.executable, str(FILE)], env=environment, check=False, capture_output=True, timeout=60)
    return (folder / "messages.jsonl").read_text().splitlines()


def test_a_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    messages = run_worker(tmp_path, manifest_of(tmp_path, "a") | {"format": "sceneloom.worker/2"})
    closed = json.loads(messages[-1])
    assert closed["method"] == "closed"
    assert "sceneloom.worker/2" in closed["params"]["exception"]["message"]


# ---------------------------------------------------------------- the driver

MODULES = {
    "vipe/__init__.py": """
from pathlib import Path
BUILT = []
class Pipeline:
    def __init__(self, overrides):
        BUILT.append(self)
        self.overrides = overrides
        [path] = [text.partition("=")[2] for text in overrides if text.startswith("pipeline.output.path=")]
        self.out_path = Path(path)
        self.out_path.mkdir(parents=True)
    def run(self, stream):
        import os, subprocess, sys
        print("built", len(BUILT), "pid", os.getpid(), "overrides", self.overrides, flush=True)
        stem = Path(stream.source).resolve().stem
        if stem == "memory":
            raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
        if stem == "exits":
            exit()
        if stem == "crashes":
            os.kill(os.getpid(), 11)
        command = [sys.executable, os.environ["STAND_IN"], "infer", str(stream.source), "-o", str(self.out_path)]
        subprocess.run(command, check=True)
def make_pipeline(config):
    return Pipeline(config)
""",
    "vipe/config.py": """
class Config:
    def __init__(self, overrides):
        self.pipeline = overrides
def parse_typed_config(name, hydra_args):
    assert name == "default"
    return Config(hydra_args)
""",
    "vipe/streams/__init__.py": "",
    "vipe/streams/base.py": """
class ProcessedVideoStream:
    def __init__(self, stream, processors):
        assert processors == []
        self.source = stream.source
    def cache(self, desc):
        return self
""",
    "vipe/streams/raw_mp4_stream.py": """
class RawMp4Stream:
    def __init__(self, source):
        self.source = source
""",
}


@pytest.fixture
def driver_folder(tmp_path: Path) -> Path:
    """A folder of modules that stand in for ViPE's."""
    for name, source in MODULES.items():
        path = tmp_path / "modules" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path / "modules"


def driver_settings(tmp_path: Path, modules: Path) -> dict[str, Any]:
    return {
        "mode": "driver",
        "overrides": ["pipeline.slam.optimize_intrinsics=false"],
        "variables": {"PYTHONPATH": str(modules), "STAND_IN": str(STAND_IN)},
    }


def test_the_driver_builds_its_pipeline_once(tmp_path: Path, driver_folder: Path) -> None:
    settings = vipe_settings(tmp_path / "scratch", **driver_settings(tmp_path, driver_folder))
    outcomes = list(ViPEWorker(settings).estimate(batch(tmp_path, "a", "b", "c")))
    assert [outcome.failure for outcome in outcomes] == [None] * 3
    logs = [(outcome.result.root / "worker.log").read_text() for outcome in outcomes if outcome.result]
    [built] = {log[log.index("built") : log.index("overrides")] for log in logs}
    assert built.startswith("built 1 pid ")
    assert "'pipeline.slam.optimize_intrinsics=false'" in logs[0]
    assert "'pipeline=default'" in logs[0]
    assert "Finished" in logs[2]
    assert outcomes[0].result is not None
    assert outcomes[0].result.figures["minimum_coverage_score"] == 0.42


def test_what_fails_in_the_driver_loses_only_its_clip(tmp_path: Path, driver_folder: Path) -> None:
    settings = vipe_settings(tmp_path / "scratch", **driver_settings(tmp_path, driver_folder))
    clips = batch(tmp_path, "a", "memory", "b", "exits", "crashes", "c")
    outcomes = {outcome.task: outcome for outcome in ViPEWorker(settings).estimate(clips)}
    failures = {name: outcome.failure.failure for name, outcome in outcomes.items() if outcome.failure}
    assert failures == {
        "memory": FailureClass.OUT_OF_MEMORY,
        "exits": FailureClass.INVALID_OUTPUT,
        "crashes": FailureClass.KILLED,
    }
    # After an error on the device the process was replaced.
    processes = {
        name: (outcome.result.root / "worker.log").read_text().split("pid ")[1].split()[0]
        for name, outcome in outcomes.items()
        if outcome.result
    }
    assert len({processes["a"], processes["b"], processes["c"]}) == 3


def test_a_driver_without_vipe(tmp_path: Path) -> None:
    settings = vipe_settings(tmp_path / "scratch", mode="driver")
    [outcome] = ViPEWorker(settings).estimate(batch(tmp_path, "a"))
    assert outcome.failure is not None
    assert outcome.failure.failure is FailureClass.MODEL_MISSING
    assert "No module named 'vipe'" in outcome.failure.found

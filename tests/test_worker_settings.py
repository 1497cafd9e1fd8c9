"""Where workers run: the three environments, their command lines, devices, and what of ours must not leak into them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sceneloom.datasets.errors import ConfigError
from sceneloom.resources.worker_failures import FailureClass
from sceneloom.resources.worker_process import WorkerTask
from sceneloom.resources.worker_settings import Launch, VipeSettings, worker_file, worker_names

from .worker_stand_ins import answers_of

PIPES = {"DAGSTER_PIPES_CONTEXT": "context", "DAGSTER_PIPES_MESSAGES": "messages"}


def settings(environment: dict[str, Any], **changes: Any) -> VipeSettings:
    return VipeSettings.model_validate({"environment": environment, **changes})


def launch(environment: dict[str, Any], **changes: Any) -> Launch:
    return settings(environment, **changes).launch("vipe", Path("/scratch/batch"), PIPES, name="one")


def test_every_worker_has_a_file() -> None:
    assert "vipe" in worker_names()
    assert all(worker_file(name).is_file() for name in worker_names())


def test_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("VIRTUAL_ENV", "/ours")
    monkeypatch.setenv("HOME", "/home/me")
    found = launch({"interpreter": "/env/bin/python"}, variables={"HF_HUB_OFFLINE": "1"})
    assert found.command == ("/env/bin/python", "-u", str(worker_file("vipe")))
    assert found.variables.items() >= {**PIPES, "HF_HUB_OFFLINE": "1", "HOME": "/home/me"}.items()
    assert {"PYTHONPATH", "VIRTUAL_ENV"} & set(found.variables) == set()
    assert found.stop == ()


def test_variables_of_the_profile_win_over_this_process_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/ours")
    assert launch({"uv": True}, variables={"HF_HOME": "/models"}).variables["HF_HOME"] == "/models"


def test_uv() -> None:
    assert launch({"uv": True}).command == ("uv", "run", "--no-project", "--script", str(worker_file("vipe")))


def test_a_container() -> None:
    environment = {"container": "vipe:1.1", "runtime": "podman", "options": ["--volume=/models:/models"]}
    found = launch(environment, device="cuda:1", variables={"HF_HOME": "/models"})
    command = list(found.command)
    assert command[:2] == ["podman", "run"]
    image = command.index("vipe:1.1")
    assert command[image + 1 :] == ["python", "-u", "/worker/vipe_worker.py"]
    assert "--volume=/scratch/batch:/scratch/batch" in command[:image]
    assert "--volume=/models:/models" in command[:image]
    assert "--gpus=all" in command
    for name in (*PIPES, "HF_HOME", "CUDA_VISIBLE_DEVICES"):
        assert f"--env={name}" in command
        assert name in found.variables
    assert found.stop == ("podman", "kill", "one")
    assert "--gpus=all" not in launch({"container": "vipe:1.1"}, device="cpu").command


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cuda", None, None),
        ("cuda", "2,3", "2,3"),
        ("cuda:1", None, "1"),
        ("cuda:1", "2,3", "3"),
        ("cuda:0", "GPU-5ab", "GPU-5ab"),
        ("cpu", "2,3", ""),
    ],
)
def test_the_worker_sees_only_its_device(
    device: str, visible: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert launch({"uv": True}, device=device).variables.get("CUDA_VISIBLE_DEVICES") == expected


def test_a_device_that_this_process_may_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with pytest.raises(ConfigError, match="cuda:2"):
        launch({"uv": True}, device="cuda:2")


def test_deadlines_may_be_written_with_units() -> None:
    found = settings({"uv": True}, clip_timeout="2 min", frame_timeout="500 ms", memory_limit="64 GiB")
    assert found.deadline(100) == 170.0
    assert found.memory_limit == pytest.approx(68.7, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment": {}}, "no environment is chosen"),
        ({"environment": {"uv": True, "container": "a"}}, "uv and container are chosen"),
        ({"environment": {"uv": True, "options": ["--rm"]}}, "options without a container"),
        ({"preset": "best"}, "'default', 'lyra'"),
        ({"overrides": ["slam.buffer=2048"]}, "overrides with mode command"),
        ({"command": []}, "an empty command"),
        ({"clip_timeout": 0}, "greater than 0"),
        ({"minimum_field_of_view": 120}, "no field of view"),
        ({"presets": "lyra"}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VipeSettings.model_validate({"environment": {"uv": True}, **changes})


DOCKER = """#!{python}
import json, os, subprocess, sys
from pathlib import Path
log = Path({log!r})
log.write_text(log.read_text() + json.dumps(sys.argv[1:]) + "\\n" if log.exists() else json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == "run":
    image = sys.argv.index("image")
    passed = [text.removeprefix("--env=") for text in sys.argv[:image] if text.startswith("--env=")]
    program = [{python!r}, *sys.argv[image + 2 : -1], {worker!r}]
    # A container's processes are not of the client's group.
    environment = {{name: os.environ[name] for name in passed}}
    sys.exit(subprocess.run(program, env=environment, start_new_session=True).returncode)
"""


def test_a_container_that_hangs_is_ended_by_its_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "docker.log"
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER.format(python=sys.executable, log=str(log), worker=str(worker_file("vipe"))))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent), prepend=":")
    chosen = settings({"container": "image"}, device="cpu", clip_timeout=0.5, frame_timeout=0.001)
    assert chosen.missing() is None
    content = {"input": str(tmp_path), "output": "out", "log": str(tmp_path / "vipe.log")}
    told = {"preset": "default", "mode": "command", "command": ["/bin/sh", "-c", "exec sleep 600"]}
    [ended] = answers_of("vipe", chosen, told, [WorkerTask("a", 1, content)])
    assert ended.failure is not None
    assert ended.failure.failure is FailureClass.TIMEOUT
    run, kill = (json.loads(line) for line in log.read_text().splitlines())
    [name] = [text.removeprefix("--name=") for text in run if text.startswith("--name=")]
    assert kill == ["kill", name]


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert settings({"uv": True}).missing() == "uv is not on the PATH"
    assert settings({"container": "a"}).missing() == "docker is not on the PATH"
    assert settings({"interpreter": sys.executable}).missing() is None

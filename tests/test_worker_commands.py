"""`sceneloom workers`: what it lists, checks and prints."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sceneloom.datasets.errors import ConfigError
from sceneloom.orchestration.worker_commands import workers_app
from sceneloom.resources.worker_settings import worker_file


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(workers_app, arguments)
    if isinstance(done.exception, ConfigError):
        raise done.exception
    return done.exit_code, done.output


def test_list_names_every_worker_with_what_it_needs() -> None:
    code, output = run("list")
    assert code == 0
    named = [line.partition(":")[0] for line in output.splitlines() if not line.startswith(" ")]
    assert named == ["gen3c", "moge", "trellis_ss", "vggt", "vipe"]
    assert "a checkout of git+https://github.com/nv-tlabs/lyra@" in output
    assert "nvidia-vipe @ git+https://github.com/nv-tlabs/vipe@" in output


def test_command_prints_what_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    code, output = run("command", "vipe", "--interpreter", "/env/bin/python", "--device", "cuda:1")
    assert code == 0
    words = shlex.split(output)
    assert words[0] == "env"
    assert "CUDA_VISIBLE_DEVICES=1" in words
    assert words[-3:] == ["/env/bin/python", "-u", str(worker_file("vipe"))]


def test_check_of_an_environment_without_vipe_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, output = run("check", "vipe", "--interpreter", sys.executable, "--device", "cpu")
    assert code == 1
    assert "dagster-pipes 1." in output
    assert "problem: vipe is neither beside" in output


def test_check_of_an_environment_with_vipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "vipe"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    code, output = run("check", "vipe", "--interpreter", sys.executable, "--device", "cpu")
    assert (code, output.splitlines()[-1]) == (0, "vipe can be started")


def test_check_of_an_interpreter_without_dagster_pipes(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -S -I "$@"\n')
    python.chmod(0o755)
    code, output = run("check", "vipe", "--interpreter", str(python), "--device", "cpu")
    assert code == 1
    assert "vipe cannot run: model-missing" in output
    assert "No module named 'dagster_pipes'" in output


def test_what_cannot_be_checked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no worker 'vip'"):
        run("check", "vip", "--uv")
    with pytest.raises(ConfigError, match="is no program"):
        run("check", "vipe", "--interpreter", str(tmp_path / "python"))


def test_both_commands_have_the_same_options() -> None:
    helps = [run(command, "--help")[1].split("Usage")[1].split("Arguments")[1] for command in ("check", "command")]
    assert helps[0] == helps[1]
    assert "--interpreter" in helps[0]
    assert "Start the worker without any work" in run("check", "--help")[1]


def test_a_worker_without_an_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="no environment is given"):
        run("check", "vipe")


def test_settings_that_a_worker_cannot_do_without() -> None:
    with pytest.raises(ConfigError, match="source: Field required"):
        run("command", "trellis_ss", "--interpreter", "/env/bin/python")
    with pytest.raises(ConfigError, match="'source' sets nothing"):
        run("command", "trellis_ss", "--interpreter", "/env/bin/python", "--set", "source")
    code, output = run("command", "trellis_ss", "--interpreter", "/env/bin/python", "--set", "source=/opt/TRELLIS")
    assert code == 0
    assert output.strip().endswith(str(worker_file("trellis_ss")))


POD = """
kubernetes:
  image: trellis:1
  shared: scenes
  pod_spec:
    containers: [{name: worker, volumeMounts: [{name: scenes, mountPath: FOLDER}]}]
"""


def test_command_prints_the_manifest_of_a_pod(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(POD.replace("FOLDER", str(tmp_path)))
    given = ["--environment", str(file), "--set", "source=/opt/TRELLIS"]
    code, output = run("command", "trellis_ss", *given)
    assert code == 0
    pod = yaml.safe_load(output)
    assert (pod["kind"], pod["metadata"]["name"]) == ("Pod", "sceneloom-trellis-ss-<launch>")
    [container] = pod["spec"]["containers"]
    assert container["command"][-1] == f"{tmp_path}/scenes/<batch>/<launch>/trellis_ss_worker.py"
    assert {"name": "DAGSTER_PIPES_CONTEXT", "value": "<from the transport>"} in container["env"]
    with pytest.raises(ConfigError, match="scenes is no folder that can be written to"):
        run("check", "trellis_ss", *given)


def test_command_prints_what_a_ray_job_is_submitted_with(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("ray: {address: 'http://head:8265', shared: scenes, python: /opt/moge/bin/python}")
    code, output = run("command", "moge", "--environment", str(file))
    assert code == 0
    job = yaml.safe_load(output)
    assert job["entrypoint"].startswith("/opt/moge/bin/python -u '")
    assert (job["entrypoint_num_gpus"], job["metadata"]) == (1.0, {"sceneloom/worker": "moge"})


def test_a_file_that_holds_no_environment(tmp_path: Path) -> None:
    file = tmp_path / "environment.yaml"
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        run("check", "moge", "--environment", str(file))
    file.write_text("ray: {address: 'http://head:8265'}")
    with pytest.raises(ConfigError, match=r"environment\.ray\.shared: Field required"):
        run("check", "moge", "--environment", str(file))
    with pytest.raises(ConfigError, match="--environment and --uv"):
        run("check", "moge", "--environment", str(file), "--uv")


def test_check_names_what_a_checkout_lacks(tmp_path: Path) -> None:
    places = ["--set", f"source={tmp_path}/Lyra-1", "--set", f"checkpoints={tmp_path}/checkpoints"]
    code, output = run("check", "gen3c", "--interpreter", sys.executable, "--device", "cpu", *places)
    assert code == 1
    assert f"problem: {tmp_path}/Lyra-1/cosmos_predict1 is not there" in output
    assert f"problem: {tmp_path}/checkpoints/Gen3C-Cosmos-7B is not there" in output

"""`sceneloom workers`: what it lists, checks and prints."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
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
    assert output.startswith("vipe: ViPE on a batch of clips")
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


def test_a_worker_without_an_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="no environment is given"):
        run("check", "vipe")

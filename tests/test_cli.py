from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sceneloom.assets.stage import Made, StageContext
from sceneloom.orchestration import cli

from .conftest import ToyProject
from .toy_stages import MAKES, toy_stages

PARTS = {"make", "forecast", "publish", "doctor", "config", "scenes", "workers", "store", "view"}


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_help_names_every_part() -> None:
    printed = run("--help")
    assert all(f" {part} " in printed for part in PARTS)


def test_a_profile_is_checked_and_shown(project: ToyProject) -> None:
    assert "valid (sceneloom.profile/1)" in run("config", "validate")
    assert "scenes_per_run: 2" in run("config", "show")
    assert '"$schema"' in run("config", "schema")


def test_a_refused_profile_ends_with_status_1_and_its_reasons(project: ToyProject) -> None:
    project.change(frames={"count": 18, "height": 176, "width": 320})
    result = CliRunner().invoke(cli.app, ["config", "validate", str(project.file)])
    assert result.exit_code == 1
    assert "18 frames, not 8k + 1" in result.output


@pytest.mark.parametrize("command", [["make"], ["scenes", "list"], ["store", "verify"]])
def test_an_error_of_ours_is_one_message(
    command: list[str],
    project: ToyProject,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["sceneloom", *command, "--config", "nowhere.yaml"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("sceneloom: nowhere.yaml: the profile cannot be read (No such file or directory).")
    assert "Traceback" not in printed


def test_make_ends_with_status_1_when_a_scene_failed(
    project: ToyProject, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneloom.orchestration.make_command.make_collection", lambda *_: False)
    assert CliRunner().invoke(cli.app, ["make"]).exit_code == 1


def test_make_reads_the_profile_it_is_given_even_where_the_usual_one_is_broken(
    project: ToyProject, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken.yaml").write_text("format: nonsense\n")
    monkeypatch.setenv("SCENELOOM_CONFIG", str(tmp_path / "broken.yaml"))
    assert "3 of 3 scenes" in run("make", "--config", str(project.file))


def test_an_interrupted_make_says_how_to_go_on(project: ToyProject, home: Path) -> None:
    def interrupt(context: StageContext) -> Made:
        os.kill(os.getpid(), signal.SIGINT)
        return MAKES["title"](context)

    project.use_stages(toy_stages(made=project.made, makes={"title": interrupt}))
    result = CliRunner().invoke(cli.app, ["make"])

    assert result.exit_code == 130
    assert "what is finished is kept" in result.stderr
    project.use_stages(toy_stages(made=project.made))
    finished = set(project.made)
    project.made.clear()
    assert "3 of 3 scenes" in run("make")
    assert not finished & set(project.made)

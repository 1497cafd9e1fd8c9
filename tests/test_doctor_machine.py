"""`sceneloom doctor` without a directory: one table, and status 1 when something needed is missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sceneloom.datasets.errors import InputError
from sceneloom.orchestration.cli import app


def sceneloom(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "profile.yaml"
    content = {
        "format": "sceneloom.profile/1",
        "collection": {"name": "rooms", "sources": ["prompts.txt"]},
        "store": {"url": "store"},
        "frames": {"count": 17, "height": 176, "width": 320},
        "trajectories": {"names": ["left"]},
    }
    file.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("SCENELOOM_CONFIG", str(file))
    return file


def test_a_machine_that_has_all_it_needs(profile: Path) -> None:
    status, text = sceneloom("doctor")
    assert status == 0
    assert text.splitlines()[-1] == f"{profile}: everything needed is there"
    assert all(part in text for part in ("processor", "GPU", "PyAV", "accelerate", "engines.video_latents (raycast)"))


def test_what_is_missing_is_in_the_table_and_in_the_status(profile: Path) -> None:
    content = yaml.safe_load(profile.read_text())
    content["engines"] = {
        "conditioning_view": {"prompt": {"engine": "flux", "id": "black-forest-labs/FLUX.1-dev"}},
        "scene_scaffold": {"prompt": "tour_into_picture"},
        "video_latents": {"engine": "raycast", "device": "cuda:77"},
    }
    profile.write_text(yaml.safe_dump(content))
    status, text = sceneloom("doctor", "--config", str(profile))
    assert status == 1
    assert text.splitlines()[-1] == f"{profile}: 2 things needed are missing"
    assert "FLUX.1 [dev]" in text  # brackets are no markup
    assert "hf download" in text


def test_workers_of_the_profile_are_started(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(profile.read_text())
    worker = {"engine": "vipe", "environment": {"interpreter": sys.executable}, "device": "cpu", "command": ["no-vipe"]}
    content["engines"] = {"depth_and_poses": worker}
    profile.write_text(yaml.safe_dump(content))
    status, text = sceneloom("doctor")
    assert status == 1
    assert "worker vipe (engines.depth_and_poses)" in text
    assert "no-vipe is neither beside" in text
    program = tmp_path / "no-vipe"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    status, text = sceneloom("doctor")
    assert status == 0
    assert "dagster-pipes 1." in text
    worker["environment"] = {"interpreter": "/nowhere/python"}
    profile.write_text(yaml.safe_dump(content))
    status, text = sceneloom("doctor")
    assert status == 1
    assert text.splitlines()[-1] == f"{profile}: 1 things needed are missing"
    assert "/nowhere/python is no program" in text


@pytest.mark.parametrize("option", [("--repair",), ("--layout", "lyra")])
def test_options_of_a_layout_need_a_directory(profile: Path, option: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="no directory is named"):
        sceneloom("doctor", *option)

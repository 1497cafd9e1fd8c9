from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sceneloom.assets.catalog import refresh_catalog
from sceneloom.orchestration.cli import app
from sceneloom.resources.records import Record

from .conftest import ToyProject
from .toy_stages import run as run_scene
from .toy_stages import toy_pipeline, toy_stages


@pytest.fixture
def record(project: ToyProject) -> Record:
    """The record of `title` of the first of three scenes that are whole."""
    runtime = project.runtime()
    scenes = list(refresh_catalog(runtime.profile, runtime.store).catalog.entries.values())
    for scene in scenes:
        run_scene(toy_pipeline(project.profile(), toy_stages()), scene)
    made = runtime.store.record(scenes[0].scene_id, "title")
    assert made is not None
    return made


def sceneloom(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout


def file_of(project: ToyProject, record: Record) -> Path:
    return Path(project.runtime().store.file_url(record, "title.txt"))


def test_verify_reads_everything(project: ToyProject, record: Record) -> None:
    assert sceneloom("store", "verify") == (0, "12 files read, 0 faults\n")


def test_verify_names_a_changed_file_and_reads_on(project: ToyProject, record: Record) -> None:
    file_of(project, record).write_text("A Rad Room")
    status, printed = sceneloom("store", "verify")
    assert status == 1
    assert f"{record.scene}/title/title.txt" in printed
    assert printed.endswith("12 files read, 1 faults\n")


def test_verify_sets_faulty_outputs_aside_when_asked(project: ToyProject, record: Record) -> None:
    file_of(project, record).write_text("A Rad Room")
    sceneloom("store", "verify")
    assert project.runtime().store.record(record.scene, "title") is not None
    assert sceneloom("store", "verify", "--set-aside")[0] == 1
    assert project.runtime().store.record(record.scene, "title") is None
    assert sceneloom("store", "verify") == (0, "11 files read, 0 faults\n")


def test_verify_finds_every_fault_of_a_stage(project: ToyProject, record: Record) -> None:
    record_file = file_of(project, record).parents[1] / "record.json"
    record_file.write_text("{}")
    status, printed = sceneloom("store", "verify")
    assert status == 1
    assert str(record_file) in printed
    assert printed.endswith("11 files read, 1 faults\n")


def test_clean_counts_before_it_deletes(project: ToyProject, record: Record) -> None:
    superseded = file_of(project, record).parents[1] / "0123456789abcdef-01234567"
    superseded.mkdir()
    (superseded / "old.txt").write_text("x" * 100_000)

    assert sceneloom("store", "clean") == (0, "1 folders, 0.1 MB could be removed with --remove\n")
    assert superseded.is_dir()
    assert sceneloom("store", "clean", "--remove") == (0, "1 folders, 0.1 MB removed\n")
    assert not superseded.exists()
    assert sceneloom("store", "verify")[0] == 0
    assert sceneloom("store", "clean")[1].startswith("0 folders")

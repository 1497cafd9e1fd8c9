from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sceneloom.assets.catalog import refresh_catalog
from sceneloom.assets.stage import Made, StageContext
from sceneloom.datasets.errors import InputError
from sceneloom.orchestration.cli import app

from .conftest import ToyProject
from .toy_stages import run as run_scene
from .toy_stages import toy_pipeline, toy_stages


def sceneloom(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def scenes(project: ToyProject) -> list[str]:
    """Ids of three scenes: the first whole, the second with two failed attempts at `numbers`, the third untouched."""
    runtime = project.runtime()
    catalog = refresh_catalog(runtime.profile, runtime.store).catalog
    first, second, third = catalog.entries.values()

    def fail(_: StageContext) -> Made:
        raise InputError("the picture is gone", where="green.png", remedy="Put it back.")

    run_scene(toy_pipeline(project.profile(), toy_stages()), first)
    for _ in range(2):
        run_scene(toy_pipeline(project.profile(), toy_stages(makes={"numbers": fail})), second)
    return [first.scene_id, second.scene_id, third.scene_id]


def line_of(scene: str, printed: str) -> list[str]:
    [line] = [line for line in printed.splitlines() if scene in line]
    return line.replace("│", " ").split()


def test_list_shows_every_scene_with_its_first_open_stage(project: ToyProject, scenes: list[str]) -> None:
    printed = sceneloom("scenes", "list")
    first, second, third = (line_of(scene, printed) for scene in scenes)
    assert first[3] == "current"
    assert second[3:5] == ["quarantined", "numbers"]
    assert third[3:5] == ["missing", "words"]
    assert "a red room" in printed


def test_list_can_be_kept_to_a_state(project: ToyProject, scenes: list[str]) -> None:
    printed = sceneloom("scenes", "list", "--state", "quarantined")
    assert scenes[1] in printed
    assert scenes[0] not in printed
    assert scenes[2] not in printed


def test_ids_are_never_cut(project: ToyProject) -> None:
    project.write_prompts("a very long and winding description of a room " * 8)
    runtime = project.runtime()
    refresh_catalog(runtime.profile, runtime.store)
    assert project.scenes()[0] in sceneloom("scenes", "list")


def test_retired_scenes_are_listed_as_such(project: ToyProject, scenes: list[str]) -> None:
    project.write_prompts("a green room", "a blue room")
    runtime = project.runtime()
    refresh_catalog(runtime.profile, runtime.store)
    assert line_of(scenes[0], sceneloom("scenes", "list"))[3] == "retired"


def test_why_names_the_changed_setting(project: ToyProject, scenes: list[str]) -> None:
    assert "stale" not in sceneloom("scenes", "why", scenes[0])
    project.change(video={"constant_rate_factor": 23})
    printed = sceneloom("scenes", "why", scenes[0])
    assert "numbers: stale" in printed
    assert "settings.constant_rate_factor" in printed
    assert "10" in printed
    assert "23" in printed
    assert "words: current" in printed


def test_why_lists_the_failed_attempts(project: ToyProject, scenes: list[str]) -> None:
    printed = sceneloom("scenes", "why", scenes[1])
    assert "numbers: quarantined" in printed
    assert "attempt 1" in printed
    assert "attempt 2" in printed
    assert "invalid_input: green.png: the picture is gone. Put it back." in printed


def test_retry_lifts_the_quarantine(project: ToyProject, scenes: list[str]) -> None:
    assert sceneloom("scenes", "retry", scenes[1]).strip() == f"{scenes[1]}: cleared numbers"
    assert sceneloom("scenes", "retry", scenes[1]).strip() == f"{scenes[1]}: there was nothing to clear"
    assert scenes[1] not in sceneloom("scenes", "list", "--state", "quarantined")


@pytest.mark.parametrize("command", [["scenes", "why"], ["scenes", "retry"], ["view"]])
def test_an_unknown_scene_is_refused(command: list[str], project: ToyProject, scenes: list[str]) -> None:
    with pytest.raises(InputError, match=r"scene_catalog: 1 of 1 scenes are unknown: no-such-room\. "):
        sceneloom(*command, "no-such-room")


def test_without_a_catalogue_the_remedy_is_told(project: ToyProject) -> None:
    with pytest.raises(InputError, match=r"the collection has no catalogue yet\..*sceneloom make"):
        sceneloom("scenes", "list")


def test_view_of_a_scene_without_recording_says_what_is_missing(project: ToyProject, scenes: list[str]) -> None:
    with pytest.raises(InputError, match=r"the scene has no recording yet\. Materialize scene_preview"):
        sceneloom("view", scenes[2])


def test_view_prints_where_the_recording_is(
    project: ToyProject, scenes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneloom.orchestration.scene_commands.PREVIEW_STAGE", "title")
    monkeypatch.setattr("sceneloom.orchestration.scene_commands.RECORDING", "title.txt")
    path = Path(sceneloom("view", scenes[0], "--path").strip())
    assert path.read_text() == "A Red Room"

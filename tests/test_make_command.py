from __future__ import annotations

import errno
import io
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from sceneloom.assets.stage import Made, StageContext
from sceneloom.datasets.errors import InputError, SceneloomError
from sceneloom.orchestration.instance import open_instance
from sceneloom.orchestration.make_command import make_collection

from .conftest import ToyProject
from .toy_stages import MAKES, STAGE_NAMES, toy_stages

pytestmark = pytest.mark.usefixtures("home")


def make(project: ToyProject) -> tuple[bool, str]:
    """Run `sceneloom make`; returns whether all is whole and what was printed."""
    printed = io.StringIO()
    whole = make_collection(project.profile(), Console(file=printed, width=200))
    return whole, printed.getvalue()


def runs() -> list[str]:
    """The jobs that ran, oldest first."""
    with open_instance() as instance:
        return [run.job_name for run in reversed(instance.get_runs())]


def failing(scene: str, error: Exception) -> dict[str, object]:
    def fail(context: StageContext) -> Made:
        if (context.scene.prompt or "") == scene:
            raise error
        return MAKES["numbers"](context)

    return {"makes": {"numbers": fail}}


def test_everything_is_made_once_and_the_summary_says_what(project: ToyProject) -> None:
    whole, printed = make(project)

    assert whole
    assert sorted(project.made) == sorted((scene, stage) for scene in project.scenes() for stage in STAGE_NAMES)
    assert runs() == ["refresh", "make_scenes", "rebuild_tables"]
    assert "3 of 3 scenes" in printed
    assert str(project.file.parent / "store") in printed
    assert "make ui" in printed
    with open_instance() as instance:
        for stage in STAGE_NAMES:
            assert instance.get_materialized_partitions(dg.AssetKey(stage)) == set(project.scenes())


def test_a_second_time_nothing_is_made(project: ToyProject) -> None:
    make(project)
    project.made.clear()

    whole, printed = make(project)

    assert whole
    assert project.made == []
    assert "Nothing was stale." in printed
    assert runs()[3:] == ["refresh", "rebuild_tables"]


def test_a_new_prompt_is_made_alone(project: ToyProject) -> None:
    make(project)
    project.made.clear()
    project.write_prompts("a red room", "a green room", "a blue room", "a white room")
    assert make(project)[0]
    [new] = [scene for scene in project.scenes() if "white" in scene]
    assert project.made == [(new, stage) for stage in STAGE_NAMES]


def test_scattered_scenes_are_made_in_one_run(project: ToyProject) -> None:
    make(project)
    first, _, third = project.scenes()
    project.made.clear()
    for scene in (first, third):
        project.runtime().store.set_aside_record(scene, "total")

    assert make(project)[0]

    assert sorted(project.made) == sorted([(first, "total"), (third, "total")])
    assert runs()[3:] == ["refresh", "repair", "rebuild_tables"]


def test_a_changed_setting_remakes_what_depends_on_it(project: ToyProject) -> None:
    make(project)
    project.made.clear()
    project.change(video={"constant_rate_factor": 23})
    assert make(project)[0]
    assert {stage for _, stage in project.made} == {"numbers", "total"}


def test_a_failed_scene_is_named_with_its_reason_and_the_others_are_made(project: ToyProject) -> None:
    error = InputError("the picture is gone", where="green.png", remedy="Put it back.")
    project.use_stages(toy_stages(made=project.made, **failing("a green room", error)))  # pyright: ignore[reportArgumentType]

    whole, printed = make(project)

    assert not whole
    [green] = [scene for scene in project.scenes() if "green" in scene]
    assert f"failed {green} at numbers: invalid_input" in printed
    assert "green.png: the picture is gone. Put it back." in printed
    assert "2 of 3 scenes" in printed
    assert runs() == ["refresh", "make_scenes", "rebuild_tables"]


def test_a_quarantined_scene_is_still_named(project: ToyProject) -> None:
    error = InputError("the picture is gone", where="green.png", remedy="Put it back.")
    project.use_stages(toy_stages(made=project.made, **failing("a green room", error)))  # pyright: ignore[reportArgumentType]
    make(project)
    make(project)
    project.made.clear()

    whole, printed = make(project)

    assert not whole
    assert project.made == []
    assert "(quarantined): invalid_input" in printed


def test_a_full_store_ends_it_with_one_message(project: ToyProject) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    project.use_stages(toy_stages(made=project.made, **failing("a red room", full)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(SceneloomError, match=r"make_scenes: The batch was stopped \(store_full\): .*No space left"):
        make(project)
    assert "rebuild_tables" not in runs()


def test_a_collection_without_scenes_says_where_to_add_them(project: ToyProject) -> None:
    project.write_prompts()
    with pytest.raises(SceneloomError, match=r"refresh: .*profile.yaml: no scene in .*prompts.txt.* Add prompts"):
        make(project)


def test_a_source_that_is_not_there_is_named(project: ToyProject) -> None:
    project.change(collection={"name": "toys", "sources": ["nowhere.txt"]})
    with pytest.raises(SceneloomError, match=r"refresh: .*nowhere\.txt"):
        make(project)


def test_a_store_that_cannot_be_written_is_named(project: ToyProject) -> None:
    (project.file.parent / "store").write_text("a file in the way")
    with pytest.raises(SceneloomError, match=r"refresh: .*store"):
        make(project)


def test_an_unforeseen_error_of_a_job_is_not_passed_over(project: ToyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Path:
        raise RuntimeError("a bug in the runtime")

    monkeypatch.setattr("sceneloom.assets.scene_assets.provenance_tags", broken)
    with pytest.raises(SceneloomError, match=r"make_scenes: .*a bug in the runtime"):
        make(project)

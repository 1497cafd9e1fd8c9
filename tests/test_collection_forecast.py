"""Which scenes count as missing and which as measured, on a pipeline of toy stages with its real store."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sceneloom.assets.catalog import Catalog
from sceneloom.assets.collection_forecast import CollectionForecast, forecast_collection
from sceneloom.assets.scene_pipeline import ScenePipeline
from sceneloom.assets.stage import Made, StageContext
from sceneloom.datasets.catalog import SceneEntry
from sceneloom.datasets.errors import EngineError, InputError
from sceneloom.resources.engines import EngineIdentity
from sceneloom.resources.failures import Reason, StageFailed
from sceneloom.resources.forecast import ForecastSettings
from sceneloom.resources.machine_name import machine_name
from sceneloom.resources.profiles import Profile

from .toy_stages import STAGE_NAMES, run, toy_pipeline, toy_profile, toy_scene, toy_stages

TABLE = ForecastSettings(seconds_per_scene={"words": 1, "numbers": 100, "title": 1, "total": 1})
SCENES = [toy_scene(f"scene-{index}", f"a room with {index} chairs") for index in range(5)]


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return toy_profile(tmp_path)


def forecast(
    pipeline: ScenePipeline, settings: ForecastSettings = TABLE, scenes: list[SceneEntry] | None = None
) -> CollectionForecast:
    entries = {scene.scene_id: scene for scene in (SCENES if scenes is None else scenes)}
    return forecast_collection(Catalog(entries), pipeline, settings)


def missing(found: CollectionForecast) -> dict[str, int]:
    return {stage.stage: stage.scenes for stage in found.forecast.stages}


def test_before_anything_was_made_all_is_missing_and_the_table_counts(profile: Profile) -> None:
    found = forecast(toy_pipeline(profile, toy_stages()))
    assert missing(found) == {"words": 5, "numbers": 5, "title": 5, "total": 5}
    assert found.forecast.gpu_hours == pytest.approx(5 * 103 / 3600)
    assert (found.scenes, found.unfinished, found.quarantined, found.note) == (5, 5, 0, None)
    assert found.looked_at == 0


def test_without_a_table_a_few_scenes_must_be_made_first(profile: Profile) -> None:
    pipeline = toy_pipeline(profile, toy_stages())
    with pytest.raises(InputError, match="nothing is known"):
        forecast(pipeline, ForecastSettings())
    for scene in SCENES[:2]:
        run(pipeline, scene)
    found = forecast(pipeline, ForecastSettings())
    assert missing(found) == {"words": 3, "numbers": 3, "title": 3, "total": 3}
    assert {(stage.source, stage.records) for stage in found.forecast.stages} == {("records", 2)}
    assert 0 < found.forecast.gpu_hours < 1


def test_what_is_current_is_not_missing(profile: Profile) -> None:
    pipeline = toy_pipeline(profile, toy_stages())
    for scene in SCENES:
        run(pipeline, scene)
    assert missing(forecast(pipeline)) == {}


def test_only_the_cone_of_a_change_is_missing(profile: Profile) -> None:
    for scene in SCENES:
        run(toy_pipeline(profile, toy_stages()), scene)
    found = forecast(toy_pipeline(profile, toy_stages(code_versions={"numbers": "2"})))
    assert missing(found) == {"numbers": 5, "total": 5}
    # The code is another, engine and settings are not: what was measured still tells.
    assert [stage.records for stage in found.forecast.stages] == [5, 5]


@pytest.mark.parametrize("change", ["engine", "settings"])
def test_what_another_engine_or_setting_took_says_nothing_of_now(profile: Profile, change: str) -> None:
    for scene in SCENES:
        run(toy_pipeline(profile, toy_stages()), scene)
    if change == "engine":
        pipeline = toy_pipeline(profile, toy_stages(weights="2" * 64))
    else:
        video = profile.video.model_copy(update={"constant_rate_factor": 30})
        pipeline = toy_pipeline(profile.model_copy(update={"video": video}), toy_stages())
    stages = {stage.stage: stage for stage in forecast(pipeline).forecast.stages}
    assert (stages["numbers"].source, stages["numbers"].records) == ("profile", 0)
    assert (stages["total"].source, stages["total"].records) == ("records", 5)


def test_quarantined_scenes_are_counted_apart(profile: Profile) -> None:
    def fail(context: StageContext) -> Made:
        if context.scene.scene_id == "scene-0":
            raise StageFailed(Reason.QUALITY_REJECTED, "a bad scene")
        return Made()

    pipeline = toy_pipeline(profile, toy_stages(makes={"numbers": fail}))
    for _ in range(3):
        run(pipeline, SCENES[0])
    found = forecast(pipeline)
    assert found.quarantined == 1
    # words of that scene is made; what follows the stage that failed is not going to be tried.
    assert missing(found) == {"words": 4, "numbers": 4, "title": 4, "total": 4}


def test_retired_scenes_do_not_count(profile: Profile) -> None:
    retired = dataclasses.replace(SCENES[0], status="retired")
    found = forecast(toy_pipeline(profile, toy_stages()), scenes=[retired, *SCENES[1:]])
    assert found.scenes == 4
    assert missing(found)["words"] == 4


def test_clips_of_a_scene_scale_what_was_measured(profile: Profile) -> None:
    def with_clips(context: StageContext) -> Made:
        (context.scratch / "clips.bin").write_bytes(bytes(1000))
        return Made(metrics={"clips": 4})

    pipeline = toy_pipeline(profile, toy_stages(makes={"title": with_clips}))
    run(pipeline, SCENES[0])
    stages = {stage.stage: stage for stage in forecast(pipeline).forecast.stages}
    assert stages["title"].bytes == pytest.approx(250)  # the profile has one trajectory


def test_engines_whose_files_are_elsewhere_leave_the_table(profile: Profile) -> None:
    run(toy_pipeline(profile, toy_stages()), SCENES[0])

    def absent(*_: Any) -> EngineIdentity:
        raise EngineError("the model's files are not in the local hub cache", where="owner/name", remedy="Download")

    stages = [dataclasses.replace(stage, engine=absent) for stage in toy_stages()]
    found = forecast(toy_pipeline(profile, stages))
    assert missing(found) == {"words": 4, "numbers": 4, "title": 4, "total": 4}
    assert {stage.source for stage in found.forecast.stages} == {"profile"}
    assert found.note is not None
    assert "owner/name" in found.note


def test_a_sample_stands_for_what_was_begun_and_the_rest_is_counted_unread(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = [toy_scene(f"scene-{index:03d}", "a room") for index in range(60)]
    pipeline = toy_pipeline(profile, toy_stages())
    for scene in scenes[:20]:
        run(pipeline, scene)
    for scene in scenes[20:40]:
        run(pipeline, scene, ["words", "numbers"])
    read: list[tuple[str, str]] = []
    record = pipeline.store.record

    def counted(scene_id: str, stage: str) -> Any:
        read.append((scene_id, stage))
        return record(scene_id, stage)

    monkeypatch.setattr(pipeline.store, "record", counted)
    catalog = Catalog({scene.scene_id: scene for scene in scenes})
    whole = forecast_collection(catalog, pipeline, TABLE)
    # No record is read twice, and none of a scene that was never begun.
    assert sorted(read) == sorted((scene.scene_id, stage) for scene in scenes[:40] for stage in STAGE_NAMES)
    assert missing(whole) == {"words": 20, "numbers": 20, "title": 40, "total": 40}
    assert (whole.unfinished, whole.looked_at, whole.scenes) == (40, 40, 60)
    assert whole.measured_on == {machine_name(): 120}
    read.clear()
    sampled = forecast_collection(catalog, pipeline, TABLE, look_at=10)
    assert len(read) == 10 * len(STAGE_NAMES)
    assert sampled.looked_at == 10
    assert (missing(sampled)["words"], missing(sampled)["numbers"]) == (20, 20)
    # What is not exact lies within three standard errors of a sample of ten.
    assert 20 <= missing(sampled)["title"] <= 60
    assert abs(missing(sampled)["title"] - 40) <= 3 * 40 * (0.25 / 10) ** 0.5
    assert missing(sampled)["title"] == sampled.unfinished


def test_a_table_with_an_unknown_stage_is_refused(profile: Profile) -> None:
    with pytest.raises(InputError, match='"video" is no stage'):
        forecast(toy_pipeline(profile, toy_stages()), ForecastSettings(seconds_per_scene={"video": 1}))

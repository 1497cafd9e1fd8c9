"""The stages together: their graph, their order, and that the same inputs give the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneloom.assets.stage import StageContext, StageInputs
from sceneloom.assets.stages import STAGES
from sceneloom.resources.profiles import load_profile

from . import tiny
from .tiny import STAGE_NAMES, made_collection, write_profile, write_sources

NEVER_THE_SAME_BYTES = {"scene_preview": "Rerun numbers its chunks at random"}


def test_stages_stand_in_the_order_of_their_dependencies() -> None:
    for place, stage in enumerate(STAGES):
        assert set(stage.inputs) <= set(STAGE_NAMES[:place]), stage.name
    assert len(set(STAGE_NAMES)) == len(STAGE_NAMES)
    assert [stage.name for stage in STAGES if not stage.inputs] == ["conditioning_view"]


def test_stages_introduce_themselves() -> None:
    for stage in STAGES:
        assert stage.description.endswith(".")
        assert stage.kinds
        assert stage.code_version
        assert all(description.endswith(".") for description in stage.checks.values())


OF_MOVING_OBJECTS = {"dynamic_mask", "object_poses"}
"""Contracts of arrays that exist only where objects move; `test_dynamic_scenes` holds the stages to them."""
OF_VIDEOS = {"conditioning_view": {"c2w"}, "scene_scaffold": {"c2w"}}
"""Contracts of arrays that only scenes from videos have; `test_video_scenes` holds the stages to them."""


def test_every_published_contract_is_a_check_of_its_stage_and_the_other_way_round() -> None:
    made = made_collection()
    assert {scene.kind for scene in made.catalog.active()} == {"prompt", "image"}
    for stage in STAGES:
        observed = {
            each.contract for scene in made.catalog.active() for each in made.record(scene, stage.name).contracts
        }
        assert observed == set(stage.checks) - OF_MOVING_OBJECTS - OF_VIDEOS.get(stage.name, set()), stage.name
        for scene in made.catalog.active():
            assert all(
                each.passed and each.expected and each.found for each in made.record(scene, stage.name).contracts
            )


def test_a_stage_reads_only_the_inputs_that_it_declares(tmp_path: Path) -> None:
    """Made again from records of the declared inputs alone: an undeclared one would be a KeyError."""
    made = made_collection()
    for scene in made.catalog.active():
        for stage in STAGES:
            scratch = tmp_path / scene.scene_id / stage.name
            scratch.mkdir(parents=True)
            inputs = StageInputs(made.runtime.store, {name: made.record(scene, name) for name in stage.inputs})
            seed = made.record(scene, stage.name).key_parts.seed
            stage.make(StageContext(scene, made.profile, inputs, scratch, seed, made.runtime.engines))
            left = {path.relative_to(scratch).as_posix() for path in scratch.rglob("*") if path.is_file()}
            assert left == {file.path for file in made.record(scene, stage.name).files}


def test_the_same_inputs_give_the_same_bytes_in_another_store(tmp_path: Path) -> None:
    first = made_collection()
    second = tiny.make(load_profile(write_profile(tmp_path, write_sources(tmp_path))))
    assert [scene.scene_id for scene in second.catalog.active()] == [scene.scene_id for scene in first.catalog.active()]
    for scene in first.catalog.active():
        for stage in STAGE_NAMES:
            one, other = first.record(scene, stage), second.record(scene, stage)
            assert one.key == other.key
            if stage not in NEVER_THE_SAME_BYTES:
                assert one.files == other.files, f"{scene.scene_id}/{stage}"
                assert (one.metrics, one.metadata, one.contracts) == (other.metrics, other.metadata, other.contracts)


def test_finished_scenes_are_left_alone() -> None:
    made = made_collection()
    for scene in made.catalog.active():
        assert {event.outcome for event in tiny.run_scene(made, scene)} == {"current"}


@pytest.mark.parametrize(
    ("changes", "made_again"),
    [
        ({"seed": 1}, set(STAGE_NAMES)),
        ({"video": {"constant_rate_factor": 20}}, {*STAGE_NAMES[3:5], *STAGE_NAMES[6:]}),
        ({"shards": {"minimum_psnr": 44}}, {*STAGE_NAMES[3:5], *STAGE_NAMES[6:]}),
        ({"shards": {"minimum_psnr": 42}}, set()),
        ({"objects": {"minimum_visible_pixels": 30}}, {"scene_objects"}),
        ({"quality": {"minimum_sharpness": 0.01}}, {"quality_report", "gaussian_shards"}),
        ({"execution": {"parallel_scenes": 1}, "store": {"url": "store"}}, set()),
    ],
)
def test_a_setting_concerns_the_stages_that_read_it_and_what_follows(
    tmp_path: Path, changes: dict, made_again: set[str]
) -> None:
    shared = made_collection()
    profile = load_profile(write_profile(tmp_path, [str(tmp_path)], **changes))
    pipeline = tiny.SceneRuntime(profile).pipeline()
    scene = shared.scene()
    plan = pipeline.plan(scene)
    changed = {name for name, parts in plan.items() if parts.key() != shared.record(scene, name).key}
    assert changed == made_again

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sceneloom.assets.observations import ContractBroken
from sceneloom.assets.scene_pipeline import BatchStopped, Report, StageEvent, stage_seed
from sceneloom.assets.stage import Made, StageContext
from sceneloom.datasets.catalog import SceneEntry
from sceneloom.datasets.errors import ConfigError, ContractError, EngineError, InputError
from sceneloom.resources.failures import Again, Reason, StageFailed
from sceneloom.resources.profiles import Profile
from sceneloom.resources.records import ContractObservation
from sceneloom.resources.scene_mapper import LocalSceneMapper
from sceneloom.resources.store import SceneStore

from .file_systems import read_only, small_file_system
from .toy_stages import (
    MAKES,
    STAGE_NAMES,
    Make,
    outcomes,
    run,
    toy_pipeline,
    toy_profile,
    toy_scene,
    toy_stages,
    toy_store,
)

ALL_MADE = dict.fromkeys(STAGE_NAMES, "made")
ALL_CURRENT = dict.fromkeys(STAGE_NAMES, "current")
SCENE = toy_scene()


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return toy_profile(tmp_path)


def failing(error: BaseException) -> Make:
    def make(context: StageContext) -> Made:
        (context.scratch / "half.json").write_text("{")
        raise error

    return make


def failing_times(times: int, error: BaseException, stage: str) -> Make:
    """Fails that many times, then does what the stage usually does."""
    calls = 0

    def make(context: StageContext) -> Made:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise error
        return MAKES[stage](context)

    return make


def engine_error() -> EngineError:
    return EngineError("the engine gave up", where="red-room/numbers", remedy="Look at its log.")


def states(profile: Profile, **stages: object) -> dict[str, str]:
    pipeline = toy_pipeline(profile, toy_stages(**stages))  # pyright: ignore[reportArgumentType]
    return {status.stage: status.state for status in pipeline.status(SCENE)}


def published_file(profile: Profile, stage: str, name: str, scene: str = SCENE.scene_id) -> Path:
    store = toy_store(profile)
    record = store.record(scene, stage)
    assert record is not None
    return Path(store.file_url(record, name))


def scratch_left(profile: Profile) -> list[Path]:
    return list((Path(profile.store.url) / ".staging").iterdir())


# ---------------------------------------------------------------- keys and what follows from them


def test_a_scene_is_made_once_and_then_left_alone(profile: Profile) -> None:
    made: list[tuple[str, str]] = []
    whole, events = run(toy_pipeline(profile, toy_stages(made=made), "first"), SCENE)
    assert (whole, outcomes(events)) == (True, ALL_MADE)
    assert [stage for _, stage in made] == list(STAGE_NAMES)
    made.clear()

    whole, events = run(toy_pipeline(profile, toy_stages(made=made), "second"), SCENE)

    assert (whole, outcomes(events)) == (True, ALL_CURRENT)
    assert made == []
    assert all(event.record is not None and event.record.run == "first" for event in events)
    assert scratch_left(profile) == []


def test_a_record_says_how_the_output_came_to_be(profile: Profile) -> None:
    _, events = run(toy_pipeline(profile, toy_stages(), "nightly"), SCENE)
    record = events[1].record
    assert record is not None
    plan = toy_pipeline(profile, toy_stages()).plan(SCENE)

    assert (record.scene, record.stage, record.run, record.licence) == ("red-room", "numbers", "nightly", "CC0-1.0")
    assert record.key == plan["numbers"].key()
    assert record.key_parts.inputs == {"words": plan["words"].key()}
    assert record.key_parts.settings == {"constant_rate_factor": 10}
    assert record.key_parts.engine == {"name": "toy", "weights": {"toy": "1" * 64}}
    assert record.key_parts.seed == stage_seed(7, 3, "numbers")
    assert record.metrics == {"count": 3}
    assert {"python", "numpy", "sceneloom"} <= record.versions.keys()
    assert record.seconds > 0


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        profile = toy_profile(tmp_path / name)
        run(toy_pipeline(profile, toy_stages()), SCENE)
        contents.append(published_file(profile, "total", "total.json").read_bytes())
    assert contents[0] == contents[1]


def with_other_video(profile: Profile) -> Profile:
    return profile.model_copy(update={"video": profile.video.model_copy(update={"constant_rate_factor": 20})})


CHANGED = ["setting", "code version", "weights", "first stage", "seed"]
CHANGES: list[tuple[Callable[[Profile], Profile], dict[str, object], set[str], str]] = [
    (with_other_video, {}, {"numbers", "total"}, "settings.constant_rate_factor: 10 → 20"),
    (lambda p: p, {"code_versions": {"title": "2"}}, {"title"}, "code_version: 1 → 2"),
    (lambda p: p, {"weights": "2" * 64}, {"numbers", "total"}, "engine.weights.toy: 111111111111 → 222222222222"),
    (lambda p: p, {"code_versions": {"words": "2"}}, set(STAGE_NAMES), "code_version: 1 → 2"),
    (lambda p: p.model_copy(update={"seed": 8}), {}, set(STAGE_NAMES), "seed: "),
]


@pytest.mark.parametrize(("change", "stages", "cone", "why"), CHANGES, ids=CHANGED)
def test_a_change_makes_its_cone_again_and_nothing_else(
    profile: Profile,
    change: Callable[[Profile], Profile],
    stages: dict[str, object],
    cone: set[str],
    why: str,
) -> None:
    run(toy_pipeline(profile, toy_stages()), SCENE)
    changed = toy_pipeline(change(profile), toy_stages(**stages))  # pyright: ignore[reportArgumentType]

    status = {status.stage: status for status in changed.status(SCENE)}
    assert {name for name, found in status.items() if found.state == "stale"} == cone
    assert {name for name, found in status.items() if found.state == "current"} == set(STAGE_NAMES) - cone
    reasons = [str(reason) for name in STAGE_NAMES if name in cone for reason in status[name].changes]
    assert any(reason.startswith(why) for reason in reasons), reasons

    _, events = run(changed, SCENE)

    assert {event.stage for event in events if event.outcome == "made"} == cone
    assert {event.stage for event in events if event.outcome == "current"} == set(STAGE_NAMES) - cone


def test_a_setting_that_no_stage_reads_makes_nothing_stale(profile: Profile) -> None:
    run(toy_pipeline(profile, toy_stages()), SCENE)
    execution = profile.execution.model_copy(update={"parallel_scenes": 5, "max_attempts": 1})
    assert set(states(profile.model_copy(update={"execution": execution})).values()) == {"current"}


def test_what_the_scene_is_made_from_is_part_of_every_key(profile: Profile) -> None:
    run(toy_pipeline(profile, toy_stages()), SCENE)
    _, events = run(toy_pipeline(profile, toy_stages()), toy_scene(prompt="a blue room"))
    assert outcomes(events) == ALL_MADE


def test_going_back_to_an_earlier_profile_makes_the_outputs_again(profile: Profile) -> None:
    # Only the latest output is referred to; an earlier one is never trusted from its folder's name.
    run(toy_pipeline(profile, toy_stages()), SCENE)
    run(toy_pipeline(with_other_video(profile), toy_stages()), SCENE)
    _, events = run(toy_pipeline(profile, toy_stages()), SCENE)
    assert outcomes(events) == {"words": "current", "numbers": "made", "title": "current", "total": "made"}


def test_seeds_differ_between_stages_scenes_and_profiles() -> None:
    seeds = {stage_seed(profile, scene, stage) for profile in (0, 1) for scene in (2, 3) for stage in ("a", "b")}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stage_seed(0, 1, "a") == stage_seed(0, 1, "a")


def test_a_stage_without_a_record_is_missing_and_one_whose_files_are_gone_too(profile: Profile) -> None:
    assert set(states(profile).values()) == {"missing"}
    run(toy_pipeline(profile, toy_stages()), SCENE)
    published_file(profile, "title", "title.txt").unlink()

    assert states(profile) == {"words": "current", "numbers": "current", "title": "missing", "total": "current"}
    _, events = run(toy_pipeline(profile, toy_stages()), SCENE)
    assert outcomes(events) == {**ALL_CURRENT, "title": "made"}


@pytest.mark.parametrize("name", ["record.json", "failure.json"])
def test_an_unreadable_record_or_failure_is_no_obstacle(profile: Profile, name: str) -> None:
    run(toy_pipeline(profile, toy_stages()), SCENE)
    folder = Path(profile.store.url) / "toys" / "scenes" / SCENE.scene_id / "title"
    (folder / "record.json").write_text("{")
    (folder / name).write_text("{")

    assert states(profile)["title"] == "missing"
    _, events = run(toy_pipeline(profile, toy_stages()), SCENE)

    assert outcomes(events) == {**ALL_CURRENT, "title": "made"}
    assert states(profile)["title"] == "current"
    assert (folder / "record.json.corrupt").read_text() == "{"
    assert not (folder / "failure.json").exists()


# ---------------------------------------------------------------- parts of a scene


def test_only_the_selected_stages_are_made(profile: Profile) -> None:
    whole, events = run(toy_pipeline(profile, toy_stages()), SCENE, ["words", "title"])
    assert (whole, outcomes(events)) == (True, {"words": "made", "title": "made"})
    assert states(profile) == {"words": "current", "numbers": "missing", "title": "current", "total": "missing"}


@pytest.mark.parametrize("stale", [False, True])
def test_a_missing_or_stale_input_is_named_with_what_to_do(profile: Profile, stale: bool) -> None:
    if stale:
        run(toy_pipeline(profile, toy_stages(code_versions={"numbers": "0"})), SCENE)

    whole, events = run(toy_pipeline(profile, toy_stages()), SCENE, ["total"])

    assert not whole
    assert events[-1].failure is not None
    assert events[-1].failure.reason == Reason.MISSING_INPUT
    assert events[-1].failure.message == (
        "red-room/total: numbers is missing or stale. Materialize it too, e.g. --select '+total'."
    )


def test_a_missing_input_never_leads_to_quarantine(profile: Profile) -> None:
    for _ in range(5):
        _, events = run(toy_pipeline(profile, toy_stages()), SCENE, ["total"])
        assert not events[-1].quarantined
    whole, _ = run(toy_pipeline(profile, toy_stages()), SCENE)
    assert whole


# ---------------------------------------------------------------- failures

OBSERVATION = ContractObservation(contract="depth", array="left", expected="float32", found="int8", passed=False)
FAILURES = [
    (InputError("no words", where="prompts.txt:1", remedy="Write some."), Reason.INVALID_INPUT, 1),
    (ContractError("int8", where="left", remedy="Make it float32."), Reason.CONTRACT_VIOLATION, 1),
    (ContractBroken(OBSERVATION, "Make it float32."), Reason.CONTRACT_VIOLATION, 1),
    (StageFailed(Reason.QUALITY_REJECTED, "all clips are blurred"), Reason.QUALITY_REJECTED, 1),
    (ZeroDivisionError("division by zero"), Reason.INTERNAL_ERROR, 1),
    (engine_error(), Reason.ENGINE_FAILED, 2),
    (MemoryError("16 GiB"), Reason.OUT_OF_MEMORY, 2),
]


@pytest.mark.parametrize(("error", "reason", "tries"), FAILURES, ids=[type(row[0]).__name__ for row in FAILURES])
def test_a_failure_is_classified_recorded_and_ends_its_scene_only(
    profile: Profile, error: Exception, reason: Reason, tries: int
) -> None:
    pipeline = toy_pipeline(profile, toy_stages(makes={"numbers": failing(error)}))
    whole, events = run(pipeline, SCENE)

    assert not whole
    assert outcomes(events) == {"words": "made", "numbers": "failed"}
    attempt = events[-1].failure
    assert attempt is not None
    assert attempt.reason == reason
    assert str(error) in attempt.message
    failure = pipeline.store.failure(SCENE.scene_id, "numbers")
    assert failure is not None
    assert [entry.reason for entry in failure.attempts] == [reason] * tries
    assert not failure.quarantined
    assert failure.last == attempt
    assert states(profile)["numbers"] == "failed"
    assert pipeline.store.record(SCENE.scene_id, "numbers") is None
    assert scratch_left(profile) == []


def test_a_fault_of_ours_says_where_it_was_raised(profile: Profile) -> None:
    _, events = run(toy_pipeline(profile, toy_stages(makes={"numbers": failing(ZeroDivisionError("by zero"))})), SCENE)
    assert events[-1].failure is not None
    assert events[-1].failure.message.startswith("ZeroDivisionError: by zero (")
    assert "test_scene_pipeline.py:" in events[-1].failure.message


def test_an_exception_without_words_still_has_a_message(profile: Profile) -> None:
    _, events = run(toy_pipeline(profile, toy_stages(makes={"numbers": failing(MemoryError())})), SCENE)
    assert events[-1].failure is not None
    assert events[-1].failure.message == "MemoryError"


def test_a_broken_contract_is_reported_with_what_was_found(profile: Profile) -> None:
    error = ContractBroken(OBSERVATION, "Make it float32.")
    _, events = run(toy_pipeline(profile, toy_stages(makes={"numbers": failing(error)})), SCENE)
    assert events[-1].broken == OBSERVATION


def test_an_engine_that_stumbles_once_is_tried_again_at_once(profile: Profile) -> None:
    makes = {"numbers": failing_times(1, engine_error(), "numbers")}
    whole, events = run(toy_pipeline(profile, toy_stages(makes=makes)), SCENE)

    assert (whole, outcomes(events)) == (True, ALL_MADE)
    record = events[1].record
    assert record is not None
    assert [attempt.reason for attempt in record.attempts] == ["engine_failed"]
    assert toy_store(profile).failure(SCENE.scene_id, "numbers") is None


@pytest.mark.parametrize(
    ("again", "attempts", "quarantined"),
    [
        ("at_once", [2, 3, 3], [False, True, True]),
        ("next_run", [1, 2, 3], [False, False, True]),
        ("after_change", [1, 1, 1], [True, True, True]),
    ],
)
def test_a_failure_decides_itself_when_it_is_tried_again(
    again: Again, attempts: list[int], quarantined: list[bool], profile: Profile
) -> None:
    made: list[tuple[str, str]] = []
    error = StageFailed(Reason.ENGINE_FAILED, "no", again=again)
    stages = toy_stages(makes={"numbers": failing(error)}, made=made)
    for count, end in zip(attempts, quarantined, strict=True):
        _, events = run(toy_pipeline(profile, stages), SCENE)
        assert [stage for _, stage in made].count("numbers") == count
        assert events[-1].quarantined == end


def test_a_scene_is_quarantined_after_the_last_attempt_and_not_tried_again(profile: Profile) -> None:
    made: list[tuple[str, str]] = []
    stages = toy_stages(makes={"title": failing(ValueError("no"))}, made=made)
    quarantined = []
    for _ in range(5):
        whole, events = run(toy_pipeline(profile, stages), SCENE, ["words", "title"])
        assert not whole
        quarantined.append(events[-1].quarantined)
        assert events[-1].failure is not None
        assert events[-1].failure.reason == "internal_error"

    assert quarantined == [False, False, True, True, True]
    assert [stage for _, stage in made].count("title") == 3
    assert states(profile)["title"] == "quarantined"


def test_an_attempt_that_reaches_the_limit_is_not_repeated_at_once(profile: Profile) -> None:
    made: list[tuple[str, str]] = []
    stages = toy_stages(makes={"numbers": failing(engine_error())}, made=made)
    run(toy_pipeline(profile, stages), SCENE)
    _, events = run(toy_pipeline(profile, stages), SCENE)

    assert events[-1].quarantined
    assert [stage for _, stage in made].count("numbers") == 3


def test_lifting_the_quarantine_tries_again(profile: Profile) -> None:
    failing_stages = toy_stages(makes={"title": failing(ValueError("no"))})
    for _ in range(3):
        run(toy_pipeline(profile, failing_stages), SCENE)
    store = toy_store(profile)
    assert run(toy_pipeline(profile, toy_stages()), SCENE)[0] is False

    assert store.clear_failure(SCENE.scene_id, "title")

    assert run(toy_pipeline(profile, toy_stages()), SCENE)[0] is True
    assert store.failure(SCENE.scene_id, "title") is None


def test_attempts_at_another_key_do_not_count(profile: Profile) -> None:
    for _ in range(3):
        run(toy_pipeline(profile, toy_stages(makes={"numbers": failing(ValueError("no"))})), SCENE)
    assert states(profile)["numbers"] == "quarantined"

    mended = toy_stages(makes={"numbers": failing(ValueError("still no"))}, code_versions={"numbers": "2"})
    _, events = run(toy_pipeline(profile, mended), SCENE)

    assert events[-1].outcome == "failed"
    assert not events[-1].quarantined
    failure = toy_store(profile).failure(SCENE.scene_id, "numbers")
    assert failure is not None
    assert [attempt.message.split(" (")[0] for attempt in failure.attempts] == ["ValueError: still no"]


def test_a_failing_stage_keeps_the_output_it_had(profile: Profile) -> None:
    run(toy_pipeline(profile, toy_stages()), SCENE)
    before = toy_store(profile).record(SCENE.scene_id, "title")
    changed = {"code_versions": {"title": "2"}}

    run(
        toy_pipeline(profile, toy_stages(makes={"title": failing(ValueError("no"))}, code_versions={"title": "2"})),
        SCENE,
    )

    assert toy_store(profile).record(SCENE.scene_id, "title") == before
    assert published_file(profile, "title", "title.txt").read_text() == "A Red Room"
    assert states(profile, **changed)["title"] == "failed"
    assert states(profile)["title"] == "current"


# ---------------------------------------------------------------- corrupt outputs


def test_a_corrupt_input_is_set_aside_and_made_again_in_the_same_run(profile: Profile) -> None:
    run(toy_pipeline(profile, toy_stages()), SCENE)
    path = published_file(profile, "words", "words.json")
    good = path.read_bytes()
    path.write_bytes(good.replace(b"red", b"rod"))
    made: list[tuple[str, str]] = []

    whole, events = run(toy_pipeline(profile, toy_stages(made=made, code_versions={"title": "2"})), SCENE)

    assert whole
    assert outcomes(events) == {"words": "made", "numbers": "current", "title": "made", "total": "current"}
    assert not any(event.outcome == "failed" for event in events)
    assert published_file(profile, "words", "words.json").read_bytes() == good
    assert published_file(profile, "title", "title.txt").read_text() == "A Red Room"
    assert toy_store(profile).failure(SCENE.scene_id, "title") is None


def test_a_corrupt_input_that_is_not_selected_is_named_and_made_by_the_next_whole_run(profile: Profile) -> None:
    run(toy_pipeline(profile, toy_stages()), SCENE)
    path = published_file(profile, "words", "words.json")
    path.write_bytes(bytes(path.stat().st_size))
    changed = toy_stages(code_versions={"title": "2"})

    whole, events = run(toy_pipeline(profile, changed), SCENE, ["title"])

    assert not whole
    assert events[-1].failure is not None
    assert events[-1].failure.reason == "corrupt_input"
    assert "red-room/words/words.json: the file's SHA-256 is" in events[-1].failure.message
    assert "make the stage again for this scene" in events[-1].failure.message

    whole, events = run(toy_pipeline(profile, changed), SCENE, ["title"])
    assert events[-1].failure is not None
    assert "words is missing or stale" in events[-1].failure.message

    assert run(toy_pipeline(profile, changed), SCENE)[0] is True


def test_several_corrupt_inputs_are_all_made_again_in_the_same_run(profile: Profile) -> None:
    run(toy_pipeline(profile, toy_stages()), SCENE)
    for stage, name in (("words", "words.json"), ("numbers", "numbers.npz")):
        path = published_file(profile, stage, name)
        path.write_bytes(bytes(path.stat().st_size))

    whole, events = run(toy_pipeline(profile, toy_stages(code_versions={"title": "2", "total": "2"})), SCENE)

    assert whole
    assert outcomes(events) == ALL_MADE
    told = [(event.stage, event.outcome) for event in events]
    assert len(told) == len(set(told))
    assert set(states(profile, code_versions={"title": "2", "total": "2"}).values()) == {"current"}


def test_an_input_that_is_corrupt_however_often_it_is_made_ends_the_scene(profile: Profile) -> None:
    def spoil(context: StageContext) -> Made:
        path = context.inputs.path("words", "words.json")
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, ns=(1, 1))
        context.inputs.json("words", "words.json")
        raise AssertionError("the spoiled file was read")

    whole, events = run(toy_pipeline(profile, toy_stages(makes={"title": spoil})), SCENE)

    assert not whole
    assert events[-1].failure is not None
    assert events[-1].failure.reason == "corrupt_input"
    assert not events[-1].quarantined
    assert [event.stage for event in events].count("words") == 2


@pytest.mark.parametrize("remote", [False, True])
def test_a_corrupt_input_is_mended_on_every_kind_of_store(tmp_path: Path, remote: bool) -> None:
    import fsspec

    profile = toy_profile(tmp_path, f"memory://{tmp_path.name}-{os.getpid()}" if remote else "store")
    run(toy_pipeline(profile, toy_stages()), SCENE, ["words"])
    store = toy_store(profile)
    record = store.record(SCENE.scene_id, "words")
    assert record is not None
    with fsspec.open(store.file_url(record, "words.json"), "wb") as file:
        file.write(bytes(record.files[0].bytes))  # pyright: ignore[reportAttributeAccessIssue]

    whole, events = run(toy_pipeline(profile, toy_stages()), SCENE)

    assert whole
    assert outcomes(events) == ALL_MADE


# ---------------------------------------------------------------- what stops a batch


def test_an_impossible_profile_stops_the_batch(profile: Profile) -> None:
    error = ConfigError("17 frames are too few", where="profile.yaml:4", remedy="Ask for 33.")
    pipeline = toy_pipeline(profile, toy_stages(makes={"numbers": failing(error)}))
    events: list[StageEvent] = []

    with pytest.raises(BatchStopped, match=r"profile.yaml:4: 17 frames are too few. Ask for 33.") as raised:
        pipeline.run_scene(SCENE, STAGE_NAMES, events.append)

    assert raised.value.attempt.reason == "invalid_config"
    assert outcomes(events) == {"words": "made", "numbers": "failed"}
    assert run(pipeline, toy_scene("next-room")) == (False, [])
    assert pipeline.store.failure(SCENE.scene_id, "numbers") is None


def test_a_stopped_batch_reports_what_ended_and_leaves_the_rest(profile: Profile) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    pipeline = toy_pipeline(profile, toy_stages(makes={"title": failing(error)}))
    events: list[StageEvent] = []
    scenes = [toy_scene(f"room-{number:02}") for number in range(20)]

    def run_scene(scene: SceneEntry, report: Report) -> bool:
        return pipeline.run_scene(scene, STAGE_NAMES, report)

    with pytest.raises(BatchStopped):
        events.extend(LocalSceneMapper(2).map(run_scene, scenes))

    assert {event.failure.reason for event in events if event.failure} == {"store_full"}
    assert len({event.scene for event in events}) <= 3


@pytest.mark.parametrize("stage", ["words", "numbers"])
def test_a_full_disk_stops_the_batch_and_publishes_nothing_half(tmp_path: Path, stage: str) -> None:
    def big(context: StageContext) -> Made:
        for number in range(8):
            (context.scratch / f"{number}.npy").write_bytes(bytes(1 << 18))
        return Made()

    with small_file_system(tmp_path / "small") as folder:
        profile = toy_profile(tmp_path, str(folder))
        pipeline = toy_pipeline(profile, toy_stages(makes={stage: big}))
        with pytest.raises(BatchStopped, match="No space left on device") as raised:
            run(pipeline, SCENE)

        assert raised.value.attempt.reason == "store_full"
        assert pipeline.store.record(SCENE.scene_id, stage) is None
        assert pipeline.store.failure(SCENE.scene_id, stage) is None
        assert pipeline.store.leftovers().directories == ()
        assert scratch_left(profile) == []
        assert run(toy_pipeline(profile, toy_stages()), SCENE)[0] is True


def test_a_read_only_store_stops_the_batch_unless_all_is_current(profile: Profile) -> None:
    run(toy_pipeline(profile, toy_stages()), SCENE)
    with read_only(Path(profile.store.url)):
        assert run(toy_pipeline(profile, toy_stages()), SCENE)[0] is True
        with pytest.raises(BatchStopped, match="Read-only file system") as raised:
            run(toy_pipeline(profile, toy_stages(code_versions={"title": "2"})), SCENE)
        assert raised.value.attempt.reason == "store_unavailable"
        with pytest.raises(BatchStopped, match="Read-only file system"):
            # The scene's own failure cannot be noted either.
            run(toy_pipeline(profile, toy_stages()), toy_scene("other-room"), ["total"])


def test_a_file_in_place_of_the_store_stops_the_batch(profile: Profile) -> None:
    Path(profile.store.url).write_text("not a folder")
    with pytest.raises(BatchStopped, match=r"Make .* writable") as raised:
        run(toy_pipeline(profile, toy_stages()), SCENE)
    assert raised.value.attempt.reason == "store_unavailable"


def test_a_store_whose_records_cannot_be_read_stops_the_batch(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    pipeline = toy_pipeline(profile, toy_stages())
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BatchStopped, match=r"record.json: Input/output error") as raised:
        run(pipeline, SCENE)
    assert raised.value.attempt.reason == "store_unavailable"


def test_stopping_ends_scenes_before_their_next_stage(profile: Profile) -> None:
    pipeline = toy_pipeline(profile, toy_stages())
    events: list[StageEvent] = []

    def stop_after_numbers(event: StageEvent) -> None:
        events.append(event)
        if event.stage == "numbers":
            pipeline.stop()

    assert pipeline.run_scene(SCENE, STAGE_NAMES, stop_after_numbers) is False
    assert outcomes(events) == {"words": "made", "numbers": "made"}
    assert outcomes(run(toy_pipeline(profile, toy_stages()), SCENE)[1]) == {
        "words": "current",
        "numbers": "current",
        "title": "made",
        "total": "made",
    }


def test_interrupting_a_stage_leaves_nothing_behind(profile: Profile) -> None:
    pipeline = toy_pipeline(profile, toy_stages(makes={"numbers": failing(KeyboardInterrupt())}))
    with pytest.raises(KeyboardInterrupt):
        run(pipeline, SCENE)
    assert scratch_left(profile) == []
    assert pipeline.store.failure(SCENE.scene_id, "numbers") is None


# ---------------------------------------------------------------- several pipelines


def test_a_profile_changed_while_a_run_is_under_way_leaves_each_record_whole(profile: Profile) -> None:
    changed = with_other_video(profile)
    other: list[StageEvent] = []

    def run_the_other(context: StageContext) -> Made:
        toy_pipeline(changed, toy_stages()).run_scene(SCENE, STAGE_NAMES, other.append)
        return MAKES["numbers"](context)

    whole, events = run(toy_pipeline(profile, toy_stages(makes={"numbers": run_the_other})), SCENE)

    assert whole
    assert outcomes(other) == {"words": "current", "numbers": "made", "title": "made", "total": "made"}
    assert outcomes(events) == {"words": "made", "numbers": "made", "title": "current", "total": "made"}
    store = toy_store(profile)
    for stage in STAGE_NAMES:
        record = store.record(SCENE.scene_id, stage)
        assert record is not None
        for file in record.files:
            store.fetch(record, file.path)
    assert set(states(profile).values()) == {"current"}
    assert states(changed) == {"words": "current", "numbers": "stale", "title": "current", "total": "stale"}


TWO_PROCESSES = """
import sys, time
from pathlib import Path
from toy_stages import MAKES, outcomes, run, toy_pipeline, toy_profile, toy_scene, toy_stages

folder, name = Path(sys.argv[1]), sys.argv[2]

def meet(point):
    (folder / f"{name}-{point}").touch()
    deadline = time.monotonic() + 20
    while len(list(folder.glob(f"*-{point}"))) < 2:
        assert time.monotonic() < deadline, "the other process never came"
        time.sleep(0.001)

def both_at_once(stage):
    def make(context):
        made = MAKES[stage](context)
        meet(f"{context.scene.scene_id}-{stage}")
        return made
    return make

(folder / name).mkdir()
profile = toy_profile(folder / name, str(folder / "store"))
pipeline = toy_pipeline(profile, toy_stages(makes={stage: both_at_once(stage) for stage in MAKES}), name)
for number in range(10):
    whole, events = run(pipeline, toy_scene(f"room-{number}"))
    assert whole, events
    assert outcomes(events) == dict.fromkeys(MAKES, "made"), outcomes(events)
"""


def test_two_processes_that_make_the_same_scenes_at_once_both_end_well(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(tmp_path), name],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors

    store = SceneStore(str(tmp_path / "store"), "toys")
    assert store.scenes() == [f"room-{number}" for number in range(10)]
    for scene in store.scenes():
        for stage in STAGE_NAMES:
            record = store.record(scene, stage)
            assert record is not None
            for file in record.files:
                store.fetch(record, file.path)
    assert store.leftovers().directories == ()  # the loser's files are gone
    assert list((tmp_path / "store" / ".staging").iterdir()) == []


def test_a_thousand_finished_stages_cost_little(profile: Profile) -> None:
    pipeline = toy_pipeline(profile, toy_stages())
    run(pipeline, SCENE)
    started = time.perf_counter()
    for _ in range(250):
        run(pipeline, SCENE)
    assert time.perf_counter() - started < 5.0  # about 0.3 s on one core of a small server

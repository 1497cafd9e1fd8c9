from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sceneloom.assets.stage import Made, StageContext, StageInputs
from sceneloom.resources.engines import Engines
from sceneloom.resources.profiles import Profile
from sceneloom.resources.store import CorruptOutputError

from .toy_stages import run, toy_pipeline, toy_profile, toy_scene, toy_stages, toy_store

SCENE = toy_scene()


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return toy_profile(tmp_path)


@pytest.fixture
def inputs(profile: Profile) -> StageInputs:
    """The published outputs of a scene."""
    _, events = run(toy_pipeline(profile, toy_stages()), SCENE)
    records = {event.stage: event.record for event in events if event.record is not None}
    return StageInputs(toy_store(profile), records)


def test_inputs_are_read_as_what_they_are(inputs: StageInputs) -> None:
    assert inputs.json("words", "words.json") == {"words": ["a", "red", "room"]}
    arrays = inputs.arrays("numbers", "numbers.npz")
    assert {name: (array.shape, array.dtype) for name, array in arrays.items()} == {
        "numbers": ((3, 3), np.dtype("float32"))
    }
    assert inputs.names("words") == ["words.json"]
    assert inputs.path("title", "title.txt").read_text() == "A Red Room"
    assert Path(inputs.url("title", "title.txt")).read_text() == "A Red Room"


def test_a_corrupt_input_is_never_read(inputs: StageInputs) -> None:
    path = Path(inputs.url("numbers", "numbers.npz"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptOutputError, match=r"red-room/numbers/numbers.npz: the file's SHA-256"):
        inputs.arrays("numbers", "numbers.npz")


def test_arrays_are_never_unpickled(profile: Profile) -> None:
    def pickled(context: StageContext) -> Made:
        np.savez(context.scratch / "numbers.npz", numbers=np.array([{}], dtype=object), allow_pickle=True)
        return Made()

    _, events = run(toy_pipeline(profile, toy_stages(makes={"numbers": pickled})), SCENE)
    assert events[-1].failure is not None
    assert "allow_pickle=False" in events[-1].failure.message


def test_json_is_written_sorted_and_without_nan(profile: Profile, inputs: StageInputs, tmp_path: Path) -> None:
    context = StageContext(SCENE, profile, inputs, tmp_path, 1, Engines(profile))
    context.write_json("a.json", {"b": 1, "a": [0.5]})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  0.5\n ],\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        context.write_json("b.json", {"a": float("nan")})


def test_outputs_start_empty_and_share_nothing() -> None:
    one, other = Made(), Made()
    one.metrics["clips"] = 6
    assert other.metrics == {}

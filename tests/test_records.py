from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sceneloom.resources.records import (
    Attempt,
    Failure,
    KeyChange,
    KeyParts,
    PublishedFile,
    Record,
    canonical_json,
    digest,
    key_changes,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def key_parts(**changes: Any) -> KeyParts:
    usual: dict[str, Any] = {
        "inputs": {"view": "a" * 64},
        "settings": {"frames": {"count": 17, "height": 176}, "names": ["left", "up"]},
        "code_version": "1",
        "engine": {"name": "raycast", "weights": {"codec": "b" * 64}},
        "seed": 5,
    }
    return KeyParts(**{**usual, **changes})


def record(**changes: Any) -> Record:
    usual: dict[str, Any] = {
        "scene": "red-room",
        "stage": "view",
        "key": key_parts().key(),
        "key_parts": key_parts(),
        "directory": "0123",
        "files": [PublishedFile(path="a.npz", bytes=3, sha256="c" * 64), PublishedFile(path="b", bytes=4, sha256="d")],
        "engine": "raycast",
        "licence": "Apache-2.0",
        "seconds": 0.5,
        "created_at": "2026-01-01T00:00:00.000+00:00",
        "run": "r1",
    }
    return Record(**{**usual, **changes})


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), JSON_VALUES, max_size=6), st.randoms(use_true_random=False))
def test_equal_values_give_equal_text_whatever_the_order_of_their_keys(value: dict[str, Any], random: Any) -> None:
    names = list(value)
    random.shuffle(names)
    shuffled = {name: value[name] for name in names}

    assert canonical_json(shuffled) == canonical_json(value)
    assert digest(shuffled) == digest(value)
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"deep": [{"value": value}]})


def test_digests_do_not_change_between_versions() -> None:
    # Every stored key rests on this: a change here makes every scene of every user stale.
    assert digest({"b": [1, 2.5, None], "a": "ä"}) == "324d0f98e8e7b390bd24bc556eff388b74bd640e9df12c341becba7b8658c628"


def test_equal_parts_have_equal_keys() -> None:
    assert key_parts().key() == key_parts().key()
    assert len(key_parts().key()) == 64
    assert KeyParts.model_validate_json(key_parts().model_dump_json()).key() == key_parts().key()


@pytest.mark.parametrize(
    ("change", "path", "before", "now"),
    [
        ({"inputs": {"view": "e" * 64}}, "inputs.view", "a" * 64, "e" * 64),
        ({"inputs": {"view": "a" * 64, "scaffold": "f" * 64}}, "inputs.scaffold", None, "f" * 64),
        (
            {"settings": {"frames": {"count": 33, "height": 176}, "names": ["left", "up"]}},
            "settings.frames.count",
            17,
            33,
        ),
        (
            {"settings": {"frames": {"count": 17, "height": 176}, "names": ["up"]}},
            "settings.names",
            ["left", "up"],
            ["up"],
        ),
        ({"code_version": "2"}, "code_version", "1", "2"),
        (
            {"engine": {"name": "raycast", "weights": {"codec": "c" * 64}}},
            "engine.weights.codec",
            "b" * 64,
            "c" * 64,
        ),
        ({"seed": 6}, "seed", 5, 6),
    ],
)
def test_each_part_changes_the_key_and_the_change_names_its_path(
    change: dict[str, Any], path: str, before: Any, now: Any
) -> None:
    changed = key_parts(**change)

    assert changed.key() != key_parts().key()
    assert key_changes(key_parts(), changed) == [KeyChange(part=path, before=before, now=now)]


def test_equal_parts_have_no_changes_and_several_changes_are_sorted() -> None:
    assert key_changes(key_parts(), key_parts()) == []
    changes = key_changes(key_parts(), key_parts(seed=6, code_version="2", engine={"name": "gen3c"}))
    assert [change.part for change in changes] == ["code_version", "engine.name", "engine.weights.codec", "seed"]


@settings(max_examples=80, deadline=None)
@example({"a": 1}, {"a": 1.0})
@example({"a": 1}, {"a": True})
@example({"a": 1}, {"a": 1, "b": None})
@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.dictionaries(st.text(), JSON_VALUES, max_size=4))
def test_keys_differ_exactly_when_there_are_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = key_parts(settings=before), key_parts(settings=now)

    assert (old.key() != new.key()) == bool(key_changes(old, new))


def test_changes_read_well() -> None:
    assert str(KeyChange(part="seed", before=5, now=6)) == "seed: 5 → 6"
    assert str(KeyChange(part="inputs.view", before="a" * 64, now=None)) == "inputs.view: aaaaaaaaaaaa → (absent)"
    assert len(str(KeyChange(part="settings.names", before="x" * 500, now="y"))) < 100


def test_records_survive_their_file() -> None:
    attempt = Attempt(at="now", run="r0", reason="engine_failed", message="no", key="k", seconds=1.5)
    whole = record(attempts=[attempt], metrics={"clips": 6, "seconds": 0.25}, metadata={"what": ["ä", None]})

    assert Record.model_validate_json(whole.model_dump_json(indent=1)) == whole
    assert whole.bytes == 7


@pytest.mark.parametrize("change", [{"format": "sceneloom.record/2"}, {"unknown": 1}, {"files": [{"path": "a"}]}])
def test_a_record_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    content = {**json.loads(record().model_dump_json()), **change}

    with pytest.raises(ValidationError):
        Record.model_validate_json(json.dumps(content))


def test_records_do_not_change_after_they_are_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        record().__setattr__("key", "other")


def test_the_last_attempt_is_the_most_recent() -> None:
    attempts = [
        Attempt(at=f"t{number}", run="r", reason="engine_failed", message="no", key="k", seconds=0.0)
        for number in range(3)
    ]
    assert Failure(scene="s", stage="t", attempts=attempts).last.at == "t2"

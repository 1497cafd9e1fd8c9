"""A choice between engines by name: what it takes, what it refuses, what its schema says."""

from __future__ import annotations

from typing import Annotated, Literal

import jsonschema
import pytest
from pydantic import Field, ValidationError

from sceneloom.resources.engine_choice import EngineChoice, chosen_section, engine_name, sections_of
from sceneloom.resources.profile_sections import EngineSettings, Section


class Plain(EngineSettings):
    engine: Literal["plain"] = "plain"
    samples: int = 2


class Fancy(EngineSettings):
    engine: Literal["fancy"] = "fancy"
    steps: Annotated[int, Field(ge=1)] = 4


class Chosen(Section):
    video: Annotated[Plain | Fancy, EngineChoice()] = Plain()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", Plain()),
        ("fancy", Fancy()),
        ({"engine": "fancy", "steps": 2}, Fancy(steps=2)),
        ({"samples": 3}, Plain(samples=3)),
        ({}, Plain()),
        (Fancy(steps=9), Fancy(steps=9)),
    ],
)
def test_the_name_chooses_and_the_first_is_meant_without_one(value: object, expected: Section) -> None:
    assert Chosen.model_validate({"video": value}).video == expected


@pytest.mark.parametrize("value", ["fanci", {"engine": "fanci"}, {"steps": 2}, {"engine": "fancy", "steps": 0}, 3, [1]])
def test_what_no_engine_takes_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        Chosen.model_validate({"video": value})


def test_the_schema_takes_what_the_model_takes() -> None:
    schema = Chosen.model_json_schema()
    for value in ("plain", "fancy", {"engine": "fancy", "steps": 2}, {"samples": 3}, {}):
        jsonschema.validate({"video": value}, schema)
    for value in ("fanci", {"engine": "plain", "steps": 2}, 3):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"video": value}, schema)


def test_the_section_that_a_value_is_for_is_found() -> None:
    annotation = Chosen.model_fields["video"].annotation
    assert sections_of(annotation) == [Plain, Fancy]
    assert [engine_name(section) for section in sections_of(annotation)] == ["plain", "fancy"]
    assert chosen_section(annotation, "fancy") is chosen_section(annotation, {"engine": "fancy"}) is Fancy
    assert chosen_section(annotation, {"samples": 3}) is Plain
    assert chosen_section(int, 3) is None

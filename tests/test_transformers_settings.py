"""Profile sections of the transformers engines: what they take from YAML, and what they refuse."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from sceneloom.resources import transformers_settings
from sceneloom.resources.profile_sections import Section
from sceneloom.resources.transformers_settings import (
    CaptionSettings,
    DepthAnythingScaffoldSettings,
    DepthProScaffoldSettings,
    Sam2ObjectsSettings,
    Sam3ObjectsSettings,
    TextEncoderSettings,
)

ENGINES = {
    "depth_pro": DepthProScaffoldSettings,
    "depth_anything": DepthAnythingScaffoldSettings,
    "sam2": Sam2ObjectsSettings,
    "sam3": Sam3ObjectsSettings,
    "vlm": CaptionSettings,
}
SECTIONS = [
    found
    for found in vars(transformers_settings).values()
    if isinstance(found, type) and issubclass(found, Section) and found.__module__ == transformers_settings.__name__
]


@pytest.mark.parametrize("name", ENGINES)
def test_a_section_names_its_engine_and_its_model(name: str) -> None:
    values: dict[str, Any] = {"engine": name, "id": "owner/model"} | ({"prompts": ["chair"]} if name == "sam3" else {})
    section = ENGINES[name].model_validate(values)
    assert section.model_dump()["engine"] == name
    assert section.weights == "owner/model"
    # A profile shows every setting, and reads what it shows.
    assert ENGINES[name].model_validate(json.loads(section.model_dump_json())) == section


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_described(section: type[Section]) -> None:
    assert section.__doc__
    assert [name for name, field in section.model_fields.items() if not field.description and name != "engine"] == []


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_needs_a_model(name: str) -> None:
    with pytest.raises(ValidationError, match="neither id nor path is given"):
        ENGINES[name].model_validate({"engine": name} | ({"prompts": ["chair"]} if name == "sam3" else {}))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("depth_pro", {"focal": "guessed"}),
        ("depth_pro", {"edge_bend": 0.0}),
        ("depth_anything", {"relief": 1.0}),
        ("depth_anything", {"reference": {"engine": "depth_pro", "id": "owner/other"}}),
        ("sam2", {"points": [[0.5, 1.5]]}),
        ("sam2", {"points_per_side": 0}),
        ("sam2", {"offload": "model", "device": "cuda"}),
        ("sam3", {"prompts": []}),
        ("sam3", {"prompts": ["chair", "chair"]}),
        ("sam3", {"prompts": ["chair", " "]}),
        ("vlm", {"window_frames": 8, "overlap_frames": 8}),
        ("vlm", {"instruction": ""}),
    ],
)
def test_what_cannot_work_is_refused(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ENGINES[name].model_validate(
            {"id": "owner/model", **({"prompts": ["chair"]} if name == "sam3" else {}), **values}
        )


def test_lists_of_yaml_become_points_and_prompts() -> None:
    section = Sam2ObjectsSettings.model_validate({"id": "owner/model", "points": [[0.25, 0.5], [1.0, 0.0]]})
    assert section.points == ((0.25, 0.5), (1.0, 0.0))
    with pytest.raises(ValidationError):
        Sam2ObjectsSettings.model_validate({"id": "owner/model", "points": [["0.25", 0.5]]})
    assert Sam3ObjectsSettings.model_validate({"id": "o/m", "prompts": ["red sofa"]}).prompts == ("red sofa",)


def test_depth_and_masks_are_computed_in_float32_unless_told_otherwise() -> None:
    for section in (DepthProScaffoldSettings, DepthAnythingScaffoldSettings, Sam2ObjectsSettings):
        assert section.model_validate({"id": "owner/model"}).precision == "float32"
    assert TextEncoderSettings(id="owner/model").precision == "bfloat16"


@pytest.mark.parametrize("section", SECTIONS)
def test_editors_get_a_schema(section: type[Section]) -> None:
    schema = section.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    values = {"id": "owner/model"} | ({"prompts": ["chair"]} if section is Sam3ObjectsSettings else {})
    assert validator.is_valid(values)
    assert not validator.is_valid({**values, "precision": "float8"})

"""Profile sections of the diffusers engines: what they take, and what they refuse by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from sceneloom.resources.diffusers_settings import (
    FluxFillViewSettings,
    FluxViewSettings,
    SanaWMVideoSettings,
    WanVaceVideoSettings,
)

SECTIONS = (FluxViewSettings, FluxFillViewSettings, SanaWMVideoSettings, WanVaceVideoSettings)


def refusals(section: type[Any], **values: Any) -> dict[tuple[Any, ...], str]:
    """Messages by the location of the value they refuse."""
    with pytest.raises(ValidationError) as refused:
        section.model_validate({"id": "owner/model", **values})
    return {(*error["loc"], *error.get("ctx", {}).get("below", ())): error["msg"] for error in refused.value.errors()}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_model_is_all_that_must_be_named(section: type[Any]) -> None:
    settings = section.model_validate({"id": "owner/model"})
    assert settings.weights == "owner/model"
    assert section.model_validate(settings.model_dump()) == settings
    assert "neither id nor path is given" in str(refusals(section, id=None))
    schema = section.model_json_schema()
    described = next(part for part in schema["anyOf"] if "properties" in part)["properties"]
    undescribed = [name for name, field in described.items() if name != "engine" and not field.get("description")]
    assert not undescribed


def test_engines_are_told_apart_by_name() -> None:
    names = [section.model_validate({"id": "owner/model"}).engine for section in SECTIONS]
    assert names == ["flux", "flux_fill", "sana_wm", "wan_vace"]
    for section, name in zip(SECTIONS, names, strict=True):
        assert ("engine",) in refusals(section, engine=name + "_2")


def test_one_number_expands_all_sides() -> None:
    settings = FluxFillViewSettings.model_validate({"id": "owner/model", "expansion_percent": 20})
    assert settings.expansion_percent.model_dump() == {"left": 20.0, "right": 20.0, "top": 20.0, "bottom": 20.0}
    settings = FluxFillViewSettings.model_validate({"id": "owner/model", "expansion_percent": {"right": 5.5}})
    assert settings.expansion_percent.model_dump() == {"left": 0.0, "right": 5.5, "top": 0.0, "bottom": 0.0}


@pytest.mark.parametrize("percent", [0, {"left": 0}, {}])
def test_an_expansion_by_nothing_is_refused(percent: Any) -> None:
    assert "nothing is added on any side" in refusals(FluxFillViewSettings, expansion_percent=percent).values()


@pytest.mark.parametrize("percent", [-1, 101, True, "20 %", {"up": 5}])
def test_impossible_expansions_are_refused(percent: Any) -> None:
    assert all(place[0] == "expansion_percent" for place in refusals(FluxFillViewSettings, expansion_percent=percent))


@pytest.mark.parametrize(
    ("section", "values", "place", "message"),
    [
        (SanaWMVideoSettings, {"window_frames": 160}, "window_frames", "window_frames is 160, not 8k + 1"),
        (WanVaceVideoSettings, {"window_frames": 80}, "window_frames", "window_frames is 80, not 4k + 1"),
        (WanVaceVideoSettings, {"overlap_frames": 4}, "overlap_frames", "overlap_frames is 4, not 4k + 1"),
        (
            WanVaceVideoSettings,
            {"window_frames": 9, "overlap_frames": 9},
            "overlap_frames",
            "an overlap of 9 in windows of 9 frames",
        ),
    ],
)
def test_windows_are_whole_groups_of_frames(
    section: type[Any], values: dict[str, Any], place: str, message: str
) -> None:
    assert refusals(section, **values) == {(place,): message}


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        (FluxViewSettings, "guidance", 0.5),
        (FluxViewSettings, "true_guidance", 0.0),
        (FluxViewSettings, "prompt_tokens", 513),
        (FluxFillViewSettings, "steps", 0),
        (SanaWMVideoSettings, "scene_depth", 0.0),
        (SanaWMVideoSettings, "vae_precision", "float64"),
        (SanaWMVideoSettings, "window_frames", 969),
        (WanVaceVideoSettings, "conditioning_scale", -1.0),
        (WanVaceVideoSettings, "edge_threshold", 0.0),
        (WanVaceVideoSettings, "overlap", 5),
    ],
)
def test_values_out_of_range_are_refused(section: type[Any], name: str, value: Any) -> None:
    assert list(refusals(section, **{name: value})) == [(name,)]


def test_a_depth_has_a_unit() -> None:
    settings = SanaWMVideoSettings.model_validate({"id": "owner/model", "scene_depth": "350 cm"})
    assert settings.scene_depth == 3.5


def test_sana_wm_refuses_sizes_before_it_is_loaded() -> None:
    settings = SanaWMVideoSettings(id="owner/model")
    settings.require_frames(121, 704, 1280)
    with pytest.raises(PydanticCustomError, match=r"multiples of 32, and frames\.width is 1264"):
        settings.require_frames(121, 704, 1264)
    with pytest.raises(PydanticCustomError, match=r"8k \+ 1 frames, and frames\.count is 125") as refused:
        settings.require_frames(125, 704, 1280)
    assert (refused.value.context or {})["remedy"] == "Set frames.count to 121 or 129."


@pytest.mark.parametrize("section", [SanaWMVideoSettings, WanVaceVideoSettings])
def test_a_negative_prompt_without_guidance_is_refused(section: type[Any]) -> None:
    without_effect = {("negative_prompt",): "a negative prompt that would have no effect"}
    assert refusals(section, negative_prompt="fog", guidance=1.0) == without_effect
    section.model_validate({"id": "owner/model", "negative_prompt": "fog", "guidance": 1.5})
    section.model_validate({"id": "owner/model", "guidance": 1.0})

"""What every section of a profile is made of: strict mappings, locations, and refusals with a remedy."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from .located_yaml import KeyPath

_URL_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")


def refusal(found: str, remedy: str, below: KeyPath = ()) -> PydanticCustomError:
    """A refusal of the value under validation, or of what lies `below` it."""
    # The message goes in as a value: braces in it are the user's, not a template's.
    return PydanticCustomError("refused", "{found}", {"found": found, "remedy": remedy, "below": below})


def require_overlap_within(overlap_frames: int, window_frames: int) -> None:
    """Refuse windows that would not get on along a clip. Raises PydanticCustomError."""
    if overlap_frames >= window_frames:
        raise refusal(
            f"an overlap of {overlap_frames} in windows of {window_frames} frames",
            "Let overlap_frames be smaller than window_frames.",
            ("overlap_frames",),
        )


def absolute_location(location: str, info: ValidationInfo) -> str:
    """A URL as it is, and a path made absolute against the folder that the profile lies in; for validation."""
    if not location.strip():
        raise refusal("an empty path", "Give a path or a URL.")
    if _URL_SCHEME.match(location):
        return location
    folder = Path((info.context or {}).get("folder", "."))
    return os.path.normpath(Path(folder, Path(location).expanduser()).absolute())


LocationText = Annotated[str, AfterValidator(absolute_location)]
"""A URL, or a path made absolute against the profile's folder."""
Fraction = Annotated[float, Field(ge=0, le=1)]
Device = Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]
EveryPositive = Annotated[int, Field(ge=1)]


def device_with_index(device: str) -> str:
    """The one name of a device: "cuda" is its first, "cuda:0"."""
    return "cuda:0" if device == "cuda" else device


class Section(BaseModel):
    """A mapping in a profile: unknown keys are refused, values are not converted, the result does not change."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class EngineSettings(Section):
    """Settings of one stage's engine; the engine's name alone stands for its defaults."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"engine": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        settings = handler.resolve_ref_schema(handler(schema))
        mapping = dict(settings)
        settings.clear()
        settings["anyOf"] = [mapping, {"const": mapping["properties"]["engine"]["const"]}]
        return settings

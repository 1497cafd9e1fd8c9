"""A choice between engines in a profile: the engine's name says which section of settings the others belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from .profile_sections import Section


class EngineChoice:
    """Annotation of a union of engine settings: `Annotated[A | B, EngineChoice()]`.

    The value of `engine`, or the name that stands alone, chooses the section; without it the first one is meant, as
    everywhere defaults are.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = get_args(source)
        default = engine_name(kinds[0])

        def chosen(value: Any) -> str | None:
            engine = value.get("engine", default) if isinstance(value, Mapping) else getattr(value, "engine", value)
            return engine if isinstance(engine, str) else None

        return core_schema.tagged_union_schema(
            {engine_name(kind): handler.generate_schema(kind) for kind in kinds}, discriminator=chosen
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # A mapping without `engine` may be valid for several sections; the default one is meant.
        choices = dict(handler(schema))
        return {"anyOf": choices.pop("oneOf")}


def engine_name(section: type[Section]) -> str:
    """The name by which a profile chooses the engine of these settings."""
    return get_args(section.model_fields["engine"].annotation)[0]


def sections_of(annotation: Any) -> list[type[Section]]:
    """The section classes in a field's annotation, in order."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_of(part)]


def chosen_section(annotation: Any, value: Any) -> type[Section] | None:
    """The section class that a value under a field is for; None where the field has none."""
    kinds = sections_of(annotation)
    engine = value.get("engine") if isinstance(value, Mapping) else value
    named = [kind for kind in kinds if "engine" in kind.model_fields and engine_name(kind) == engine]
    return next(iter([*named, *kinds]), None)

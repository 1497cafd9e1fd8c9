"""Numbers with a unit, as pydantic field types.

A field declared as `Length` holds metres as a float. Its value may be written as a plain number (metres) or as
"15 cm"; a unit of another dimension is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-zµ°]+)\s*")

# Factors to each dimension's base unit, as decimals: 7 cm is exactly the float 0.07, not 0.07000000000000001.
_DIMENSIONS: dict[str, dict[str, Decimal]] = {
    "length": {"m": Decimal(1), "km": Decimal(1000), "cm": Decimal("0.01"), "mm": Decimal("0.001")},
    "angle": {"deg": Decimal(1), "°": Decimal(1), "rad": Decimal(math.degrees(1.0))},
    "time": {"s": Decimal(1), "ms": Decimal("0.001"), "min": Decimal(60), "h": Decimal(3600)},
    "memory": {
        "B": Decimal(1),
        **{f"{prefix}B": Decimal(1000) ** power for power, prefix in enumerate(("k", "M", "G", "T"), start=1)},
        **{f"{prefix}iB": Decimal(1024) ** power for power, prefix in enumerate(("K", "M", "G", "T"), start=1)},
    },
}
_DIMENSION_OF = {unit: dimension for dimension, units in _DIMENSIONS.items() for unit in units}

UNITS_AS_TEXT = {"quantities": "with units"}
"""Serialization context under which quantities are written as "0.15 m" instead of as a number."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """Annotation that makes a float field accept "<number> <unit>" and holds it in `unit`.

    Attributes:
        unit: the unit the field's value is held in, and the unit of a plain number.
    """

    unit: str

    def parse(self, value: Any) -> Any:
        """Turn "<number> <unit>" into a number of `self.unit`; other values pass through for pydantic to judge.

        Raises:
            PydanticCustomError: the text is no quantity, or its unit measures something else.
        """
        if not isinstance(value, str):
            return value
        dimension = _DIMENSION_OF[self.unit]
        known = _DIMENSIONS[dimension]
        example = f'Write a number ({self.unit}) or a text such as "1.5 {self.unit}"; units of {dimension}: '
        context = {"dimension": dimension, "remedy": example + ", ".join(known) + "."}
        match = _QUANTITY.fullmatch(value)
        if match is None:
            raise PydanticCustomError("quantity", "not a number with a unit of {dimension}", context)
        number, unit = match.groups()
        if unit not in _DIMENSION_OF:
            raise PydanticCustomError("quantity", 'unknown unit "{unit}"', context | {"unit": unit})
        if unit not in known:
            context |= {"unit": unit, "other": _DIMENSION_OF[unit]}
            raise PydanticCustomError("quantity", '"{unit}" is a unit of {other}, not of {dimension}', context)
        return float(Decimal(number) * known[unit] / known[self.unit])

    def _serialize(self, value: float, info: SerializationInfo) -> float | str:
        return f"{value:.12g} {self.unit}" if info.context == UNITS_AS_TEXT else value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            self.parse,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(self._serialize, info_arg=True),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        units = "|".join(re.escape(unit) for unit in _DIMENSIONS[_DIMENSION_OF[self.unit]])
        text = rf"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*({units})\s*$"
        return {"anyOf": [{"type": "number"}, {"type": "string", "pattern": text}]}


Length = Annotated[float, Quantity("m")]
"""Metres."""
Angle = Annotated[float, Quantity("deg")]
"""Degrees."""
Duration = Annotated[float, Quantity("s")]
"""Seconds."""
Memory = Annotated[float, Quantity("GB")]
"""Gigabytes (10⁹ bytes)."""

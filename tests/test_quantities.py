from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sceneloom.resources.quantities import UNITS_AS_TEXT, Angle, Duration, Length, Memory


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Length, "15 cm", 0.15),
        (Length, "7cm", 0.07),
        (Length, "2 km", 2000.0),
        (Length, 0.25, 0.25),
        (Length, 3, 3.0),
        (Angle, "1.5707963267948966 rad", 90.0),
        (Angle, "75°", 75.0),
        (Duration, "1.5 min", 90.0),
        (Duration, "20 ms", 0.02),
        (Memory, "8 GiB", 8.589934592),
        (Memory, "500 MB", 0.5),
        (Memory, "1e3 MB", 1.0),
    ],
)
def test_values_are_held_in_the_declared_unit(kind: Any, text: Any, expected: float) -> None:
    assert TypeAdapter(kind).validate_python(text) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (Length, "15 deg", '"deg" is a unit of angle, not of length'),
        (Angle, "1 s", '"s" is a unit of time, not of angle'),
        (Length, "15 parsec", 'unknown unit "parsec"'),
        (Length, "15", "not a number with a unit of length"),
        (Length, "cm", "not a number with a unit of length"),
        (Memory, "8 gb", 'unknown unit "gb"'),
        (Length, "{0.name} m", "not a number"),
    ],
)
def test_other_dimensions_and_unknown_units_are_refused(kind: Any, text: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TypeAdapter(kind).validate_python(text)


@settings(deadline=None, max_examples=60)
@given(st.floats(min_value=1e-6, max_value=1e6), st.sampled_from(["m", "cm", "mm", "km"]))
def test_text_with_units_reads_back(metres: float, unit: str) -> None:
    adapter = TypeAdapter(Length)
    per_metre = {"m": 1.0, "cm": 100.0, "mm": 1000.0, "km": 0.001}[unit]
    read = adapter.validate_python(f"{metres * per_metre!r} {unit}")
    assert math.isclose(read, metres, rel_tol=1e-14)
    text = adapter.dump_python(read, context=UNITS_AS_TEXT)
    assert math.isclose(adapter.validate_python(text), read, rel_tol=1e-11)

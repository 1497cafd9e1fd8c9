"""datasets/layouts/safe_pickles.py: nothing but what is allowed is run."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneloom.datasets.layouts.safe_pickles import UnsafePickleError, load_allowed

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@given(_VALUES, st.integers(3, 5))
def test_plain_values_need_no_leave(value: Any, protocol: int) -> None:
    assert load_allowed(io.BytesIO(pickle.dumps(value, protocol)), {}, "here") == value


def test_what_is_allowed_is_made_by_what_is_given_for_it() -> None:
    content = pickle.dumps(OrderedDict(a=1))
    allowed = {("collections", "OrderedDict"): lambda: {"made": True}}
    assert load_allowed(io.BytesIO(content), allowed, "here") == {"made": True, "a": 1}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_anything_else_is_named_and_never_run(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    allowed = {("collections", "OrderedDict"): OrderedDict}
    with pytest.raises(UnsafePickleError, match=r"set: it names (posix|nt)\.mkdir"):
        load_allowed(io.BytesIO(pickle.dumps({"a": Runs()}, protocol)), allowed, "set")
    assert not (tmp_path / "ran").exists()


def test_reading_begins_where_the_file_stands() -> None:
    file = io.BytesIO(b"header" + pickle.dumps([1, 2]))
    file.seek(6)
    assert load_allowed(file, {}, "here") == [1, 2]

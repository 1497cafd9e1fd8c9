"""Files between sceneloom and a worker: how arrays are read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sceneloom.resources.worker_failures import FailureClass, WorkerFailed
from sceneloom.resources.worker_results import read_array


def failure(output: Path, shape: tuple[int, ...], kind: type[np.generic]) -> str:
    with pytest.raises(WorkerFailed) as raised:
        read_array(output, "a.npy", shape, kind)
    assert raised.value.failure is FailureClass.INVALID_OUTPUT
    return raised.value.found


def test_an_array_that_is_what_it_should_be(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    assert read_array(tmp_path, "a.npy", (-1, 3), np.floating).sum() == 15


def test_arrays_that_are_not(tmp_path: Path) -> None:
    assert "missing" in failure(tmp_path, (2,), np.floating)
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    assert "expected (2) of floating" in failure(tmp_path, (2,), np.floating)
    assert "expected (2, 3) of integer" in failure(tmp_path, (2, 3), np.integer)
    np.save(tmp_path / "a.npy", np.array([1.0, np.nan, np.inf, 2.0]))
    assert "50.0% of it is not finite" in failure(tmp_path, (4,), np.floating)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00")
    assert "cannot be read" in failure(tmp_path, (4,), np.floating)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "cannot be read" in failure(tmp_path, (1,), np.floating)

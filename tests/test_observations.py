from __future__ import annotations

import numpy as np
import pytest

from sceneloom.assets.observations import ContractBroken, observe
from sceneloom.assets.stage import Made
from sceneloom.datasets.errors import ContractError
from sceneloom.datasets.tensors import TensorContract

DEPTH = TensorContract(
    "depth", ("frames", "height", "width"), "float32", unit="metre", convention="z-depth, 0 = invalid", minimum=0.0
)


def test_an_array_that_keeps_its_contract_is_noted_with_what_was_found() -> None:
    made = Made()
    observe(made, DEPTH, "left", np.linspace(0, 2, 24, dtype=np.float32).reshape(4, 2, 3), frames=4)

    [observation] = made.contracts
    assert observation.passed
    assert (observation.contract, observation.array) == ("depth", "left")
    assert observation.expected == ("float32 (frames, height, width), metre; z-depth, 0 = invalid; frames = 4")
    assert observation.found == "float32 (4, 2, 3), 0 … 2"


@pytest.mark.parametrize(
    ("array", "expected", "found"),
    [
        (np.zeros((4, 2, 3)), "dtype float32", "dtype float64"),
        (np.zeros((5, 2, 3), np.float32), r"shape \(4, height, width\)", r"shape \(5, 2, 3\)"),
        (np.full((4, 2, 3), -1, np.float32), "0", "-1"),
        (np.full((4, 2, 3), np.nan, np.float32), "finite", ""),
    ],
)
def test_an_array_that_breaks_its_contract_raises_and_is_not_noted(
    array: np.ndarray, expected: str, found: str
) -> None:
    made = Made()
    with pytest.raises(ContractBroken, match=f"^left: expected .*{expected}.*, found .*{found}.*depth is") as raised:
        observe(made, DEPTH, "left", array, frames=4)

    assert made.contracts == []
    assert isinstance(raised.value, ContractError)
    assert not raised.value.observation.passed
    assert raised.value.observation.contract == "depth"
    assert raised.value.remedy.startswith("depth is float32 (frames, height, width)")


@pytest.mark.parametrize("array", [np.array([[True, False]]), np.array([[3, 7]], np.uint8), np.zeros((0, 2), np.int32)])
def test_arrays_of_every_kind_can_be_described(array: np.ndarray) -> None:
    made = Made()
    observe(made, TensorContract("mask", ("a", "b"), array.dtype.name, unit="none", convention="none"), "m", array)
    assert made.contracts[0].found.startswith(f"{array.dtype} {array.shape}")

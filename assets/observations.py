"""Holding an array to its contract before it is published, and keeping what was expected and found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError
from ..datasets.tensors import TensorContract
from ..resources.records import ContractObservation
from .stage import Made


class ContractBroken(ContractError):
    """An array broke its contract; `observation` says which, what was expected and what was found."""

    def __init__(self, observation: ContractObservation, remedy: str) -> None:
        super().__init__(
            f"expected {observation.expected}, found {observation.found}", where=observation.array, remedy=remedy
        )
        self.observation = observation


def observe(made: Made, contract: TensorContract, array_name: str, array: NDArray[np.generic], **sizes: int) -> None:
    """Check an array and note the result in `made`.

    Args:
        made: takes the observation.
        contract: what the array must be.
        array_name: how the array is called in the output, e.g. "left".
        array: the array itself, or a memory map of it.
        sizes: what the contract's symbolic dimensions must be.

    Raises:
        ContractBroken: nothing of the stage is published then.
    """
    violations = contract.check(array, dict(sizes))
    expected = contract.describe()
    if sizes:
        expected += f"; {', '.join(f'{name} = {size}' for name, size in sizes.items())}"
    if violations:
        broken = ContractObservation(
            contract=contract.name,
            array=array_name,
            expected="; ".join(violation.expected for violation in violations),
            found="; ".join(violation.found for violation in violations),
            passed=False,
        )
        raise ContractBroken(broken, f"{contract.name} is {expected}.")
    made.contracts.append(
        ContractObservation(
            contract=contract.name,
            array=array_name,
            expected=expected,
            found=_description(array),
            passed=True,
        )
    )


def _description(array: NDArray[np.generic]) -> str:
    kind = f"{array.dtype} {array.shape}"
    return f"{kind}, {float(array.min()):g} … {float(array.max()):g}" if array.size else kind

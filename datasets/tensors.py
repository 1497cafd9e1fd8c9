"""Tensor contracts: what each stored array must be, checked by machine at every write.

A contract names shape (with symbolic dimensions), dtype, value range, unit and convention. `check` lists what is wrong,
`require` raises it. The contracts of the arrays that sceneloom stores are at the end of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .camera_conventions import check_c2w, check_intrinsics
from .errors import ContractError

FLOAT16_RELATIVE_ERROR = 2.0**-11
"""Largest relative error of rounding to float16, for magnitudes from FLOAT16_SMALLEST to FLOAT16_LARGEST (IEEE 754)."""

FLOAT16_SMALLEST = 2.0**-14
FLOAT16_LARGEST = 65504.0


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which an array breaks its contract."""

    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Invariant:
    """A rule over values that shape, dtype and range cannot say.

    Attributes:
        expected: the rule in words.
        broken: given the whole array, what was found to be wrong, or None.
    """

    expected: str
    broken: Callable[[NDArray[np.generic]], str | None]


@dataclass(frozen=True, slots=True)
class TensorContract:
    """What one stored array must be; NaN and infinity are never allowed.

    Attributes:
        name: the array's name in files and shards.
        shape: sizes; a string stands for a size that must be the same wherever the same `dims` are used.
        dtype: NumPy dtype name.
        minimum, maximum: inclusive bounds of all values; None for no bound.
        unit: of the values.
        convention: frame, order, or meaning of special values.
        invariants: further rules.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    unit: str
    convention: str
    minimum: float | None = None
    maximum: float | None = None
    invariants: tuple[Invariant, ...] = ()

    def check(self, array: NDArray[np.generic], dims: dict[str, int] | None = None) -> list[Violation]:
        """List what is wrong with `array`; empty when it keeps the contract.

        Args:
            array: the array, or a memory map of it; values are looked at in blocks along the first axis.
            dims: sizes of symbolic dimensions that are known. Those met here for the first time are added, so that a
                clip's arrays, checked one after the other with one dict, have to agree.
        """
        known = dims if dims is not None else {}
        violations = self._check_shape(array, known)
        if array.dtype != np.dtype(self.dtype):
            violations.append(Violation(f"dtype {self.dtype}", f"dtype {array.dtype}"))
        # Values of an array of another kind or shape mean nothing.
        return violations or self._check_values(array)

    def require(self, array: NDArray[np.generic], dims: dict[str, int] | None = None, *, where: str) -> None:
        """Raise ContractError naming every violation of `check`."""
        violations = self.check(array, dims)
        if violations:
            raise ContractError(
                "; ".join(f"{self.name}: expected {each.expected}, found {each.found}" for each in violations),
                where=where,
                remedy=f"{self.name} is {self.describe()}.",
            )

    def describe(self) -> str:
        """The contract in one line, for messages and documentation."""
        shape = ", ".join(str(size) for size in self.shape)
        return f"{self.dtype} ({shape}), {self.unit}; {self.convention}"

    def _check_shape(self, array: NDArray[np.generic], known: dict[str, int]) -> list[Violation]:
        expected = tuple(known.get(size, size) if isinstance(size, str) else size for size in self.shape)
        matches = len(expected) == array.ndim and all(
            isinstance(size, str) or size == found for size, found in zip(expected, array.shape, strict=True)
        )
        if not matches:
            return [Violation(f"shape ({', '.join(map(str, expected))})", f"shape {array.shape}")]
        sizes: dict[str, set[int]] = {}
        for size, found in zip(self.shape, array.shape, strict=True):
            if isinstance(size, str):
                sizes.setdefault(size, set()).add(found)
        unequal = [size for size, found in sizes.items() if len(found) > 1]
        if unequal:
            return [Violation(f"one size for {unequal[0]}", f"shape {array.shape}")]
        known.update({size: found.pop() for size, found in sizes.items()})
        return []

    def _check_values(self, array: NDArray[np.generic]) -> list[Violation]:
        if array.size == 0:
            return []
        for index in range(array.shape[0]):
            block = np.asarray(array[index : index + 1])
            violations = self._check_block(block, index)
            if violations:
                return violations
        broken = [(each.expected, each.broken(array)) for each in self.invariants]
        return [Violation(expected, found) for expected, found in broken if found is not None]

    def _check_block(self, block: NDArray[np.generic], index: int) -> list[Violation]:
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            count = int(block.size - np.isfinite(block).sum())
            return [Violation("finite values", f"{count} NaN or infinite values at [{index}]")]
        violations: list[Violation] = []
        lowest, highest = float(block.min()), float(block.max())
        if self.minimum is not None and lowest < self.minimum:
            violations.append(Violation(f"values >= {self.minimum:g}", f"{lowest:g} at [{index}]"))
        if self.maximum is not None and highest > self.maximum:
            violations.append(Violation(f"values <= {self.maximum:g}", f"{highest:g} at [{index}]"))
        return violations


def _fault_found_by(check: Callable[[NDArray[np.generic]], None], array: NDArray[np.generic]) -> str | None:
    try:
        check(array)
    except ContractError as error:
        return error.found
    return None


_OPENCV = "OpenCV axes (x right, y down, z forward)"

RGB = TensorContract("rgb", ("T", "H", "W", 3), "uint8", "sRGB levels", "rows from the top", 0, 255)
DEPTH = TensorContract(
    "depth",
    ("T", "H", "W"),
    "float16",
    "metres when metric",
    "z-depth along the optical axis, 0 = invalid",
    minimum=0.0,
)
EXACT_DEPTH = replace(DEPTH, dtype="float32")
"""Depth before it is rounded for shards."""
C2W = TensorContract(
    "c2w",
    ("T", 4, 4),
    "float32",
    "metres when metric",
    f"camera-to-world, {_OPENCV}, world = the conditioning camera's frame",
    invariants=(
        Invariant("a rigid transform (R Rᵀ = I, det R = +1, last row 0 0 0 1)", partial(_fault_found_by, check_c2w)),
    ),
)
INTRINSICS = TensorContract(
    "intrinsics",
    ("T", 4),
    "float32",
    "pixels at the stored resolution",
    "fx, fy, cx, cy; pixel centres at +0.5",
    invariants=(Invariant("positive focal lengths", partial(_fault_found_by, check_intrinsics)),),
)
LATENTS = TensorContract(
    "latents", ("C", "t", "h", "w"), "float16", "normalised", "as the latent space declares; no batch axis"
)
INSTANCE_MASK = TensorContract(
    "instance_mask", ("T", "H", "W"), "uint16", "instance ids", "0 = background, objects from 1"
)
DYNAMIC_MASK = TensorContract(
    "dynamic_mask", ("T", "H", "W"), "bool", "true where a moving object is seen", "rows from the top"
)
OBJECT_POSES = TensorContract(
    "object_poses",
    ("T", "K", 4, 4),
    "float32",
    "metres when metric",
    "world-from-object, object frame y up, world = the conditioning camera's frame",
    invariants=(
        Invariant(
            "rigid transforms (R Rᵀ = I, det R = +1, last row 0 0 0 1)",
            lambda poses: _fault_found_by(check_c2w, poses.reshape(-1, 4, 4)),
        ),
    ),
)
ESTIMATED_C2W = replace(C2W, name="estimated_c2w", convention=f"camera-to-world, {_OPENCV}, estimator's frame")
ESTIMATED_INTRINSICS = replace(INTRINSICS, name="estimated_intrinsics")

CONTRACTS = (
    RGB,
    DEPTH,
    C2W,
    INTRINSICS,
    LATENTS,
    INSTANCE_MASK,
    DYNAMIC_MASK,
    OBJECT_POSES,
    ESTIMATED_C2W,
    ESTIMATED_INTRINSICS,
)
"""Every array of a clip in a shard or beside it; `EXACT_DEPTH` is the form of depth that is not yet rounded."""

"""Output that a generator should never give: values that are not numbers, black or flat pictures.

Such output is made once more from another seed, which is recorded; a second one like it is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .failures import Reason, StageFailed

_Output = TypeVar("_Output")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an output.

    Attributes:
        kind: "not_finite", "black" or "flat".
        message: with the figures found.
    """

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """When frames count as broken.

    Attributes:
        darkest_mean: a frame whose mean level (0 to 255) is below this is black.
        least_deviation: a frame whose levels deviate less than this from their mean (root mean square) is flat.
        tolerated: share of the frames that may be so, as when a camera passes close to a dark surface.
    """

    darkest_mean: float = 2.0
    least_deviation: float = 1.0
    tolerated: float = 0.1


_LIMITS = PictureLimits()


@dataclass(frozen=True, slots=True)
class CheckedOutput(Generic[_Output]):
    """An output that passed.

    Attributes:
        seed: that it was made from.
        seeds: all that were tried, in order.
        faults: of the tries that were thrown away.
    """

    output: _Output
    seed: int
    seeds: tuple[int, ...]
    faults: tuple[Fault, ...]

    def for_record(self) -> dict[str, Any]:
        """The part for a record, JSON."""
        return {
            "seed": self.seed,
            "seeds": list(self.seeds),
            "faults": [{"kind": fault.kind, "message": fault.message} for fault in self.faults],
        }


def checked_output(
    make: Callable[[int], _Output], *, seed: int, fault_of: Callable[[_Output], Fault | None], where: str
) -> CheckedOutput[_Output]:
    """Make an output; where it is broken, make it once more from `retry_seed(seed)`.

    Args:
        make: makes the output from a seed.
        fault_of: what is wrong with an output, such as `frames_fault` and `latents_fault` find.
        where: scene and clip, for the error.

    Raises:
        StageFailed: the second output is broken too: contract_violation where values are not finite, else
            quality_rejected. Neither is tried again at once: the same seeds would give the same output.
    """
    seeds: list[int] = []
    faults: list[Fault] = []
    for each in (seed, retry_seed(seed)):
        output = make(each)
        seeds.append(each)
        fault = fault_of(output)
        if fault is None:
            return CheckedOutput(output, each, tuple(seeds), tuple(faults))
        faults.append(fault)
        del output
    reason = Reason.CONTRACT_VIOLATION if faults[-1].kind == "not_finite" else Reason.QUALITY_REJECTED
    tries = "; ".join(f"seed {tried}: {fault.message}" for tried, fault in zip(seeds, faults, strict=True))
    raise StageFailed(
        reason,
        f"{where}: the output is broken from both seeds ({tries}). "
        "Check the model's precision (bfloat16 or float32) and its files, or change the prompt.",
    )


def retry_seed(seed: int) -> int:
    """The seed of the second try: 63 bits that follow from the first."""
    return int.from_bytes(hashlib.sha256(f"{seed}/retry".encode()).digest()[:8], "big") >> 1


def frames_fault(frames: NDArray[Any], limits: PictureLimits = _LIMITS) -> Fault | None:
    """What is wrong with the frames of a clip, or None.

    Args:
        frames: (T, H, W, 3), uint8 levels or floats of 0 to 1.
        limits: when a frame counts as black or flat.
    """
    found = _not_finite(frames)
    if found is not None:
        return found
    scale = 1.0 if frames.dtype == np.uint8 else 255.0
    means, deviations = np.empty(len(frames)), np.empty(len(frames))
    for index, frame in enumerate(frames):
        levels = frame.astype(np.float32) * scale
        means[index], deviations[index] = levels.mean(), levels.std(axis=(0, 1)).max()
    dark, flat = means < limits.darkest_mean, deviations < limits.least_deviation
    tolerated = int(limits.tolerated * len(frames))
    if dark.sum() > tolerated:
        return Fault("black", f"{_counted(dark)} black (mean level {means[dark].mean():.2f} of 255)")
    if flat.sum() > tolerated:
        return Fault("flat", f"{_counted(flat)} of one colour (deviation {deviations[flat].mean():.2f} levels of 255)")
    return None


def latents_fault(latents: NDArray[np.floating]) -> Fault | None:
    """What is wrong with latents of any shape, or None: values that are not finite, or all the same."""
    found = _not_finite(latents)
    if found is None and latents.size > 1 and latents.max() == latents.min():
        return Fault("flat", f"all {latents.size} values are {float(latents.flat[0]):.4g}")
    return found


def _not_finite(values: NDArray[Any]) -> Fault | None:
    if not np.issubdtype(values.dtype, np.floating):
        return None
    wrong = values.size - int(np.isfinite(values).sum())
    return Fault("not_finite", f"{wrong} of {values.size} values are NaN or infinite") if wrong else None


def _counted(frames: NDArray[np.bool_]) -> str:
    return f"{int(frames.sum())} of {len(frames)} frames, the first of them {int(np.argmax(frames))}, are"

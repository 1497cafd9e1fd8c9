"""Depth maps as integer codes within a bound, chosen so that their residuals compress well.

A code is a place in a table of float32 values: the first `steps` codes stand for invalid depth, the others rise
strictly. In the bounded tier neighbouring values are a quarter of the bound's width apart, so that every depth may be
stored as any of at least four neighbouring codes; in the exact tier the table lists the float16 values and there is no
choice.

Rows are coded one after the other. Each code is predicted from the row above (in the first row from the code to the
left), and what is stored is how many steps of `steps` codes lead from the prediction to the nearest code that may be
chosen: 0 wherever the prediction is within the bound. The prediction is made from what the decoder will have, so errors
do not add up; this is the near-lossless mode of JPEG-LS (ISO/IEC 14495-1, clause A.4.4) with an interval for each
pixel. There are two predictions. "above" is the code above. "smooth" takes the noise of an estimator off: the mean of
five codes above, weighted 1 2 2 2 1, where it is less than four codes from the one in the middle, and the one in the
middle at edges. Both need only the row before, so NumPy decodes whole rows at once, of several frames together.

Steps of both signs are folded to small numbers: 0, −1, 1, −2, … become 0, 1, 2, 3, …. Arithmetic is modulo 2¹⁶.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
UInt16 = NDArray[np.uint16]
DepthTier = Literal["bounded", "exact"]
Prediction = Literal["above", "smooth"]

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
BOUNDED_RELATIVE_ERROR = 1e-3
"""Relative error that the bounded tier keeps to: 0.1 %."""
BOUNDED_STEPS = 4
"""Codes in a step of the bounded tier, and at least as many codes serve any depth."""

_MARGIN = 1 - 1e-3
"""Part of the bound that is used up; what is left is for rounding to float32 on the way."""
_NEAR = 4
"""Corrections of "smooth" are smaller than this many codes; larger ones are edges."""


@dataclass(frozen=True, slots=True, eq=False)
class DepthCode:
    """Turns depth into residuals and back.

    Attributes:
        values: (K,) float32, K ≤ 65536: `steps` zeros, then strictly rising.
        steps: codes in a step.
        low: depth of code 2 · steps in the bounded tier.
        spacing: difference of the logarithms of neighbouring values; 0 in the exact tier, whose table is float16's.
    """

    values: Float32
    steps: int
    low: float
    spacing: float

    @classmethod
    def bounded(cls, low: float, high: float) -> DepthCode:
        """Keeps every depth from `low` to `high` within 0.1 %; all of float16's range takes 41,664 codes."""
        steps = BOUNDED_STEPS
        spacing = 2 * float(np.log1p(BOUNDED_RELATIVE_ERROR * _MARGIN)) / steps
        count = int(np.ceil(np.log(high / low) / spacing)) + 1
        # A step below `low` and one above `high` may be chosen too: they are within the bound of what is inside.
        exponents = np.arange(-steps, count + steps) * spacing
        values = np.concatenate([np.zeros(steps), low * np.exp(exponents)]).astype(np.float32)
        return cls(values, steps, low, spacing)

    @classmethod
    def exact(cls, low: float, high: float) -> DepthCode:
        """Keeps float16 depth as it is; float32 depth is rounded to it. `low` and `high` are normal float16 numbers."""
        return cls(exact_values(low, high).astype(np.float32), 1, low, 0.0)

    def encode(self, depth: NDArray[np.floating], prediction: Prediction) -> UInt16:
        """Residuals (H, W) of one frame of float16 or float32 depth: finite, 0 = invalid, else inside the range."""
        low, high = self._choices(depth)
        steps = np.empty(depth.shape, np.int16)
        steps[0] = self._first_row(low[0].tolist(), high[0].tolist())
        row = (self.steps * np.cumsum(steps[0], dtype=np.int32)).astype(np.uint16)
        work = np.empty((2, len(row)), np.int16)
        for index in range(1, len(depth)):
            predicted = row.astype(np.int32) if prediction == "above" else _smooth(row, work).astype(np.int32)
            steps[index] = self._steps_into(predicted, low[index], high[index])
            row = (predicted + self.steps * steps[index]).astype(np.uint16)
        folded = (steps << 1) ^ (steps >> 15)
        return folded.view(np.uint16)

    def decode(self, folded: UInt16, prediction: Prediction) -> Float32:
        """Depth (…, H, W) of residuals; see `decode_residuals`."""
        return decode_residuals(folded, prediction, self.values, self.steps)

    def _choices(self, depth: NDArray[np.floating]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """First and last code that may stand for each depth."""
        invalid = depth <= 0
        if not self.spacing:
            bits = depth.astype(np.float16).view(np.uint16) & 0x7FFF
            code = bits.astype(np.int32) - int(np.float16(self.low).view(np.uint16)) + 1
            code[invalid] = 0
            return code, code
        with np.errstate(divide="ignore"):
            place = np.log(depth.astype(np.float64) / self.low) / self.spacing + 2 * self.steps
        place[invalid] = 0
        low = np.ceil(place - self.steps / 2).astype(np.int32)
        high = np.floor(place + self.steps / 2).astype(np.int32)
        low[invalid], high[invalid] = 0, self.steps - 1
        return low, high

    def _steps_into(
        self, predicted: NDArray[np.int32], low: NDArray[np.int32], high: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Fewest steps from each prediction into low … high."""
        up = (np.maximum(low - predicted, 0) + self.steps - 1) // self.steps
        down = (np.maximum(predicted - high, 0) + self.steps - 1) // self.steps
        return up - down

    def _first_row(self, low: list[int], high: list[int]) -> list[int]:
        code, steps = 0, []
        for lowest, highest in zip(low, high, strict=True):
            if code < lowest:
                steps.append(-((code - lowest) // self.steps))
            elif code > highest:
                steps.append((highest - code) // self.steps)
            else:
                steps.append(0)
            code += steps[-1] * self.steps
        return steps


def decode_residuals(folded: UInt16, prediction: Prediction, values: Float32, steps: int) -> Float32:
    """Depth of residuals (…, H, W), every frame on its own, in the table's type.

    Args:
        folded: of `DepthCode.encode`.
        prediction: that they were encoded with.
        values, steps: of the code.

    Raises:
        IndexError: residuals lead out of the table.
    """
    codes = _codes(folded, prediction, steps)
    if codes.size and codes.max() >= len(values):
        raise IndexError(f"a code of {codes.max()} is not in the table of {len(values)}")
    # The codes are inside the table: "clip" only spares NumPy a second, slower check.
    return np.take(values, codes, mode="clip")


def _codes(folded: UInt16, prediction: Prediction, steps: int) -> UInt16:
    rows = np.array(np.moveaxis(folded, -2, 0), order="C")
    sign = rows & 1
    np.negative(sign, out=sign)
    rows >>= 1
    rows ^= sign
    rows *= np.uint16(steps)
    if not rows.size:
        return np.moveaxis(rows, 0, -2)
    np.cumsum(rows[0], axis=-1, dtype=np.uint16, out=rows[0])
    if prediction == "above":
        for above, row in itertools.pairwise(rows):
            row += above
    else:
        work = np.empty((2, *rows[0].shape), np.int16)
        for above, row in itertools.pairwise(rows):
            row += _smooth(above, work)
    return np.moveaxis(rows, 0, -2)


def exact_values(low: float, high: float) -> Float16:
    """(K,) float16: 0, and every float16 value that a depth from `low` to `high` can round to.

    The bounds are inside float16's normal range, 2⁻¹⁴ to 65504.
    """
    first, last = (int(np.float16(bound).view(np.uint16)) for bound in (low, high))
    return np.concatenate([[0], np.arange(first, last + 1)]).astype(np.uint16).view(np.float16)


def _smooth(above: UInt16, work: NDArray[np.int16]) -> UInt16:
    """Prediction of a row (…, W) from the one above; `work` is (2, …, W) int16 to work in and holds the result."""
    codes = above.view(np.int16)
    predicted, buffer = work
    predicted[...] = codes
    if above.shape[-1] < 5:
        return predicted.view(np.uint16)
    middle, correction = codes[..., 2:-2], buffer[..., 2:-2]
    # Σ wᵢ (aᵢ − a₀) modulo 2¹⁶: what wraps is an edge, and both sides wrap alike.
    np.add(codes[..., 1:-3], codes[..., 3:-1], out=correction)
    correction += correction
    correction += codes[..., :-4]
    correction += codes[..., 4:]
    correction -= 6 * middle - 4
    correction >>= 3
    small = (correction + np.int16(_NEAR - 1)).view(np.uint16) < 2 * _NEAR - 1
    correction *= small
    predicted[..., 2:-2] += correction
    return predicted.view(np.uint16)

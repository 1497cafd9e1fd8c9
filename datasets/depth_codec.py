"""Depth maps as integer codes of known error, and codes as residuals that compress well.

A code is a place in a table of float16 values: 0 is the invalid value, the others rise strictly. `exact_values` lists
every float16 value of a range, so a float16 depth is kept as it is; `bounded_values` lists as few as keep every depth
of the range within a relative error, which makes the codes close to a logarithm of the depth. Whatever the table,
`values[codes]` is the depth that was stored.

What is stored is the residual of each code after a prediction from the row above: the median of the three codes above,
above left and above right (in the first row, the code to the left). The median passes over edges and takes the noise of
neighbours off, and as a row needs only the row before it, NumPy decodes whole rows at once; the median predictor of
lossless JPEG (ISO/IEC 14495-1, appendix A) would decode pixel by pixel. Arithmetic is modulo 2¹⁶, and residuals of both
signs are folded to small numbers: 0, −1, 1, −2, … become 0, 1, 2, 3, ….
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Float16 = NDArray[np.float16]
UInt16 = NDArray[np.uint16]

BOUNDED_RELATIVE_ERROR = 1e-3
"""Relative error that the bounded tier keeps to: 0.1 %."""

PREDICTION = "median of the codes above, above left and above right; in the first row the code to the left"

_MARGIN = 1 - 1e-3
"""Part of the bound that neighbouring values use up; what is left is for rounding to float32 on the way."""


def exact_values(low: float, high: float) -> Float16:
    """(K,) float16: 0, and every float16 value that a depth from `low` to `high` can round to.

    The bounds are inside float16's normal range, 2⁻¹⁴ to 65504.
    """
    first, last = (int(np.float16(bound).view(np.uint16)) for bound in (low, high))
    return np.concatenate([[0], np.arange(first, last + 1)]).astype(np.uint16).view(np.float16)


def bounded_values(low: float, high: float, relative_error: float = BOUNDED_RELATIVE_ERROR) -> Float16:
    """(K,) float16: 0, and the fewest float16 values that leave depths from `low` to `high` within the relative error.

    Two neighbours a < b serve all depths between them when b/a ≤ (1 + e)/(1 − e): the depth with the largest error is
    their harmonic mean, and is off by (b − a)/(b + a). The error must be above 2⁻¹¹, that of float16 itself.
    """
    every = exact_values(low, high)[1:].astype(np.float64)
    usable = relative_error * _MARGIN
    widest = (1 + usable) / (1 - usable)
    chosen = [0]
    while chosen[-1] < len(every) - 1:
        chosen.append(int(np.searchsorted(every, every[chosen[-1]] * widest, side="right")) - 1)
    return np.concatenate([[0.0], every[chosen]]).astype(np.float16)


class DepthCode:
    """Turns depth into codes and back.

    Args:
        values: (K,) float16, 0 first and then strictly rising, as `exact_values` and `bounded_values` make.
    """

    def __init__(self, values: Float16) -> None:
        self.values = values
        wide = values[1:].astype(np.float64)
        # The depth that is as far from one neighbour as from the other, relative to the depth.
        self._middles = (2 * wide[:-1] * wide[1:] / (wide[:-1] + wide[1:])).astype(np.float32)
        every = np.arange(1 << 15, dtype=np.uint16).view(np.float16)
        self._code_of_float16 = self._nearest(np.where(np.isfinite(every), every, 0).astype(np.float32))

    def encode(self, depth: NDArray[np.floating]) -> UInt16:
        """Codes of finite depths ≥ 0 of any shape, float16 or float32: 0 stays 0, others become the nearest value."""
        if depth.dtype == np.float16:
            # Without the sign: -0 is 0.
            return self._code_of_float16[np.ascontiguousarray(depth).view(np.uint16) & 0x7FFF]
        return self._nearest(depth)

    def decode(self, codes: UInt16) -> Float16:
        """The depths that codes stand for. Raises IndexError for a code that is not in the table."""
        return self.values[codes]

    def _nearest(self, depth: NDArray[np.floating]) -> UInt16:
        places = np.searchsorted(self._middles, depth.ravel()).reshape(depth.shape) + 1
        return np.where(depth > 0, places, 0).astype(np.uint16)


def residuals(codes: UInt16) -> UInt16:
    """Folded residuals of (…, H, W) codes; every frame can be decoded alone."""
    change = codes.copy()
    change[..., 1:, :] -= _prediction(codes[..., :-1, :])
    change[..., 0, 1:] -= codes[..., 0, :-1]
    return ((change << 1) ^ (np.uint16(0) - (change >> 15))).astype(np.uint16, copy=False)


def codes_of(folded: UInt16) -> UInt16:
    """Undo `residuals`."""
    rows = np.array(np.moveaxis(folded, -2, 0), order="C")
    sign = rows & 1
    np.negative(sign, out=sign)
    rows >>= 1
    rows ^= sign
    np.cumsum(rows[0], axis=-1, dtype=np.uint16, out=rows[0])
    low, high = sign[0], np.empty_like(rows[0])
    for above, row in itertools.pairwise(rows):
        row += _median_of_three(above, low, high)
    return np.moveaxis(rows, 0, -2)


def _prediction(above: UInt16) -> UInt16:
    return _median_of_three(above, np.empty_like(above), np.empty_like(above))


def _median_of_three(codes: UInt16, low: UInt16, high: UInt16) -> UInt16:
    """Median of each code with its left and right neighbour; at both ends, the code itself.

    `low` and `high` are arrays of the same shape to work in; the result is `low`.
    """
    low[..., 0], low[..., -1] = codes[..., 0], codes[..., -1]
    left, middle, right = codes[..., :-2], codes[..., 1:-1], codes[..., 2:]
    smaller, larger = low[..., 1:-1], high[..., 1:-1]
    np.minimum(left, middle, out=smaller)
    np.maximum(left, middle, out=larger)
    np.minimum(larger, right, out=larger)
    np.maximum(smaller, larger, out=smaller)
    return low

"""Which view of a growing scene is completed next: the one along a path that shows the largest holes.

VistaDream's coarse scaffold (H. Wang et al., ICCV 2025, section 3.1): a hole is what the scene covers too little of;
views with holes too small are not worth a completion, and those with holes too large give it nothing to go by.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]

ALPHA_OF_HOLES = 0.7
"""Pixels that are covered by less are holes."""

_SIDE = 5
_GROWTH = 3


def holes_in(alpha: NDArray[np.floating], *, threshold: float = ALPHA_OF_HOLES) -> Bool:
    """(H, W) bool, holes to complete: cracks narrower than 5 pixels are left out, the others grown by 4 pixels, so that
    what is painted joins what is there.

    Args:
        alpha: (H, W) 0..1, how much of each pixel the scene covers.
        threshold: of alpha, below which a pixel is a hole.
    """
    from scipy import ndimage

    square = np.ones((_SIDE, _SIDE), bool)
    # Holes go on beyond the picture's border: there, too, a strip along it is one.
    wide = ndimage.binary_erosion(alpha < threshold, square, border_value=1)
    return np.asarray(ndimage.binary_dilation(wide, square, iterations=_GROWTH), bool)


def next_view(
    shares: Sequence[float], *, taken: Collection[int], smallest: float, largest: float, spacing: int = 1
) -> int | None:
    """Index of the view with the largest hole that can be completed; None where none is left.

    Args:
        shares: of each view's pixels that are holes, in the order of the path.
        taken: indices of views that were tried; they and their neighbours are passed over.
        smallest: share below which a hole is left as it is.
        largest: share above which a view is passed over.
        spacing: how many neighbours on each side a taken view stands for.
    """
    best: int | None = None
    for index, share in enumerate(shares):
        if any(abs(index - other) <= spacing for other in taken) or not smallest <= share <= largest:
            continue
        if best is None or share > shares[best]:
            best = index
    return best


def spread_views(shares: Sequence[float], count: int) -> list[int]:
    """Up to `count` indices of views with large shares, spread over the path, in the order of the path.

    Greedy by share; each taken view keeps its neighbours out, nearer than half the mean distance that `count` views
    would have. Ties go to the earlier view.
    """
    spacing = max(len(shares) // (2 * max(count, 1)), 0)
    chosen: list[int] = []
    while len(chosen) < count:
        found = next_view(shares, taken=chosen, smallest=0.0, largest=1.0, spacing=spacing)
        if found is None:
            break
        chosen.append(found)
    return sorted(chosen)

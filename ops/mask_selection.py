"""From overlapping proposals for the objects of a picture to one object a pixel."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.errors import ContractError

Bools = NDArray[np.bool_]


def select_masks(
    masks: Bools,
    scores: ArrayLike,
    *,
    duplicate_overlap: float,
    part_overlap: float | None = None,
) -> NDArray[np.intp]:
    """Which proposals stand for an object each, the surest first.

    Duplicates go first: of two masks whose intersection over union exceeds `duplicate_overlap` the surer one stays
    (greedy non-maximum suppression, on the masks themselves rather than on their boxes, which for thin and concave
    objects overlap without being the same). Then parts: a mask goes that lies inside a larger one that stayed. Equal
    scores are decided by the larger area, then by the earlier place, so the result depends on nothing else.

    Args:
        masks: (N, h, w) bool, at any one size.
        scores: (N,) how sure the network is of each.
        duplicate_overlap: intersection over union, 0 … 1.
        part_overlap: share of a mask inside a larger one, 0 … 1, from which it is its part; None keeps parts.

    Returns:
        (M,) indices into `masks`; empty masks are never among them.

    Raises:
        ContractError: the numbers of masks and scores differ.
    """
    sure = np.asarray(scores, dtype=np.float64)
    if masks.ndim != 3 or sure.shape != masks.shape[:1]:
        raise ContractError(
            f"masks of shape {masks.shape} with scores of shape {sure.shape}",
            where="mask selection",
            remedy="Give (N, h, w) masks and (N,) scores.",
        )
    flat = masks.reshape(len(masks), masks.shape[1] * masks.shape[2]).astype(np.float32)
    # Pixels that each two have in common; on the diagonal all of a mask's. Exact in float32 up to 16 million.
    shared = flat @ flat.T
    areas = np.diagonal(shared)
    order = [int(index) for index in np.lexsort((np.arange(len(masks)), -areas, -sure)) if areas[index] > 0]
    kept: list[int] = []
    for index in order:
        overlaps = shared[index, kept]
        if not (overlaps > duplicate_overlap * (areas[kept] + areas[index] - overlaps)).any():
            kept.append(index)
    if part_overlap is not None:
        inside = shared[np.ix_(kept, kept)] >= part_overlap * areas[kept][:, None]
        larger = areas[kept] > areas[kept][:, None]
        kept = np.array(kept, dtype=np.intp)[~np.any(inside & larger, axis=1)].tolist()
    return np.array(kept, dtype=np.intp)


def one_object_a_pixel(
    masks: Iterable[Bools], size: tuple[int, int], *, minimum_pixels: int
) -> tuple[NDArray[np.uint16], NDArray[np.intp]]:
    """Number the objects of a picture, each pixel given to the first of the masks that holds it.

    A mask that keeps fewer than `minimum_pixels` is left out, and its pixels go to the next that hold them.

    Args:
        masks: N masks (H, W) bool, the surest first, N < 65536; each is looked at once.
        size: (H, W).
        minimum_pixels: ≥ 1.

    Returns:
        (H, W) uint16 instance ids, 0 = background, 1 … M in the order of the masks; and (M,) the masks' indices.
    """
    ids = np.zeros(size, np.uint16)
    kept: list[int] = []
    for index, mask in enumerate(masks):
        own = mask & (ids == 0)
        if own.sum() >= max(minimum_pixels, 1):
            kept.append(index)
            ids[own] = len(kept)
    return ids, np.array(kept, dtype=np.intp)

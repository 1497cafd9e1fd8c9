"""Mask selection: duplicates and parts go, every pixel has one owner, and the order follows from the scores alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import ContractError
from sceneloom.ops.mask_selection import one_object_a_pixel, select_masks

SHAPE = (24, 32)


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


def random_masks(seed: int, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    corners = np.sort(generator.integers(0, 24, (count, 2, 2)), axis=2)
    masks = np.stack([rectangle(top, left, bottom, right) for (top, bottom), (left, right) in corners])
    return masks, generator.integers(0, 4, count) / 4


TABLE, CUP, LEG = rectangle(4, 4, 20, 28), rectangle(6, 6, 10, 10), rectangle(12, 5, 20, 8)


def test_of_duplicates_the_surer_one_stays() -> None:
    shifted = rectangle(4, 5, 20, 28)
    kept = select_masks(np.stack([TABLE, shifted, CUP]), [0.8, 0.9, 0.7], duplicate_overlap=0.7)
    assert kept.tolist() == [1, 2]
    # 23 of 24 columns are shared.
    assert select_masks(np.stack([TABLE, shifted]), [0.8, 0.9], duplicate_overlap=0.97).tolist() == [1, 0]


def test_parts_go_and_what_stands_before_an_object_stays() -> None:
    with_a_hole = TABLE & ~CUP
    masks = np.stack([CUP, LEG, with_a_hole])
    assert select_masks(masks, [0.95, 0.9, 0.85], duplicate_overlap=0.7, part_overlap=0.8).tolist() == [0, 2]
    assert select_masks(masks, [0.95, 0.9, 0.85], duplicate_overlap=0.7).tolist() == [0, 1, 2]


def test_equal_scores_are_decided_by_area_then_place() -> None:
    twins = np.stack([rectangle(0, 0, 4, 4), rectangle(10, 10, 14, 14), rectangle(18, 18, 24, 30)])
    assert select_masks(twins, [0.5, 0.5, 0.5], duplicate_overlap=0.7).tolist() == [2, 0, 1]


def test_empty_masks_are_no_objects() -> None:
    assert select_masks(np.zeros((2, *SHAPE), bool), [0.9, 0.8], duplicate_overlap=0.7, part_overlap=0.8).size == 0
    assert select_masks(np.zeros((0, *SHAPE), bool), [], duplicate_overlap=0.7, part_overlap=0.8).size == 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.8]))
@settings(deadline=None, max_examples=40)
def test_what_stays_is_apart_and_what_went_had_a_reason(seed: int, part_overlap: float | None) -> None:
    masks, scores = random_masks(seed)
    kept = select_masks(masks, scores, duplicate_overlap=0.6, part_overlap=part_overlap)
    assert (np.diff(scores[kept]) <= 0).all()
    for number, one in enumerate(kept):
        for other in kept[number + 1 :]:
            shared, either = (masks[one] & masks[other]).sum(), (masks[one] | masks[other]).sum()
            assert shared <= 0.6 * either
            if part_overlap is not None:
                smaller, larger = sorted((masks[one].sum(), masks[other].sum()))
                assert shared < part_overlap * smaller or smaller == larger
    if part_overlap is None:
        for gone in set(range(len(masks))) - set(kept.tolist()):
            overlaps = [(masks[gone] & masks[one]).sum() / (masks[gone] | masks[one]).sum() for one in kept]
            assert not masks[gone].any() or max(overlaps) > 0.6


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_every_pixel_has_the_first_of_its_objects(seed: int, minimum: int) -> None:
    masks, _ = random_masks(seed)
    ids, kept = one_object_a_pixel(masks, SHAPE, minimum_pixels=minimum)
    assert ids.dtype == np.uint16
    assert sorted(set(ids.ravel().tolist()) - {0}) == list(range(1, len(kept) + 1))
    np.testing.assert_array_equal(ids > 0, masks[kept].any(axis=0))
    for number, index in enumerate(kept, start=1):
        np.testing.assert_array_equal(ids == number, masks[index] & ~masks[kept[: number - 1]].any(axis=0))
        assert (ids == number).sum() >= minimum


def test_a_mask_that_others_have_used_up_leaves_its_pixels_to_the_next() -> None:
    front, hidden, behind = rectangle(0, 0, 10, 10), rectangle(0, 0, 10, 11), rectangle(0, 0, 24, 32)
    ids, kept = one_object_a_pixel([front, hidden, behind], SHAPE, minimum_pixels=11)
    assert kept.tolist() == [0, 2]
    assert (ids == 2).sum() == 24 * 32 - 100


def test_masks_and_scores_must_belong_together() -> None:
    with pytest.raises(ContractError, match="scores of shape"):
        select_masks(np.stack([TABLE, CUP]), [0.5], duplicate_overlap=0.7)

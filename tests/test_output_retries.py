"""Broken output of generators: what counts as broken, and that it is made once more from a recorded seed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sceneloom.resources.failures import RULES, Reason, StageFailed
from sceneloom.resources.output_retries import (
    Fault,
    PictureLimits,
    checked_output,
    frames_fault,
    latents_fault,
    retry_seed,
)


def pictures(count: int = 20, *, level: float = 120, spread: float = 30) -> NDArray[np.uint8]:
    """(T, 16, 24, 3) noise around a level."""
    values = np.random.default_rng(0).normal(level, spread, (count, 16, 24, 3))
    return values.round().clip(0, 255).astype(np.uint8)


def kind_of(fault: Fault | None) -> str | None:
    return None if fault is None else fault.kind


def test_ordinary_frames_pass_as_levels_and_as_fractions() -> None:
    assert frames_fault(pictures()) is None
    assert frames_fault(pictures().astype(np.float32) / 255) is None
    assert frames_fault(pictures(level=8, spread=4)) is None  # a night scene


def test_black_frames_are_named_with_their_figures() -> None:
    frames = pictures()
    frames[5:9] = 0
    fault = frames_fault(frames)
    assert fault == Fault("black", "4 of 20 frames, the first of them 5, are black (mean level 0.00 of 255)")
    assert kind_of(frames_fault(frames.astype(np.float32) / 255)) == "black"


def test_frames_of_one_colour_are_flat() -> None:
    frames = pictures()
    frames[:] = (200, 30, 90)  # the channels differ, the pixels do not
    fault = frames_fault(frames)
    assert fault is not None
    assert fault.kind == "flat"
    assert "20 of 20 frames" in fault.message


def test_a_few_frames_may_be_dark_and_the_limits_can_be_set() -> None:
    frames = pictures()
    frames[3:5] = 0
    assert frames_fault(frames) is None  # 2 of 20
    frames[5] = 0
    assert kind_of(frames_fault(frames)) == "black"
    assert frames_fault(frames, PictureLimits(tolerated=0.5)) is None
    assert kind_of(frames_fault(pictures(level=8, spread=4), PictureLimits(darkest_mean=20))) == "black"


def test_a_single_black_picture_is_never_tolerated() -> None:
    assert kind_of(frames_fault(np.zeros((1, 8, 8, 3), np.uint8))) == "black"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_value_that_is_no_number_is_found(value: float, dtype: type) -> None:
    latents = np.random.default_rng(0).normal(size=(16, 3, 4, 5)).astype(dtype)
    assert latents_fault(latents) is None
    latents[7, 2, 1, 0] = value
    assert latents_fault(latents) == Fault("not_finite", "1 of 960 values are NaN or infinite")
    frames = (pictures() / 255).astype(dtype)
    frames[1, 2, 3, 0] = value
    assert kind_of(frames_fault(frames)) == "not_finite"


def test_latents_that_are_all_the_same_are_flat() -> None:
    assert latents_fault(np.full((4, 2, 2, 2), 0.25, np.float16)) == Fault("flat", "all 32 values are 0.25")


# ---------------------------------------------------------------- the second try


def look(output: str) -> Fault | None:
    return Fault("black", "all black") if output == "black" else None


def test_good_output_is_made_once_from_the_seed_given() -> None:
    seeds: list[int] = []
    checked = checked_output(lambda seed: seeds.append(seed) or "good", seed=7, fault_of=look, where="scene/left")
    assert (seeds, checked.output, checked.seed) == ([7], "good", 7)
    assert checked.for_record() == {"seed": 7, "seeds": [7], "faults": []}


def test_broken_output_is_made_once_more_from_another_seed_which_is_recorded() -> None:
    checked = checked_output(
        lambda seed: "black" if seed == 7 else f"from {seed}", seed=7, fault_of=look, where="scene/left"
    )
    second = retry_seed(7)
    assert checked.output == f"from {second}"
    assert json.loads(json.dumps(checked.for_record())) == {
        "seed": second,
        "seeds": [7, second],
        "faults": [{"kind": "black", "message": "all black"}],
    }


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("black", Reason.QUALITY_REJECTED),
        ("flat", Reason.QUALITY_REJECTED),
        ("not_finite", Reason.CONTRACT_VIOLATION),
    ],
)
def test_output_that_is_broken_twice_is_refused_and_not_tried_again_at_once(kind: str, reason: Reason) -> None:
    seeds: list[int] = []
    with pytest.raises(StageFailed, match=r"scene/left: .*seed 7: found this; seed \d+: found this") as raised:
        checked_output(seeds.append, seed=7, fault_of=lambda _: Fault(kind, "found this"), where="scene/left")
    assert seeds == [7, retry_seed(7)]
    assert raised.value.reason is reason
    assert RULES[reason].counts
    assert not RULES[reason].retry_at_once


def test_errors_of_the_generator_pass() -> None:
    def fail(seed: int) -> str:
        raise ValueError(f"no {seed}")

    with pytest.raises(ValueError, match="no 7"):
        checked_output(fail, seed=7, fault_of=look, where="scene/left")


@given(st.integers(0, 2**63 - 1))
def test_the_second_seed_is_another_and_always_the_same(seed: int) -> None:
    second = retry_seed(seed)
    assert second == retry_seed(seed)
    assert second != seed
    assert 0 <= second < 2**63

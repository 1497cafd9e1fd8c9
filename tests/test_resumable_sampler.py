"""The sampler: fixed orders, every sample once, and resumption at every step with any world, batch and workers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.resumable_sampler import ResumableSampler


class Numbers(Dataset[torch.Tensor]):
    """Sample i is the number i."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(index)


def world(samples: int, size: int, *, seed: int = 3, drop_last: bool = False) -> list[ResumableSampler]:
    return [
        ResumableSampler(samples, seed=seed, rank=rank, world_size=size, drop_last=drop_last) for rank in range(size)
    ]


def take(samplers: Sequence[ResumableSampler], steps: int) -> list[int]:
    """What all ranks receive in lockstep, one sample a step, in the order of the places; delivered."""
    received = []
    iterators = [iter(sampler) for sampler in samplers]
    for _ in range(steps):
        received += [next(iterator) for iterator in iterators]
        for sampler in samplers:
            sampler.delivered(1)
    return received


def finish(samplers: Sequence[ResumableSampler]) -> list[int]:
    return take(samplers, len(samplers[0]))


@given(samples=st.integers(1, 60), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_an_order_is_a_permutation_that_depends_on_seed_and_epoch_alone(samples: int, seed: int, epoch: int) -> None:
    order = ResumableSampler(samples, seed=seed).order(epoch)
    assert sorted(order.tolist()) == list(range(samples))
    assert order.tolist() == ResumableSampler(samples, seed=seed, rank=1, world_size=2).order(epoch).tolist()


def test_orders_are_fixed_for_ever() -> None:
    # Recorded states mean nothing once these change.
    assert ResumableSampler(8, seed=42).order(0).tolist() == [0, 1, 4, 2, 6, 5, 7, 3]
    assert ResumableSampler(8, seed=42).order(1).tolist() == [7, 3, 4, 2, 5, 6, 0, 1]
    assert ResumableSampler(4, seed=42, shuffle=False).order(5).tolist() == [0, 1, 2, 3]


@given(samples=st.integers(1, 40), size=st.integers(1, 5), drop_last=st.booleans())
def test_ranks_share_an_epoch(samples: int, size: int, drop_last: bool) -> None:
    samplers = world(samples, size, drop_last=drop_last)
    order = samplers[0].order(0).tolist()
    lists = [list(sampler) for sampler in samplers]
    assert {len(each) for each in lists} == {len(samplers[0])}
    dealt = [index for together in zip(*lists, strict=True) for index in together]
    if drop_last:
        assert dealt == order[: samples // size * size]
    else:
        assert dealt[:samples] == order
        assert dealt[samples:] == [order[place % samples] for place in range(samples, len(dealt))]
        assert len(dealt) - samples < size


@settings(deadline=None)
@given(samples=st.integers(1, 25), worlds=st.lists(st.integers(1, 4), min_size=1, max_size=5), data=st.data())
def test_an_epoch_in_pieces_is_the_epoch(samples: int, worlds: list[int], data: st.DataObject) -> None:
    """Whatever world sizes an epoch is run with, it gives its order once, and padding only at the very end."""
    order = ResumableSampler(samples, seed=3).order(0).tolist()
    received: list[int] = []
    state = ResumableSampler(samples, seed=3).state_dict()
    for size in worlds:
        samplers = world(samples, size, seed=99)
        for sampler in samplers:
            sampler.load_state_dict(json.loads(json.dumps(state)))
        received += take(samplers, data.draw(st.integers(0, len(samplers[0]))))
        states = [sampler.state_dict() for sampler in samplers]
        assert all(each == states[0] for each in states)
        state = states[0]
        if state["epoch"]:
            break
    assert received[:samples] == order[: len(received)]
    if state["epoch"]:
        assert received[:samples] == order
        assert state["consumed"] == 0


@pytest.mark.parametrize("before", [1, 2, 3])
@pytest.mark.parametrize("after", [1, 2, 4])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_step_of_two_epochs_can_be_resumed(before: int, after: int, drop_last: bool) -> None:
    samples = 11
    steps = len(world(samples, before, drop_last=drop_last)[0])
    order = world(samples, 1)[0].order
    for stop in range(2 * steps + 1):
        samplers = world(samples, before, drop_last=drop_last)
        for epoch_steps in (min(stop, steps), max(stop - steps, 0)):
            take(samplers, epoch_steps)
        resumed = world(samples, after, seed=0, drop_last=drop_last)
        for sampler in resumed:
            sampler.load_state_dict(samplers[0].state_dict())
        epoch, consumed = divmod(stop, steps)[0], stop % steps * before
        assert (resumed[0].epoch, resumed[0].consumed) == (epoch, consumed)
        left = order(epoch).tolist()[consumed:]
        rest = finish(resumed)
        assert rest[: len(left)] == (left[: len(left) // after * after] if drop_last else left)
        resumed[0].set_epoch(epoch + 1)
        assert (resumed[0].epoch, resumed[0].consumed) == (epoch + 1, 0)


def batches(loader: DataLoader[Any], sampler: ResumableSampler, stop: int | None = None) -> list[list[int]]:
    received = []
    for batch in loader:
        received.append(batch.tolist())
        sampler.delivered(len(batch))
        if stop is not None and len(received) == stop:
            break
    return received


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork")])
def test_a_loader_that_draws_ahead_resumes_at_every_batch(workers: int, context: str | None) -> None:
    """Two workers hold up to four batches that nobody has received: the state must not count them."""
    samples, size = 13, 2

    def loader(sampler: ResumableSampler) -> DataLoader[Any]:
        return DataLoader(
            Numbers(samples), batch_size=2, sampler=sampler, num_workers=workers, multiprocessing_context=context
        )

    whole = ResumableSampler(samples, seed=3)
    uninterrupted = [index for batch in batches(loader(whole), whole) for index in batch]
    assert whole.state_dict()["epoch"] == 1
    for stop in range(1, 4):
        ranks = world(samples, size)
        pieces = [batches(loader(sampler), sampler, stop) for sampler in ranks]
        assert ranks[0].state_dict() == ranks[1].state_dict()
        received = sorted(index for rank in pieces for batch in rank for index in batch)
        resumed = ResumableSampler(samples, seed=0)
        resumed.load_state_dict(ranks[0].state_dict())
        rest = [index for batch in batches(loader(resumed), resumed) for index in batch]
        assert received == sorted(uninterrupted[: stop * 2 * size])
        assert rest == uninterrupted[stop * 2 * size :]


def test_the_epoch_comes_with_the_index() -> None:
    sampler = ResumableSampler(3, seed=1, with_epoch=True)
    sampler.set_epoch(4)
    assert list(sampler) == [(4, index) for index in sampler.order(4).tolist()]


def test_setting_the_epoch_it_is_in_changes_nothing() -> None:
    sampler = ResumableSampler(5, seed=1)
    sampler.delivered(2)
    sampler.set_epoch(0)
    assert sampler.consumed == 2
    assert len(sampler) == 3


def test_an_iterator_keeps_what_it_began_with() -> None:
    sampler = ResumableSampler(5, seed=1)
    iterator = iter(sampler)
    sampler.delivered(2)
    assert list(iterator) == sampler.order(0).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "format is 'x'"),
        ({"samples": 6}, "samples = 6, this sampler has 5"),
        ({"shuffle": False}, "shuffle = False"),
        ({"consumed": 5}, "5 of 5 samples consumed"),
        ({"consumed": -1}, "consumed is -1"),
        ({"epoch": None}, "epoch is None"),
        ({"seed": 1.5}, "seed is 1.5"),
    ],
)
def test_a_foreign_state_is_refused(change: dict[str, Any], message: str) -> None:
    sampler = ResumableSampler(5, seed=1)
    with pytest.raises(InputError, match=message):
        sampler.load_state_dict({**sampler.state_dict(), **change})


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="there are no samples"):
        ResumableSampler(0, seed=1)
    with pytest.raises(InputError, match="rank 2 in a world of 2"):
        ResumableSampler(3, seed=1, rank=2, world_size=2)
    with pytest.raises(InputError, match="seed is -1"):
        ResumableSampler(3, seed=-1)
    with pytest.raises(InputError, match="4 samples delivered where 3"):
        ResumableSampler(3, seed=1).delivered(4)

"""The order in which samples are visited, shared between ranks, and taken up again at the very sample it stopped at.

An epoch has one global order, drawn from (seed, epoch) alone. `consumed` counts how many places of that order the
training has received, over all ranks; what is left is dealt out like cards: rank r of W takes the places consumed + r,
consumed + r + W, … Ranks that take equally large steps have therefore always received a prefix of the order, and the
state (seed, epoch, consumed) says everything: it knows neither world size, nor batch size, nor workers, and may be
taken up with others.

A DataLoader draws from its sampler ahead of what it delivers, so what was drawn is not what was received: the training
loop says what it received with `delivered`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from .errors import InputError

_FORMAT = "sceneloom.sampler/1"
_WHERE = "resumable sampler"


class ResumableSampler(Sampler[Any]):
    """A sampler whose state is what was delivered, to be resumed in mid-epoch with any world size.

        for epoch in range(sampler.epoch, epochs):
            sampler.set_epoch(epoch)
            for batch in loader:
                train(batch)
                sampler.delivered(len(batch["scene_id"]))
                checkpoint["sampler"] = sampler.state_dict()

    With `drop_last=False` the order is continued from its beginning until every rank gets equally many samples (at most
    world size - 1 samples are seen twice, at the end of the epoch). With `drop_last=True` the places at the end that do
    not fill a round of all ranks are left out. Either rule applies to what is left when an iteration begins, so every
    sample is seen at most once before the padding, whatever world sizes an epoch was run with.

    Args:
        samples: length of the data set.
        seed: of the order; recorded in the state.
        rank, world_size: of this process.
        shuffle: False visits the samples in their own order.
        drop_last: see above.
        with_epoch: yield (epoch, index) instead of index, for data sets whose draws depend on the epoch
            (`LyraTrainingSet`): workers that live on from epoch to epoch are told in no other way.

    Raises:
        InputError: no samples, or a rank outside the world.
    """

    def __init__(
        self,
        samples: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        drop_last: bool = False,
        with_epoch: bool = False,
    ) -> None:
        if samples < 1:
            raise InputError("there are no samples", where=_WHERE, remedy="Give a data set that is not empty.")
        if not 0 <= rank < world_size:
            raise InputError(
                f"rank {rank} in a world of {world_size}", where=_WHERE, remedy="Ranks run from 0 to world size - 1."
            )
        _require_counts({"seed": seed})
        self._samples = samples
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._with_epoch = with_epoch
        self._epoch = 0
        self._consumed = 0

    @property
    def epoch(self) -> int:
        """The epoch that the next sample belongs to."""
        return self._epoch

    @property
    def consumed(self) -> int:
        """Places of this epoch's order that all ranks together have received."""
        return self._consumed

    def __len__(self) -> int:
        """Samples that this rank still gets in this epoch."""
        return len(self._places())

    def __iter__(self) -> Iterator[Any]:
        """Samples of this rank from where delivery stands; the state does not change by iterating."""
        epoch = self._epoch
        order = self.order(epoch)
        indices = (int(order[place % self._samples]) for place in self._places())
        return ((epoch, index) for index in indices) if self._with_epoch else indices

    def order(self, epoch: int) -> NDArray[np.int64]:
        """(samples,) the global order of an epoch.

        Raw 64-bit words of Philox are sorted, whose stream NumPy guarantees; `Generator.permutation` may change with
        NumPy's version, and a recorded state would then mean another order.
        """
        if not self._shuffle:
            return np.arange(self._samples)
        words = np.random.Philox(np.random.SeedSequence([self._seed, epoch])).random_raw(self._samples)
        return np.argsort(words, kind="stable")

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; nothing happens where the sampler is in that epoch already, so a resumed one goes on."""
        _require_counts({"epoch": epoch})
        if epoch != self._epoch:
            self._epoch, self._consumed = epoch, 0

    def delivered(self, count: int) -> None:
        """Note that this rank's training has received `count` more samples, and every other rank as many.

        After the last sample of the epoch the sampler stands at the beginning of the next.

        Raises:
            InputError: this rank had fewer samples left.
        """
        left = len(self)
        if not 0 <= count <= left:
            raise InputError(
                f"{count} samples delivered where {left} of epoch {self._epoch} were left",
                where=_WHERE,
                remedy="Call delivered once a batch, with the number of samples in it.",
            )
        if count == left:
            self.set_epoch(self._epoch + 1)
        else:
            self._consumed += count * self._world_size

    def state_dict(self) -> dict[str, Any]:
        """What was delivered, as JSON-compatible values; the same on every rank."""
        return {
            "format": _FORMAT,
            "samples": self._samples,
            "shuffle": self._shuffle,
            "seed": self._seed,
            "epoch": self._epoch,
            "consumed": self._consumed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; iterators that exist already are not changed.

        Raises:
            InputError: the state is none of this sampler's, or was taken over another number of samples.
        """
        if state.get("format") != _FORMAT:
            raise InputError(
                f"the state's format is {state.get('format')!r}, expected {_FORMAT!r}",
                where=_WHERE,
                remedy="Give what ResumableSampler.state_dict returned.",
            )
        for name, here in (("samples", self._samples), ("shuffle", self._shuffle)):
            if state.get(name) != here:
                raise InputError(
                    f"the state was taken with {name} = {state.get(name)}, this sampler has {here}",
                    where=_WHERE,
                    remedy="Select the same clips as before, or begin a new epoch without a state.",
                )
        counts = {name: state.get(name) for name in ("seed", "epoch", "consumed")}
        seed, epoch, consumed = _require_counts(counts)
        if consumed >= self._samples:
            raise InputError(
                f"the state has {consumed} of {self._samples} samples consumed",
                where=_WHERE,
                remedy="Give what ResumableSampler.state_dict returned.",
            )
        self._seed, self._epoch, self._consumed = seed, epoch, consumed

    def _places(self) -> range:
        """This rank's places of what is left of the order; places from `samples` on are padding."""
        left = self._samples - self._consumed
        rounds = left // self._world_size if self._drop_last else -(-left // self._world_size)
        first = self._consumed + self._rank
        return range(first, first + rounds * self._world_size, self._world_size)


def _require_counts(values: Mapping[str, Any]) -> list[int]:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise InputError(f"{name} is {value!r}", where=_WHERE, remedy="Give a whole number of at least 0.")
    return list(values.values())

"""Models that stay loaded: each is loaded once a process, and those of one device share its memory.

A model is used under a lease, which keeps it loaded. Where the next model does not fit beside those that are loaded,
the least recently used ones without a lease are released; where leases stand in the way, the request waits for them.
"""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from ..datasets.errors import EngineError
from .profile_sections import device_with_index
from .records import digest

_Model = TypeVar("_Model")

_NOT_LOADED = {"licence", "measure_drift"}
"""Settings that say something of a model, or what is measured with it, and do not change how it is loaded."""


@dataclass(slots=True, eq=False)
class _Resident:
    """A model that is being loaded, is loaded, or is being released; in every case its memory counts.

    Attributes:
        model: set when loading has ended, well or not.
        holders: leases by the thread that took them; the thread that loads or releases it holds it too.
        last_used: the higher, the later.
    """

    name: str
    bytes: int
    device: str
    release: Callable[[Any], object] | None
    model: Future[Any] = field(default_factory=Future)
    holders: Counter[int] = field(default_factory=Counter)
    last_used: int = 0
    leaving: bool = False

    @property
    def is_idle(self) -> bool:
        return not self.leaving and self.model.done() and not self.holders


class ResidentModels:
    """Models by name, shared by all threads of the process.

    Args:
        budget_bytes: memory that the models of one device may take together, by what each declares. None: all of a
            CUDA device's memory, and no limit on the host.
    """

    def __init__(self, budget_bytes: int | None) -> None:
        self.budget_bytes = budget_bytes
        self._residents: dict[str, _Resident] = {}
        self._changed = threading.Condition()
        self._clock = itertools.count()
        self._seekers: list[tuple[int, str]] = []
        self._loads: Counter[str] = Counter()
        self._evictions: Counter[str] = Counter()
        self._load_seconds: dict[str, float] = {}
        self._peak_bytes: dict[str, int] = {}

    @contextmanager
    def get(
        self,
        name: str,
        declared_bytes: int,
        device: str,
        make: Callable[[], _Model],
        release: Callable[[_Model], object] | None = None,
    ) -> Iterator[_Model]:
        """Lease a model: it is loaded by the first that asks, and not released before the block ends.

        Args:
            name: of the model together with its settings; the same name stands for the same model.
            declared_bytes: what it takes on its device.
            device: "cpu", "cuda" or "cuda:N".
            make: loads it, without leasing other models. Its error reaches everyone who waits for this load; the next
                request tries again.
            release: called with the model before it is dropped.

        Raises:
            EngineError: the model alone is larger than the budget, or it cannot fit beside models whose leases are held
                by this thread or by threads that wait for room themselves.
        """
        thread = threading.get_ident()
        resident = self._lease(name, declared_bytes, device_with_index(device), make, release, thread)
        try:
            yield cast(_Model, resident.model.result())
        finally:
            self._end_lease(resident, thread)

    def release_idle(self, device: str | None = None) -> list[str]:
        """Release every model without a lease, of one device or of all; returns their names."""
        with self._changed:
            place = None if device is None else device_with_index(device)
            leaving = [each for each in self._residents.values() if each.is_idle and place in (None, each.device)]
            self._mark_leaving(leaving, threading.get_ident())
        self._release(leaving)
        return [each.name for each in leaving]

    def counters(self) -> dict[str, Any]:
        """What was loaded and released so far, as JSON: by model, and the most declared memory of each device."""
        with self._changed:
            return {
                "loads": dict(self._loads),
                "evictions": dict(self._evictions),
                "load_seconds": {name: round(seconds, 3) for name, seconds in self._load_seconds.items()},
                "peak_bytes": dict(self._peak_bytes),
            }

    # ---------------------------------------------------------------- leases

    def _lease(
        self,
        name: str,
        declared_bytes: int,
        device: str,
        make: Callable[[], Any],
        release: Callable[[Any], object] | None,
        thread: int,
    ) -> _Resident:
        with self._changed:
            budget = self._budget(device)
            if budget is not None and declared_bytes > budget:
                raise EngineError(
                    f"the model takes {_gigabytes(declared_bytes)}, the budget of {device} is {_gigabytes(budget)}",
                    where=name,
                    remedy="Raise execution.device_memory, or choose offload, quantisation or a smaller model.",
                )
            self._changed.wait_for(lambda: self._is_turn(thread, device))
            resident, leaving = self._find_or_reserve(name, declared_bytes, device, release, thread, budget)
            resident.holders[thread] += 1
            resident.last_used = next(self._clock)
        try:
            if leaving is not None:
                self._load(resident, leaving, make)
            resident.model.result()
        except BaseException:
            self._end_lease(resident, thread)
            raise
        return resident

    def _find_or_reserve(
        self,
        name: str,
        declared_bytes: int,
        device: str,
        release: Callable[[Any], object] | None,
        thread: int,
        budget: int | None,
    ) -> tuple[_Resident, list[_Resident] | None]:
        """The model's entry; for one that is new, also the models that must be released before it is loaded."""
        seeker = (thread, device)
        try:
            while True:
                resident = self._residents.get(name)
                if resident is not None and not resident.leaving:
                    return resident, None
                leaving = None if resident is not None else self._leaving_for(declared_bytes, device, budget)
                if leaving is not None:
                    resident = _Resident(name, declared_bytes, device, release)
                    self._residents[name] = resident
                    self._mark_leaving(leaving, thread)
                    self._note_peak(device)
                    return resident, leaving
                if seeker not in self._seekers:
                    self._seekers.append(seeker)
                self._require_progress(name, declared_bytes, device, budget)
                self._changed.wait()
        finally:
            if seeker in self._seekers:
                self._seekers.remove(seeker)
                self._changed.notify_all()

    def _is_turn(self, thread: int, device: str) -> bool:
        """Whether a request may go ahead: those that already wait for room come first, but who holds leases never waits
        for them, as they may be waiting for these leases."""
        holds = any(thread in each.holders for each in self._residents.values())
        return holds or not any(place == device for _, place in self._seekers)

    def _leaving_for(self, declared_bytes: int, device: str, budget: int | None) -> list[_Resident] | None:
        """The least recently used models that make room when released; None while leases keep too much loaded."""
        there = [each for each in self._residents.values() if each.device == device]
        excess = 0 if budget is None else sum(each.bytes for each in there) + declared_bytes - budget
        leaving: list[_Resident] = []
        for candidate in sorted((each for each in there if each.is_idle), key=lambda each: each.last_used):
            if excess <= 0:
                break
            leaving.append(candidate)
            excess -= candidate.bytes
        return leaving if excess <= 0 else None

    def _require_progress(self, name: str, declared_bytes: int, device: str, budget: int | None) -> None:
        """Refuse to wait where every lease in the way is held by a thread that waits for room itself."""
        waiting = {thread for thread, _ in self._seekers}
        in_use = [each for each in self._residents.values() if each.device == device and not each.is_idle]
        if any(thread not in waiting for each in in_use for thread in each.holders):
            return
        beside = ", ".join(f"{each.name} ({_gigabytes(each.bytes)})" for each in in_use)
        assert budget is not None
        raise EngineError(
            f"the model takes {_gigabytes(declared_bytes)} and does not fit beside {beside} in the budget of {device}, "
            f"{_gigabytes(budget)}",
            where=name,
            remedy="Raise execution.device_memory, lower execution.parallel_scenes, or choose offload for one of them.",
        )

    def _end_lease(self, resident: _Resident, thread: int) -> None:
        with self._changed:
            resident.holders[thread] -= 1
            resident.holders += Counter()  # drops threads without leases
            resident.last_used = next(self._clock)
            self._changed.notify_all()

    # ---------------------------------------------------------------- loading and releasing

    def _load(self, resident: _Resident, leaving: list[_Resident], make: Callable[[], Any]) -> None:
        started = time.monotonic()
        try:
            self._release(leaving)
            model = make()
        except BaseException as error:
            with self._changed:
                del self._residents[resident.name]
                resident.model.set_exception(error)
                self._changed.notify_all()
            raise
        with self._changed:
            resident.model.set_result(model)
            self._loads[resident.name] += 1
            seconds = time.monotonic() - started
            self._load_seconds[resident.name] = self._load_seconds.get(resident.name, 0) + seconds
            self._changed.notify_all()

    def _mark_leaving(self, leaving: list[_Resident], thread: int) -> None:
        for each in leaving:
            each.leaving = True
            each.holders[thread] += 1

    def _release(self, leaving: list[_Resident]) -> None:
        with ExitStack() as each_of_them:  # all of them, even where one raises
            for each in reversed(leaving):
                each_of_them.callback(self._release_one, each)

    def _release_one(self, resident: _Resident) -> None:
        try:
            if resident.release is not None:
                resident.release(resident.model.result())
        finally:
            resident.model = Future()
            free_device_memory(resident.device)
            with self._changed:
                del self._residents[resident.name]
                self._evictions[resident.name] += 1
                self._changed.notify_all()

    # ---------------------------------------------------------------- memory

    def _budget(self, device: str) -> int | None:
        return self.budget_bytes if self.budget_bytes is not None else _device_bytes(device)

    def _note_peak(self, device: str) -> None:
        taken = sum(each.bytes for each in self._residents.values() if each.device == device and not each.leaving)
        self._peak_bytes[device] = max(self._peak_bytes.get(device, 0), taken)


class _HasWeights(Protocol):
    @property
    def weights(self) -> str: ...

    def model_dump(self, *, mode: str, include: Any) -> dict[str, Any]: ...


def lease_name(kind: str, settings: _HasWeights, fields: Iterable[str], **loaded_with: Any) -> str:
    """The name of a loaded model: those that are loaded in the same way have the same one, and are loaded once.

    Args:
        kind: its class, or what it is to its user.
        settings: section of a profile with `weights`.
        fields: of the settings, that loading depends on; what is only said of the weights or measured with them
            (licence, measure_drift) never counts.
        loaded_with: what else it depends on, JSON.
    """
    loading = settings.model_dump(mode="json", include=set(fields) - _NOT_LOADED)
    return f"{kind} {settings.weights} {digest(loading | loaded_with)[:12]}"


def free_device_memory(device: str) -> None:
    """Give back what no object holds any more: reference cycles, and the blocks that torch keeps for a CUDA device."""
    gc.collect()
    if not device.startswith("cuda") or "torch" not in sys.modules:
        return
    import torch  # not sys.modules's: another thread may be at importing it, which only this statement waits for

    if torch.cuda.is_available():
        with torch.cuda.device(device):
            torch.cuda.empty_cache()


def _device_bytes(device: str) -> int | None:
    if device == "cpu":
        return None
    import torch

    # A device that is not there is refused, by name, where the model is loaded.
    there = torch.cuda.is_available() and int(device.partition(":")[2]) < torch.cuda.device_count()
    return torch.cuda.get_device_properties(device).total_memory if there else None


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"

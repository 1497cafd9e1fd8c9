"""Models that stay loaded: one load each, least recently used first out, leases, and the budget under many threads."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import torch

from sceneloom.datasets.errors import EngineError
from sceneloom.resources.model_settings import ModelSettings
from sceneloom.resources.profiles import LatentCodecSettings
from sceneloom.resources.resident_models import ResidentModels, free_device_memory, lease_name


@pytest.fixture(autouse=True)
def quick_collections() -> Iterator[None]:
    """Each release collects garbage; what was there before the test need not be walked every time."""
    gc.freeze()
    yield
    gc.unfreeze()


class Model:
    """Stands for a model: what matters here is when it comes and goes."""

    def __init__(self, name: str) -> None:
        self.name = name


def use(models: ResidentModels, name: str, size: int, device: str = "cpu") -> Model:
    with models.get(name, size, device, lambda: Model(name)) as model:
        return model


def start(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_model_is_loaded_once_and_stays() -> None:
    models = ResidentModels(None)
    assert use(models, "a", 10) is use(models, "a", 10)
    assert models.counters()["loads"] == {"a": 1}
    assert models.counters()["evictions"] == {}


def test_threads_that_ask_for_one_model_at_once_load_it_once() -> None:
    models = ResidentModels(None)
    gate = threading.Barrier(8)

    def make() -> Model:
        time.sleep(0.05)
        return Model("a")

    def work(_: int) -> Model:
        gate.wait()
        with models.get("a", 1, "cpu", make) as model:
            return model

    with ThreadPoolExecutor(8) as pool:
        assert len({id(model) for model in pool.map(work, range(8))}) == 1
    assert models.counters()["loads"] == {"a": 1}


def test_loading_one_model_does_not_hold_up_another() -> None:
    models = ResidentModels(None)
    use(models, "quick", 1)
    loading, finish = threading.Event(), threading.Event()

    def make() -> Model:
        loading.set()
        assert finish.wait(10)
        return Model("slow")

    def load_slowly() -> None:
        with models.get("slow", 1, "cpu", make):
            pass

    thread = start(load_slowly)
    assert loading.wait(10)
    assert use(models, "quick", 1).name == "quick"
    assert use(models, "other", 1).name == "other"
    finish.set()
    thread.join(10)
    assert set(models.counters()["loads"]) == {"quick", "slow", "other"}


def test_the_least_recently_used_models_make_room_and_no_more_than_needed() -> None:
    models = ResidentModels(30)
    for name in ("a", "b", "c"):
        use(models, name, 10)
    use(models, "a", 10)
    use(models, "d", 10)  # b is the oldest now
    assert models.counters()["evictions"] == {"b": 1}
    use(models, "e", 20)  # c and a, in this order; d stays
    assert models.counters()["evictions"] == {"b": 1, "c": 1, "a": 1}
    use(models, "d", 10)
    assert models.counters()["loads"]["d"] == 1
    assert models.counters()["peak_bytes"] == {"cpu": 30}


def test_devices_have_budgets_of_their_own() -> None:
    models = ResidentModels(10)
    use(models, "host", 10)
    use(models, "card", 10, "cuda")
    use(models, "card 1", 10, "cuda:1")
    assert models.counters()["evictions"] == {}
    use(models, "other", 5, "cuda:0")  # the same card as "cuda"
    assert models.counters()["evictions"] == {"card": 1}


def test_a_model_larger_than_the_budget_is_refused_with_the_figures() -> None:
    models = ResidentModels(24_000_000_000)
    with pytest.raises(EngineError, match=r"takes 80 GB, the budget of cuda:0 is 24 GB.*device_memory"):
        use(models, "flux", 80_000_000_000, "cuda")
    assert models.counters()["loads"] == {}


def test_without_a_budget_a_card_s_own_memory_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Properties:
        total_memory: int = 100

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties())
    models = ResidentModels(None)
    with pytest.raises(EngineError, match="the budget of cuda:0 is"):
        use(models, "a", 101, "cuda")
    use(models, "a", 101, "cpu")
    # A card that is not there: whoever loads the model says so.
    use(models, "b", 101, "cuda:1")
    assert models.counters()["loads"] == {"a": 1, "b": 1}


def test_a_released_model_is_handed_to_release_and_then_dropped() -> None:
    models = ResidentModels(10)
    seen: list[str] = []
    with models.get("a", 10, "cpu", lambda: Model("a"), lambda model: seen.append(model.name)) as model:
        trace = weakref.ref(model)
    del model
    assert trace() is not None
    use(models, "b", 10)
    assert seen == ["a"]
    assert trace() is None


def test_a_lease_keeps_a_model_and_a_request_waits_for_it() -> None:
    models = ResidentModels(10)
    order: list[str] = []
    taken, waiting = threading.Event(), threading.Event()

    def hold() -> None:
        with models.get("a", 10, "cpu", lambda: Model("a"), lambda _: order.append("a released")):
            taken.set()
            assert waiting.wait(10)
            time.sleep(0.05)
            order.append("a given back")

    thread = start(hold)
    assert taken.wait(10)
    waiting.set()
    with models.get("b", 10, "cpu", lambda: order.append("b loaded")):
        pass
    thread.join(10)
    assert order == ["a given back", "a released", "b loaded"]


def test_a_thread_whose_own_lease_is_in_the_way_is_refused_instead_of_waiting_for_itself() -> None:
    models = ResidentModels(10)
    with (
        models.get("a", 8, "cpu", lambda: Model("a")),
        pytest.raises(EngineError, match=r"does not fit beside a \(8e-09 GB\)"),
    ):
        use(models, "b", 8)
    use(models, "b", 8)  # and once the lease has ended, it fits


def test_threads_that_wait_for_each_other_do_not_hang() -> None:
    models = ResidentModels(20)
    both = threading.Barrier(2)
    ends: list[str] = []

    def work(first: str, second: str) -> None:
        try:
            with models.get(first, 10, "cpu", lambda: Model(first)):
                both.wait(10)
                use(models, second, 10)
            ends.append("made")
        except EngineError:
            ends.append("refused")

    threads = [start(lambda: work("a", "c")), start(lambda: work("b", "d"))]
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    # The second to wait is refused; with its lease gone the first goes on.
    assert sorted(ends) == ["made", "refused"]


def test_a_request_that_waits_for_room_is_not_overtaken_for_ever() -> None:
    models = ResidentModels(10)
    stop = threading.Event()
    started = threading.Barrier(3)

    def keep_using(offset: float) -> None:
        started.wait(10)
        while not stop.is_set():
            with models.get("a", 10, "cpu", lambda: Model("a")):
                time.sleep(0.004 + offset)

    threads = [start(lambda: keep_using(0)), start(lambda: keep_using(0.003))]
    started.wait(10)
    time.sleep(0.05)
    before = time.monotonic()
    use(models, "b", 10)
    waited = time.monotonic() - before
    stop.set()
    for thread in threads:
        thread.join(10)
    assert waited < 2


def test_a_load_that_fails_reaches_all_who_wait_and_is_tried_again_later() -> None:
    models = ResidentModels(10)
    gate = threading.Barrier(4)

    def fail() -> Model:
        time.sleep(0.05)
        raise EngineError("no", where="a", remedy="none")

    def work(_: int) -> str:
        gate.wait(10)
        try:
            with models.get("a", 10, "cpu", fail):
                return "loaded"
        except EngineError as error:
            return error.found

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == ["no"] * 4
    assert use(models, "a", 10).name == "a"
    use(models, "b", 10)  # nothing of the failure stays in the way


def test_a_release_that_fails_does_not_leave_its_model_in_the_way() -> None:
    models = ResidentModels(10)

    def fail(_: Model) -> None:
        raise RuntimeError("cannot let go")

    with models.get("a", 5, "cpu", lambda: Model("a"), fail):
        pass
    use(models, "b", 5)
    with pytest.raises(RuntimeError, match="cannot let go"):
        use(models, "c", 10)
    assert use(models, "c", 10).name == "c"
    assert models.counters()["evictions"] == {"a": 1, "b": 1}


def test_idle_models_can_be_released_at_once() -> None:
    models = ResidentModels(None)
    use(models, "a", 1)
    use(models, "b", 1)
    with models.get("c", 1, "cpu", lambda: Model("c")):
        assert models.release_idle("cuda") == []
        assert models.release_idle("cpu") == ["a", "b"]
    assert models.release_idle() == ["c"]


@pytest.mark.parametrize("seed", range(3))
def test_many_threads_never_exceed_the_budget_or_lose_a_model_under_a_lease(seed: int) -> None:
    budget = 10
    models = ResidentModels(budget)
    sizes = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 6}
    loaded: Counter[str] = Counter()
    leased: Counter[str] = Counter()
    faults: list[str] = []
    lock = threading.Lock()

    def make(name: str) -> str:
        with lock:
            loaded[name] += 1
            if loaded[name] > 1:
                faults.append(f"{name} was loaded twice")
            if sum(sizes[each] for each in loaded.elements()) > budget:
                faults.append(f"{dict(loaded)} is over the budget")
        time.sleep(0.001)
        return name

    def release(name: str) -> None:
        time.sleep(0.001)
        with lock:
            loaded[name] -= 1
            if leased[name]:
                faults.append(f"{name} was released under a lease")

    def work(index: int) -> None:
        draw = random.Random(f"{seed}/{index}")
        for _ in range(40):
            name = draw.choice(list(sizes))
            with models.get(name, sizes[name], "cpu", lambda name=name: make(name), release) as model:
                with lock:
                    leased[name] += 1
                    if model != name or loaded[name] != 1:
                        faults.append(f"{model} was leased as {name}")
                time.sleep(draw.random() * 0.001)
                with lock:
                    leased[name] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert faults == []
    assert sum(models.counters()["evictions"].values()) > 5


def test_nested_leases_of_one_model_count() -> None:
    models = ResidentModels(10)
    with ExitStack() as leases:
        outer = leases.enter_context(models.get("a", 10, "cpu", lambda: Model("a")))
        with models.get("a", 10, "cpu", lambda: Model("a")) as inner:
            assert inner is outer
        assert models.release_idle() == []
    assert models.release_idle() == ["a"]


def test_freeing_memory_breaks_reference_cycles() -> None:
    gc.disable()
    try:
        model = Model("a")
        model.itself = model  # type: ignore[attr-defined]
        trace = weakref.ref(model)
        del model
        assert trace() is not None
        free_device_memory("cpu")
        assert trace() is None
    finally:
        gc.enable()


def test_models_that_are_loaded_alike_have_one_name() -> None:
    def name(**changes: object) -> str:
        settings = ModelSettings.model_validate({"id": "owner/model", **changes})
        return lease_name("Class", settings, ModelSettings.model_fields)

    assert name().startswith("Class owner/model ")
    assert name() == name(licence="MIT")
    assert name() != name(precision="float32")
    settings = ModelSettings(id="owner/model")
    assert lease_name("Class", settings, ModelSettings.model_fields, vae="float32") != name()
    codecs = [LatentCodecSettings(id="codec", measure_drift=drift) for drift in (False, True)]
    assert len({lease_name("codec", codec, LatentCodecSettings.model_fields) for codec in codecs}) == 1

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sceneloom.resources.scene_mapper import LocalSceneMapper

PATIENCE = 10.0
Report = Callable[[str], None]


def scene_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("scene")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert scene_threads() == []


def test_all_events_of_all_scenes_arrive_each_scene_s_own_in_order() -> None:
    def run(scene: int, report: Callable[[tuple[int, int]], None]) -> bool:
        for step in range(5):
            report((scene, step))
        return True

    events = list(LocalSceneMapper(3).map(run, range(20)))

    assert sorted(events) == [(scene, step) for scene in range(20) for step in range(5)]
    for scene in range(20):
        assert [step for other, step in events if other == scene] == list(range(5))


def test_events_arrive_while_the_scene_is_under_way() -> None:
    seen = threading.Event()

    def run(scene: str, report: Report) -> bool:
        report(f"{scene} began")
        assert seen.wait(PATIENCE)
        report(f"{scene} ended")
        return True

    events = LocalSceneMapper(1).map(run, ["room"])
    assert next(events) == "room began"
    seen.set()
    assert list(events) == ["room ended"]


@pytest.mark.parametrize("parallel", [1, 3])
def test_as_many_scenes_as_allowed_are_under_way_and_no_more(parallel: int) -> None:
    lock = threading.Lock()
    under_way, most = 0, 0
    together = threading.Barrier(parallel)

    def run(scene: int, report: Report) -> bool:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait(PATIENCE)  # broken, and an error, unless that many do run at once
        with lock:
            under_way -= 1
        return True

    assert list(LocalSceneMapper(parallel).map(run, range(parallel * 4))) == []
    assert most == parallel


def test_no_scenes_give_no_events() -> None:
    assert list(LocalSceneMapper(2).map(lambda scene, report: True, [])) == []


def test_an_exception_is_raised_after_the_other_scenes_have_ended() -> None:
    ended: list[int] = []

    def run(scene: int, report: Report) -> bool:
        report(f"{scene}")
        if scene == 1:
            raise ZeroDivisionError("scene 1")
        time.sleep(0.01)
        ended.append(scene)
        return True

    events = LocalSceneMapper(2).map(run, range(6))
    seen: list[str] = []
    with pytest.raises(ZeroDivisionError, match="scene 1"):
        seen.extend(events)

    assert sorted(seen) == [str(scene) for scene in range(6)]
    assert sorted(ended) == [0, 2, 3, 4, 5]


def test_of_several_exceptions_that_of_the_first_scene_is_raised() -> None:
    def run(scene: int, report: Report) -> bool:
        time.sleep(0.05 if scene == 0 else 0.0)
        raise ValueError(f"scene {scene}")

    with pytest.raises(ValueError, match="scene 0"):
        list(LocalSceneMapper(3).map(run, range(3)))


def test_stopping_early_waits_for_scenes_under_way_and_drops_the_others() -> None:
    began: list[int] = []
    ended: list[int] = []
    go_on = threading.Event()

    def run(scene: int, report: Report) -> bool:
        began.append(scene)
        report(f"{scene}")
        assert go_on.wait(PATIENCE)
        ended.append(scene)
        return True

    events = LocalSceneMapper(2).map(run, range(50))
    next(events)
    while len(began) < 2:
        time.sleep(0.001)
    threading.Timer(0.05, go_on.set).start()
    events.close()

    assert sorted(ended) == sorted(began)
    assert len(began) < 10  # those that a free thread took up before the cancellation reached them


def test_a_consumer_s_exception_ends_the_batch_too() -> None:
    began: list[int] = []

    def run(scene: int, report: Report) -> bool:
        began.append(scene)
        report(f"{scene}")
        time.sleep(0.02)
        return True

    def consume() -> None:
        with contextlib.closing(LocalSceneMapper(1).map(run, range(50))) as events:
            for _ in events:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert len(began) < 5

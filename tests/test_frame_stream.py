from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from sceneloom.assets.frame_stream import FRAMES_IN_FLIGHT, read_twice
from sceneloom.datasets.files import write_atomically

PATIENCE = 10.0
Frame = NDArray[np.uint8]
_Result = TypeVar("_Result")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "second reader"] == []


def in_time(call: Callable[[], _Result]) -> _Result:
    """What the call returns or raises; fails instead of hanging when it does neither."""
    ended: list[_Result | BaseException] = []

    def run() -> None:
        try:
            ended.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the two readers wait for each other"
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


def frames(count: int) -> Iterator[Frame]:
    for number in range(count):
        yield np.full((2, 3, 3), number, np.uint8)


def numbers(stream: Iterator[Frame]) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in stream]


@pytest.mark.parametrize("count", [0, 1, FRAMES_IN_FLIGHT, 100])
def test_both_readers_see_all_frames_in_order(count: int) -> None:
    second: list[int] = []
    first = in_time(lambda: read_twice(frames(count), numbers, lambda stream: second.extend(numbers(stream))))
    assert first == second == list(range(count))


def test_the_first_reads_in_the_caller_s_thread_and_the_second_in_another() -> None:
    threads: dict[str, threading.Thread] = {}

    def reader(name: str) -> Callable[[Iterator[Frame]], None]:
        def read(stream: Iterator[Frame]) -> None:
            threads[name] = threading.current_thread()
            list(stream)

        return read

    read_twice(frames(3), reader("first"), reader("second"))

    assert threads["first"] is threading.current_thread()
    assert threads["second"] is not threading.current_thread()


def test_frames_are_made_no_further_ahead_of_a_slow_second_reader_than_memory_allows() -> None:
    made, read, furthest = 0, 0, 0

    def counted() -> Iterator[Frame]:
        nonlocal made
        for frame in frames(60):
            made += 1
            yield frame

    def slow(stream: Iterator[Frame]) -> None:
        nonlocal read, furthest
        for _ in stream:
            furthest = max(furthest, made - read)
            time.sleep(0.002)
            read += 1

    in_time(lambda: read_twice(counted(), numbers, slow))

    assert read == 60
    assert furthest <= FRAMES_IN_FLIGHT + 2  # what waits, what is being read, and what waits to be handed on


def test_a_slow_first_reader_is_waited_for() -> None:
    def slow(stream: Iterator[Frame]) -> int:
        count = 0
        for _ in stream:
            time.sleep(0.002)
            count += 1
        return count

    second: list[int] = []
    assert in_time(lambda: read_twice(frames(20), slow, lambda stream: second.extend(numbers(stream)))) == 20
    assert second == list(range(20))


def write_to(path: Path) -> Callable[[Iterator[Frame]], None]:
    return lambda stream: write_atomically(path, lambda file: file.writelines(frame.tobytes() for frame in stream))


@pytest.mark.parametrize("after", [0, 1, 30])
def test_when_the_first_fails_its_error_is_raised_and_the_second_s_file_is_gone(tmp_path: Path, after: int) -> None:
    def fail(stream: Iterator[Frame]) -> None:
        for _ in range(after):
            next(stream)
        raise MemoryError("no room for the latents")

    with pytest.raises(MemoryError, match="no room for the latents"):
        in_time(lambda: read_twice(frames(60), fail, write_to(tmp_path / "clip.mp4")))
    assert list(tmp_path.iterdir()) == []


def test_when_the_frames_fail_their_error_is_raised_and_the_second_s_file_is_gone(tmp_path: Path) -> None:
    def broken() -> Iterator[Frame]:
        yield from frames(20)
        raise ZeroDivisionError("the renderer")

    with pytest.raises(ZeroDivisionError, match="the renderer"):
        in_time(lambda: read_twice(broken(), numbers, write_to(tmp_path / "clip.mp4")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [0, 3, 50])
def test_when_the_second_fails_its_error_is_raised_and_the_first_is_not_held_up(after: int) -> None:
    def fail(stream: Iterator[Frame]) -> None:
        for _ in range(after):
            next(stream)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        in_time(lambda: read_twice(frames(100), numbers, fail))


def test_of_two_errors_the_first_reader_s_is_raised() -> None:
    def fail_first(stream: Iterator[Frame]) -> None:
        next(stream)
        raise ValueError("first")

    def fail_second(stream: Iterator[Frame]) -> None:
        next(stream)
        raise ValueError("second")

    with pytest.raises(ValueError, match="first"):
        in_time(lambda: read_twice(frames(50), fail_first, fail_second))


def test_a_first_reader_that_stops_early_does_not_shorten_the_second_s_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    assert in_time(lambda: read_twice(frames(60), lambda stream: int(next(stream)[0, 0, 0]), write_to(path))) == 0
    assert path.read_bytes() == b"".join(frame.tobytes() for frame in frames(60))


@pytest.mark.parametrize("after", [0, 5])
def test_a_second_reader_that_stops_early_does_not_hold_up_the_first(after: int) -> None:
    def stop(stream: Iterator[Frame]) -> None:
        for _ in range(after):
            next(stream)

    assert in_time(lambda: read_twice(frames(60), numbers, stop)) == list(range(60))

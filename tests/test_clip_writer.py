"""Writing clips beside the work on the next: order, bounded memory, and what happens when something fails."""

from __future__ import annotations

import threading
import time

import pytest

from sceneloom.assets.clip_writer import CLIPS_WAITING, ClipWriter


def test_clips_are_written_in_order_by_one_other_thread() -> None:
    written: list[tuple[int, int]] = []
    with ClipWriter() as writer:
        for number in range(6):
            writer.submit(lambda number=number: written.append((number, threading.get_ident())))
    assert [number for number, _ in written] == list(range(6))
    threads = {thread for _, thread in written}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_the_next_clip_is_made_while_one_is_written() -> None:
    may_end = threading.Event()
    written: list[str] = []
    with ClipWriter() as writer:
        writer.submit(lambda: may_end.wait(20) and written.append("first"))
        assert written == []
        may_end.set()
    assert written == ["first"]


def test_clips_that_wait_are_few() -> None:
    may_end, submitted = threading.Event(), []

    def make_clips() -> None:
        with ClipWriter() as writer:
            for number in range(CLIPS_WAITING + 3):
                writer.submit(lambda: may_end.wait(20))
                submitted.append(number)

    thread = threading.Thread(target=make_clips)
    thread.start()
    deadline = time.monotonic() + 10
    while len(submitted) < CLIPS_WAITING and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(submitted) == CLIPS_WAITING
    may_end.set()
    thread.join(20)
    assert len(submitted) == CLIPS_WAITING + 3


def test_a_failed_write_stops_those_after_it_and_is_raised() -> None:
    written: list[str] = []

    def fail() -> None:
        raise OSError(28, "No space left on device")

    may_begin = threading.Event()
    with pytest.raises(OSError, match="No space left"), ClipWriter() as writer:  # noqa: PT012 - all of it is the block
        writer.submit(lambda: may_begin.wait(20) and fail())
        writer.submit(lambda: written.append("after"))
        may_begin.set()
    assert written == []


def fail() -> None:
    raise ValueError("the clip is broken")


def test_a_failed_write_is_raised_by_a_later_submit() -> None:
    begun, may_begin = 0, threading.Event()
    with pytest.raises(ValueError, match="the clip is broken"), ClipWriter() as writer:  # noqa: PT012
        for _ in range(CLIPS_WAITING):
            begun += 1
            writer.submit(lambda: may_begin.wait(20) and fail())
        may_begin.set()
        begun += 1
        writer.submit(fail)
        begun += 100
    assert begun == CLIPS_WAITING + 1


def test_a_write_that_has_failed_is_raised_by_the_next_submit() -> None:
    begun = 0
    with pytest.raises(ValueError, match="the clip is broken"), ClipWriter() as writer:  # noqa: PT012
        writer.submit(fail)
        deadline = time.monotonic() + 10
        while not writer._waiting[0].done() and time.monotonic() < deadline:
            time.sleep(0.01)
        begun += 1
        writer.submit(fail)
        begun += 1
    assert begun == 1


def test_a_failed_generation_wins_and_ends_the_writing() -> None:
    written: list[str] = []
    may_end = threading.Event()

    def slow() -> None:
        may_end.wait(20)
        written.append("under way")

    with pytest.raises(MemoryError), ClipWriter() as writer:  # noqa: PT012
        writer.submit(slow)
        writer.submit(lambda: written.append("not begun"))
        threading.Timer(0.1, may_end.set).start()
        raise MemoryError
    assert written == ["under way"]

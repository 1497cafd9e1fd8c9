"""One stream of frames, two readers: the video encoder works in a thread of its own while the latents are made."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Result = TypeVar("_Result")
_Frame = NDArray[np.uint8]

FRAMES_IN_FLIGHT = 8
"""Frames that may wait for the second reader: memory stays bounded whatever the clip's length."""


class _Abandoned(Exception):
    """The first reader failed: the second must not finish its file."""


def read_twice(
    frames: Iterable[_Frame],
    first: Callable[[Iterator[_Frame]], _Result],
    second: Callable[[Iterator[_Frame]], object],
) -> _Result:
    """Give every frame to both readers in one pass and return what `first` returns.

    Args:
        frames: (H, W, 3) uint8 each; iterated once, in this thread.
        first: runs in this thread and sets the pace. Frames that it leaves unread still reach the second.
        second: runs in a thread of its own. When `first` or `frames` fails, its iterator raises, so that it cleans up.

    Raises whatever either of them raises; the first reader's error wins.
    """
    waiting: queue.Queue[_Frame | _Abandoned | None] = queue.Queue(FRAMES_IN_FLIGHT)
    ended = threading.Event()
    errors: list[BaseException] = []

    def run_second() -> None:
        try:
            second(_drain(waiting))
        except _Abandoned:
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run_second, name="second reader", daemon=True)
    thread.start()
    try:
        handed_on = _hand_on(frames, waiting, ended)
        result = first(handed_on)
        for _ in handed_on:
            pass
    except BaseException:
        _put(waiting, _Abandoned(), ended)
        thread.join()
        raise
    _put(waiting, None, ended)
    thread.join()
    if errors:
        raise errors[0]
    return result


def _hand_on(
    frames: Iterable[_Frame], waiting: queue.Queue[_Frame | _Abandoned | None], ended: threading.Event
) -> Iterator[_Frame]:
    for frame in frames:
        _put(waiting, frame, ended)
        yield frame


def _put(
    waiting: queue.Queue[_Frame | _Abandoned | None], item: _Frame | _Abandoned | None, ended: threading.Event
) -> None:
    """Wait for room, but not for a second reader that has ended."""
    while not ended.is_set():
        try:
            waiting.put(item, timeout=0.1)
        except queue.Full:
            continue
        return


def _drain(waiting: queue.Queue[_Frame | _Abandoned | None]) -> Iterator[_Frame]:
    while (item := waiting.get()) is not None:
        if isinstance(item, _Abandoned):
            raise item
        yield item

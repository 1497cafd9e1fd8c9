"""Running a batch of scenes: several at a time, their events in one stream."""

from __future__ import annotations

import queue
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

_Scene = TypeVar("_Scene")
_Event = TypeVar("_Event")

RunScene = Callable[[_Scene, Callable[[_Event], None]], bool]
"""Runs one scene and reports its events as they happen; returns whether the scene is whole."""


class SceneMapper(Protocol):
    """Something that runs a function over many scenes."""

    def map(self, run_scene: RunScene[_Scene, _Event], scenes: Sequence[_Scene]) -> Generator[_Event, None, None]:
        """Yield the events of all scenes as they happen, in no fixed order between scenes."""
        ...


class LocalSceneMapper:
    """Runs scenes in threads of this process, so that models are loaded once and I/O overlaps with compute.

    Args:
        parallel_scenes: how many scenes are under way at once.
    """

    def __init__(self, parallel_scenes: int) -> None:
        self.parallel_scenes = parallel_scenes

    def map(self, run_scene: RunScene[_Scene, _Event], scenes: Sequence[_Scene]) -> Generator[_Event, None, None]:
        """Yield events as they happen. Raises the first exception of any scene, after the others have ended.

        When the consumer stops early (an interrupted run), scenes that have not begun are dropped and those under way
        are waited for.
        """
        events: queue.SimpleQueue[tuple[_Event] | None] = queue.SimpleQueue()

        def run(scene: _Scene) -> None:
            try:
                run_scene(scene, lambda event: events.put((event,)))
            finally:
                events.put(None)

        with ThreadPoolExecutor(self.parallel_scenes, thread_name_prefix="scene") as pool:
            futures = [pool.submit(run, scene) for scene in scenes]
            ended = 0
            try:
                while ended < len(futures):
                    event = events.get()
                    if event is None:
                        ended += 1
                    else:
                        yield event[0]
            finally:
                for future in futures:
                    future.cancel()
        for future in futures:
            future.result()

"""Values made once for each key: those used last are kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from sceneloom.resources.recently_used import RecentlyUsed


class Maker:
    """Makes upper case of words, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, words: Sequence[str]) -> list[str]:
        self.asked.append(list(words))
        return [word.upper() for word in words]


def test_what_was_used_least_recently_is_forgotten_first() -> None:
    kept, make = RecentlyUsed[str, str](2), Maker()
    for word in ("a", "b", "a", "c", "a", "b"):
        assert kept.get([word], make) == [word.upper()]
    # "b" was the one not used for longest when "c" came.
    assert make.asked == [["a"], ["b"], ["c"], ["b"]]


def test_unknown_keys_are_made_together_and_each_once() -> None:
    kept, make = RecentlyUsed[str, str](8), Maker()
    kept.get(["b"], make)
    assert kept.get(["c", "b", "a", "c"], make) == ["C", "B", "A", "C"]
    assert make.asked == [["b"], ["c", "a"]]
    assert kept.get([], make) == []
    assert len(make.asked) == 2


def test_more_keys_than_are_kept_all_have_their_values() -> None:
    kept, make = RecentlyUsed[str, str](1), Maker()
    assert kept.get("abc", make) == ["A", "B", "C"]
    kept.get(["c"], make)
    assert len(make.asked) == 1
    kept.get(["a"], make)
    assert len(make.asked) == 2


def test_nothing_is_kept_of_what_failed() -> None:
    kept, make = RecentlyUsed[str, str](2), Maker()

    def fail(words: Sequence[str]) -> list[str]:
        raise OSError(", ".join(words))

    with pytest.raises(OSError, match="a, b"):
        kept.get(["a", "b"], fail)
    with pytest.raises(ValueError, match="shorter"):
        kept.get(["a", "b"], lambda words: ["A"])
    assert kept.get(["a"], make) == ["A"]
    assert make.asked == [["a"]]


def test_threads_that_ask_at_once_have_it_made_once() -> None:
    kept, make = RecentlyUsed[str, str](2), Maker()

    def slowly(words: Sequence[str]) -> list[str]:
        time.sleep(0.02)
        return make(words)

    threads = [threading.Thread(target=kept.get, args=(["a"], slowly)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.asked == [["a"]]

"""Values that are made once for each key, such as embeddings of texts; those used last are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class RecentlyUsed(Generic[_Key, _Value]):
    """Values by their keys, shared by all threads of a process.

    Args:
        capacity: values that are kept; what was used least recently is forgotten first.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[_Key, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, keys: Iterable[_Key], make: Callable[[Sequence[_Key]], Iterable[_Value]]) -> list[_Value]:
        """The values of keys, in their order.

        Args:
            keys: any number, more than are kept too.
            make: gives the values of those that are not known, each key once; called only where there are some, by one
                thread at a time.
        """
        keys = list(keys)
        with self._lock:
            found = {key: self._kept[key] for key in dict.fromkeys(keys) if key in self._kept}
            missing = [key for key in dict.fromkeys(keys) if key not in found]
            if missing:
                found |= zip(missing, make(missing), strict=True)
            for key, value in found.items():
                self._kept[key] = value
                self._kept.move_to_end(key)
            while len(self._kept) > self.capacity:
                self._kept.popitem(last=False)
        return [found[key] for key in keys]

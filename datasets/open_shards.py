"""Shard readers that are opened when they are needed, in every process anew, and closed when there are too many."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from .shards import ShardReader


class OpenShards:
    """A bounded set of open shards, the longest unused one closed first.

    May be pickled and forked: a copy in another process (a DataLoader worker) begins empty, because connections and
    event loops do not survive there. Threads of a process share it.

    Args:
        most: shards open at a time in a process.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begin()

    def __getstate__(self) -> dict[str, int]:
        return {"most": self._most}

    def __setstate__(self, state: dict[str, int]) -> None:
        self._most = state["most"]
        self._begin()

    def __len__(self) -> int:
        """Shards open in this process."""
        return len(self._readers) if self._process == os.getpid() else 0

    def reader(self, url: str) -> ShardReader:
        """The reader of a shard. Raises InputError and CorruptFileError as `ShardReader`."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            if url in self._readers:
                self._readers.move_to_end(url)
                return self._readers[url]
        opened = ShardReader(url)
        with self._lock:
            self._readers[url] = opened
            self._readers.move_to_end(url)
            while len(self._readers) > self._most:
                self._readers.popitem(last=False)
        return opened

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._readers: OrderedDict[str, ShardReader] = OrderedDict()

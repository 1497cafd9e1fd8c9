"""Dagster's event log in SQLite with its connections kept open.

Dagster's own storage opens and closes about five connections for every event of an asset. Each close writes the log
back into the database and waits for the disk, and each new engine compiles its statements anew. A scene-stage writes
two events (planned, materialized), so that would be most of what Dagster costs a batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as db
from dagster._core.event_api import EventHandlerFn
from dagster._core.storage.event_log.polling_event_watcher import SqlPollingEventWatcher
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import event

OPEN_DATABASES = 8
"""Connections kept: the index over all runs, and the runs of now (every run has a database of its own)."""


class KeptOpenSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with the event log below."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = KeptOpenSqliteEventLog(self._event_log_storage._base_dir)


class KeptOpenSqliteEventLog(SqliteEventLogStorage):
    """Same files and tables; one connection a database stays open for the next event.

    A commit no longer waits for the disk (`synchronous=NORMAL` over a write-ahead log): a power cut may lose the last
    events, but never a whole or consistent database. What was made is told by the records in the store, not by events.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, db.Engine] = OrderedDict()
        super().__init__(base_dir, inst_data)
        self._watcher = SqlPollingEventWatcher(self)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[db.Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _engine(self, shard: str) -> db.Engine:
        if shard not in self._engines:
            while len(self._engines) >= OPEN_DATABASES:
                _, oldest = self._engines.popitem(last=False)
                oldest.dispose()
            self._engines[shard] = _engine_that_keeps_one(self.conn_string_for_shard(shard))
        self._engines.move_to_end(shard)
        return self._engines[shard]

    def watch(self, run_id: str, cursor: str | None, callback: EventHandlerFn) -> None:
        """Follow a run's events by asking: the file that Dagster's own watcher looks at no longer changes with each."""
        self._watcher.watch_run(run_id, cursor, callback)

    def end_watch(self, run_id: str, handler: EventHandlerFn) -> None:
        """Stop following a run for this handler."""
        self._watcher.unwatch_run(run_id, handler)

    def wipe(self) -> None:
        """Forget every event; files that are deleted must not be open."""
        self._close_all()
        super().wipe()

    def dispose(self) -> None:
        """Close everything."""
        self._watcher.close()
        self._close_all()
        super().dispose()

    def _close_all(self) -> None:
        with self._db_lock:
            while self._engines:
                _, engine = self._engines.popitem()
                engine.dispose()


def _engine_that_keeps_one(url: str) -> db.Engine:
    """An engine that keeps one connection, which moves between threads under the storage's lock."""
    engine = db.create_engine(
        url,
        poolclass=db.QueuePool,
        pool_size=1,
        max_overflow=-1,  # setting up a database takes a second one for a moment
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _set_durability)
    return engine


def _set_durability(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")

import json
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from sceneloom.orchestration import sqlite_events
from sceneloom.orchestration.sqlite_events import KeptOpenSqliteEventLog, KeptOpenSqliteStorage

SCENES = dg.DynamicPartitionsDefinition(name="scenes")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dg.asset(partitions_def=SCENES)
def room(context: dg.AssetExecutionContext) -> None:
    """Logs one event of each scene of its range by itself, then fails: nothing is emitted for it."""
    for scene in context.partition_keys:
        context.log_event(dg.AssetMaterialization("room", partition=scene, tags={"dagster/data_version": scene * 2}))
    raise dg.Failure("as planned", allow_retries=False)


def run(instance: dg.DagsterInstance, first: str, last: str) -> str:
    span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    done = dg.materialize([room], instance=instance, tags=span, raise_on_error=False, run_config=QUIET)
    return done.run_id


@pytest.fixture
def log(instance: dg.DagsterInstance) -> KeptOpenSqliteEventLog:
    """The instance's own event log."""
    instance.add_dynamic_partitions("scenes", ["a", "b", "c", "d"])
    storage = instance.event_log_storage
    assert isinstance(storage, KeptOpenSqliteEventLog)
    return storage


def events(folder: Path, shard: str) -> list[str]:
    """Types of the events in a database, as another program reads it."""
    with sqlite3.connect(next(folder.rglob(f"{shard}.db"))) as connection:
        rows = connection.execute("SELECT dagster_event_type FROM event_logs ORDER BY id").fetchall()
    return [str(kind) for (kind,) in rows]


def test_dagsters_own_storage_reads_the_same_files(
    instance: dg.DagsterInstance, log: KeptOpenSqliteEventLog, home: Path
) -> None:
    run_id = run(instance, "a", "c")

    assert events(home, run_id).count("ASSET_MATERIALIZATION") == 3
    assert events(home, run_id).count("ASSET_MATERIALIZATION_PLANNED") == 3
    assert events(home, "index").count("ASSET_MATERIALIZATION") == 3
    own = DagsterSqliteStorage.from_local(str(home / ".dagster")).event_log_storage
    assert own.get_materialized_partitions(dg.AssetKey("room")) == {"a", "b", "c"}
    assert len(own.get_logs_for_run(run_id)) == len(log.get_logs_for_run(run_id))


def test_an_event_needs_no_new_connection(
    instance: dg.DagsterInstance, log: KeptOpenSqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(instance, "a", "b")
    opened: list[str] = []
    connect = sqlite_events._engine_that_keeps_one
    monkeypatch.setattr(sqlite_events, "_engine_that_keeps_one", lambda url: opened.append(url) or connect(url))
    run_id = run(instance, "a", "d")
    assert [url.rsplit("/", 1)[1] for url in opened] == [f"{run_id}.db"]


def test_connections_of_many_runs_are_closed_again(instance: dg.DagsterInstance, log: KeptOpenSqliteEventLog) -> None:
    run_ids = [run(instance, "a", "a") for _ in range(sqlite_events.OPEN_DATABASES + 2)]
    assert len(log._engines) == sqlite_events.OPEN_DATABASES
    assert all(len(log.get_logs_for_run(run_id)) > 3 for run_id in run_ids)
    assert len(log._engines) == sqlite_events.OPEN_DATABASES


def test_another_process_sees_every_event_at_once(
    instance: dg.DagsterInstance, log: KeptOpenSqliteEventLog, home: Path
) -> None:
    run(instance, "a", "b")
    program = (
        "import dagster as dg\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    print(sorted(instance.get_materialized_partitions(dg.AssetKey('room'))))\n"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "['a', 'b']"


def test_threads_may_share_it(instance: dg.DagsterInstance, log: KeptOpenSqliteEventLog) -> None:
    threads = [threading.Thread(target=run, args=(instance, scene, scene)) for scene in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert instance.get_materialized_partitions(dg.AssetKey("room")) == set("abcd")


def test_nothing_is_lost_when_the_process_is_killed(home: Path) -> None:
    program = (
        "import os, signal, dagster as dg\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    for scene in 'abc':\n"
        "        instance.report_runless_asset_event(dg.AssetMaterialization('room', partition=scene))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("room")) == set("abc")


def test_a_run_is_followed_while_it_writes(instance: dg.DagsterInstance, log: KeptOpenSqliteEventLog) -> None:
    run_id = run(instance, "a", "a")
    seen: list[str] = []
    log.watch(run_id, None, lambda entry, _cursor: seen.append(entry.get_dagster_event().event_type_value))
    deadline = time.monotonic() + 20
    while "RUN_FAILURE" not in seen and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {"ASSET_MATERIALIZATION", "RUN_FAILURE"} <= set(seen)


def test_a_wiped_log_is_empty_and_takes_new_events(instance: dg.DagsterInstance, log: KeptOpenSqliteEventLog) -> None:
    run(instance, "a", "b")
    log.wipe()
    assert instance.get_materialized_partitions(dg.AssetKey("room")) == set()
    run(instance, "c", "c")
    assert instance.get_materialized_partitions(dg.AssetKey("room")) == {"c"}


def test_the_storage_is_dagsters_in_all_else(tmp_path: Path) -> None:
    storage = KeptOpenSqliteStorage.from_local(str(tmp_path))
    assert isinstance(storage.event_log_storage, KeptOpenSqliteEventLog)
    assert type(storage.run_storage) is type(DagsterSqliteStorage.from_local(str(tmp_path)).run_storage)
    storage.event_log_storage.dispose()
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["history", "schedules"]'

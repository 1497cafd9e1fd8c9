from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from sceneloom.datasets.errors import ConfigError
from sceneloom.orchestration.instance import CHECKOUT
from sceneloom.orchestration.instance_storage import URL_VARIABLE, EnvironmentStorage, with_driver

DAGSTER_YAML = """\
storage:
  custom:
    module: sceneloom.orchestration.instance_storage
    class: EnvironmentStorage
    config: {sqlite_directory: .dagster}
telemetry: {enabled: false}
"""
OTHER_PROCESS = """
import dagster as dg
with dg.DagsterInstance.get() as instance:
    instance.add_dynamic_partitions("scenes", ["from-another-process"])
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME whose dagster.yaml names the storage, with no PostgreSQL asked for."""
    (tmp_path / "dagster.yaml").write_text(DAGSTER_YAML)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    return tmp_path


def add_from_another_process() -> None:
    subprocess.run([sys.executable, "-c", OTHER_PROCESS], check=True, timeout=60, cwd="/")


def test_sqlite_lies_beside_dagster_yaml_wherever_dagster_is_started(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("scenes", ["a-room"])
        add_from_another_process()
        assert set(instance.get_dynamic_partitions("scenes")) == {"a-room", "from-another-process"}
        with dg.DagsterInstance.from_ref(instance.get_ref()) as in_a_worker:
            assert set(in_a_worker.get_dynamic_partitions("scenes")) == {"a-room", "from-another-process"}

    assert list((home / ".dagster").rglob("*.db"))
    assert list(elsewhere.rglob("*.db")) == []


def test_what_runs_print_and_keep_lies_there_too(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    shutil.copy(CHECKOUT / "dagster.yaml", home)
    with dg.DagsterInstance.get() as instance:
        with instance.compute_log_manager.capture_logs(["run", "step"]):
            print("made a room")
        assert b"made a room" in (instance.compute_log_manager.get_log_data(["run", "step"]).stdout or b"")
        assert Path(instance.storage_directory()).is_relative_to(home / ".dagster")
    assert list((home / ".dagster" / "compute_logs").rglob("step.out"))
    assert list(elsewhere.iterdir()) == []


def test_without_a_home_sqlite_lies_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv(URL_VARIABLE, "")  # counts as unset
    monkeypatch.chdir(tmp_path)
    storage = EnvironmentStorage.from_config_value(None, {"sqlite_directory": "state"})
    assert isinstance(storage, DagsterSqliteStorage)
    assert (tmp_path / "state").is_dir()


def test_postgresql_without_its_extra_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, "postgresql://localhost/dagster")
    monkeypatch.setitem(sys.modules, "dagster_postgres", None)
    with pytest.raises(
        ConfigError, match=r"DAGSTER_POSTGRES_URL: .*not installed\. pip install 'sceneloom\[postgres\]'"
    ):
        EnvironmentStorage.from_config_value(None, {"sqlite_directory": ".dagster"})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@host:5432/db?sslmode=require", "postgresql+psycopg2://u:p@host:5432/db?sslmode=require"),
        ("postgres://host/db", "postgresql+psycopg2://host/db"),
        ("postgresql+psycopg2://host/db", "postgresql+psycopg2://host/db"),
        ("postgresql+psycopg://host/db", "postgresql+psycopg://host/db"),
    ],
)
def test_urls_name_the_driver_that_is_installed(url: str, expected: str) -> None:
    assert with_driver(url) == expected


# ---------------------------------------------------------------- a real server


def _server_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server under /usr/lib/postgresql")
    return found[-1].parent


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    return "nobody" if os.getuid() == 0 else None


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """A fresh server on a free port of the loopback."""
    binaries, user = _server_binaries(), _server_user()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Not below pytest's own folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="sceneloom-postgres-"))
    if user is not None:
        shutil.chown(folder, user)
    data = str(folder / "data")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder} -c fsync=off"

    def server(*command: str) -> None:
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    try:
        server(str(binaries / "initdb"), "-D", data, "-U", "dagster", "-A", "trust", "--no-sync")
        server(str(binaries / "pg_ctl"), "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql://dagster@127.0.0.1:{port}/postgres"
        finally:
            server(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def test_with_the_variable_set_everything_is_in_postgresql(
    home: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, postgres_url)
    with dg.DagsterInstance.get() as instance:
        assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"
        instance.add_dynamic_partitions("scenes", ["a-room"])
        instance.report_runless_asset_event(dg.AssetMaterialization("title", partition="a-room"))
        add_from_another_process()
    with dg.DagsterInstance.get() as again:
        assert set(again.get_dynamic_partitions("scenes")) == {"a-room", "from-another-process"}
        assert again.get_materialized_partitions(dg.AssetKey("title")) == {"a-room"}
    assert list(home.rglob("*.db")) == []

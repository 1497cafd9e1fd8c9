"""Where Dagster keeps its state: SQLite in a folder, or PostgreSQL when DAGSTER_POSTGRES_URL is set.

dagster.yaml has no conditions of its own, so the choice is made when its storage class is loaded. Folders in it are
relative to DAGSTER_HOME, or else to the folder that Dagster was started in; Dagster itself would take them relative to
wherever each of its processes happens to be.
"""

import os
from pathlib import Path
from typing import Any

from dagster import StringSource
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from ..datasets.errors import ConfigError

URL_VARIABLE = "DAGSTER_POSTGRES_URL"


def state_folder(name: str) -> str:
    """A folder of dagster.yaml as an absolute path."""
    return str(Path(os.environ.get("DAGSTER_HOME", "."), name).absolute())


class EnvironmentStorage(DagsterStorage, ConfigurableClass):
    """Named in dagster.yaml; never instantiated itself, it gives the storage that the environment asks for."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """One key: the folder of the SQLite files."""
        return {"sqlite_directory": StringSource}

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride] - not of this class, that is its point
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DagsterStorage:
        """The storage to use. Raises ConfigError when PostgreSQL is asked for and its extra is not installed."""
        url = os.environ.get(URL_VARIABLE)
        if not url:
            return DagsterSqliteStorage.from_local(state_folder(config_value["sqlite_directory"]), inst_data)
        try:
            from dagster_postgres import DagsterPostgresStorage
        except ImportError as error:
            raise ConfigError(
                "PostgreSQL is asked for, but dagster-postgres is not installed",
                where=URL_VARIABLE,
                remedy="pip install 'sceneloom[postgres]', or unset the variable.",
            ) from error
        return DagsterPostgresStorage(with_driver(url), inst_data=inst_data)


class StateFolderArtifacts(LocalArtifactStorage):
    """Dagster's local artifacts, in a folder relative to DAGSTER_HOME."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> LocalArtifactStorage:
        """The storage, its folder made absolute."""
        return LocalArtifactStorage(state_folder(config_value["base_dir"]), inst_data)


class StateFolderComputeLogs(LocalComputeLogManager):
    """What runs print, in a folder relative to DAGSTER_HOME."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> LocalComputeLogManager:
        """The log manager, its folder made absolute."""
        return LocalComputeLogManager(state_folder(config_value["base_dir"]), inst_data=inst_data)


def with_driver(url: str) -> str:
    """The URL with the driver that dagster-postgres installs: SQLAlchemy 2.1 reads a bare one as psycopg 3's."""
    scheme, separator, rest = url.partition("://")
    if scheme in {"postgres", "postgresql"}:
        return f"postgresql+psycopg2{separator}{rest}"
    return url

"""Dagster's storage: SQLite in a folder, or PostgreSQL when DAGSTER_POSTGRES_URL is set.

dagster.yaml has no conditions of its own, so the choice is made when its storage class is loaded.
"""

import os
from pathlib import Path
from typing import Any

from dagster import StringSource
from dagster._core.storage.base_storage import DagsterStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from ..datasets.errors import ConfigError
from .sqlite_events import KeptOpenSqliteStorage

URL_VARIABLE = "DAGSTER_POSTGRES_URL"


class EnvironmentStorage(DagsterStorage, ConfigurableClass):
    """Named in dagster.yaml; never instantiated itself, it gives the storage that the environment asks for."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """One key: the folder of the SQLite files, relative to DAGSTER_HOME or else to the current folder."""
        return {"sqlite_directory": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> DagsterStorage:
        """The storage to use. Raises ConfigError when PostgreSQL is asked for and its extra is not installed."""
        url = os.environ.get(URL_VARIABLE)
        if not url:
            base = Path(os.environ.get("DAGSTER_HOME", ".")) / config_value["sqlite_directory"]
            return KeptOpenSqliteStorage.from_local(base_dir=str(base.absolute()), inst_data=inst_data)
        try:
            from dagster_postgres import DagsterPostgresStorage
        except ImportError as error:
            raise ConfigError(
                "PostgreSQL is asked for, but dagster-postgres is not installed",
                where=URL_VARIABLE,
                remedy="pip install 'sceneloom[postgres]', or unset the variable.",
            ) from error
        return DagsterPostgresStorage(with_driver(url), inst_data=inst_data)


def with_driver(url: str) -> str:
    """The URL with the driver that dagster-postgres installs: SQLAlchemy 2.1 reads a bare one as psycopg 3's."""
    scheme, separator, rest = url.partition("://")
    if scheme in {"postgres", "postgresql"}:
        return f"postgresql+psycopg2{separator}{rest}"
    return url

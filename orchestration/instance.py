"""The Dagster instance that the command line works with: the same one that `dagster dev` opens in this folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from ..datasets.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[1]


def instance_folder() -> Path:
    """The folder whose dagster.yaml counts: DAGSTER_HOME, else the current folder, else the checkout.

    Raises ConfigError when none of them has one.
    """
    home = os.environ.get("DAGSTER_HOME")
    candidates = [Path(home)] if home else [Path.cwd(), CHECKOUT]
    for folder in candidates:
        if (folder / "dagster.yaml").is_file():
            return folder
    raise ConfigError(
        "no dagster.yaml",
        where=" and ".join(map(str, candidates)),
        remedy="Set DAGSTER_HOME to a folder with a dagster.yaml, or start in the checkout.",
    )


@contextlib.contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The instance, with the current folder set to its own: dagster.yaml's paths are relative to it."""
    folder = instance_folder()
    with contextlib.chdir(folder), dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance

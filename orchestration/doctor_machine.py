"""`sceneloom doctor` without a directory: whether this machine can run the profile, and what each engine needs."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from ..resources.machine_checks import Check, engine_checks, machine_checks, started_worker_checks
from ..resources.profiles import Profile

PIPE_WIDTH = 240


def examine_machine(profile: Profile) -> bool:
    """Print one table of the machine and the profile's engines. Returns whether everything needed is there."""
    checks = [*machine_checks(profile), *engine_checks(profile), *started_worker_checks(profile)]
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(_table(checks))
    missing = [check for check in checks if check.verdict == "missing"]
    summary = f"{len(missing)} things needed are missing" if missing else "everything needed is there"
    console.print(f"{profile.file}: {summary}", markup=False, highlight=False)
    return not missing


def _table(checks: list[Check]) -> Table:
    table = Table(*(Column(name, overflow="fold") for name in ("looked at", "found", "", "what to do")))
    for check in checks:
        # As text, not markup: licences such as "FLUX.1 [dev]" hold brackets.
        table.add_row(*(Text(cell) for cell in (check.subject, check.found, check.verdict, check.remedy)))
    return table

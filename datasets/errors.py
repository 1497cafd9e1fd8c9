"""Errors that a user reads: what was found, where, and what to do about it."""

from __future__ import annotations


class SceneloomError(Exception):
    """A failure whose message names what was found, where, and the remedy.

    Args:
        found: what is wrong, with the value seen (and the value expected where there is one).
        where: the file, key path, scene, stage, shard or URL it was found in.
        remedy: what the reader should do next.
    """

    def __init__(self, found: str, *, where: str, remedy: str) -> None:
        super().__init__(f"{where}: {found}. {remedy}")
        self.found = found
        self.where = where
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive pickling between processes by default.
        return (_rebuild, (type(self), self.found, self.where, self.remedy))


def _rebuild(kind: type[SceneloomError], found: str, where: str, remedy: str) -> SceneloomError:
    return kind(found, where=where, remedy=remedy)


class InputError(SceneloomError, ValueError):
    """An input of the user's (prompt, picture, table, camera file) cannot be used."""


class ConfigError(SceneloomError, ValueError):
    """A profile holds an unknown key, a wrong unit or an impossible value."""


class ContractError(SceneloomError, ValueError):
    """An array or a table does not hold what its contract declares."""


class CorruptFileError(SceneloomError, ValueError):
    """A published file, record or shard does not hold what was written."""


class StoreError(SceneloomError, OSError):
    """The store cannot be read or written (full, read-only, unreachable)."""


class EngineError(SceneloomError, RuntimeError):
    """An engine could not do its work."""

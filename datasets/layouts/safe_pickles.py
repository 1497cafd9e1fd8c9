"""Reading pickles that consumers demand, without running anything else that they name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import CorruptFileError

Allowed = Mapping[tuple[str, str], Callable[..., Any]]
"""What a pickle may name, by module and name, with what is taken for it."""


class UnsafePickleError(CorruptFileError):
    """A pickle names code that its content has no use for."""


def load_allowed(file: io.BytesIO, allowed: Allowed, where: str) -> Any:
    """The object that the pickle at the file's place holds.

    Raises:
        UnsafePickleError: it names something that is not allowed; nothing of it was run.
        Exception: a damaged pickle raises whatever its instructions do to the values on its stack.
    """
    return _Unpickler(file, allowed, where).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, allowed: Allowed, where: str) -> None:
        super().__init__(file)
        self._allowed = allowed
        self._where = where

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self._allowed:
            raise UnsafePickleError(
                f"it names {module_name}.{global_name}", where=self._where, remedy="Do not load it; make it again."
            )
        return self._allowed[module_name, global_name]

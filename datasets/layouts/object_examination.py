"""Reading files of a published layout one by one, noting what is wrong with each instead of raising."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import SceneloomError
from .release import Finding, FindingKind
from .safe_pickles import UnsafePickleError

_Read = TypeVar("_Read")


@dataclass(slots=True)
class Report:
    """What was found wrong so far.

    Attributes:
        root: the published directory.
        scene_of: the scene of each file, where a manifest says so.
        read: files that were asked for; what else lies in the consumer's folders is not expected.
        values: JSON files that were read.
    """

    root: Path
    scene_of: Mapping[str, str]
    findings: list[Finding] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, path: str, kind: FindingKind, message: str, *, beside: str | None = None) -> None:
        """Note a fault; the scene is the file's own, else that of the file `beside`."""
        scene = self.scene_of.get(path) or (self.scene_of.get(beside) if beside else None)
        self.findings.append(Finding(path, kind, message, scene))

    def load(self, path: str, reader: Callable[[bytes], _Read], consequence: str) -> _Read | None:
        """What `reader` makes of a file's content; None, and a finding, where the file is missing or not whole."""
        self.read.add(path)
        file = self.root / path
        if not file.is_file():
            self.add(path, FindingKind.MISSING, f"the file is missing; {consequence}")
            return None
        try:
            return reader(file.read_bytes())
        except UnsafePickleError as error:
            message = f"{error.found}, which no array needs and the consumer would run when it loads the file"
            self.add(path, FindingKind.OUT_OF_CONVENTION, message)
        except SceneloomError as error:
            self.add(path, FindingKind.TRUNCATED, f"{error.found}; {consequence}")
        except Exception as error:  # noqa: BLE001  readers of damaged files raise whatever they stumble over
            self.add(path, FindingKind.TRUNCATED, f"cannot be read ({type(error).__name__}: {error}); {consequence}")
        return None

    def picture(self, path: str, mode: str, consequence: str) -> NDArray[np.uint8] | None:
        """A picture's pixels; None, and a finding, where it cannot be read or has another mode than `mode`."""
        found = self.load(path, _picture, consequence)
        if found is None:
            return None
        found_mode, pixels = found
        if found_mode != mode:
            self.add(path, FindingKind.OUT_OF_CONVENTION, f"mode {found_mode}, expected {mode}; {consequence}")
            return None
        return pixels

    def json(self, path: str, consequence: str) -> Any:
        """A JSON file's value, read once; None where it cannot be read, which is a finding once."""
        if path not in self.values:
            self.values[path] = self.load(path, json.loads, consequence)
        return self.values[path]

    def unexpected(self, folders: Collection[str], consequence: str) -> None:
        """Note every file below the folders that nothing asked for."""
        for folder in folders:
            for file in sorted((self.root / folder).rglob("*")):
                path = file.relative_to(self.root).as_posix()
                if file.is_file() and path not in self.read:
                    self.add(path, FindingKind.UNEXPECTED, f"nothing names this file; {consequence}")


def _picture(content: bytes) -> tuple[str, NDArray[np.uint8]]:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.mode, np.asarray(image)


def arrays_of_npz(content: bytes) -> dict[str, NDArray[Any]]:
    """All arrays of an npz file."""
    import io

    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}

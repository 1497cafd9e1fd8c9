"""Files that are either whole or absent: atomic writes, checksums, local and remote alike."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import CorruptFileError

_BLOCK = 1 << 20


@contextmanager
def unfinished_file(path: Path) -> Iterator[Path]:
    """The name of a new file beside `path`, which takes the name `path` once the block has ended well.

    Where the block raises, the unfinished file is removed and the error passes on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a local file through `write`; the file appears whole under its name, or not at all.

    Raises whatever `write` or the operating system raises, after removing the unfinished file.
    """
    with unfinished_file(path) as unfinished, unfinished.open("xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """`write_atomically` for content that is already in memory."""
    write_atomically(path, lambda file: file.write(content))


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a local file's content, 64 hex digits."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            checksum.update(block)
    return checksum.hexdigest()


def require_checksum(path: Path, *, sha256: str, size: int, where: str) -> None:
    """Raise CorruptFileError unless the local file holds exactly the bytes that were published."""
    if not path.exists():
        raise CorruptFileError("the file is missing", where=where, remedy=_REMEDY)
    found_size = path.stat().st_size
    if found_size != size:
        raise CorruptFileError(f"the file holds {found_size} bytes, {size} were published", where=where, remedy=_REMEDY)
    found = sha256_of_file(path)
    if found != sha256:
        raise CorruptFileError(
            f"the file's SHA-256 is {found[:12]}…, {sha256[:12]}… was published", where=where, remedy=_REMEDY
        )


_REMEDY = "It was changed after it was published: make the stage again for this scene."

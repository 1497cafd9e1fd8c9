"""Zip files whose members are stored as they are, with the same bytes every time."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import unfinished_file

EARLIEST_DATE = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip file can state; every member has it."""


def write_stored_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write (name, content) pairs, one at a time, uncompressed; the file appears whole, or not at all.

    For contents that are compressed already: deflating them again costs time and gains nothing.
    """
    with unfinished_file(path) as unfinished, zipfile.ZipFile(unfinished, "x", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name, EARLIEST_DATE), content)


def encode_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Uncompressed NPZ of arrays by name; `numpy.savez` dates its members 1980, so equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()

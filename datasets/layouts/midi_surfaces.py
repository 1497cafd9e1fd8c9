"""MIDI-3D's point sets: a NumPy file of one pickled dictionary of arrays, as `np.save` writes a dictionary."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .safe_pickles import Allowed, load_allowed

Surface = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Points (N, 3) and normals (N, 3)."""

_PROTOCOL = 4
"""All Pythons from 3.4 on read it; it keeps an array's bytes as they are."""


def encode_surface(arrays: Mapping[str, NDArray[np.floating]]) -> bytes:
    """The file for `np.load(..., allow_pickle=True).item()`; equal arrays give equal bytes.

    It names nothing of NumPy but `ndarray` and `dtype`, so that every NumPy reads it: what NumPy 2 writes by itself
    cannot be read before NumPy 1.26.
    """
    buffer = io.BytesIO()
    holder = np.array(dict(arrays), dtype=object)
    np.lib.format.write_array_header_1_0(buffer, np.lib.format.header_data_from_array_1_0(holder))
    _Pickler(buffer, _PROTOCOL).dump(holder)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Makes arrays by `numpy.ndarray` itself: their own reduction names a private function of a private module."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not np.ndarray:
            return NotImplemented
        return np.ndarray, ((0,), "b"), obj.__reduce__()[2]


def decode_surface(content: bytes) -> Surface:
    """Points and normals of such a file; nothing that it names is run but the making of arrays.

    Raises:
        UnsafePickleError: it names other code.
        Exception: it is no such file; what damage raises depends on where it lies.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if shape != () or not dtype.hasobject:
        raise ValueError(f"an array of shape {shape} and type {dtype}, expected a pickled dictionary")
    found = load_allowed(file, _allowed(), "surface")
    value = found.item() if isinstance(found, np.ndarray) else found
    return np.asarray(value["surface_points"]), np.asarray(value["surface_normals"])


def _allowed() -> Allowed:
    """What arrays are made with, under the names of old and new NumPy."""
    reconstruct, from_buffer = np.empty(1).__reduce__()[0], np.empty(1).__reduce_ex__(5)[0]
    allowed = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
    for package in ("numpy.core", "numpy._core"):
        allowed[f"{package}.multiarray", "_reconstruct"] = reconstruct
        allowed[f"{package}.numeric", "_frombuffer"] = from_buffer
    return allowed

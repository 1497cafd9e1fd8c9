"""Files between sceneloom and a worker: pictures that are written for it, arrays that it wrote and that are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .worker_failures import FailureClass, WorkerFailed


def read_array(
    output: Path, name: str, shape: tuple[int, ...], kind: type[np.generic], *, finite: bool = True
) -> NDArray[Any]:
    """An array that a worker wrote, held to its shape and kind; nothing is unpickled.

    Args:
        output: the directory that the worker made.
        name: of the file.
        shape: expected; -1 for a side of any length.
        kind: of its elements, such as np.floating or np.bool_.
        finite: whether every element has to be finite.

    Raises:
        WorkerFailed: invalid-output, naming the file and what is wrong with it.
    """
    path = output / name
    if not path.is_file():
        raise invalid_output(name, "the file is missing")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise invalid_output(name, f"it cannot be read ({error})") from error
    fits = array.ndim == len(shape) and all(side in (-1, found) for side, found in zip(shape, array.shape, strict=True))
    if not fits or not np.issubdtype(array.dtype, kind):
        expected = f"({', '.join('any' if side == -1 else str(side) for side in shape)}) of {kind.__name__}"
        raise invalid_output(name, f"an array {array.shape} of {array.dtype}, expected {expected}")
    if finite and not np.isfinite(array).all():
        raise invalid_output(name, f"{1 - np.isfinite(array).mean():.1%} of it is not finite")
    return array


def invalid_output(name: str, found: str) -> WorkerFailed:
    """The failure that stands for a file that is not what it should be."""
    return WorkerFailed(FailureClass.INVALID_OUTPUT, f"{name}: {found}")


def write_picture(path: Path, picture: NDArray[np.uint8]) -> Path:
    """Write an (H, W, 3) uint8 picture as a PNG file."""
    from PIL import Image

    Image.fromarray(picture).save(path, "png", compress_level=1)
    return path

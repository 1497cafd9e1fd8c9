"""Pictures for people: previews of views, depth and clips."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .event_metadata import PREVIEW_NAME

PREVIEW_WIDTH = 320
PREVIEW_FRAMES = 4
"""Frames of a clip in its row of a contact sheet."""


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices of `count` frames, evenly spread, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, wanted).round().astype(int)).tolist()


def write_png(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write an (H, W, 3) uint8, (H, W) uint8 or (H, W) uint16 picture losslessly; equal pictures give equal bytes."""
    Image.fromarray(picture).save(path, format="PNG", compress_level=6)


def read_png(path: Path) -> NDArray[Any]:
    """Read what `write_png` wrote, in the dtype that it had."""
    with Image.open(path) as image:
        return np.asarray(image)


def write_preview(directory: Path, picture: NDArray[np.uint8]) -> None:
    """Write the picture, no wider than PREVIEW_WIDTH, as the stage's inline preview."""
    image = Image.fromarray(picture)
    if image.width > PREVIEW_WIDTH:
        image = image.resize((PREVIEW_WIDTH, round(image.height * PREVIEW_WIDTH / image.width)), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=70, method=4)
    (directory / PREVIEW_NAME).write_bytes(buffer.getvalue())


def depth_picture(depth: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Depth (H, W) as a grey picture: near is bright, by inverse depth between its 1st and 99th percentile;
    invalid pixels are black."""
    valid = depth > 0
    if not valid.any():
        return np.zeros(depth.shape, np.uint8)
    inverse = np.where(valid, 1.0 / np.where(valid, depth, 1.0), 0.0)
    low, high = np.percentile(inverse[valid], [1, 99])
    scaled = np.clip((inverse - low) / max(high - low, 1e-9), 0, 1)
    return np.where(valid, 32 + scaled * 223, 0).astype(np.uint8)

"""A small labelled sheet of clips: a row for each trajectory, a few frames from left to right."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..datasets.errors import ContractError

MAXIMUM_BYTES = 40_000
"""Small enough to stand as base64 in an event log."""

_SHEET_WIDTH = 720
_CELL_WIDTH = 180
_GAP = 2
_LABEL_HEIGHT = 14
_GROUND = (24, 24, 27)
_INK = (228, 228, 231)
_QUALITIES = (70, 50, 30)
_SMALLEST_CELL = 16


def contact_sheet(clips: Mapping[str, Sequence[NDArray[np.uint8]]], *, maximum_bytes: int = MAXIMUM_BYTES) -> bytes:
    """WebP picture of the clips, each row under its name.

    Quality is lowered first and size after that, until the sheet is small enough. Equal clips give equal bytes.

    Args:
        clips: frames (H, W, 3) uint8 sRGB by trajectory name, in the order of the rows; rows may differ in length.
        maximum_bytes: limit on the encoded size.

    Raises:
        ContractError: there is no frame, or a frame is no RGB picture, or no size fits the limit.
    """
    frames = [frame for row in clips.values() for frame in row]
    for name, row in clips.items():
        for frame in row:
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
                found = f"a frame is {frame.dtype} {frame.shape}, expected uint8 (H, W, 3)"
                raise ContractError(found, where=f"clip {name}", remedy="Give frames as sRGB bytes.")
    if not frames:
        raise ContractError("there are no frames", where="contact sheet", remedy="Give each clip at least one frame.")
    columns = max(len(row) for row in clips.values())
    cell = min(_CELL_WIDTH, _SHEET_WIDTH // columns, max(frame.shape[1] for frame in frames))
    while cell >= _SMALLEST_CELL:
        sheet = _draw(clips, columns, cell)
        for quality in _QUALITIES:
            content = _webp(sheet, quality)
            if len(content) <= maximum_bytes:
                return content
        cell = cell * 3 // 4
    raise ContractError(
        f"{len(frames)} frames do not fit {maximum_bytes} bytes",
        where="contact sheet",
        remedy="Show fewer frames, or allow more bytes.",
    )


def _draw(clips: Mapping[str, Sequence[NDArray[np.uint8]]], columns: int, cell: int) -> Image.Image:
    rows = {name: [_thumbnail(frame, cell) for frame in row] for name, row in clips.items() if len(row)}
    heights = [_LABEL_HEIGHT + max(picture.height for picture in row) + _GAP for row in rows.values()]
    sheet = Image.new("RGB", (columns * (cell + _GAP) - _GAP, sum(heights)), _GROUND)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    top = 0
    for (name, row), height in zip(rows.items(), heights, strict=True):
        pen.text((2, top), name, fill=_INK, font=font)
        for column, picture in enumerate(row):
            sheet.paste(picture, (column * (cell + _GAP), top + _LABEL_HEIGHT))
        top += height
    return sheet


def _thumbnail(frame: NDArray[np.uint8], width: int) -> Image.Image:
    height = max(1, round(frame.shape[0] * width / frame.shape[1]))
    return Image.fromarray(np.ascontiguousarray(frame)).resize((width, height), Image.Resampling.LANCZOS)


def _webp(sheet: Image.Image, quality: int) -> bytes:
    target = io.BytesIO()
    sheet.save(target, "WEBP", quality=quality, method=4)
    return target.getvalue()

"""The canvas of an outpainting: where the picture lies on it, what is to be painted, and the camera that sees it all.

The picture's pixels are never shifted by parts of a pixel or resampled: it lies at whole offsets, the canvas is rounded
up to what generators take before the borders are laid out, and the offsets go into the principal point. (The VistaDream
seed, rerun-io/vistadream, rounds after it has laid out the borders, so that the picture sits up to 8 pixels off the
centre that its camera is given.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.errors import ContractError
from . import cameras

UInt8 = NDArray[np.uint8]
_Scalar = TypeVar("_Scalar", bound=np.generic)

SIDE_MULTIPLE = 16
"""Sides of canvases are multiples of this: an autoencoder's stride of 8 times the transformer's patches of 2."""

UNPAINTED = 127
"""Grey level of what is still to be painted: the middle of the range that autoencoders take."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What is added on each side of a picture, as a share of the picture's width (left, right) or height (top, bottom).

    Raises:
        ContractError: a share is negative or not finite.
    """

    left: float
    right: float
    top: float
    bottom: float

    def __post_init__(self) -> None:
        for side in ("left", "right", "top", "bottom"):
            share = getattr(self, side)
            if not (np.isfinite(share) and share >= 0.0):
                raise ContractError(
                    f"an expansion of {share} on the {side}", where="outpainting", remedy="Give shares of at least 0."
                )


@dataclass(frozen=True, slots=True)
class OutpaintingCanvas:
    """A picture's place on a larger canvas, in whole pixels.

    Attributes:
        height, width: of the canvas.
        top, left: rows above and columns left of the picture.
        picture_height, picture_width: of the picture.

    Raises:
        ContractError: the picture does not lie on the canvas.
    """

    height: int
    width: int
    top: int
    left: int
    picture_height: int
    picture_width: int

    def __post_init__(self) -> None:
        fits = (
            self.picture_height >= 1
            and self.picture_width >= 1
            and 0 <= self.top <= self.height - self.picture_height
            and 0 <= self.left <= self.width - self.picture_width
        )
        if not fits:
            raise ContractError(
                f"a picture of {self.picture_height} × {self.picture_width} at row {self.top}, column {self.left} of a "
                f"canvas of {self.height} × {self.width}",
                where="outpainting",
                remedy="Let the picture lie inside the canvas.",
            )

    @classmethod
    def around(
        cls, picture_height: int, picture_width: int, expansion: Expansion, *, multiple: int = SIDE_MULTIPLE
    ) -> OutpaintingCanvas:
        """The smallest canvas around a picture that adds at least `expansion` in all and whose sides are multiples.

        What rounding up adds is shared between opposite sides in proportion to their expansion, and goes half to each
        where neither is expanded; a side without expansion opposite one with some gets nothing.
        """
        height = _rounded_up(picture_height * (1.0 + expansion.top + expansion.bottom), multiple)
        width = _rounded_up(picture_width * (1.0 + expansion.left + expansion.right), multiple)
        return cls._laid_out(height, width, picture_height, picture_width, expansion)

    @classmethod
    def within(cls, height: int, width: int, expansion: Expansion) -> OutpaintingCanvas:
        """The canvas of a given size, with room for the picture that `expansion` leaves on it, to the nearest pixel."""
        picture_height = max(round(height / (1.0 + expansion.top + expansion.bottom)), 1)
        picture_width = max(round(width / (1.0 + expansion.left + expansion.right)), 1)
        return cls._laid_out(height, width, picture_height, picture_width, expansion)

    @classmethod
    def _laid_out(
        cls, height: int, width: int, picture_height: int, picture_width: int, expansion: Expansion
    ) -> OutpaintingCanvas:
        return cls(
            height,
            width,
            _before(height - picture_height, expansion.top, expansion.bottom),
            _before(width - picture_width, expansion.left, expansion.right),
            picture_height,
            picture_width,
        )

    def place(self, picture: UInt8, onto: UInt8 | None = None) -> UInt8:
        """The canvas with the picture's own pixels on it.

        Args:
            picture: (picture_height, picture_width, 3) uint8.
            onto: (height, width, 3) uint8 to lay it on; None: grey (`UNPAINTED`).

        Returns:
            (height, width, 3) uint8.

        Raises:
            ContractError: a size is not the canvas's.
        """
        self._require(picture, self.picture_height, self.picture_width)
        if onto is None:
            canvas = np.full((self.height, self.width, 3), UNPAINTED, np.uint8)
        else:
            self._require(onto, self.height, self.width)
            canvas = onto.copy()
        canvas[self._picture()] = picture
        return canvas

    def crop(self, canvas: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """(picture_height, picture_width, …) of (height, width, …): the picture's place."""
        return canvas[self._picture()]

    def unpainted(self) -> NDArray[np.bool_]:
        """(height, width) bool: what lies outside the picture."""
        mask = np.ones((self.height, self.width), bool)
        mask[self._picture()] = False
        return mask

    def intrinsics(self, intrinsics: ArrayLike) -> NDArray[np.float64]:
        """(…, 4) intrinsics of the canvas, of those of the picture: the same rays through the same pixels."""
        return cameras.crop_intrinsics(intrinsics, top=-self.top, left=-self.left)

    def record(self) -> dict[str, Any]:
        """Sizes and offset for a stage's notes, JSON."""
        return {
            "canvas": [self.height, self.width],
            "offset": [self.top, self.left],
            "picture": [self.picture_height, self.picture_width],
        }

    def _picture(self) -> tuple[slice, slice]:
        rows = slice(self.top, self.top + self.picture_height)
        return rows, slice(self.left, self.left + self.picture_width)

    @staticmethod
    def _require(picture: UInt8, height: int, width: int) -> None:
        if picture.shape != (height, width, 3) or picture.dtype != np.uint8:
            raise ContractError(
                f"a picture of shape {picture.shape} and dtype {picture.dtype}",
                where="outpainting",
                remedy=f"Give ({height}, {width}, 3) uint8.",
            )


def _rounded_up(length: float, multiple: int) -> int:
    # A hair below the multiple is the multiple: 16 · (1 + 0.1 + 0.15) is 20.000000000000004.
    return int(np.ceil(length / multiple - 1e-9)) * multiple


def _before(added: int, before: float, after: float) -> int:
    """Of `added` pixels, those that come before the picture."""
    share = before / (before + after) if before + after > 0.0 else 0.5
    return round(added * share)

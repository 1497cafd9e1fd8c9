"""Principal components of causal video blocks: the best linear code of a given size, the yardstick of a learned codec.

The blocks are those of a causal 8×8×8 video autoencoder: a clip's first frame is cut into 8×8 squares, each
following group of eight frames into 8×8×8 cubes. For squares and cubes apart, the mean and the leading eigenvectors of
the covariance give the linear code of `components` numbers a block with the least squared error (Pearson 1901; Eckart
and Young 1936).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import ContractError

Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

BLOCK = 8
"""Side of a block in pixels, and its length in frames after the first frame."""


@dataclass(frozen=True, slots=True)
class LinearCode:
    """Mean (N,) and orthonormal rows (components, N), float32, with the variance (components,) along each row."""

    mean: Float32
    basis: Float32
    variance: Float32

    def encode(self, vectors: Float32) -> Float32:
        """(M, N) vectors to (M, components)."""
        return np.asarray((vectors - self.mean) @ self.basis.T, dtype=np.float32)

    def decode(self, codes: Float32) -> Float32:
        """(M, components) codes to (M, N) vectors."""
        return np.asarray(codes @ self.basis + self.mean, dtype=np.float32)


class SecondMoments:
    """Sums from which mean and covariance of (·, N) vectors follow, gathered in any number of steps."""

    def __init__(self, length: int) -> None:
        self._count = 0
        self._sum = np.zeros(length)
        self._products = np.zeros((length, length))

    def add(self, vectors: Float32) -> None:
        """Takes (M, N) float32 vectors in."""
        self._count += len(vectors)
        self._sum += vectors.sum(axis=0, dtype=np.float64)
        self._products += vectors.T @ vectors

    def linear_code(self, components: int) -> LinearCode:
        """The best linear code of `components` numbers.

        Raises:
            ContractError: fewer vectors than components were added.
        """
        if self._count <= components:
            raise ContractError(
                f"{self._count} blocks cannot fix {components} components",
                where="principal components",
                remedy="Fit on more or larger clips",
            )
        mean = self._sum / self._count
        covariance = self._products / self._count - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        leading = slice(None, -components - 1, -1)
        return LinearCode(
            mean.astype(np.float32),
            np.ascontiguousarray(vectors[:, leading].T, dtype=np.float32),
            np.maximum(values[leading], 0).astype(np.float32),
        )


@dataclass(frozen=True, slots=True)
class BlockPca:
    """The linear codes of first-frame squares and of later cubes, over pixel values 0..1."""

    square: LinearCode
    cube: LinearCode

    @classmethod
    def fit(cls, clips: Iterable[UInt8], components: int = 16) -> BlockPca:
        """Fits both codes.

        Args:
            clips: each (1 + 8k, H, W, 3) uint8, H and W multiples of 8, k ≥ 1 in at least one clip.
            components: numbers a block.

        Raises:
            ContractError: a clip's shape or dtype is another, or the clips hold too few blocks.
        """
        squares, cubes = SecondMoments(3 * BLOCK**2), SecondMoments(3 * BLOCK**3)
        for clip in clips:
            square, cube, _ = _blocks(clip)
            squares.add(square)
            cubes.add(cube)
        return cls(squares.linear_code(components), cubes.linear_code(components))

    def encode(self, frames: UInt8) -> Float32:
        """(1 + 8k, H, W, 3) uint8 to (components, 1 + k, H/8, W/8) float32.

        Raises:
            ContractError: the frames' shape or dtype is another.
        """
        square, cube, grid = _blocks(frames)
        codes = np.concatenate([self.square.encode(square), self.cube.encode(cube)])
        return np.ascontiguousarray(codes.reshape(*grid, -1).transpose(3, 0, 1, 2))

    def decode(self, codes: Float32) -> UInt8:
        """(components, 1 + k, h, w) float32 to (1 + 8k, 8h, 8w, 3) uint8."""
        _, time, height, width = codes.shape
        rows = codes.transpose(1, 2, 3, 0).reshape(time, height * width, -1)
        square = self.square.decode(rows[0]).reshape(height, width, 3, BLOCK, BLOCK)
        cube = self.cube.decode(rows[1:].reshape(-1, rows.shape[2]))
        cube = cube.reshape(time - 1, height, width, 3, BLOCK, BLOCK, BLOCK)
        frames = np.concatenate(
            [
                square.transpose(0, 3, 1, 4, 2).reshape(1, height * BLOCK, width * BLOCK, 3),
                cube.transpose(0, 4, 1, 5, 2, 6, 3).reshape(-1, height * BLOCK, width * BLOCK, 3),
            ]
        )
        return np.clip(np.rint(frames * 255), 0, 255).astype(np.uint8)


def _blocks(frames: UInt8) -> tuple[Float32, Float32, tuple[int, int, int]]:
    """Squares (M, 192), cubes (M·k, 1536), both over (colour, [frame,] row, column), and the grid (1 + k, h, w)."""
    good_shape = frames.ndim == 4 and frames.shape[3] == 3 and frames.shape[0] % BLOCK == 1
    if not good_shape or frames.shape[1] % BLOCK or frames.shape[2] % BLOCK or frames.dtype != np.uint8:
        raise ContractError(
            f"frames of shape {frames.shape} and dtype {frames.dtype}, expected (1 + 8k, 8h, 8w, 3) uint8",
            where="block PCA",
            remedy="Cut the clip to 1 + 8k frames and sides that are multiples of 8",
        )
    time, height, width = 1 + frames.shape[0] // BLOCK, frames.shape[1] // BLOCK, frames.shape[2] // BLOCK
    values: Float32 = np.asarray(frames.astype(np.float32) / np.float32(255), dtype=np.float32)
    square = values[0].reshape(height, BLOCK, width, BLOCK, 3).transpose(0, 2, 4, 1, 3)
    cube = values[1:].reshape(time - 1, BLOCK, height, BLOCK, width, BLOCK, 3).transpose(0, 2, 4, 6, 1, 3, 5)
    return square.reshape(height * width, -1), cube.reshape((time - 1) * height * width, -1), (time, height, width)

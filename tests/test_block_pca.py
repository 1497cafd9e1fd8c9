"""The linear code of causal blocks."""

from __future__ import annotations

import numpy as np
import pytest

from sceneloom.datasets.errors import ContractError
from sceneloom.ops.block_pca import BlockPca, SecondMoments


def clip_of_rank(rank: int, seed: int) -> np.ndarray:
    """(9, 64, 64, 3) uint8 whose squares, and whose cubes, span `rank` patterns that are the same for every seed."""
    patterns = np.random.default_rng(0)
    squares, cubes = patterns.normal(size=(rank, 1, 8, 8, 3)), patterns.normal(size=(rank, 8, 8, 8, 3))
    rng = np.random.default_rng(seed)
    frames = []
    for basis in (squares, cubes):
        codes = rng.uniform(-1, 1, size=(8, 8, rank))
        blocks = np.einsum("hwk,ktyxc->thywxc", codes, basis).reshape(-1, 64, 64, 3)
        frames.append(128 + 20 * blocks)
    return np.clip(np.rint(np.concatenate(frames)), 0, 255).astype(np.uint8)


def test_clips_that_lie_in_the_code_come_back() -> None:
    pca = BlockPca.fit([clip_of_rank(4, seed) for seed in range(6)], components=4)
    clip = clip_of_rank(4, 99)
    codes = pca.encode(clip)
    assert codes.shape == (4, 2, 8, 8)
    assert codes.dtype == np.float32
    decoded = pca.decode(codes)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - clip).max() <= 4  # rounding to uint8 adds what the code cannot hold
    assert np.abs(decoded.astype(int) - clip).mean() < 0.5


def test_more_components_never_reconstruct_worse() -> None:
    rng = np.random.default_rng(3)
    clip = rng.integers(0, 256, (17, 32, 48, 3)).astype(np.uint8)
    errors = [
        np.square(pca.decode(pca.encode(clip)).astype(float) - clip).mean()
        for pca in (BlockPca.fit([clip], components) for components in (1, 4, 16))
    ]
    assert errors[0] > errors[1] > errors[2]


def test_the_code_is_that_of_a_singular_value_decomposition() -> None:
    rng = np.random.default_rng(4)
    vectors = (rng.normal(size=(500, 12)) @ rng.normal(size=(12, 12)) + 3).astype(np.float32)
    moments = SecondMoments(12)
    moments.add(vectors[:200])
    moments.add(vectors[200:])
    code = moments.linear_code(3)
    _, values, rows = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(code.variance, values[:3] ** 2 / 500, rtol=1e-3)
    np.testing.assert_allclose(np.abs(np.sum(code.basis * rows[:3], axis=1)), 1, atol=1e-3)
    np.testing.assert_allclose(code.basis @ code.basis.T, np.eye(3), atol=1e-5)


@pytest.mark.parametrize(
    "clip",
    [
        np.zeros((8, 16, 16, 3), np.uint8),
        np.zeros((9, 12, 16, 3), np.uint8),
        np.zeros((9, 16, 16, 3), np.float32),
        np.zeros((9, 16, 16), np.uint8),
    ],
)
def test_other_shapes_are_refused(clip: np.ndarray) -> None:
    with pytest.raises(ContractError, match=r"1 \+ 8k"):
        BlockPca.fit([clip])


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(ContractError, match="16 components"):
        BlockPca.fit([np.zeros((9, 8, 8, 3), np.uint8)])

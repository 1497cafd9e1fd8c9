"""A 64-bit fingerprint of what a picture looks like, and the search for near-duplicates among many."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

UInt8 = NDArray[np.uint8]
UInt64 = NDArray[np.uint64]
Int64 = NDArray[np.int64]

BITS = 64

_SIDE = 32
_BLOCK = 512
# A coefficient below this (grey levels, orthonormal DCT of 32 × 32) is rounding noise of a flat picture.
_NOISE = 0.5


def perceptual_hash(rgb: UInt8) -> int:
    """DCT fingerprint of a picture: stable under scaling, compression and small changes of tone.

    The picture is averaged to 32 × 32 grey levels; the 64 lowest-frequency coefficients of its two-dimensional DCT-II,
    the mean left out, give one bit each: above their median or not. (C. Zauner, "Implementation and Benchmarking of
    Perceptual Image Hash Functions", 2010, section 3.2.1; coefficients here in zigzag order, so that rows and columns
    weigh the same.)

    Args:
        rgb: (H, W, 3) uint8 sRGB.

    Returns:
        An integer in [0, 2**64).
    """
    grey = Image.fromarray(rgb).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    basis = _dct_basis()
    spectrum = basis @ np.asarray(grey, dtype=np.float64) @ basis.T
    lowest = spectrum[_zigzag()]
    lowest[np.abs(lowest) < _NOISE] = 0.0
    bits = lowest > np.median(lowest)
    return int(np.packbits(bits).view(">u8")[0])


def first_alike(hashes: UInt64, maximum_distance: int) -> Int64:
    """For each fingerprint the index of the earliest kept one that it repeats; its own index when it is kept.

    Fingerprints are taken in order: one is kept unless a kept one lies within `maximum_distance`. Work is done in
    blocks of 512 with whole-array popcounts, so 10,000 take well under a second and memory stays at a few MB.

    Args:
        hashes: (N,) uint64.
        maximum_distance: largest Hamming distance, bits, that counts as alike; negative keeps everything.

    Returns:
        (N,) int64.
    """
    count = len(hashes)
    representative = np.arange(count, dtype=np.int64)
    kept = np.empty(count, dtype=np.int64)
    kept_count = 0
    for start in range(0, count, _BLOCK):
        block = hashes[start : start + _BLOCK]
        earlier = _first_within(block, hashes[kept[:kept_count]], maximum_distance)
        found = earlier >= 0
        representative[start : start + len(block)][found] = kept[earlier[found]]
        alike = np.bitwise_count(block[:, None] ^ block[None, :]).astype(np.int64) <= maximum_distance
        new = np.zeros(len(block), dtype=bool)
        for index in np.flatnonzero(~found):
            matches = np.flatnonzero(alike[index] & new)
            if len(matches):
                representative[start + index] = start + matches[0]
            else:
                new[index] = True
        added = start + np.flatnonzero(new)
        kept[kept_count : kept_count + len(added)] = added
        kept_count += len(added)
    return representative


def _first_within(block: UInt64, kept: UInt64, maximum_distance: int) -> Int64:
    """Index into `kept` of the first one within the distance, for each of `block`; -1 where there is none."""
    if not len(kept):
        return np.full(len(block), -1, dtype=np.int64)
    alike = np.bitwise_count(block[:, None] ^ kept[None, :]).astype(np.int16) <= maximum_distance
    first = alike.argmax(axis=1)
    return np.where(alike[np.arange(len(block)), first], first, -1).astype(np.int64)


@lru_cache(maxsize=1)
def _dct_basis() -> NDArray[np.float64]:
    """Orthonormal DCT-II matrix, (32, 32): row k is frequency k."""
    frequency, position = np.meshgrid(np.arange(_SIDE), np.arange(_SIDE), indexing="ij")
    basis = np.cos(np.pi * (2 * position + 1) * frequency / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
    basis[0] /= np.sqrt(2)
    return basis


@lru_cache(maxsize=1)
def _zigzag() -> tuple[Int64, Int64]:
    """Row and column indices of the 64 lowest frequencies after the mean, by diagonal."""
    order = sorted(((r, c) for r in range(_SIDE) for c in range(_SIDE)), key=lambda p: (p[0] + p[1], p[0]))
    rows, columns = np.array(order[1 : BITS + 1], dtype=np.int64).T
    return rows, columns

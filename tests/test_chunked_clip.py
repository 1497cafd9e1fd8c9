"""Clips that are made chunk by chunk: what is kept of each chunk, and what of the whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sceneloom.ops.video_chunks import plan_chunks
from sceneloom.resources.chunked_clip import ChunkedClip
from sceneloom.resources.failures import StageFailed
from sceneloom.resources.pipeline_engine import Made

ENGINE: Any = SimpleNamespace(name="toy", latent_space="the space")


def frames(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (count, 4, 4, 3)).astype(np.uint8)


def made(count: int, seed: int, *, broken: bool = False) -> Made:
    pictures = np.zeros((count, 4, 4, 3), np.uint8) if broken else frames(count, seed)
    return Made(pictures, 0, np.full((2, 1, 1, 1), seed % 7, np.float16), {"steps": seed}, {"tried": seed})


def test_chunks_are_joined_and_the_earlier_one_keeps_the_overlap() -> None:
    chunks = plan_chunks(13, window=5, overlap=1, stride=4)
    clip = ChunkedClip(ENGINE, frames(1, 99))
    for seed, chunk in enumerate(chunks, start=1):
        assert len(clip.frames) == (chunk.start + chunk.overlap or 1)
        clip.add(chunk, lambda tried: made(5, tried), seed=seed, share=0.1 * seed)
    whole = clip.finished(seed=7)
    parts = [frames(5, seed) for seed in (1, 2, 3)]
    np.testing.assert_array_equal(whole.frames, np.concatenate([parts[0], parts[1][1:], parts[2][1:]]))
    assert (whole.latents, whole.latent_space) == (None, None)
    assert whole.notes["seed"] == 7
    assert whole.notes["steps"] == 3
    assert [record["start"] for record in whole.notes["chunks"]] == [0, 4, 8]
    assert [(record["share"], record["memory"]) for record in whole.notes["chunks"]] == [
        (0.1 * seed, {"tried": seed}) for seed in (1, 2, 3)
    ]
    assert [seam["frame"] for seam in whole.notes["seams"]] == [5, 9]


def test_a_clip_made_at_once_has_the_models_own_latents() -> None:
    clip = ChunkedClip(ENGINE, np.empty((0, 4, 4, 3), np.uint8))
    [chunk] = plan_chunks(5, window=5, overlap=1, stride=4)
    clip.add(chunk, lambda tried: made(5, tried), seed=4)
    whole = clip.finished()
    assert whole.latents is not None
    assert (whole.latents == 4).all()
    assert whole.latent_space == "the space"
    assert whole.notes["seams"] == []


def test_a_broken_chunk_is_made_again_and_twice_broken_refused_by_its_frames() -> None:
    first, second = plan_chunks(9, window=5, overlap=1, stride=4)
    clip = ChunkedClip(ENGINE, frames(1, 0))
    clip.add(first, lambda tried: made(5, tried, broken=tried == 1), seed=1)
    with pytest.raises(StageFailed, match=r"frames 4 to 8, engine toy"):
        clip.add(second, lambda tried: made(5, tried, broken=True), seed=2)
    record = clip.finished().notes["chunks"][0]
    assert [fault["kind"] for fault in record["faults"]] == ["black"]
    assert record["seeds"][0] == 1
    assert record["seed"] == record["seeds"][1]

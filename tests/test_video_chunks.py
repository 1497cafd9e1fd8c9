"""Chunks of long paths: they cover the path, join without a gap, and the seams and anchors are what they claim."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneloom.datasets.errors import ConfigError, ContractError
from sceneloom.ops.video_chunks import VideoChunk, join_chunks, plan_chunks, reanchor_depth


@given(st.data())
def test_a_plan_covers_every_frame_once_and_chunks_are_what_the_model_takes(data: st.DataObject) -> None:
    stride = data.draw(st.sampled_from([1, 4, 8]))
    frames = 1 + stride * data.draw(st.integers(0, 60))
    overlap = 1 + stride * data.draw(st.integers(0, 4))
    window = overlap + stride * data.draw(st.integers(1, 12))
    chunks = plan_chunks(frames, window=window, overlap=overlap, stride=stride)
    assert chunks[0].start == 0
    assert chunks[0].overlap == 0
    assert chunks[-1].stop == frames
    for chunk in chunks:
        assert 1 <= chunk.frames <= window
        assert (chunk.frames - 1) % stride == 0
    for before, chunk in itertools.pairwise(chunks):
        assert chunk.overlap == overlap
        assert chunk.start == before.stop - overlap
        assert chunk.frames > overlap
        assert before.frames == window
    new = [index for chunk in chunks for index in range(chunk.start + chunk.overlap, chunk.stop)]
    assert new == list(range(frames))


def test_counts_that_no_model_takes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"window is 80, not 1 \+ 8·k.*73 and 81"):
        plan_chunks(121, window=80, overlap=1, stride=8)
    with pytest.raises(ConfigError, match="overlap is 0"):
        plan_chunks(121, window=81, overlap=0, stride=8)
    with pytest.raises(ConfigError, match="frames is 120"):
        plan_chunks(120, window=81, overlap=1, stride=8)
    with pytest.raises(ConfigError, match="an overlap of 9 in windows of 9"):
        plan_chunks(121, window=9, overlap=9, stride=8)


def grey(*levels: int) -> np.ndarray:
    """(T, 2, 2, 3) frames of one level each."""
    return np.array(levels, np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


def test_joining_keeps_the_earlier_make_and_measures_the_seam() -> None:
    made, again = grey(0, 2, 4, 6, 8), grey(7, 10, 20, 22, 24)
    joined, seam = join_chunks(made, VideoChunk(3, 8, 2), again)
    np.testing.assert_array_equal(joined, grey(0, 2, 4, 6, 8, 20, 22, 24))
    assert json.loads(json.dumps(seam.record())) == {
        "frame": 5,
        "overlap": 2,
        "difference": 1.5,  # 6 → 7 and 8 → 10
        "step": 12.0,  # 8 → 20
        "usual_step": 2.0,
    }


def test_a_seam_of_two_frames_has_no_usual_step() -> None:
    _, seam = join_chunks(grey(5), VideoChunk(0, 2, 1), grey(5, 9))
    assert (seam.step, seam.usual_step) == (4.0, 0.0)


def test_chunks_out_of_order_are_refused() -> None:
    with pytest.raises(ContractError, match="4 frames so far"):
        join_chunks(grey(0, 1, 2, 3), VideoChunk(3, 8, 2), grey(0, 1, 2, 3, 4))
    with pytest.raises(ContractError, match="3 of the chunk"):
        join_chunks(grey(0, 1, 2, 3, 4), VideoChunk(3, 8, 2), grey(0, 1, 2))
    with pytest.raises(ContractError):
        join_chunks(grey(), VideoChunk(0, 3, 0), grey(0, 1, 2))


@given(st.floats(0.2, 5.0), st.floats(0.0, 0.5), st.integers(0, 2**32 - 1))
def test_depth_is_anchored_on_what_the_cache_shows(scale: float, shift: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.uniform(1.0, 6.0, (24, 32)).astype(np.float32)
    estimated = (1.0 / (scale / truth + shift)).astype(np.float32)
    trusted = np.zeros(truth.shape, bool)
    trusted[:, :20] = True
    known = np.where(trusted, truth, 0).astype(np.float32)
    depth, alignment = reanchor_depth(estimated, known, trusted=trusted)
    np.testing.assert_allclose(depth, truth, rtol=2e-3)
    np.testing.assert_array_equal(depth[trusted], truth[trusted])
    assert alignment.pixels == trusted.sum()


def test_where_neither_knows_depth_stays_invalid() -> None:
    truth = np.linspace(1, 5, 24 * 32, dtype=np.float32).reshape(24, 32)
    estimated = truth.copy()
    estimated[0] = 0
    known = truth.copy()
    known[:2, :] = 0
    trusted = known > 0
    depth, _ = reanchor_depth(estimated, known, trusted=trusted)
    assert (depth[0] == 0).all()
    np.testing.assert_allclose(depth[1:], truth[1:], rtol=1e-4)


def test_a_depth_that_runs_against_the_cache_is_refused() -> None:
    truth = np.linspace(1, 5, 24 * 32, dtype=np.float32).reshape(24, 32)
    with pytest.raises(ContractError, match="run against each other"):
        reanchor_depth(6 - truth, truth, trusted=np.ones(truth.shape, bool))


def test_before_a_flat_wall_the_scale_decides() -> None:
    known = np.full((24, 32), 4.0, np.float32)
    known[:, 20:] = 0
    estimated = np.full((24, 32), 0.5, np.float32)
    estimated[:4, 24:] = 0.25
    depth, alignment = reanchor_depth(estimated, known, trusted=known > 0)
    assert (alignment.space, alignment.scale) == ("depth", 8.0)
    np.testing.assert_allclose(depth, np.where(estimated == 0.25, 2.0, 4.0))

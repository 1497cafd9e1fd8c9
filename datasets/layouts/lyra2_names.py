"""Names and numbers that Lyra-2's data set takes for granted."""

from __future__ import annotations

FILTER_LIST, HELD_OUT_LIST = "all_filter.lst", "held_out_filter.lst"
CAPTIONS = "framepack-caption-qwen3-chunk-80-overlap-0"
FIELDS = ("rgb", "pose", "intrinsics", "depth", "captions")
FRAMES = 1000
SEGMENT_FRAMES = 81
"""Frames of the shortest training window: the first one, and 20 latent frames of four each."""


def caption_file(key: str) -> str:
    """POSIX path of a clip's captions below the root."""
    return f"{CAPTIONS}/{key}.pkl"

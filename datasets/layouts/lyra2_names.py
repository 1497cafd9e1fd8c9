"""Names and numbers that Lyra-2's data set takes for granted."""

from __future__ import annotations

FILTER_LIST = "all_filter.lst"
CAPTIONS = "framepack-caption-qwen3-chunk-80-overlap-0"
FIELDS = ("rgb", "pose", "intrinsics", "depth", "captions")
FRAMES = 1000


def caption_file(key: str) -> str:
    """POSIX path of a clip's captions below the root."""
    return f"{CAPTIONS}/{key}.pkl"

"""Names and numbers that Lyra-1's loader takes for granted."""

from __future__ import annotations

from collections.abc import Sequence

DATASET, HELD_OUT = "dataset", "held_out"
MEAN_STD = "Cosmos-Tokenize1-CV8x8x8-720p/mean_std.pt"
"""Lyra looks for the tokenizer's configuration in the folder's name."""
REGISTRY_ENTRY = "registry_entry.py"
FIELDS = ("rgb", "pose", "intrinsics", "latent", "depth")
MASK = "mask"
"""A further field of dynamic sets, of the clips that have it."""

VIEWS = 6
CHANNELS = 16
LATENT_FRAMES = 16
STRIDE = 8
LATENT_SCALE = 0.5

_COMMENT = "# fields: "


def field_comment(fields: Sequence[str]) -> str:
    """First line of the registry entry: which fields were published."""
    return _COMMENT + " ".join(fields)


def published_fields(registry_entry: str) -> tuple[str, ...]:
    """Fields that the registry entry's first line names; all of them where it names none."""
    first = registry_entry.partition("\n")[0]
    named = first.removeprefix(_COMMENT).split() if first.startswith(_COMMENT) else []
    return tuple(field for field in (*FIELDS, MASK) if field in named) or FIELDS

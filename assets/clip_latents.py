"""Latents of a generated clip in one latent space: the generator's own where they are of that space, else encoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..datasets.latent_spaces import LatentSpace
from ..resources.engines import GeneratedClip, LatentCodec


@dataclass(frozen=True, slots=True)
class ClipLatents:
    """A clip in one latent space.

    Attributes:
        latents: (C, t, h, w) float16, normalised as `space` declares.
        space: of the latents.
        source: whether the generator gave them, or the codec encoded the frames.
        drift: relative difference between the latents and those of their own decoded frames; None where not measured.
    """

    latents: NDArray[np.float16]
    space: LatentSpace
    source: Literal["generator", "codec"]
    drift: float | None


def latents_of(clip: GeneratedClip, codec: LatentCodec, *, measure_drift: bool) -> ClipLatents:
    """The clip's latents in the codec's space.

    Args:
        measure_drift: also decode and encode once more: what a model loses that reads latents where it would read
            frames. A generator's own latents are already decoded: its frames.

    Raises:
        ConfigError: the codec cannot take clips of this size.
    """
    own = clip.latents is not None and clip.latent_space is not None and codec.space.holds_latents_of(clip.latent_space)
    latents = clip.latents if own and clip.latents is not None else codec.encode(clip.frames)
    drift = None
    if measure_drift:
        drift = relative_difference(codec.encode(clip.frames) if own else codec.round_trip(latents), latents)
    return ClipLatents(latents, codec.space, "generator" if own else "codec", drift)


def relative_difference(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Root mean square of the difference, as a share of that of what was expected."""
    error = np.square(found.astype(np.float64) - expected.astype(np.float64)).mean()
    return float(np.sqrt(error / max(np.square(expected.astype(np.float64)).mean(), 1e-12)))

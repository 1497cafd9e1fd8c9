"""Profile sections of clips that are warped from the 3D cache alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .profile_sections import Device, EngineSettings


class WarpedVideoSettings(EngineSettings):
    """The 3D cache seen along the cameras, with no model to paint what it does not show: a preview of what a generator
    is given, and the embedded engine for scenes from videos."""

    engine: Literal["warped"] = "warped"
    holes: Literal["background", "black"] = "background"
    """What the cache does not show: filled from the background beside it, or black and without depth."""
    edge_threshold: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Relative depth spread in a 5 × 5 neighbourhood above which a pixel is an edge and is left out of the cache."""
    foreground_masking: bool = True
    """Leave out what would shine through from behind a nearer surface."""
    device: Device = "cpu"
    """cpu, cuda or cuda:N."""


class WarpedDepthSettings(EngineSettings):
    """Depth of the 3D cache as the engine warped shows it, and the cameras that it was warped to. Exact for the frames,
    but the cache's own depth is estimated."""

    engine: Literal["warped"] = "warped"

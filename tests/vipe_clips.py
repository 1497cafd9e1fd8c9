"""Clips for ViPE's worker, and settings that run the stand-in of ViPE's program in its place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from sceneloom.datasets.video import write_video
from sceneloom.resources.vipe import VipeClipTask
from sceneloom.resources.worker_settings import VipeSettings

STAND_IN = Path(__file__).parent / "stand_ins" / "vipe"
FRAMES, HEIGHT, WIDTH = 4, 16, 24


def vipe_settings(scratch: Path, **changes: Any) -> VipeSettings:
    """Settings under which a worker of this interpreter runs the stand-in."""
    settings = {
        "environment": {"interpreter": sys.executable},
        "device": "cpu",
        "command": [sys.executable, str(STAND_IN)],
        "scratch": str(scratch),
        **changes,
    }
    return VipeSettings.model_validate(settings)


def write_clip(path: Path, frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """An MP4 file of noise."""
    generator = np.random.default_rng(3)
    pictures = [generator.integers(0, 255, (height, width, 3), dtype=np.uint8) for _ in range(frames)]
    write_video(path, pictures)
    return path


def batch(folder: Path, *names: str, **sizes: int) -> list[VipeClipTask]:
    """Clips of these names, each an MP4 file, with destinations beside them."""
    size = {"frames": FRAMES, "height": HEIGHT, "width": WIDTH, **sizes}
    return [
        VipeClipTask(name, write_clip(folder / f"{name}.mp4", **size), **size, destination=folder / "results" / name)
        for name in names
    ]

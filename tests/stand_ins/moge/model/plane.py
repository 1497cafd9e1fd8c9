"""What both stand-ins answer: a plane, slanted about the horizontal axis, below a band of sky.

Faults are chosen by the red level of the picture's first pixel, so that the questions of one launch can fail each in a
way of its own.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from typing import Any

import torch

FOCAL = 0.8
"""Focal length as a share of the picture's width, where none is told."""
SKY = 0.25
"""Share of the picture, from the top, that is outside the mask."""
FAULTS = {
    201: "out of memory",
    202: "nan",
    203: "wrong size",
    204: "hang",
    205: "crash",
    206: "absurd focal length",
    207: "nothing but sky",
    208: "exit",
    209: "negative",
}


class LocalEntryNotFoundError(FileNotFoundError):
    """Named as the hub's own error for files that are not in its cache."""


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


def inverse_depth(height: int) -> torch.Tensor:
    """(H,) of the plane, in the unit of version 1: affine in the row, as that of every plane is."""
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    return 0.2 + 0.6 * rows


def answer(image: torch.Tensor, fov_x: Any, scale: float) -> dict[str, torch.Tensor]:
    """Depth, mask and intrinsics of a (3, H, W) picture of levels 0 to 1."""
    assert image.dtype == torch.float32, image.dtype
    assert image.ndim == 3
    assert image.shape[0] == 3
    assert image.min() >= 0
    assert image.max() <= 1
    fault = FAULTS.get(round(255 * image[0, 0, 0].item()), "")
    break_off(fault)
    height, width = image.shape[1:]
    depth = (scale / inverse_depth(height)).float()[:, None].expand(height, width).clone()
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[: height if fault == "nothing but sky" else int(SKY * height)] = False
    depth = torch.where(mask, depth, torch.inf)
    if fault == "nan":
        depth[-1, : width // 2] = torch.nan
    if fault == "negative":
        depth[-1] = -1
    if fault == "wrong size":
        depth, mask = depth[:-1], mask[:-1]
    focal = FOCAL if fov_x is None else 0.5 / math.tan(math.radians(fov_x) / 2)
    if fault == "absurd focal length":
        focal = 40.0
    intrinsics = torch.tensor([[focal, 0, 0.5], [0, focal * width / height, 0.5], [0, 0, 1]])
    return {"depth": depth, "mask": mask, "intrinsics": intrinsics, "points": torch.zeros(height, width, 3)}


def break_off(fault: str) -> None:
    """The faults that leave no answer."""
    if fault == "out of memory":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if fault == "exit":
        sys.exit(0)
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    while fault == "hang":
        time.sleep(3600)


def require_known(name: str, hf_kwargs: dict[str, Any]) -> None:
    """Weights that are not on this machine."""
    assert set(hf_kwargs) <= {"revision"}, hf_kwargs
    print(f"loading {name}", flush=True)
    if name.startswith("missing/"):
        raise LocalEntryNotFoundError(f"Cannot find {name} in the local cache and outgoing traffic is disabled.")

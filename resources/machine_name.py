"""What a machine is called in records and forecasts: its processor, and the GPUs that this process works on."""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections import Counter
from pathlib import Path

_PROCESSORS = Path("/proc/cpuinfo")


def machine_name() -> str:
    """Such as "16 cores of AMD EPYC 9454, 1 × NVIDIA H100 80GB HBM3". GPUs are named once torch has used one."""
    if "torch" not in sys.modules:
        return _processor()
    import torch  # not sys.modules's: another thread may be at importing it, which only this statement waits for

    if not torch.cuda.is_initialized():
        return _processor()
    names = Counter(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return ", ".join([_processor(), *(f"{count} × {name}" for name, count in names.items())])


@functools.cache
def _processor() -> str:
    return f"{os.cpu_count()} cores of {_model(_PROCESSORS) or platform.processor() or platform.machine()}"


def _model(listing: Path) -> str:
    """The first "model name" of a listing as Linux has it; empty without one."""
    if not listing.is_file():
        return ""
    named = (
        line.partition(":")[2].strip() for line in listing.read_text().splitlines() if line.startswith("model name")
    )
    return next(named, "")

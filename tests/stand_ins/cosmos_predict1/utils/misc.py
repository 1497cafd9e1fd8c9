"""Seeds."""

from __future__ import annotations

import random

import numpy as np
import torch


def set_random_seed(seed: int) -> None:
    """As Lyra's: NumPy takes 32 bits."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what Lyra does
    torch.manual_seed(seed)

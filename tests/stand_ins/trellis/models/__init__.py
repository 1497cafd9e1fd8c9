"""TRELLIS' models; faults are chosen by how many cells are occupied."""

from __future__ import annotations

import os
import signal
import time

import torch

FAULTS = {1: "out of memory", 2: "nan", 3: "other channels", 4: "hang", 5: "crash"}


class LocalEntryNotFoundError(FileNotFoundError):
    """Named as the hub's own error for files that are not in its cache."""


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


class SparseStructureEncoder(torch.nn.Module):
    def forward(self, x: torch.Tensor, sample_posterior: bool = False, return_raw: bool = False) -> torch.Tensor:
        """(B, 1, 64, 64, 64) to (B, 8, 16, 16, 16): moments of what is occupied in each block of 4³ cells."""
        assert x.shape == (1, 1, 64, 64, 64)
        assert x.dtype == torch.float32
        assert set(x.unique().tolist()) <= {0.0, 1.0}
        assert not sample_posterior
        fault = FAULTS.get(int(x.sum()), "")
        if fault == "out of memory":
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        while fault == "hang":
            time.sleep(3600)
        blocks = x[0, 0].reshape(16, 4, 16, 4, 16, 4).permute(0, 2, 4, 1, 3, 5)
        count = blocks.sum(dim=(3, 4, 5))
        steps = torch.arange(4.0)
        moments = [(blocks * steps.reshape(shape)).sum(dim=(3, 4, 5)) for shape in ((4, 1, 1), (1, 4, 1), (1, 1, 4))]
        latent = torch.stack([count, *moments, count**2, *(moment**2 for moment in moments)])
        if fault == "nan":
            latent[2, 0, 0, 0] = torch.nan
        return latent[None, :4] if fault == "other channels" else latent[None]


def from_pretrained(path: str, **kwargs: object) -> SparseStructureEncoder:
    print(f"loading {path}", flush=True)
    if path.startswith("missing/"):
        raise LocalEntryNotFoundError(f"Cannot find {path} in the local cache.")
    return SparseStructureEncoder()

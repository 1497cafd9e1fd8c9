"""Latents of assets' shapes by TRELLIS' encoder of sparse structures, which runs as a worker: what SceneGen trains on.

J. Xiang et al., "Structured 3D Latents for Scalable and Versatile 3D Generation", CVPR 2025, section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import InputError
from ..datasets.layouts.scenegen_files import GRID, LATENT_SHAPE
from ..datasets.triangle_meshes import ObjMesh, canonical_vertices, occupied_cells
from .worker_batches import BatchTask
from .worker_engine import HubModelWorker
from .worker_engine_settings import TrellisLatentSettings
from .worker_results import read_array

NAME = "trellis_ss"


class TrellisLatents(HubModelWorker[TrellisLatentSettings]):
    """TRELLIS' encoder in an environment of its own."""

    name: ClassVar[str] = NAME
    told: ClassVar[frozenset[str]] = frozenset({"source", "model", "revision"})
    licences: ClassVar[Mapping[str, str]] = {"microsoft/TRELLIS-image-large/ckpts/ss_enc_conv3d_16l8_fp16": "MIT"}

    def files_at(self, path: Path) -> Mapping[str, Path]:
        """What TRELLIS adds its two endings to."""
        return {f"encoder.{ending}": Path(f"{path}.{ending}") for ending in ("json", "safetensors")}

    def of_meshes(self, meshes: Mapping[str, ObjMesh]) -> dict[str, NDArray[np.float32]]:
        """Latents of meshes, by their name; each mesh is turned, centred and scaled as TRELLIS' own tools do.

        Raises:
            WorkerFailed: the first mesh without a latent that is whole.
            ConfigError: the environment cannot be used.
        """
        return self.of_voxels(
            {name: occupied_cells(canonical_vertices(mesh.vertices), mesh.faces, GRID) for name, mesh in meshes.items()}
        )

    def of_voxels(self, voxels: Mapping[str, NDArray[np.integer]]) -> dict[str, NDArray[np.float32]]:
        """Latents, (8, 16, 16, 16) float32, of the occupied cells, (N, 3), of 64³ grids over [-½, ½]³, by their name.

        Raises:
            InputError: no cell is occupied, or one is outside the grid.
            WorkerFailed, ConfigError: as `of_meshes`.
        """
        for name, cells in voxels.items():
            _require_cells(name, cells)
        outcomes = self.worker.ask_all([_task(name, cells) for name, cells in voxels.items()])
        return {outcome.task: outcome.get() for outcome in outcomes}


def _require_cells(name: str, cells: NDArray[np.integer]) -> None:
    fits = cells.ndim == 2 and cells.shape[1] == 3 and len(cells) > 0
    if not fits or cells.min() < 0 or cells.max() >= GRID:
        raise InputError(
            f"cells of shape {cells.shape}, expected (N, 3) of 0 … {GRID - 1} with N ≥ 1",
            where=f"{NAME}: {name}",
            remedy="Give the occupied cells of the asset's grid.",
        )


def _task(name: str, cells: NDArray[np.integer]) -> BatchTask[NDArray[np.float32]]:
    def write(folder: Path) -> dict[str, Any]:
        np.save(folder / "cells.npy", cells.astype(np.uint8))
        return {"cells": str(folder / "cells.npy")}

    def read(output: Path, figures: Mapping[str, Any]) -> NDArray[np.float32]:
        return read_array(output, "mean.npy", LATENT_SHAPE, np.floating).astype(np.float32)

    return BatchTask(name, write, read)

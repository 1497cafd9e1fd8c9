"""The file that runs beside a checkout of TRELLIS, run on a stand-in of it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np

from sceneloom.orchestration.worker_commands import script_metadata
from sceneloom.resources.worker_engine_settings import TrellisLatentSettings
from sceneloom.resources.worker_process import WorkerTask
from sceneloom.resources.worker_settings import worker_file

from .worker_stand_ins import STAND_INS, answers_of, imported_packages, shared_part, stand_in_settings

FILE = worker_file("trellis_ss")


def test_the_file_needs_dagster_pipes_and_what_the_encoder_imports() -> None:
    needed = {"dagster_pipes", "numpy", "torch", "trellis", "huggingface_hub"}
    assert imported_packages(FILE.read_text()) == needed
    ast.parse(FILE.read_text(), feature_version=(3, 10))
    assert shared_part(FILE.read_text()) == shared_part(worker_file("moge").read_text())


def test_its_source_is_pinned_to_a_commit() -> None:
    metadata = script_metadata(FILE.read_text())
    url, _, commit = metadata["tool"]["sceneloom"]["source"].rpartition("@")
    assert url == "git+https://github.com/microsoft/TRELLIS"
    assert len(commit) == 40
    assert int(commit, 16)


def test_cells_become_a_latent_without_the_rest_of_trellis(tmp_path: Path) -> None:
    """The stand-in's own __init__ refuses to be imported, as TRELLIS' needs renderers that no encoder needs."""
    settings = TrellisLatentSettings.model_validate(stand_in_settings(tmp_path, source=str(STAND_INS)))
    told = {**settings.model_dump(include={"source", "model", "revision"}), "device": "cpu"}
    cells = np.array([[x, y, 63] for x in range(4) for y in range(4, 7)], np.uint8)
    np.save(tmp_path / "cells.npy", cells)
    tasks = [
        WorkerTask(
            name,
            1,
            {
                "cells": str(tmp_path / "cells.npy"),
                "output": str(tmp_path / f"out-{name}"),
                "log": str(tmp_path / f"log-{name}"),
            },
        )
        for name in "ab"
    ]
    ended = answers_of("trellis_ss", settings, told, tasks)
    assert [end.failure for end in ended] == [None, None]
    mean = np.load(tmp_path / "out-a" / "mean.npy")
    assert (mean.shape, mean.dtype) == ((8, 16, 16, 16), np.float32)
    assert mean[0, 0, 1, 15] == 12
    assert mean[0].sum() == 12
    # Axes are x, y, z, as TRELLIS indexes its grid: along z the cells are at 3 of 0 … 3 in their block.
    assert mean[1:4, 0, 1, 15].tolist() == [18, 12, 36]
    assert "loading microsoft/TRELLIS-image-large/ckpts/ss_enc_conv3d_16l8_fp16" in (tmp_path / "log-a").read_text()
    assert (tmp_path / "log-b").read_text() == ""

# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = [
#     "dagster-pipes>=1.13,<1.14",
#     "torch==2.4.*",
#     "numpy",
#     "safetensors",
#     "huggingface_hub",
#     "spconv-cu120",
# ]
#
# [tool.sceneloom]
# # TRELLIS cannot be installed as a package: `source` in the profile names a checkout of this commit.
# source = "git+https://github.com/microsoft/TRELLIS@442aa1e1afb9014e80681d3bf604e8d728a86ee7"
# ///
"""TRELLIS' encoder of sparse structures on voxels. Needs dagster-pipes and what the encoder imports, and no sceneloom.

The manifest that the Pipes extra `manifest` names holds the settings and the tasks, or the file that feeds them::

    {"format": "sceneloom.worker/1",
     "settings": {"source": "a checkout of TRELLIS", "device": "cuda", "revision": null,
                  "model": "microsoft/TRELLIS-image-large/ckpts/ss_enc_conv3d_16l8_fp16"},
     "tasks": [{"id": "…", "cells": "cells.npy", "output": "an absent folder", "log": "a file"}],
     "feed": "a file to which tasks are added, one JSON line {"task": …} each, until a line {"end": true}"}

Cells are (N, 3) unsigned integers: the occupied cells of a 64³ grid over [-½, ½]³. The output is mean.npy, float32
(8, 16, 16, 16): the encoder's mean, not normalised, as dataset_toolkits/encode_ss_latent.py of TRELLIS writes it.

Only trellis.models is imported, without trellis/__init__.py, which would load renderers and pipelines: the package's
name is taken by an empty module with its path. `from_pretrained` is trellis/models/__init__.py's, the encoder
trellis/models/sparse_structure_vae.py's.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from dagster_pipes import PipesContext, open_dagster_pipes

FORMAT = "sceneloom.worker/1"
LOG_END = 1500
"""Characters, as JSON, of a log or an exception in a message, which stays below 4 kB and is written in one piece."""
FEED_INTERVAL = 0.03
"""Seconds between two looks at the feed."""
GRID = 64


class Model:
    """TRELLIS' SparseStructureEncoder on its device."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "spconv-cu120", "safetensors")

    def __init__(self, settings: dict[str, Any]) -> None:
        package = types.ModuleType("trellis")
        package.__path__ = [str(Path(settings["source"], "trellis"))]
        sys.modules["trellis"] = package
        from trellis import models

        self._device = settings["device"]
        encoder = models.from_pretrained(_local(settings["model"], settings["revision"]))
        self._encoder = encoder.eval().to(self._device)

    @staticmethod
    def problems(settings: dict[str, Any]) -> list[str]:
        """What of TRELLIS is not to be found here."""
        absent = [name for name in ("torch", "numpy", "safetensors") if not importlib.util.find_spec(name)]
        found = [f"{sys.executable} has no package {name}" for name in absent]
        models = Path(settings["source"], "trellis", "models")
        return found if models.is_dir() else [*found, f"{models} is not there"]

    def answer(self, task: dict[str, Any]) -> dict[str, Any]:
        """The latent of one asset."""
        import numpy as np
        import torch

        cells = torch.from_numpy(np.load(task["cells"], allow_pickle=False).astype(np.int64))
        grid = torch.zeros(1, 1, GRID, GRID, GRID)
        grid[0, 0, cells[:, 0], cells[:, 1], cells[:, 2]] = 1
        with torch.no_grad():
            latent = self._encoder(grid.to(self._device), sample_posterior=False)
        output = Path(task["output"])
        output.mkdir(parents=True)
        np.save(output / "mean.npy", latent[0].float().cpu().numpy())
        return {}


def _local(model: str, revision: str | None) -> str:
    """The model's path without its ending. TRELLIS takes hub ids too, but only their newest revision."""
    if revision is None or Path(f"{model}.json").exists():
        return model
    from huggingface_hub import hf_hub_download

    owner, name, inside = model.split("/", 2)
    for ending in ("json", "safetensors"):
        file = hf_hub_download(f"{owner}/{name}", f"{inside}.{ending}", revision=revision)
    return file.removesuffix(".safetensors")


# ---------------------------------------------------------------- the same in every worker that answers single tasks


class ModelMissing(Exception):
    """The environment lacks something of the model; the exception's name is what tells the failure's class."""


def loaded(settings: dict[str, Any]) -> Model:
    """The model. Raises ModelMissing where something of it is not there, which no other task would find either."""
    absent = Model.problems(settings)
    if absent:
        raise ModelMissing("; ".join(absent))
    try:
        return Model(settings)
    except FileNotFoundError as error:
        raise ModelMissing(str(error)) from error


def shortened(text: str) -> str:
    """The end of a text, as much as a message carries; other than ASCII characters take six each."""
    end = text[-LOG_END:]
    while len(json.dumps(end)) > LOG_END:
        end = end[len(end) // 4 :]
    return end


@contextlib.contextmanager
def output_into(log: Path) -> Iterator[None]:
    """Send what this process and its libraries print into a file."""
    kept = [os.dup(1), os.dup(2)]
    with log.open("ab") as file:
        try:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in zip((1, 2), kept, strict=True):
                os.dup2(original, descriptor)
                os.close(original)


def tasks_of(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The manifest's tasks, then those of its feed as they come, until the feed says its end."""
    yield from manifest["tasks"]
    if "feed" not in manifest:
        return
    position = 0
    while True:
        # Opened anew for each look: a network file system shows what another machine added to whoever opens a file.
        with Path(manifest["feed"]).open("rb") as feed:
            feed.seek(position)
            line = feed.readline()
        if not line.endswith(b"\n"):
            time.sleep(FEED_INTERVAL)
            continue
        position += len(line)
        said = json.loads(line)
        if "task" not in said:
            return
        yield said["task"]


class Batch:
    """Answers tasks one after the other, with a model that is loaded for the first of them."""

    def __init__(self, pipes: PipesContext, settings: dict[str, Any]) -> None:
        self._pipes = pipes
        self._settings = settings
        self._model: Model | None = None

    def run(self, tasks: Iterator[dict[str, Any]]) -> None:
        """Every task; ends early where the process is of no more use after a failure."""
        self._say("ready", versions=_versions(), problems=Model.problems(self._settings))
        for task in tasks:
            if not self._answer(task):
                return

    def _answer(self, task: dict[str, Any]) -> bool:
        """One task; whether the process can be trusted with another."""
        self._say("started", task=task["id"])
        began, log = time.monotonic(), Path(task["log"])
        try:
            with output_into(log):
                try:
                    if self._model is None:
                        self._model = loaded(self._settings)
                    figures = self._model.answer(task)
                except BaseException:
                    traceback.print_exc()
                    raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - every failure is reported, and judged elsewhere
            name, message = type(error).__name__, shortened(str(error))
            end = shortened(log.read_text("utf-8", "replace"))
            seconds = time.monotonic() - began
            self._say("failed", task=task["id"], seconds=seconds, type=name, message=message, log=end)
            # After an error on the device nothing that the process holds there can be trusted.
            return name not in {"OutOfMemoryError", "AcceleratorError"} and "CUDA error" not in message
        self._say("done", task=task["id"], seconds=time.monotonic() - began, figures=figures)
        return True

    def _say(self, kind: str, **content: Any) -> None:
        self._pipes.report_custom_message({"kind": kind, **content})


def _versions() -> dict[str, str]:
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in (*Model.packages, "dagster-pipes"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _end_with_input() -> None:
    """Wait until standard input closes, then end this process group."""
    while os.read(0, 4096):
        continue
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> None:
    with open_dagster_pipes() as pipes:
        manifest = json.loads(Path(pipes.get_extra("manifest")).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"the manifest's format is {manifest['format']!r}, expected {FORMAT!r}")
        if pipes.extras.get("end_with_input"):
            threading.Thread(target=_end_with_input, daemon=True).start()
        Batch(pipes, manifest["settings"]).run(tasks_of(manifest))


if __name__ == "__main__":
    main()

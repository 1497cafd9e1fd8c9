# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = [
#     "dagster-pipes>=1.13,<1.14",
#     "torch==2.9.*",
#     "torchvision==0.24.*",
#     "moge @ git+https://github.com/microsoft/MoGe@925b8ed835a7a9cdb7578ba15c658a0afc969030",
# ]
#
# [tool.uv.sources]
# torch = { index = "pytorch-cu128" }
# torchvision = { index = "pytorch-cu128" }
#
# [[tool.uv.index]]
# name = "pytorch-cu128"
# url = "https://download.pytorch.org/whl/cu128"
# explicit = true
# ///
"""MoGe on single pictures: depth, camera and mask. Needs dagster-pipes and MoGe, and nothing of sceneloom.

The manifest that the Pipes extra `manifest` names holds the settings and the tasks, or the file that feeds them::

    {"format": "sceneloom.worker/1",
     "settings": {"model": "Ruicheng/moge-2-vitl-normal", "revision": null, "version": "v2", "device": "cuda",
                  "resolution_level": 9, "half_precision": true},
     "tasks": [{"id": "…", "picture": "a PNG file", "field_of_view": null, "output": "an absent folder",
                "log": "a file"}],
     "feed": "a file to which tasks are added, one JSON line {"task": …} each, until a line {"end": true}"}

A task's output is depth.npy, (H, W) float32, as MoGe gives it (infinite outside the mask); mask.npy, (H, W) bool; and
intrinsics.npy, (3, 3) float32, of the picture taken for 1 × 1. `field_of_view` is the horizontal one in degrees, where
it is known. The figure `metric` says whether depth is in metres: of models that have a scale head.

`MoGeModel.from_pretrained` and `MoGeModel.infer` are those of moge/model/v1.py and moge/model/v2.py.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from dagster_pipes import PipesContext, open_dagster_pipes

FORMAT = "sceneloom.worker/1"
LOG_END = 1500
"""Characters, as JSON, of a log or an exception in a message, which stays below 4 kB and is written in one piece."""
FEED_INTERVAL = 0.03
"""Seconds between two looks at the feed."""


class Model:
    """A MoGe model on its device."""

    packages: ClassVar[tuple[str, ...]] = ("moge", "torch", "utils3d")

    def __init__(self, settings: dict[str, Any]) -> None:
        module = importlib.import_module(f"moge.model.{settings['version']}")
        weights = Path(settings["model"])
        given = str(weights / "model.pt") if weights.is_dir() else settings["model"]
        options = {"revision": settings["revision"]} if settings["revision"] else {}
        self._settings = settings
        self._model = module.MoGeModel.from_pretrained(given, **options).to(settings["device"]).eval()

    @staticmethod
    def problems(settings: dict[str, Any]) -> list[str]:
        """What of MoGe is not to be found here."""
        absent = [name for name in ("moge", "torch", "numpy", "PIL") if not importlib.util.find_spec(name)]
        return [f"{sys.executable} has no package {name}" for name in absent]

    def answer(self, task: dict[str, Any]) -> dict[str, Any]:
        """Depth, mask and intrinsics of one picture."""
        import numpy as np
        import torch
        from PIL import Image

        with Image.open(task["picture"]) as picture:
            levels = np.asarray(picture.convert("RGB"), np.float32) / 255
        image = torch.from_numpy(levels).permute(2, 0, 1).to(self._settings["device"])
        found = self._model.infer(
            image,
            resolution_level=self._settings["resolution_level"],
            fov_x=task["field_of_view"],
            use_fp16=self._settings["half_precision"],
        )
        output = Path(task["output"])
        output.mkdir(parents=True)
        depth = found["depth"].float().cpu().numpy()
        # A model without a mask head gives no mask: all that it sees has a depth.
        mask = found["mask"].cpu().numpy() if "mask" in found else np.isfinite(depth)
        np.save(output / "depth.npy", depth)
        np.save(output / "mask.npy", mask.astype(bool))
        np.save(output / "intrinsics.npy", found["intrinsics"].float().cpu().numpy())
        return {"metric": hasattr(self._model, "scale_head")}


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

# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = [
#     "dagster-pipes>=1.13,<1.14",
#     "torch==2.9.*",
#     "torchvision==0.24.*",
#     "einops",
#     "safetensors",
#     "vggt @ git+https://github.com/facebookresearch/vggt@a288dd0f14786c93483e45524328726ab7b1b4ce",
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
"""VGGT on clips and pictures: depth, cameras, points, and tokens. Needs dagster-pipes and VGGT, nothing of sceneloom.

The manifest that the Pipes extra `manifest` names holds the settings and the tasks, or the file that feeds them::

    {"format": "sceneloom.worker/1",
     "settings": {"model": "facebook/VGGT-1B", "revision": null, "device": "cuda", "frames_per_head_call": 8},
     "tasks": [{"id": "…", "kind": "clip", "frames": "frames.npy", "points": true, "output": "…", "log": "…"},
               {"id": "…", "kind": "feature", "picture": "scene.jpg", "output": "…", "log": "…"}],
     "feed": "a file to which tasks are added, one JSON line {"task": …} each, until a line {"end": true}"}

A clip's frames are (T, H, W, 3) uint8. Its output, at VGGT's own size h × w: extrinsics.npy (T, 3, 4), world-to-camera
with OpenCV axes; intrinsics.npy (T, 3, 3) in pixels of h × w; depth.npy and depth_confidence.npy (T, h, w); where
points are wanted points.npy (T, h, w, 3) in the first camera's frame and points_confidence.npy (T, h, w). All float32.
A picture's output is feature.npy, (1, P, 2048) float32: the aggregator's last tokens, as SceneGen reads them.

Calls, shapes and conventions are those of vggt/models/vggt.py, vggt/models/aggregator.py, vggt/heads/dpt_head.py,
vggt/utils/pose_enc.py and vggt/utils/load_fn.py, and for the feature of SceneGen's
dataset_toolkits/build_metadata_scene.py.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from dagster_pipes import PipesContext, open_dagster_pipes

FORMAT = "sceneloom.worker/1"
LOG_END = 1500
"""Characters, as JSON, of a log or an exception in a message, which stays below 4 kB and is written in one piece."""
FEED_INTERVAL = 0.03
"""Seconds between two looks at the feed."""
SIDE, PATCH = 518, 14
"""Longer side of what VGGT sees, and the side of its patches, pixels."""


def seen_size(height: int, width: int) -> tuple[int, int]:
    """Height and width that VGGT sees of frames: the longer side 518, both sides whole patches, as load_fn.py does for
    pictures that are not higher than wide."""
    scale = SIDE / max(height, width)
    high, wide = (max(1, round(side * scale / PATCH)) * PATCH for side in (height, width))
    return high, wide


class Model:
    """VGGT on its device."""

    packages: ClassVar[tuple[str, ...]] = ("vggt", "torch", "torchvision")

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch
        from vggt.models.vggt import VGGT

        self._settings = settings
        if settings["model"].endswith(".pt"):
            model = VGGT()
            model.load_state_dict(torch.load(settings["model"], map_location="cpu", weights_only=True))
        else:
            options = {"revision": settings["revision"]} if settings["revision"] else {}
            model = VGGT.from_pretrained(settings["model"], **options)
        self._model = model.to(settings["device"]).eval()

    @staticmethod
    def problems(settings: dict[str, Any]) -> list[str]:
        """What of VGGT is not to be found here."""
        absent = [name for name in ("vggt", "torch", "numpy", "PIL") if not importlib.util.find_spec(name)]
        return [f"{sys.executable} has no package {name}" for name in absent]

    def answer(self, task: dict[str, Any]) -> dict[str, Any]:
        """One clip or picture."""
        import torch

        output = Path(task["output"])
        output.mkdir(parents=True)
        with torch.no_grad():
            return self._clip(task, output) if task["kind"] == "clip" else self._feature(task, output)

    def _mixed_precision(self) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 where the device has it, else float16; the CPU computes in float32."""
        import torch

        if self._settings["device"] == "cpu":
            return contextlib.nullcontext()
        half = torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
        return torch.amp.autocast(device_type="cuda", dtype=half)

    def _clip(self, task: dict[str, Any], output: Path) -> dict[str, Any]:
        import numpy as np
        from vggt.utils.pose_enc import pose_encoding_to_extri_intri

        images = self._images(Path(task["frames"]))
        with self._mixed_precision():
            tokens, start = self._model.aggregator(images)
        heads = {
            "images": images,
            "patch_start_idx": start,
            "frames_chunk_size": self._settings["frames_per_head_call"],
        }
        encoding = self._model.camera_head(tokens)[-1]
        extrinsics, intrinsics = pose_encoding_to_extri_intri(encoding.float(), tuple(images.shape[-2:]))
        depth, depth_confidence = self._model.depth_head(tokens, **heads)
        found = {
            "extrinsics": extrinsics[0],
            "intrinsics": intrinsics[0],
            "depth": depth[0, ..., 0],
            "depth_confidence": depth_confidence[0],
        }
        if task["points"]:
            points, points_confidence = self._model.point_head(tokens, **heads)
            found |= {"points": points[0], "points_confidence": points_confidence[0]}
        for name, values in found.items():
            np.save(output / f"{name}.npy", values.float().cpu().numpy())
        return {"height": images.shape[-2], "width": images.shape[-1]}

    def _images(self, path: Path) -> Any:
        """(1, T, 3, h, w) float32, 0 to 1, bicubic as in load_fn.py."""
        import numpy as np
        import torch
        from PIL import Image

        frames = np.load(path, mmap_mode="r", allow_pickle=False)
        height, width = seen_size(*frames.shape[1:3])
        resized = np.stack(
            [np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)) for frame in frames]
        )
        images = torch.from_numpy(resized).permute(0, 3, 1, 2)[None].to(self._settings["device"])
        return images.float() / 255

    def _feature(self, task: dict[str, Any], output: Path) -> dict[str, Any]:
        import numpy as np
        from vggt.utils.load_fn import load_and_preprocess_images

        images = load_and_preprocess_images([task["picture"]]).to(self._settings["device"])
        with self._mixed_precision():
            tokens, _ = self._model.aggregator(images[None])
        np.save(output / "feature.npy", tokens[-1][0].float().cpu().numpy())
        return {"height": images.shape[-2], "width": images.shape[-1]}


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

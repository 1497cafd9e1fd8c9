# /// script
# requires-python = ">=3.10,<3.11"
# dependencies = [
#     "dagster-pipes>=1.13,<1.14",
#     "torch==2.6.*",
#     "torchvision==0.21.*",
#     "numpy<2",
# ]
#
# [tool.sceneloom]
# # Neither Lyra nor its cosmos_predict1 can be installed as a package: `source` in the profile names a checkout of this
# # commit, in an environment made as its Lyra-1/README.md says.
# source = "git+https://github.com/nv-tlabs/lyra@09484d22c38c4523212d5d4c59925d0b834ffeef"
# ///
"""GEN3C by Lyra-1's generators: clips of a picture or video along cameras. Needs dagster-pipes and Lyra's environment.

The manifest that the Pipes extra `manifest` names holds the settings and the tasks, or the file that feeds them::

    {"format": "sceneloom.worker/1",
     "settings": {"source": "a checkout's Lyra-1", "checkpoints": "folder", "device": "cuda", "frames": 121,
                  "height": 704, "width": 1280, "frames_per_second": 24, "steps": 35, "guidance": 1.0,
                  "negative_prompt": null, "text_encoder": true, "offload": false, "edge_threshold": 0.05,
                  "foreground_masking": true, "noise_augmentation": 0.0},
     "tasks": [{"id": "…", "prompt": "…", "seed": 0, "arrays": "a folder", "output": "an absent folder",
                "log": "a file"}],
     "feed": "a file to which tasks are added, one JSON line {"task": …} each, until a line {"end": true}"}

A task's arrays: frames.npy, (S, H, W, 3) uint8; depth.npy, (S, H, W) float32 z-depth, 0 where there is none;
source_c2w.npy, (S, 4, 4), and source_intrinsics.npy, (S, 4), of their cameras; c2w.npy, (T, 4, 4), and intrinsics.npy,
(T, 4), of the cameras to generate. Poses have OpenCV axes; intrinsics are in pixels whose centres lie at +0.5. One
source frame is Lyra's static generator, as many as the clip has its dynamic one, in which frame i sees source frame i.

The output: frames.npy, (T, H, W, 3) uint8; latents.npy, (16, t, h, w) float32, the diffusion's own sample, normalised
as mean.npy and std.npy, (16, 16) over channel and latent frame, say: (z - mean) / std · 0.5; and c2w.npy and
intrinsics.npy, float64, of the cameras into which Lyra's cache warped the source. The figure `tokenizer` is the digest
of the tokenizer's files.

The pipeline, which Lyra builds anew for every trajectory of every picture, is built once here. What it is given is what
gen3c_single_image_sdg.py and gen3c_dynamic_sdg.py in Lyra-1/cosmos_predict1/diffusion/inference give it, except that
depth and cameras come from outside, and that pictures are never squashed. Classes and calls are those of
gen3c_pipeline.py, cache_3d.py, forward_warp_utils_pytorch.py and inference_utils.py there.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import contextlib
import hashlib
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
CHECKPOINT = "Gen3C-Cosmos-7B"
TOKENIZER = "Cosmos-Tokenize1-CV8x8x8-720p"
HALF_PIXEL = 0.5
"""Lyra's warp has pixel centres at whole numbers (get_camera_rays and create_grid of its forward warp)."""


class Usage(Exception):
    """The settings do not fit the model; its name is what tells the failure's class."""


class Model:
    """Lyra's GEN3C pipeline, built once."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "megatron-core", "transformer-engine", "warp-lang")

    def __init__(self, settings: dict[str, Any]) -> None:
        sys.path.insert(0, settings["source"])
        os.chdir(settings["source"])  # Lyra names its config by a path from there
        from cosmos_predict1.diffusion.inference.gen3c_pipeline import Gen3cPipeline

        self._settings = settings
        offload = settings["offload"]
        self._pipeline = Gen3cPipeline(
            inference_type="video2world",
            checkpoint_dir=settings["checkpoints"],
            checkpoint_name=CHECKPOINT,
            enable_prompt_upsampler=False,
            offload_network=offload,
            offload_tokenizer=offload,
            offload_text_encoder_model=offload,
            disable_guardrail=True,
            disable_prompt_encoder=not settings["text_encoder"],
            guidance=settings["guidance"],
            num_steps=settings["steps"],
            height=settings["height"],
            width=settings["width"],
            fps=settings["frames_per_second"],
            num_video_frames=settings["frames"],
            seed=0,
        )
        made = self._pipeline.model.chunk_size
        if made != settings["frames"]:
            raise Usage(f"the model makes {made} frames at once, the settings say {settings['frames']}")
        self._mean, self._std, self._digest = _tokenizer(Path(settings["checkpoints"], TOKENIZER))

    @staticmethod
    def problems(settings: dict[str, Any]) -> list[str]:
        """What of Lyra is not to be found here."""
        absent = [name for name in ("torch", "numpy") if not importlib.util.find_spec(name)]
        found = [f"{sys.executable} has no package {name}" for name in absent]
        wanted = [Path(settings["source"], "cosmos_predict1")]
        wanted += [Path(settings["checkpoints"], name) for name in (CHECKPOINT, TOKENIZER)]
        return found + [f"{path} is not there" for path in wanted if not path.exists()]

    def answer(self, task: dict[str, Any]) -> dict[str, Any]:
        """One clip."""
        import numpy as np
        import torch
        from cosmos_predict1.utils import misc

        arrays = {path.stem: np.load(path, allow_pickle=False) for path in Path(task["arrays"]).glob("*.npy")}
        with torch.no_grad():
            misc.set_random_seed(task["seed"])
            self._pipeline.seed = task["seed"]
            images, masks, c2w, intrinsics = self._warped(arrays, task["seed"])
            generated = self._pipeline.generate(
                prompt=task["prompt"],
                image_path=self._pictures(arrays["frames"][:1])[:, :, None],
                negative_prompt=self._negative_prompt(),
                rendered_warp_images=images,
                rendered_warp_masks=masks,
                return_latents=True,
            )
            seen = float(masks.float().mean().item())
        frames, _, latents = generated
        output = Path(task["output"])
        output.mkdir(parents=True)
        np.save(output / "frames.npy", frames)
        np.save(output / "latents.npy", latents[0].detach().float().cpu().numpy())
        np.save(output / "mean.npy", self._mean)
        np.save(output / "std.npy", self._std)
        np.save(output / "c2w.npy", c2w)
        np.save(output / "intrinsics.npy", intrinsics)
        return {"tokenizer": self._digest, "seen_share": seen}

    def _warped(self, arrays: dict[str, Any], seed: int) -> tuple[Any, Any, Any, Any]:
        """The source as the cameras see it, (1, T, N, 3, H, W) of -1 to 1, and (1, T, N, 1, H, W); then the cameras
        that it was warped into: (T, 4, 4) poses and (T, 4) intrinsics."""
        import torch
        from cosmos_predict1.diffusion.inference.cache_3d import Cache3D_Buffer, Cache4D

        device = self._settings["device"]
        depth = torch.from_numpy(arrays["depth"])[:, None].to(device)
        options = {
            "input_image": self._pictures(arrays["frames"]),
            "input_depth": depth,
            "input_w2c": self._w2c(arrays["source_c2w"]),
            "input_intrinsics": self._matrices(arrays["source_intrinsics"]),
            "filter_points_threshold": self._settings["edge_threshold"],
            "foreground_masking": self._settings["foreground_masking"],
            "device": device,
        }
        if len(depth) == 1:
            cache = Cache3D_Buffer(
                frame_buffer_max=self._pipeline.model.frame_buffer_max,
                generator=torch.Generator(device=device).manual_seed(seed),
                noise_aug_strength=self._settings["noise_augmentation"],
                **options,
            )
        else:
            cache = Cache4D(input_mask=torch.ones_like(depth), input_format=["F", "C", "H", "W"], **options)
        with warps_noted() as cameras:
            images, masks = cache.render_cache(
                self._w2c(arrays["c2w"])[None], self._matrices(arrays["intrinsics"])[None], start_frame_idx=0
            )
        w2c, matrices = (torch.cat(parts).double().cpu() for parts in zip(*cameras, strict=True))
        lens = matrices[:, [0, 1, 0, 1], [0, 1, 2, 2]] + torch.tensor([0.0, 0.0, HALF_PIXEL, HALF_PIXEL])
        return images, masks, torch.linalg.inv(w2c).numpy(), lens.numpy()

    def _pictures(self, frames: Any) -> Any:
        """(S, 3, H, W) float32 of -1 to 1."""
        import torch

        levels = torch.from_numpy(frames).permute(0, 3, 1, 2).to(self._settings["device"])
        return levels.float() / 127.5 - 1

    def _w2c(self, c2w: Any) -> Any:
        import torch

        return torch.linalg.inv(torch.from_numpy(c2w).double()).float().to(self._settings["device"])

    def _matrices(self, intrinsics: Any) -> Any:
        """(…, 3, 3) calibration matrices for pixel centres at whole numbers."""
        import torch

        matrices = torch.eye(3).repeat(len(intrinsics), 1, 1)
        values = torch.from_numpy(intrinsics).float()
        matrices[:, 0, 0], matrices[:, 1, 1] = values[:, 0], values[:, 1]
        matrices[:, 0, 2], matrices[:, 1, 2] = values[:, 2] - HALF_PIXEL, values[:, 3] - HALF_PIXEL
        return matrices.to(self._settings["device"])

    def _negative_prompt(self) -> str:
        """The settings', else the one that Lyra's scripts have for a default."""
        if self._settings["negative_prompt"] is not None:
            return self._settings["negative_prompt"]
        from cosmos_predict1.diffusion.inference.inference_utils import add_common_arguments

        parser = argparse.ArgumentParser()
        add_common_arguments(parser)
        return parser.get_default("negative_prompt")


@contextlib.contextmanager
def warps_noted() -> Iterator[list[tuple[Any, Any]]]:
    """Note the (n, 4, 4) world-to-camera matrices and (n, 3, 3) calibration matrices of every warp of Lyra's caches:
    of whatever cameras they warp into, in the order of the frames."""
    from cosmos_predict1.diffusion.inference import cache_3d

    cameras: list[tuple[Any, Any]] = []
    warp = cache_3d.forward_warp

    def noted(*given: Any, **named: Any) -> Any:
        cameras.append((named["transformation2"], named["intrinsic2"]))
        return warp(*given, **named)

    cache_3d.forward_warp = noted
    try:
        yield cameras
    finally:
        cache_3d.forward_warp = warp


def _tokenizer(folder: Path) -> tuple[Any, Any, str]:
    """(16, 16) mean and std over channel and latent frame, and the digest of the tokenizer's files."""
    import torch

    mean, std = torch.load(folder / "mean_std.pt", map_location="cpu", weights_only=True)
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.jit"), folder / "mean_std.pt"]):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    return mean.float().reshape(16, -1).numpy(), std.float().reshape(16, -1).numpy(), digest.hexdigest()


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

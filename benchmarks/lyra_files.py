"""Lyra's training files as Lyra and ViPE write them, and a reader that reads them as Lyra's loader does.

The yardstick of benchmarks/loader.py; both are written from the format's description. H.264 in one group of pictures
with B-frames at crf 10, one ZIP-compressed half-float EXR a frame in a deflated zip, poses and intrinsics as npz, and
latents as a pickled float32 array. decord, OpenEXR and torch.load read them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.datasets.lyra_configuration import LyraConfiguration, LyraDraw

DECODER_THREADS = 4
"""What Lyra asks decord for."""

try:
    import decord
except ImportError:
    decord = None

VIDEO_READER = "decord" if decord else "PyAV, decoding from the key frame, because decord is missing"


def write_mp4(path: Path, frames: Sequence[NDArray[np.uint8]]) -> None:
    """One group of pictures, x264's own B-frames, crf 10."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def write_depth(path: Path, depth: NDArray[np.float16]) -> None:
    """`00000.exr`, … with one half-float channel Z, deflated once more by the zip."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    part = path.with_suffix(".exr")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, frame in enumerate(depth):
            with OpenEXR.File(header, {"Z": frame}) as file:
                file.write(str(part))
            archive.write(part, f"{index:05d}.exr")
    part.unlink()


def write_view(
    root: Path,
    view: int,
    key: str,
    *,
    mp4: bytes,
    depth_zip: bytes,
    c2w: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    latents: NDArray[np.float16],
) -> None:
    """The five files of a clip below `root/view`; video and zip are bytes because all views here have the same."""
    latent = io.BytesIO()
    torch.save(latents.astype(np.float32)[None], latent)
    contents = {"rgb/{}.mp4": mp4, "depth/{}.zip": depth_zip, "latent/{}.pkl": latent.getvalue()}
    for folder, data in (("pose", c2w), ("intrinsics", intrinsics)):
        arrays = io.BytesIO()
        np.savez(arrays, data=data, inds=np.arange(len(data)))
        contents[f"{folder}/{{}}.npz"] = arrays.getvalue()
    for name, content in contents.items():
        path = root / str(view) / name.format(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class LyraReader:
    """Reads clips below a root, frame by frame as they are asked for, repeats included."""

    def __init__(self, root: Path, views: Sequence[str]) -> None:
        self._root = root
        self._numbers = {view: str(number) for number, view in enumerate(views)}
        self._zips: dict[Path, zipfile.ZipFile] = {}

    def _path(self, view: str, folder: str, name: str) -> Path:
        return self._root / self._numbers[view] / folder / name

    def forget(self) -> None:
        """Close what is open, as for a new worker."""
        for archive in self._zips.values():
            archive.close()
        self._zips.clear()

    def count_frames(self, key: str, view: str) -> int:
        """A video opened for its length alone: Lyra does so once a sample."""
        path = str(self._path(view, "rgb", f"{key}.mp4"))
        return len(decord.VideoReader(path, num_threads=DECODER_THREADS)) if decord else len(_decoded(path))

    def rgb(self, key: str, view: str, frames: Sequence[int]) -> torch.Tensor:
        """(T, 3, H, W) float32, 0 to 1."""
        path = str(self._path(view, "rgb", f"{key}.mp4"))
        if decord:
            reader = decord.VideoReader(path, num_threads=DECODER_THREADS)
            pictures = reader.get_batch(np.asarray(frames)).asnumpy()
            reader.seek(0)
        else:
            decoded = _decoded(path)
            pictures = np.stack([decoded[frame] for frame in frames])
        return torch.from_numpy(pictures.astype(np.float32) / 255.0).moveaxis(-1, 1).contiguous()

    def depth(self, key: str, view: str, frames: Sequence[int]) -> torch.Tensor:
        """(T, H, W) float32."""
        import OpenEXR

        path = self._path(view, "depth", f"{key}.zip")
        if path not in self._zips:
            self._zips[path] = zipfile.ZipFile(path)
        depth = []
        for frame in frames:
            with self._zips[path].open(f"{frame:05d}.exr") as file:
                exr = OpenEXR.InputFile(file)
                window = exr.header()["dataWindow"]
                shape = window.max.y - window.min.y + 1, window.max.x - window.min.x + 1
                depth.append(np.frombuffer(exr.channel("Z"), np.float16).reshape(shape))
        return torch.from_numpy(np.stack(depth).astype(np.float32)).contiguous()

    def cameras(self, key: str, view: str, frames: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """c2w (T, 4, 4) and intrinsics (T, 4) float32."""
        chosen = []
        for folder in ("pose", "intrinsics"):
            with np.load(self._path(view, folder, f"{key}.npz")) as arrays:
                place = np.searchsorted(arrays["inds"], frames)
                chosen.append(torch.from_numpy(arrays["data"][place].astype(np.float32)))
        return chosen[0], chosen[1]

    def latents(self, key: str, view: str) -> torch.Tensor:
        """(C, t, h, w) float32, normalised."""
        loaded = torch.load(self._path(view, "latent", f"{key}.pkl"), map_location="cpu", weights_only=False)
        return torch.from_numpy(loaded)[0]

    def sample(self, key: str, draw: LyraDraw, configuration: LyraConfiguration, space: LatentSpace) -> dict[str, Any]:
        """The arrays of one training sample, read and prepared as Lyra's Provider does for what was drawn."""
        self.count_frames(key, "left")
        targets = [(view, draw.target_frames) for view in draw.target_views]
        inputs = list(zip(draw.input_views, draw.input_frames, strict=True))
        if configuration.latents:
            pictured = targets
        else:
            pictured = [(draw.input_views[0], np.concatenate([draw.input_frames[0], draw.target_frames]))]
        cameras = [self.cameras(key, view, frames) for view, frames in inputs + targets]
        rgb = torch.cat([self.rgb(key, view, frames.tolist()) for view, frames in pictured])
        depth = torch.cat([self.depth(key, view, frames.tolist()) for view, frames in pictured])[:, None]
        sample = _prepared(rgb, depth, cameras, configuration.image_size)
        if configuration.latents:
            latents = torch.cat([self.latents(key, view)[None] for view in draw.input_views])
            mean, std = (torch.from_numpy(table.copy())[:, :, None, None] for table in (space.mean, space.std))
            sample["rgb_latents"] = (latents / space.scale * std + mean).transpose(1, 2).flatten(0, 1)
        else:
            sample["images_input_vae"] = (sample["images_output"][: draw.input_frames.size] - 0.5) / 0.5
        return sample


def _prepared(
    rgb: torch.Tensor, depth: torch.Tensor, cameras: Sequence[tuple[torch.Tensor, torch.Tensor]], size: tuple[int, int]
) -> dict[str, Any]:
    depth = torch.where((depth > 0) & torch.isfinite(depth), depth, torch.zeros_like(depth))
    if rgb.shape[-2:] != size:
        # The clips here have the shape of every image size, so the crop takes nothing off.
        rgb = interpolate(rgb, size, mode="bilinear", antialias=True)
        depth = interpolate(depth, size, mode="nearest")
    poses = torch.cat([c2w for c2w, _ in cameras])
    return {
        "images_output": rgb,
        "depths_output": depth,
        "c2w": torch.inverse(poses[0])[None] @ poses,
        "intrinsics": torch.cat([intrinsics for _, intrinsics in cameras]),
    }


def _decoded(path: str) -> list[NDArray[np.uint8]]:
    import av

    with av.open(path) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def sample_bytes(sample: Mapping[str, Any]) -> int:
    """Bytes of all tensors of a sample."""
    return sum(values.nbytes for values in sample.values() if isinstance(values, torch.Tensor))

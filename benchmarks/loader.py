"""Samples a second of the training loader, beside the same clips read in other ways, in one table of one run.

    python benchmarks/loader.py [--frames 121 --height 704 --width 1280 --scenes 1] [--quick]

Rows of latents + cameras: our shards by `SceneClips`, Lyra's files as Lyra reads them, WebDataset tars, and `pread` of
the shard's latents, which is the limit. Rows of whole samples: `LyraTrainingSet` and Lyra's files (see lyra_files.py)
for the same views and frames, stage by stage. "Cold" is the first read after the page cache was told to drop the
files, "warm" the fastest of the later ones, of which ours verifies the first alone (`ShardReader`'s default). One
process; torch has one thread, decord the four that Lyra gives it and our decoder as many; CPU seconds stand beside the
clock's. Every view
of a scene holds the same pictures, under twelve names, in files of its own.

Needs webdataset and OpenEXR, and decord for the reader that Lyra uses.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from lyra_files import DECODER_THREADS, VIDEO_READER, LyraReader, sample_bytes, write_depth, write_mp4, write_view
from numpy.typing import NDArray
from PIL import Image

from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.datasets.lyra_configuration import LYRA_STAGES, LyraConfiguration
from sceneloom.datasets.lyra_training_set import LYRA_REVERSED_VIEWS, LYRA_VIEWS, LyraTrainingSet
from sceneloom.datasets.picture_runs import encode_clip
from sceneloom.datasets.scene_clips import SceneClips
from sceneloom.datasets.shards import ClipArrays, write_shard
from sceneloom.datasets.training_index import TRAINING_INDEX_SCHEMA, write_table

VIEWS = (*LYRA_VIEWS, *LYRA_REVERSED_VIEWS)
STAGES = (1, 3, 5, 6, 8)
TARGET_OF_PREAD = 0.7
TARGET_OF_LYRA = 8.0


@dataclass(frozen=True)
class Clip:
    """What every view holds."""

    pictures: list[NDArray[np.uint8]]
    depth: NDArray[np.float16]
    latents: NDArray[np.float16]
    c2w: NDArray[np.float32]
    intrinsics: NDArray[np.float32]


def make_clip(frames: int, height: int, width: int) -> Clip:
    """A camera gliding over smooth shapes with fine texture and a little grain; depth from 2 to 8 with steps.

    Without grain that changes from frame to frame, a video in one group of pictures is nothing but motion vectors, and
    decodes faster than any filmed or generated one.
    """
    rng = np.random.default_rng(0)
    shift = 2
    wide = width + shift * frames
    octaves = sum(_noise(rng, height, wide, cell, 3) * cell**0.7 for cell in (256, 64, 16, 4))
    texture = np.clip(128 + 6 * octaves, 0, 255).astype(np.uint8)
    relief = _noise(rng, height, wide, 128, 1)[..., 0]
    distance = (5 + relief + 1.5 * np.sign(_noise(rng, height, wide, 200, 1)[..., 0])).clip(2, 8)
    grain = rng.normal(1, 5e-4, (height, width))
    latent_frames = 1 + (frames - 1) // 8
    c2w = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    c2w[:, 0, 3] = np.linspace(0, 0.3, frames)
    return Clip(
        [_grained(texture[:, shift * index : shift * index + width], rng) for index in range(frames)],
        np.stack([(distance[:, shift * i : shift * i + width] * grain).astype(np.float16) for i in range(frames)]),
        rng.normal(scale=0.5, size=(16, latent_frames, height // 8, width // 8)).astype(np.float16),
        c2w,
        np.tile(np.array([0.8 * width, 0.8 * width, width / 2, height / 2], np.float32), (frames, 1)),
    )


def _grained(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture with Gaussian grain of one and a half levels, the same in all channels."""
    grain = rng.normal(0, 1.5, (*picture.shape[:2], 1)).astype(np.float32)
    return np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, height: int, width: int, cell: int, channels: int) -> NDArray[np.float64]:
    """(height, width, channels) smooth noise of unit variance at its grid, which has `cell` pixels a step."""
    grid = rng.normal(size=(height // cell + 2, width // cell + 2, channels)).astype(np.float32)
    planes = [
        Image.fromarray(grid[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
        for channel in range(channels)
    ]
    return np.stack([np.asarray(plane, np.float64) for plane in planes], axis=-1)


def make_space(frames: int) -> LatentSpace:
    """Sixteen channels with a mean and std for every latent frame."""
    shape = (16, 1 + (frames - 1) // 8)
    return LatentSpace("benchmark", 16, np.zeros(shape, np.float32), np.ones(shape, np.float32), scale=0.5)


def write_shards(folder: Path, clip: Clip, scenes: int, space: LatentSpace) -> Path:
    """One shard a clip, and the index; the same shard under other names, because writing each would take minutes."""
    runs = encode_clip(clip.pictures)
    print(f"frames of a clip are {sum(len(run.stream) for run in runs) / 1e6:.1f} MB in a shard, at", end=" ")
    print(f"{min(run.psnr for run in runs):.1f} dB or better")
    made = ClipArrays("SCENE", "VIEW", clip.latents, clip.depth, runs, clip.c2w, clip.intrinsics, True, {"number": 1.0})
    write_shard(folder / "made", [made], latent_space=space.to_json())
    rows: list[dict[str, Any]] = []
    for scene in range(scenes):
        for view in VIEWS:
            shard = folder / f"scene-{scene}" / view
            shutil.copytree(folder / "made", shard)
            metadata = (shard / "zarr.json").read_text()
            (shard / "zarr.json").write_text(metadata.replace("SCENE", f"scene-{scene}").replace("VIEW", view))
            rows.append(_row(clip, f"scene-{scene}", view))
    shutil.rmtree(folder / "made")
    index = folder / "training_index.parquet"
    write_table(index, pa.Table.from_pylist(rows, schema=TRAINING_INDEX_SCHEMA))
    return index


def _row(clip: Clip, scene: str, view: str) -> dict[str, Any]:
    height, width = clip.pictures[0].shape[:2]
    facts = dict.fromkeys(TRAINING_INDEX_SCHEMA.names) | dict.fromkeys(("engine", "content_key"), "benchmark")
    size = {"frames": len(clip.pictures), "height": height, "width": width, "fps": 24.0}
    place = {"scene_id": scene, "trajectory": view, "shard": f"{scene}/{view}", "clip_index": 0, "split": "train"}
    kind = {"kind": "prompt", "latent_space": "benchmark", "metric": True, "seed": 0, "passed": True, "failures": []}
    return {**facts, **size, **place, **kind}


def write_lyra(folder: Path, clip: Clip, scenes: int) -> None:
    """Lyra's layout of the same clips."""
    folder.mkdir()
    write_mp4(folder.parent / "lyra.mp4", clip.pictures)
    write_depth(folder.parent / "lyra.zip", clip.depth)
    mp4, depth_zip = ((folder.parent / name).read_bytes() for name in ("lyra.mp4", "lyra.zip"))
    for scene in range(scenes):
        for number in range(len(VIEWS)):
            write_view(
                folder,
                number,
                f"scene-{scene}",
                mp4=mp4,
                depth_zip=depth_zip,
                c2w=clip.c2w,
                intrinsics=clip.intrinsics,
                latents=clip.latents,
            )


def write_tar(path: Path, clip: Clip, scenes: int) -> None:
    """A WebDataset shard of latents and cameras, as npy and npz."""
    latents, cameras = io.BytesIO(), io.BytesIO()
    np.save(latents, clip.latents)
    np.savez(cameras, c2w=clip.c2w, intrinsics=clip.intrinsics)
    with tarfile.open(path, "w") as tar:
        for place in range(scenes * len(VIEWS)):
            for name, content in (("latents.npy", latents), ("cameras.npz", cameras)):
                member = tarfile.TarInfo(f"{place:06d}.{name}")
                member.size = len(content.getvalue())
                tar.addfile(member, io.BytesIO(content.getvalue()))


@dataclass(frozen=True)
class Timing:
    """A way of reading: samples, their bytes, and seconds by the clock and by the processor, cold and warm."""

    samples: int
    bytes: int
    cold: tuple[float, float]
    warm: tuple[float, float]


def measure(read: Callable[[], Iterator[int]], files: Path, repeats: int) -> Timing:
    """Read all samples once cold and `repeats` times warm; `read` yields the bytes of each sample."""
    for file in files.rglob("*") if files.is_dir() else [files]:
        if file.is_file():
            _drop_from_page_cache(file)
    runs = []
    sizes: list[int] = []
    for _ in range(1 + repeats):
        clock, processor = time.perf_counter(), time.process_time()
        sizes = list(read())
        runs.append((time.perf_counter() - clock, time.process_time() - processor))
    return Timing(len(sizes), sum(sizes), runs[0], min(runs[1:]))


def _drop_from_page_cache(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def read_latents(folder: Path, index: Path, repeats: int) -> dict[str, Timing]:
    """Latents and cameras of every clip, in four ways."""
    from webdataset.compat import WebDataset

    dataset = SceneClips(index)
    lyra = LyraReader(folder / "lyra", VIEWS)
    scenes = len(dataset) // len(VIEWS)
    chosen = [(f"scene-{scene}", view) for scene in range(scenes) for view in VIEWS]
    frames = np.arange(dataset.table["frames"][0].as_py())
    objects = [file for file in sorted(index.parent.glob("*/*/latents/c/**/*")) if file.is_file()]

    def ours() -> Iterator[int]:
        return (sample_bytes(dataset[place]) for place in range(len(dataset)))

    def lyras() -> Iterator[int]:
        for key, view in chosen:
            yield lyra.latents(key, view).nbytes + sum(part.nbytes for part in lyra.cameras(key, view, frames))

    def tars() -> Iterator[int]:
        samples: Any = WebDataset(str(folder / "clips.tar"), shardshuffle=False, empty_check=False).decode()
        for sample in samples:
            cameras = sample["cameras.npz"]
            yield sample["latents.npy"].nbytes + cameras["c2w"].nbytes + cameras["intrinsics"].nbytes

    def pread() -> Iterator[int]:
        return (_pread(file) for file in objects)

    return {
        "sceneloom shards": measure(ours, index.parent, repeats),
        "Lyra's files": measure(lyras, folder / "lyra", repeats),
        "WebDataset tar": measure(tars, folder / "clips.tar", repeats),
        "pread of the latents": measure(pread, index.parent, repeats),
    }


def _pread(file: Path) -> int:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return len(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    finally:
        os.close(descriptor)


def read_stage(
    folder: Path, index: Path, configuration: LyraConfiguration, space: LatentSpace, repeats: int
) -> tuple[Timing, Timing, int]:
    """A whole sample of every scene by our loader and from Lyra's files; the epoch has most views in."""
    dataset = LyraTrainingSet(index, configuration, seed=1, decoding_threads=DECODER_THREADS)
    lyra = LyraReader(folder / "lyra", VIEWS)
    epoch = next(e for e in range(1000) if len(dataset.draw(e, 0).input_views) == configuration.input_views)
    scenes = range(len(dataset))

    def ours() -> Iterator[int]:
        return (sample_bytes(dataset[epoch, scene]) for scene in scenes)

    def lyras() -> Iterator[int]:
        lyra.forget()
        for scene in scenes:
            yield sample_bytes(lyra.sample(dataset.scene(scene), dataset.draw(epoch, scene), configuration, space))

    return (
        measure(ours, index.parent, repeats),
        measure(lyras, folder / "lyra", repeats),
        len(dataset.draw(epoch, 0).input_views),
    )


def _line(name: str, timing: Timing, verdict: str = "") -> str:
    cold, warm = timing.cold[0], timing.warm[0]
    return (
        f"{name:40} {timing.samples / cold:9.2f} {timing.samples / warm:9.2f} {timing.bytes / warm / 1e6:9.0f} "
        f"{timing.warm[1] / timing.samples:9.4f}  {verdict}"
    )


def report_latents(timings: dict[str, Timing]) -> None:
    """Print the rows of latents and cameras."""
    ours, limit = timings["sceneloom shards"], timings["pread of the latents"]
    share, by_cpu = (ours.bytes / ours.warm[kind] / (limit.bytes / limit.warm[kind]) for kind in (0, 1))
    for name, timing in timings.items():
        verdict = f"{share:.2f} of pread, by CPU seconds {by_cpu:.2f} (target ≥ {TARGET_OF_PREAD})"
        verdict = verdict if timing is ours else ""
        print(_line(f"latents + cameras: {name}", timing, verdict), flush=True)


def report_stage(stage: int, ours: Timing, lyra: Timing, views: int) -> None:
    """Print the two rows of a stage."""
    clock, processor = lyra.warm[0] / ours.warm[0], lyra.warm[1] / ours.warm[1]
    verdict = f"{clock:.1f}x, by CPU seconds {processor:.1f}x (target ≥ {TARGET_OF_LYRA:.0f}x)"
    print(_line(f"stage {stage}, {views} view(s): sceneloom", ours, verdict))
    print(_line(f"stage {stage}, {views} view(s): Lyra's files", lyra), flush=True)


def main() -> None:
    """Make the clips, read them in every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=121)
    parser.add_argument("--height", type=int, default=704)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument(
        "--repeats", type=int, default=1, help="warm reads of whole samples; latents are read 5 times as often"
    )
    parser.add_argument("--stages", type=int, nargs="*", default=STAGES, choices=sorted(LYRA_STAGES))
    parser.add_argument("--quick", action="store_true", help="17 frames of 176 × 320")
    options = parser.parse_args()
    frames, height, width = (17, 176, 320) if options.quick else (options.frames, options.height, options.width)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="sceneloom-loader-"))
    try:
        clip, space = make_clip(frames, height, width), make_space(frames)
        (folder / "shards").mkdir()
        index = write_shards(folder / "shards", clip, options.scenes, space)
        write_lyra(folder / "lyra", clip, options.scenes)
        write_tar(folder / "clips.tar", clip, options.scenes)
        print(f"{options.scenes} scene(s), 12 clips each of {frames} frames of {height} x {width}; {VIDEO_READER}")
        print(f"and {(folder / 'lyra.mp4').stat().st_size / 1e6:.1f} MB as Lyra writes them")
        print(f"{'':40} {'cold /s':>9} {'warm /s':>9} {'warm MB/s':>9} {'CPU s':>9}")
        report_latents(read_latents(folder, index, 5 * options.repeats))
        for stage in options.stages:
            configuration = LYRA_STAGES[stage].adapted(frames, height, width)
            report_stage(stage, *read_stage(folder, index, configuration, space, options.repeats))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

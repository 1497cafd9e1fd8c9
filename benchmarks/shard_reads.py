"""Times of reading a shard's fields beside raw reads of the same bytes and beside zarr-python, in one process.

    python benchmarks/shard_reads.py [--frames 17]

A shard of two ray-cast clips of 704 × 1280 pixels is written, with latents of the size of Lyra's, (16, 16, 88, 160)
float16. Everything is in the page cache. Each figure is the median of the repeats.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from shard_clips import HEIGHT, WIDTH, clip_arrays, ray_cast_clip

from sceneloom.datasets.shards import ShardReader, write_shard

SPACE = {"id": "benchmark"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Times of reading a shard.")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=31)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder, "shard.zarr")
        clips = [clip_arrays(ray_cast_clip(seed, arguments.frames), f"scene-{seed}") for seed in range(2)]
        write_shard(shard, clips, latent_space=SPACE)
        print(f"2 clips of {arguments.frames} × {HEIGHT} × {WIDTH}, median of {arguments.repeats}\n")
        _print_times(shard, arguments.frames, arguments.repeats)


def _print_times(shard: Path, frames: int, repeats: int) -> None:
    def median(read: Callable[[], object]) -> float:
        read()
        return statistics.median(_seconds(read) for _ in range(repeats))

    reader, careful = ShardReader(shard), ShardReader(shard, verify="always")
    group: Any = zarr.open_group(shard, mode="r")
    name = ("scene-1", "left")
    size = int(np.prod(reader.latents(*name).shape)) * 2
    path = str(shard / "latents" / "c" / "0" / "0" / "0" / "0" / "0")
    descriptor = os.open(path, os.O_RDONLY)
    rows = {
        f"pread of {size} bytes": lambda: os.pread(descriptor, size, 36),
        "latents()": lambda: reader.latents(*name),
        'latents(), verify="always"': lambda: careful.latents(*name),
        "zarr-python, latents": lambda: group["latents"][1],
        f"pread of {frames * 80} bytes": lambda: os.pread(descriptor, frames * 80, 36),
        "cameras()": lambda: reader.cameras(*name),
        "zarr-python, c2w and intrinsics": lambda: (group["c2w"][1], group["intrinsics"][1]),
        "latents() + cameras()": lambda: (reader.latents(*name), reader.cameras(*name)),
        "depth(), one frame": lambda: reader.depth(*name, [frames // 2]),
        "depth(), eight frames": lambda: reader.depth(*name, range(8)),
        "rgb(), one frame": lambda: reader.rgb(*name, [frames // 2]),
        "rgb(), a run of sixteen": lambda: reader.rgb(*name, range(16)),
    }
    print("| read | µs |\n|---|---|")
    for what, read in rows.items():
        print(f"| {what} | {1e6 * median(read):.1f} |")
    os.close(descriptor)


def _seconds(read: Callable[[], object]) -> float:
    start = time.perf_counter()
    read()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""Time and memory of the latent codec, each clip size in a process of its own.

    python benchmarks/latent_codec.py --threads 1
    python benchmarks/latent_codec.py --device cuda --dtype bfloat16

Frames are made one by one and decoded frames are dropped as they come, so the peak resident memory
(getrusage, RUSAGE_SELF) is that of Python, PyTorch, the weights and the codec's work, in any clip's length.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sceneloom.resources.latent_codec import LatentCodec

CLIPS = ((17, 176, 320), (121, 352, 640), (121, 704, 1280))


@dataclass(frozen=True)
class Measured:
    """Seconds and bytes of one clip."""

    loaded: float
    encode: float
    decode: float
    memory_loaded: int
    memory_encoded: int
    memory_peak: int


def moving_texture(frames: int, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
    """A random texture that slides by three pixels a frame."""
    texture = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    picture = texture.repeat(8, axis=0).repeat(8, axis=1)
    for index in range(frames):
        yield np.roll(picture, 3 * index, axis=1)


def measure(weights: str, device: str, dtype: str, threads: int, clip: tuple[int, int, int]) -> Measured:
    """Loads, encodes and decodes once. On a GPU the copies to and from it are counted."""
    import torch

    torch.set_num_threads(threads)
    moments = [time.perf_counter()]
    codec = LatentCodec.load(weights, device=device, dtype=dtype)
    moments.append(time.perf_counter())
    memory = [_peak_memory()]
    latents = codec.encode(moving_texture(*clip))
    moments.append(time.perf_counter())
    memory.append(_peak_memory())
    decoded = sum(len(group) for group in codec.decode_groups(latents))
    moments.append(time.perf_counter())
    if decoded != clip[0]:
        raise AssertionError(f"{decoded} frames decoded of {clip[0]}")
    loaded, encode, decode = np.diff(moments)
    return Measured(float(loaded), float(encode), float(decode), memory[0], memory[1], _peak_memory())


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kibibytes


def main() -> None:
    """Prints one row a clip size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="sceneloom-cosmos-8x8x8")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{arguments.weights} on {arguments.device}, {arguments.dtype}, {arguments.threads} threads")
    print("| frames × height × width | encode s | frames/s | decode s | frames/s | peak MB: loaded | encode | decode |")
    print("|---|---|---|---|---|---|---|---|")
    fixed = (arguments.weights, arguments.device, arguments.dtype, arguments.threads)
    context = multiprocessing.get_context("spawn")
    for clip in CLIPS:
        with context.Pool(1) as pool:  # a process's peak never sinks, so each clip has its own
            row = pool.apply(measure, (*fixed, clip))
        memory = " | ".join(f"{value / 1e6:.0f}" for value in (row.memory_loaded, row.memory_encoded, row.memory_peak))
        print(
            f"| {' × '.join(map(str, clip))} | {row.encode:.2f} | {clip[0] / row.encode:.1f} "
            f"| {row.decode:.2f} | {clip[0] / row.decode:.1f} | {memory} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Codecs for depth maps and frames, and the size of a whole shard beside the files that Lyra writes, in one run.

    python benchmarks/depth_codecs.py [--frames 32]

Depth is that of two ray-cast scenes of 704 × 1280 pixels, as it is ("clean") and with the noise of an estimator
("network"): edges softened by a pixel, 0.4 % of low-frequency and 0.05 % of fine noise. Every tenth frame of each is
coded alone, by one thread. Rates are MB of float16 depth a second, of the thread's own time, from depth to bytes and
back to float16 depth. The error is relative to the depth in float32. Codecs that are not installed are left out.
"""

from __future__ import annotations

import argparse
import datetime
import io
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
from lyra_files import write_mp4
from numpy.typing import NDArray
from shard_clips import CLIP_FRAMES, HEIGHT, WIDTH, clip_arrays, like_a_network, ray_cast_clip

from sceneloom.datasets.depth_codec import BOUNDED_RELATIVE_ERROR, PREDICTIONS, DepthCode
from sceneloom.datasets.picture_runs import decode_frames, encode_clip
from sceneloom.datasets.shards import write_shard
from sceneloom.datasets.tensors import FLOAT16_LARGEST, FLOAT16_SMALLEST
from sceneloom.datasets.video import read_video, write_video

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
UInt16 = NDArray[np.uint16]
FULL_CLIP = CLIP_FRAMES * HEIGHT * WIDTH * 2 / 1e6
RANGE = (FLOAT16_SMALLEST, FLOAT16_LARGEST)


@dataclass(frozen=True)
class Codec:
    """From depth to bytes and back."""

    name: str
    encode: Callable[[Float32], bytes]
    decode: Callable[[bytes], NDArray[np.floating]]


def _codecs() -> Iterator[Codec]:
    from numcodecs.blosc import Blosc
    from numcodecs.zstd import Zstd

    yield from _exr()
    yield _of_bits("zstd 3", Zstd(3).encode, lambda data: np.frombuffer(Zstd(3).decode(data), np.uint16))
    for name, shuffle in (("shuffle", 1), ("bitshuffle", 2)):
        blosc = Blosc("zstd", 5, shuffle)
        yield _of_bits(f"blosc zstd 5 {name}", blosc.encode, lambda data, b=blosc: np.frombuffer(b.decode(data), "u2"))
    yield from _of_codes()


def _of_codes() -> Iterator[Codec]:
    from numcodecs.blosc import Blosc

    for tier, code in (("exact", DepthCode.exact(*RANGE)), ("0.1 %", DepthCode.bounded(*RANGE))):
        for prediction in PREDICTIONS:
            for name, shuffle, level in (("shuffle", 1, 5), ("shuffle", 1, 8), ("shuffle", 1, 9), ("bitshuffle", 2, 8)):
                blosc = Blosc("zstd", level, shuffle)
                yield Codec(
                    f"{tier}: {prediction}, blosc zstd {level} {name}",
                    lambda depth, c=code, p=prediction, b=blosc: b.encode(c.encode(depth, p)),
                    lambda data, c=code, p=prediction, b=blosc: c.decode(
                        np.frombuffer(b.decode(data), np.uint16).reshape(HEIGHT, WIDTH), p
                    ),
                )
    yield from _of_libraries("exact", _float16_bits, lambda codes: codes.view(np.float16))
    yield from _of_libraries("0.1 %", _logarithms, _from_logarithms)


def _float16_bits(depth: Float32) -> UInt16:
    return depth.astype(np.float16).view(np.uint16)


SPACING = 2 * np.log1p(BOUNDED_RELATIVE_ERROR)
NEAREST = 0.1
"""Nearest depth that the logarithmic codes hold, with which 12 bits reach 360 times as far."""


def _logarithms(depth: Float32) -> UInt16:
    """Twelve bits as they are used for want of a closed loop: the nearest step of a logarithmic scale."""
    return (1 + np.rint(np.log(depth / NEAREST) / SPACING)).astype(np.uint16)


def _from_logarithms(codes: UInt16) -> Float32:
    return (NEAREST * np.exp((codes.astype(np.float32) - 1) * SPACING)).astype(np.float32)


def _of_libraries(
    tier: str, to_codes: Callable[[Float32], UInt16], to_depth: Callable[[UInt16], NDArray[np.floating]]
) -> Iterator[Codec]:
    gray = "gray16le" if tier == "exact" else "gray12le"
    yield Codec(
        f"{tier}: FFV1 {gray}",
        lambda depth: _ffv1(to_codes(depth), gray),
        lambda data: to_depth(_unffv1(data, gray).copy()),
    )
    try:
        import imagecodecs  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("imagecodecs is not installed: no JPEG-LS")
    else:
        yield Codec(
            f"{tier}: JPEG-LS",
            lambda depth: imagecodecs.jpegls_encode(to_codes(depth)),
            lambda data: to_depth(imagecodecs.jpegls_decode(data)),
        )
    try:
        from numcodecs.pcodec import PCodec

        pcodec: Any = PCodec(level=8)
    except ImportError:
        print("pcodec is not installed: no PCodec")
    else:
        yield Codec(
            f"{tier}: pcodec",
            lambda depth: bytes(pcodec.encode(to_codes(depth).reshape(-1))),
            lambda data: to_depth(np.asarray(pcodec.decode(data)).view(np.uint16).reshape(HEIGHT, WIDTH)),
        )


def _exr() -> Iterator[Codec]:
    try:
        import OpenEXR
    except ImportError:
        print("OpenEXR is not installed: no EXR")
        return

    def encode(depth: Float32) -> bytes:
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder, "z.exr"))
            OpenEXR.File(header, {"Z": depth.astype(np.float16)}).write(file)
            return Path(file).read_bytes()

    def decode(data: bytes) -> Float16:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "z.exr")
            file.write_bytes(data)
            return np.asarray(OpenEXR.File(str(file)).channels()["Z"].pixels)

    yield Codec("EXR half ZIP, as Lyra", encode, decode)


def _of_bits(name: str, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]) -> Codec:
    return Codec(
        f"exact: {name}",
        lambda depth: bytes(encode(depth.astype(np.float16).view(np.uint16))),
        lambda data: decode(data).view(np.float16).reshape(HEIGHT, WIDTH),
    )


def _ffv1_context(mode: str, gray: str) -> Any:
    import av

    context: Any = av.CodecContext.create("ffv1", mode)  # pyright: ignore
    context.width, context.height, context.pix_fmt, context.thread_count = WIDTH, HEIGHT, gray, 1
    return context


def _ffv1(codes: UInt16, gray: str) -> bytes:
    import av

    context = _ffv1_context("w", gray)
    context.time_base = Fraction(1, 24)
    context.options = {"level": "3", "coder": "1", "context": "0", "g": "1", "slices": "4", "slicecrc": "0"}
    frame = av.VideoFrame(WIDTH, HEIGHT, gray)
    rows = np.zeros((HEIGHT, frame.planes[0].line_size // 2), np.uint16)
    rows[:, :WIDTH] = codes
    frame.planes[0].update(rows.tobytes())
    packets = context.encode(frame) + context.encode(None)
    return len(context.extradata).to_bytes(2, "little") + context.extradata + bytes(packets[0])


def _unffv1(data: bytes, gray: str) -> UInt16:
    import av

    start = 2 + int.from_bytes(data[:2], "little")
    context = _ffv1_context("r", gray)
    context.extradata = data[2:start]
    frame = (context.decode(av.Packet(data[start:])) + context.decode(None))[0]
    return np.frombuffer(frame.planes[0], np.uint16).reshape(HEIGHT, -1)[:, :WIDTH]


def _print_codecs(sets: dict[str, list[Float32]]) -> None:
    print(f"| codec | {' | '.join(f'{name}: ratio | MB a clip | encode | decode | error' for name in sets)} |")
    print("|---|" + "---|" * 5 * len(sets))
    for codec in _codecs():
        print(f"| {codec.name} | {' | '.join(_measured(codec, frames) for frames in sets.values())} |", flush=True)


def _measured(codec: Codec, frames: list[Float32]) -> str:
    raw = len(frames) * HEIGHT * WIDTH * 2
    start = time.thread_time()
    encoded = [codec.encode(frame) for frame in frames]
    middle = time.thread_time()
    decoded = [codec.decode(data) for data in encoded]
    end = time.thread_time()
    error = max(float(np.abs(found / frame - 1).max()) for found, frame in zip(decoded, frames, strict=True))
    size = sum(map(len, encoded))
    rates = f"{raw / 1e6 / (middle - start):.0f} | {raw / 1e6 / (end - middle):.0f}"
    return f"{raw / size:.2f} | {FULL_CLIP * size / raw:.1f} | {rates} | {100 * error:.3f} %"


def _print_sizes(frames: int) -> None:
    """Bytes of a clip of 121 frames in a shard and in Lyra's files, from the first frames of each scene."""
    import torch

    exr = next(_exr())
    grow = CLIP_FRAMES / frames / 1e6
    print("| scene, depth | Lyra's mp4 | depth | latents | sum | shard: RGB | depth | latents | sum | of Lyra's |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for seed in range(2):
        clip = ray_cast_clip(seed, frames)
        for name, depth in (("clean", clip.depth), ("network", like_a_network(clip.depth))):
            arrays, archive, pickled = clip_arrays(clip, f"scene-{seed}", depth=depth), io.BytesIO(), io.BytesIO()
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
                for index, frame in enumerate(depth):
                    members.writestr(f"{index:05d}.exr", exr.encode(frame))
            torch.save(arrays.latents[None].astype(np.float32), pickled)
            with tempfile.TemporaryDirectory() as folder:
                write_mp4(Path(folder, "clip.mp4"), list(clip.rgb))
                video = Path(folder, "clip.mp4").stat().st_size * grow
                write_shard(Path(folder, "shard"), [arrays], latent_space={})
                parts = {
                    part: sum(p.stat().st_size for p in Path(folder, "shard").glob(f"{part}*/**/*") if p.is_file())
                    for part in ("rgb", "depth_residuals", "latents", "")
                }
            lyra = [video, len(archive.getvalue()) * grow, len(pickled.getvalue()) / 1e6]
            ours = [parts["rgb"] * grow, parts["depth_residuals"] * grow, parts["latents"] / 1e6]
            rest = (parts[""] - parts["rgb"] - parts["depth_residuals"] - parts["latents"]) / 1e6
            row = [*lyra, sum(lyra), *ours, sum(ours) + rest]
            share = f"{100 * row[-1] / row[3]:.0f} %"
            print(f"| {seed}, {name} | {' | '.join(f'{value:.1f}' for value in row)} | {share} |", flush=True)


def _print_video_qualities(frames: int) -> None:
    grow = CLIP_FRAMES / frames / 1e6
    rows: dict[str, list[str]] = {}
    for seed in range(2):
        clip = ray_cast_clip(seed, frames)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "clip.mp4")
            write_mp4(file, list(clip.rgb))
            _add(rows, "4:2:0, crf 10, as Lyra writes it", read_video(file), clip.rgb, file.stat().st_size * grow)
            for crf in (4, 10, 18):
                write_video(file, clip.rgb, crf=crf)
                name = f"4:2:0, crf {crf}, groups of eight"
                _add(rows, name, read_video(file), clip.rgb, file.stat().st_size * grow)
        for minimum in (40.0, 42.0, 44.0, 46.0):
            runs = encode_clip(clip.rgb, minimum_psnr=minimum)
            found = np.concatenate([decode_frames(run.stream, run.packets, range(len(run.packets))) for run in runs])
            _add(rows, f"4:4:4 runs of {minimum:g} dB", found, clip.rgb, sum(len(run.stream) for run in runs) * grow)
    print("| frames | scene 0 | scene 1 |\n|---|---|---|")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _add(
    rows: dict[str, list[str]], name: str, found: NDArray[np.uint8], given: NDArray[np.uint8], megabytes: float
) -> None:
    rows.setdefault(name, []).append(f"{_psnr(given, found):.1f} dB, {megabytes:.1f} MB")


def _psnr(given: NDArray[np.uint8], found: NDArray[np.uint8]) -> float:
    squared = [np.square(a.astype(np.float32) - b).mean() for a, b in zip(given, found, strict=True)]
    return float(10 * np.log10(255**2 / np.mean(squared)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Codecs for depth maps.")
    parser.add_argument("--frames", type=int, default=32)
    arguments = parser.parse_args()
    numcodecs.blosc.set_nthreads(1)
    clean = [frame for seed in range(2) for frame in ray_cast_clip(seed, arguments.frames).depth[::10]]
    network = [
        frame for seed in range(2) for frame in like_a_network(ray_cast_clip(seed, arguments.frames).depth)[::10]
    ]
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {len(clean)} frames of {HEIGHT} × {WIDTH}\n")
    _print_codecs({"clean": clean, "network": network})
    print("\nMB of a clip of 121 frames, from its first frames\n")
    _print_sizes(arguments.frames)
    print("\nVideo: PSNR against the frames given, and MB of a clip of 121 frames\n")
    _print_video_qualities(arguments.frames)


if __name__ == "__main__":
    main()

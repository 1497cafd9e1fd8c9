"""Codecs for depth maps, and the size of a whole shard beside the files that Lyra's layout writes, in one run.

    python benchmarks/depth_codecs.py [--frames 9]

Depth is that of two ray-cast scenes of 704 × 1280 pixels, as it is ("clean") and with the noise of an estimator
("network"): edges softened by a pixel, 0.4 % of low-frequency and 0.05 % of fine noise. Every third frame of each is
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
from numpy.typing import NDArray
from shard_clips import CLIP_FRAMES, HEIGHT, WIDTH, clip_arrays, like_a_network, ray_cast_clip

from sceneloom.datasets.depth_codec import DepthCode, bounded_values, codes_of, exact_values, residuals
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
    decode: Callable[[bytes], Float16]


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

    for tier, code in (("exact", DepthCode(exact_values(*RANGE))), ("0.1 %", DepthCode(bounded_values(*RANGE)))):
        for name, shuffle, level in (
            ("shuffle", 1, 5),
            ("bitshuffle", 2, 3),
            ("bitshuffle", 2, 5),
            ("bitshuffle", 2, 7),
        ):
            blosc = Blosc("zstd", level, shuffle)
            for predictor, forward, back in (("median of row above", residuals, codes_of), ("plane", _plane, _unplane)):
                yield _coded(
                    f"{tier}: {predictor}, blosc zstd {level} {name}",
                    code,
                    lambda codes, f=forward, b=blosc: b.encode(np.ascontiguousarray(f(codes))),
                    lambda data, k=back, b=blosc: k(np.frombuffer(b.decode(data), np.uint16).reshape(HEIGHT, WIDTH)),
                )
        yield from _of_libraries(tier, code)


def _of_libraries(tier: str, code: DepthCode) -> Iterator[Codec]:
    gray = "gray16le" if tier == "exact" else "gray12le"
    offset = 0 if tier == "exact" else int(code.encode(np.array([0.5], np.float32))[0])
    yield _coded(
        f"{tier}: FFV1 {gray}",
        code,
        lambda codes: _ffv1(np.where(codes > 0, codes - np.uint16(offset), 0).astype(np.uint16), gray),
        lambda data: _restored(_unffv1(data, gray), offset),
    )
    try:
        import imagecodecs  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("imagecodecs is not installed: no JPEG-LS")
    else:
        yield _coded(f"{tier}: JPEG-LS", code, imagecodecs.jpegls_encode, lambda data: imagecodecs.jpegls_decode(data))
    try:
        from numcodecs.pcodec import PCodec

        pcodec: Any = PCodec(level=8)
    except ImportError:
        print("pcodec is not installed: no PCodec")
    else:
        yield _coded(
            f"{tier}: median of row above, pcodec",
            code,
            lambda codes: bytes(pcodec.encode(residuals(codes).reshape(-1))),
            lambda data: codes_of(np.asarray(pcodec.decode(data)).view(np.uint16).reshape(HEIGHT, WIDTH)),
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


def _coded(name: str, code: DepthCode, encode: Callable[[UInt16], Any], decode: Callable[[bytes], Any]) -> Codec:
    return Codec(
        name,
        lambda depth: bytes(encode(code.encode(depth.astype(np.float16)))),
        lambda data: np.take(code.values, decode(data), mode="clip"),
    )


def _plane(codes: UInt16) -> UInt16:
    """Residuals after the plane through the neighbours to the left, above and above left."""
    change = codes.copy()
    change[1:] -= codes[:-1]
    change[:, 1:] -= change[:, :-1].copy()
    return ((change << 1) ^ (np.uint16(0) - (change >> 15))).astype(np.uint16)


def _unplane(folded: UInt16) -> UInt16:
    change = (folded >> 1) ^ (np.uint16(0) - (folded & 1))
    return np.cumsum(np.cumsum(change, axis=1, dtype=np.uint16), axis=0, dtype=np.uint16).astype(np.uint16)


def _restored(codes: UInt16, offset: int) -> UInt16:
    return np.where(codes > 0, codes + np.uint16(offset), 0).astype(np.uint16)


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
    """Bytes of a clip of 121 frames in a shard and in Lyra's layout, from the first frames of each scene."""
    import torch

    exr = next(_exr())
    print("| scene, depth | PSNR dB | mp4 | Lyra depth | latents | sum | shard exact | of Lyra | bounded | of Lyra |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for seed in range(2):
        clip = ray_cast_clip(seed, frames)
        for name, depth in (("clean", clip.depth), ("network", like_a_network(clip.depth))):
            arrays = clip_arrays(clip, f"scene-{seed}", depth=depth)
            grow = CLIP_FRAMES / frames / 1e6
            video, archive, pickled = len(arrays.rgb_mp4) * grow, io.BytesIO(), io.BytesIO()
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
                for index, frame in enumerate(depth):
                    members.writestr(f"{index:05d}.exr", exr.encode(frame))
            torch.save(arrays.latents[None].astype(np.float32), pickled)
            latents = len(pickled.getvalue()) / 1e6
            lyra = video + len(archive.getvalue()) * grow + latents
            row = [f"{_psnr(clip.rgb, read_video(arrays.rgb_mp4)):.1f}", f"{video:.1f}"]
            row += [f"{len(archive.getvalue()) * grow:.1f}", f"{latents:.1f}", f"{lyra:.1f}"]
            for tier in ("exact", "bounded"):
                with tempfile.TemporaryDirectory() as folder:
                    write_shard(Path(folder, "shard"), [arrays], latent_space={}, depth_tier=tier)
                    sizes = {p: p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()}
                fixed = sum(size for path, size in sizes.items() if "latents" in path.parts) / 1e6
                shard = fixed + (sum(sizes.values()) - fixed * 1e6) * grow
                row += [f"{shard:.1f}", f"{100 * shard / lyra:.0f} %"]
            print(f"| {seed}, {name} | {' | '.join(row)} |", flush=True)


def _print_video_qualities(frames: int) -> None:
    print("| scene | " + " | ".join(f"crf {crf}" for crf in (4, 7, 10, 14, 18)) + " |\n|---|" + "---|" * 5)
    for seed in range(2):
        clip = ray_cast_clip(seed, frames)
        cells = []
        for crf in (4, 7, 10, 14, 18):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "clip.mp4")
                write_video(file, clip.rgb, crf=crf)
                size = file.stat().st_size * CLIP_FRAMES / frames / 1e6
                cells.append(f"{_psnr(clip.rgb, read_video(file)):.1f} dB, {size:.1f} MB")
        print(f"| {seed} | {' | '.join(cells)} |", flush=True)


def _psnr(given: NDArray[np.uint8], found: NDArray[np.uint8]) -> float:
    squared = [np.square(a.astype(np.float32) - b).mean() for a, b in zip(given, found, strict=True)]
    return float(10 * np.log10(255**2 / np.mean(squared)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Codecs for depth maps.")
    parser.add_argument("--frames", type=int, default=9)
    arguments = parser.parse_args()
    numcodecs.blosc.set_nthreads(1)
    clean = [frame for seed in range(2) for frame in ray_cast_clip(seed, arguments.frames).depth[::3]]
    network = [frame for seed in range(2) for frame in like_a_network(ray_cast_clip(seed, arguments.frames).depth)[::3]]
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {len(clean)} frames of {HEIGHT} × {WIDTH}\n")
    _print_codecs({"clean": clean, "network": network})
    print("\nMB of a clip of 121 frames, from its first frames\n")
    _print_sizes(arguments.frames)
    print("\nVideo: PSNR against the frames given, and MB of a clip of 121 frames\n")
    _print_video_qualities(arguments.frames)


if __name__ == "__main__":
    main()

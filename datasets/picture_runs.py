"""Frames as short runs of H.264 with full chroma, each a stream of its own, kept to a measured PSNR.

A run is an H.264 Annex B stream (ITU-T H.264, High 4:4:4 Predictive, BT.709 matrix, full range) of a few frames with
its parameter sets: written to a file, it plays. Its first picture is coded alone, its last refers to the first, and all
between refer to these two and to nothing else. Beside the stream stands a list of its packets, so that any frame is
decoded from three pictures at most, and not from all before it.

4:4:4 because subsampled chroma keeps strong colours to 40 dB whatever the bit rate. The encoder minimises the squared
error (no psychovisual tuning); CAVLC and no deblocking, because they decode in half the time for some 15 % more bytes
(docs/decisions.md). Every run is decoded again when it is written, compared with the frames given, and coded again
with finer quantisation until it keeps the PSNR asked for.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptFileError, InputError

if TYPE_CHECKING:
    import av.video.frame

UInt8 = NDArray[np.uint8]

FRAMES_IN_A_RUN = 16
MINIMUM_PSNR = 42.0
"""Of every run against the frames given, dB."""

_FIRST_QUALITY = 18.0
"""x264's constant rate factor that the first run is tried with."""
_FINEST_QUALITY = 1.0
_COARSEST_QUALITY = 40.0
_DECIBELS_A_STEP = 0.46
"""What one step of the rate factor changes the PSNR by (ray-cast clips between 16 and 20)."""
_AIM = 0.1
"""dB above the minimum that the next run aims at."""
_REMAKE = "The run was changed or damaged after it was written: fetch it again, or make it again."


@dataclass(frozen=True, slots=True, eq=False)
class PictureRun:
    """A few frames, coded.

    Attributes:
        stream: H.264 Annex B.
        packets: (n, 3) int32, in the order of decoding: bytes, frame in the run, 1 where others refer to it, else 0.
        psnr: of the decoded frames against those given, dB; infinite where they are equal.
    """

    stream: bytes
    packets: NDArray[np.int32]
    psnr: float


class PictureRunEncoder:
    """Codes a clip run by run as its frames come; memory holds one run.

    Args:
        minimum_psnr: of every run, dB.
    """

    def __init__(self, minimum_psnr: float = MINIMUM_PSNR) -> None:
        self.minimum_psnr = minimum_psnr
        self.runs: list[PictureRun] = []
        self._quality = _FIRST_QUALITY

    def passing(self, frames: Iterable[UInt8]) -> Iterator[UInt8]:
        """Hand (H, W, 3) uint8 sRGB frames on while coding them; `runs` holds all when the iterator ends.

        Raises InputError for frames of another shape or dtype or of changing size, and for a PSNR that cannot be kept.
        """
        waiting: list[UInt8] = []
        size: tuple[int, ...] | None = None
        for index, frame in enumerate(frames):
            size = _checked(frame, size, index)
            waiting.append(frame)
            if len(waiting) == FRAMES_IN_A_RUN:
                self._encode(waiting)
                waiting = []
            yield frame
        if waiting:
            self._encode(waiting)

    def _encode(self, frames: Sequence[UInt8]) -> None:
        stacked = np.stack(frames)
        planes = _to_planes(stacked)
        while True:
            stream, packets = _encoded(planes, self._quality)
            psnr = _psnr(decode_frames(stream, packets, range(len(frames))), stacked)
            steps = (psnr - self.minimum_psnr - _AIM) / _DECIBELS_A_STEP
            kept = psnr >= self.minimum_psnr or self._quality == _FINEST_QUALITY
            # A quarter of a step finer at least where the run is not good enough yet.
            quality = self._quality + (steps if kept else min(steps, -0.25))
            # Clamped first: frames that come back exactly have an infinite PSNR.
            self._quality = round(4 * min(max(quality, _FINEST_QUALITY), _COARSEST_QUALITY)) / 4
            if kept:
                break
        if psnr < self.minimum_psnr:
            raise InputError(
                f"the frames can be kept to {psnr:.2f} dB, not {self.minimum_psnr:g}",
                where="picture runs",
                remedy="Ask for a lower PSNR.",
            )
        self.runs.append(PictureRun(stream, packets, psnr))


def save_runs(path: Path, runs: Sequence[PictureRun]) -> None:
    """Write the runs of a clip into one npz file: streams joined, and of every run its bytes, packets and PSNR."""
    np.savez(
        path,
        stream=np.frombuffer(b"".join(run.stream for run in runs), np.uint8),
        run_bytes=np.array([len(run.stream) for run in runs], np.int64),
        run_frames=np.array([len(run.packets) for run in runs], np.int64),
        packets=np.concatenate([run.packets for run in runs]),
        psnr=np.array([run.psnr for run in runs], np.float64),
    )


def load_runs(path: Path) -> list[PictureRun]:
    """Read what `save_runs` wrote. Raises CorruptFileError when the file is not one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            stream = archive["stream"].tobytes()
            ends, frames = np.cumsum(archive["run_bytes"]), np.cumsum(archive["run_frames"])
            packets, psnr = archive["packets"], archive["psnr"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise CorruptFileError(f"the runs cannot be read ({error})", where=str(path), remedy=_REMAKE) from error
    if not len(ends) == len(frames) == len(psnr) > 0 or (ends[-1], frames[-1]) != (len(stream), len(packets)):
        raise CorruptFileError("the runs are not those that the file lists", where=str(path), remedy=_REMAKE)
    starts, first = [0, *ends[:-1].tolist()], [0, *frames[:-1].tolist()]
    return [
        PictureRun(stream[starts[run] : ends[run]], packets[first[run] : frames[run]], float(psnr[run]))
        for run in range(len(ends))
    ]


def encode_clip(frames: Iterable[UInt8], *, minimum_psnr: float = MINIMUM_PSNR) -> list[PictureRun]:
    """All runs of a clip of (H, W, 3) uint8 frames. Raises InputError as `PictureRunEncoder`, and for no frame."""
    encoder = PictureRunEncoder(minimum_psnr)
    for _ in encoder.passing(frames):
        pass
    if not encoder.runs:
        raise InputError("there is no frame to code", where="picture runs", remedy="Give at least one frame.")
    return encoder.runs


def decode_frames(
    stream: bytes | memoryview,
    packets: NDArray[np.integer],
    frames: Sequence[int],
    *,
    channels_first: bool = False,
) -> UInt8:
    """Decode frames of one run, and of the others only what these refer to.

    Args:
        stream, packets: of a `PictureRun`.
        frames: places in the run, in any order, repeats allowed.
        channels_first: give (n, 3, H, W), which spares the copy to interleaved channels.

    Returns:
        (n, H, W, 3) uint8 sRGB, or (n, 3, H, W), in the order asked for.

    Raises:
        CorruptFileError: the packets are not those of the stream, or a frame does not decode.
    """
    import av
    import av.error

    ends = np.cumsum(packets[:, 0])
    if len(packets) == 0 or ends[-1] != len(stream) or (packets[:, 0] <= 0).any():
        raise CorruptFileError("the packets are not those of the stream", where="picture run", remedy=_REMAKE)
    places: dict[int, list[int]] = {}
    for place, frame in enumerate(frames):
        places.setdefault(int(frame), []).append(place)
    result: UInt8 | None = None
    try:
        for frame, picture in _pictures(stream, packets, ends, set(places)):
            if frame not in places:
                continue
            decoded = _to_rgb(picture, channels_first)
            if result is None:
                result = np.empty((len(frames), *decoded.shape), np.uint8)
            result[places.pop(frame)] = decoded
    except av.error.FFmpegError as error:
        raise CorruptFileError(
            f"the run does not decode ({error.strerror})", where="picture run", remedy=_REMAKE
        ) from error
    if places or result is None:
        raise CorruptFileError(
            f"frame {min(places, default=0)} of the run does not decode", where="picture run", remedy=_REMAKE
        )
    return result


def _pictures(
    stream: bytes | memoryview, packets: NDArray[np.integer], ends: NDArray[np.integer], wanted: set[int]
) -> Iterator[tuple[int, av.video.frame.VideoFrame]]:
    """Decode the wanted pictures and all before them, in the order of decoding, that others refer to."""
    import av

    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    # "explode" makes the decoder report damage that it would otherwise paint over with neighbouring pixels.
    decoder.options = {"err_detect": "explode"}
    needed = np.flatnonzero(np.isin(packets[:, 1], list(wanted)))
    last = int(needed[-1]) if len(needed) else -1
    for index in range(last + 1):
        size, frame, refers = (int(value) for value in packets[index])
        if not refers and frame not in wanted:
            continue
        packet = av.Packet(bytes(stream[int(ends[index]) - size : int(ends[index])]))
        packet.pts = frame
        yield from ((int(picture.pts), picture) for picture in decoder.decode(packet))
    yield from ((int(picture.pts), picture) for picture in decoder.decode(None))


def _encoded(planes: UInt8, quality: float) -> tuple[bytes, NDArray[np.int32]]:
    """One run of (n, 3, H, W) YCbCr planes, at one rate factor."""
    import av

    count, _, height, width = planes.shape
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv444p"
    encoder.time_base, encoder.framerate = Fraction(1, 24), Fraction(24)
    encoder.thread_count = 1
    encoder.color_range, encoder.colorspace = 2, 1  # full range, BT.709 (ITU-T H.273)
    encoder.color_primaries = encoder.color_trc = 1
    # Without the macroblock tree equal frames give equal bytes (see `video`).
    fixed = "keyint=infinite:scenecut=0:bframes=16:b-adapt=0:b-pyramid=none:mbtree=0:no-deblock=1:cabac=0:force-cfr=1"
    encoder.options = {"preset": "slower", "tune": "psnr", "crf": f"{quality:g}", "threads": "1", "x264-params": fixed}
    packets = []
    for index in range(count):
        picture = av.VideoFrame(width, height, "yuv444p")
        for plane, values in zip(picture.planes, planes[index], strict=True):
            _fill(plane, values)
        picture.pts = index
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    contents = [_without_remarks(bytes(packet)) for packet in packets]
    listed = [
        (len(content), packet.pts, _is_reference(content)) for content, packet in zip(contents, packets, strict=True)
    ]
    return b"".join(contents), np.array(listed, np.int32)


def _fill(plane: Any, values: UInt8) -> None:
    padded = np.zeros((plane.height, plane.line_size), np.uint8)
    padded[:, : values.shape[1]] = values
    plane.update(padded)


def _without_remarks(packet: bytes) -> bytes:
    """A packet without its SEI units (type 6): the encoder writes its settings there."""
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in _units(packet) if unit[0] & 31 != 6)


def _is_reference(packet: bytes) -> bool:
    """Whether another picture may refer to this one: nal_ref_idc of its slices (types 1 and 5) is not 0."""
    return any(unit[0] >> 5 & 3 for unit in _units(packet) if unit[0] & 31 in (1, 5))


def _units(packet: bytes) -> list[bytes]:
    """NAL units of an Annex B packet; inside a unit the start code cannot occur."""
    units = packet.replace(b"\x00\x00\x00\x01", b"\x00\x00\x01").split(b"\x00\x00\x01")
    return [unit for unit in units if unit]


def _to_planes(frames: UInt8) -> UInt8:
    """(n, H, W, 3) sRGB → (n, 3, H, W) Y, Cb, Cr of BT.709 in full range, rounded."""
    planes = np.empty((len(frames), 3, *frames.shape[1:3]), np.uint8)
    for rgb, out in zip(frames, planes, strict=True):
        red, green, blue = np.moveaxis(rgb.astype(np.float32), -1, 0)
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        exact = (luma, (blue - luma) / 1.8556 + 128, (red - luma) / 1.5748 + 128)
        for plane, values in zip(out, exact, strict=True):
            plane[...] = np.clip(np.rint(values), 0, 255)
    return planes


def _to_rgb(picture: av.video.frame.VideoFrame, channels_first: bool) -> UInt8:
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    if picture.is_corrupt:
        raise CorruptFileError("a frame of the run is damaged", where="picture run", remedy=_REMAKE)
    converted = picture.reformat(
        format="gbrp" if channels_first else "rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.POINT | Interpolation.ACCURATE_RND,
    )
    if not channels_first:
        return np.asarray(converted.to_ndarray(), np.uint8)
    planes: Any = converted.planes
    green, blue, red = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width] for plane in planes
    )
    return np.stack([red, green, blue])


def _checked(frame: UInt8, size: tuple[int, ...] | None, index: int) -> tuple[int, ...]:
    good = frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8 and min(frame.shape) > 0
    if not good or (size is not None and frame.shape != size):
        raise InputError(
            f"frame {index} is {frame.dtype}{frame.shape}, expected uint8{size or ' (H, W, 3)'}",
            where="picture runs",
            remedy="All frames of a clip are uint8 (H, W, 3) of one size.",
        )
    return frame.shape


def _psnr(found: UInt8, given: UInt8) -> float:
    error = float(np.mean([np.square(a.astype(np.float32) - b).mean() for a, b in zip(found, given, strict=True)]))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")

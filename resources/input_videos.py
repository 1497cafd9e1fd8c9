"""Videos that scenes are made from: files of any origin, examined once and sampled to a clip's frames.

What a foreign file may hold is either brought to upright, square-pixel sRGB frames at the clip's rate, or refused by
name. Frames are taken by their time stamps: the i-th frame of a clip is the one whose stamp is nearest to
start + i / frames_per_second, so that a variable frame rate comes out even and the same file gives the same frames.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..datasets.errors import CorruptFileError, InputError
from ..datasets.video import rgb_of_frame
from .profile_sections import EveryPositive, Section
from .quantities import Duration

if TYPE_CHECKING:
    import av.container
    import av.video.frame
    import av.video.stream

UInt8 = NDArray[np.uint8]

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm"})
"""Files of a folder that are taken for videos."""

_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of ITU-T H.273 that sRGB cannot hold without a choice of tone mapping."""
_MATRICES = frozenset({0, 1, 2, 5, 6})
"""Matrix coefficients of ITU-T H.273 that are converted: RGB itself, BT.709, none told, and the two of BT.601."""
_BLOCK = 1 << 20
_STRICT = {"err_detect": "explode"}
"""Makes decoders report damage that they would otherwise paint over with neighbouring pixels."""


class VideoProblem(StrEnum):
    """Why a video cannot be used. The words are written to tables: never rename one."""

    EMPTY_FILE = "empty_file"
    UNREADABLE = "unreadable"
    NO_VIDEO = "no_video_stream"
    CORRUPTED = "corrupted"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    VARIABLE_SIZE = "variable_size"
    UNSUPPORTED_PIXELS = "unsupported_pixels"


class VideoRefused(InputError):
    """A video that cannot be used; `problem` says why in one word."""

    def __init__(self, problem: VideoProblem, found: str, *, where: str, remedy: str) -> None:
        super().__init__(found, where=where, remedy=remedy)
        self.problem = problem

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.problem, self.found, self.where, self.remedy))


def _rebuild(problem: VideoProblem, found: str, where: str, remedy: str) -> VideoRefused:
    return VideoRefused(problem, found, where=where, remedy=remedy)


class VideoLimits(Section):
    """Videos outside these limits are rejected, by name; so are those too short for a clip."""

    minimum_side_pixels: EveryPositive = 128
    """Shorter side of the smallest frames taken, upright."""
    maximum_pixels: EveryPositive = 8_847_360
    """Width times height of the largest frames taken."""
    minimum_frames: EveryPositive = 2
    """Fewest frames of a video."""
    maximum_duration: Annotated[Duration, Field(gt=0)] = 600.0
    """Longest video taken, of which a clip is one part."""

    def check(self, *, height: int, width: int, frames: int, seconds: float, where: str) -> None:
        """Refuse a video outside the limits. Raises VideoRefused."""
        size = f"its frames have {height} × {width} pixels"
        if height * width > self.maximum_pixels:
            found = f"{size}, the limit is {self.maximum_pixels:,}"
            raise VideoRefused(VideoProblem.TOO_LARGE, found, where=where, remedy="Scale it down, or raise the limit.")
        if min(height, width) < self.minimum_side_pixels:
            found = f"{size}, each side must have at least {self.minimum_side_pixels}"
            raise VideoRefused(VideoProblem.TOO_SMALL, found, where=where, remedy="Use a larger version of it.")
        if frames < self.minimum_frames:
            found = f"it has {frames} frames, {self.minimum_frames} are asked for"
            raise VideoRefused(VideoProblem.TOO_SHORT, found, where=where, remedy="Use a longer video.")
        self.check_duration(seconds, where=where)

    def check_duration(self, seconds: float, *, where: str) -> None:
        """Refuse a video that is too long. Raises VideoRefused."""
        if seconds > self.maximum_duration:
            found = f"it lasts {seconds:.4g} s, the limit is {self.maximum_duration:g}"
            raise VideoRefused(VideoProblem.TOO_LONG, found, where=where, remedy="Cut it, or raise the limit.")


@dataclass(frozen=True, slots=True)
class VideoSampling:
    """Which instants of a video become the frames of a clip.

    Attributes:
        frames: T.
        frames_per_second: of the clip.
        start: seconds from the video's first frame to the clip's.
    """

    frames: int
    frames_per_second: int
    start: float = 0.0

    def times(self) -> list[Fraction]:
        """Seconds from the video's first frame, exact."""
        start = Fraction(self.start).limit_denominator(1_000_000)
        return [start + Fraction(index, self.frames_per_second) for index in range(self.frames)]


@dataclass(frozen=True, slots=True)
class ExaminedVideo:
    """What a video holds.

    Attributes:
        height, width: of its upright frames with square pixels.
        frames: that the file has.
        seconds: from its first frame to the end of its last.
        first: (height, width, 3) uint8 sRGB, the first frame that the sampling takes.
    """

    height: int
    width: int
    frames: int
    seconds: float
    first: UInt8


@dataclass(frozen=True, slots=True)
class SampledVideo:
    """A clip's frames as they were taken from a video.

    Attributes:
        frames: (T, H, W, 3) uint8 sRGB.
        notes: which frames were taken, and what the file is, JSON.
    """

    frames: UInt8
    notes: dict[str, Any]


def sha256_of(file: IO[bytes]) -> str:
    """64 hex digits of a file that is open for reading, which is left at its beginning."""
    found = hashlib.sha256()
    file.seek(0)
    while block := file.read(_BLOCK):
        found.update(block)
    file.seek(0)
    return found.hexdigest()


def examine_video(file: IO[bytes], limits: VideoLimits, sampling: VideoSampling, *, where: str) -> ExaminedVideo:
    """Look at a whole file, and decode the part of it that a clip would be made of.

    Args:
        file: open for reading at its beginning, seekable.
        where: name or URL of the file, for errors.

    Raises:
        VideoRefused: with its `problem` named.
    """
    with _opened(file, where) as reader:
        if reader.declared_seconds is not None:
            limits.check_duration(reader.declared_seconds, where=where)
        first: UInt8 | None = None
        for taken in _nearest(reader.decoded(), sampling.times(), where):
            if first is None:
                first = taken.upright(where)
        reader.skip_the_rest()
        assert first is not None
        height, width = first.shape[:2]
        seconds = float(reader.end)
        limits.check(height=height, width=width, frames=reader.count, seconds=seconds, where=where)
        return ExaminedVideo(height, width, reader.count, seconds, first)


def sample_video(
    file: IO[bytes], sampling: VideoSampling, fit: Callable[[UInt8], UInt8], *, where: str
) -> SampledVideo:
    """Decode the frames of a clip.

    Args:
        file: open for reading at its beginning, seekable.
        fit: brings an upright frame to the clip's size.
        where: name or URL of the file, for errors.

    Raises:
        VideoRefused: with its `problem` named.
    """
    stacked: UInt8 | None = None
    indices: list[int] = []
    stamps: list[float] = []
    with _opened(file, where) as reader:
        for place, taken in enumerate(_nearest(reader.decoded(), sampling.times(), where)):
            if stacked is not None and indices[-1] == taken.index:
                stacked[place] = stacked[place - 1]
            else:
                fitted = fit(taken.upright(where))
                if stacked is None:
                    stacked = np.empty((sampling.frames, *fitted.shape), np.uint8)
                stacked[place] = fitted
            indices.append(taken.index)
            stamps.append(float(taken.seconds))
        assert stacked is not None
        wanted = sampling.times()
        notes = {
            **reader.facts(),
            "start": float(sampling.start),
            "frames_per_second": sampling.frames_per_second,
            "source_frames": indices,
            "source_seconds": [round(stamp, 6) for stamp in stamps],
            "repeated_frames": sum(a == b for a, b in itertools.pairwise(indices)),
            "largest_time_difference": round(
                max(abs(stamp - float(time)) for stamp, time in zip(stamps, wanted, strict=True)), 6
            ),
        }
    return SampledVideo(stacked, notes)


# --- decoding ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A decoded frame.

    Attributes:
        index: in the file.
        seconds, end: when it begins and ends to show, from the first frame.
        aspect: width of a pixel by its height.
    """

    index: int
    seconds: Fraction
    end: Fraction
    aspect: Fraction
    frame: av.video.frame.VideoFrame

    def upright(self, where: str) -> UInt8:
        """(H, W, 3) uint8 sRGB, turned as the file asks, with square pixels."""
        transfer = _HDR_TRANSFERS.get(int(self.frame.color_trc))
        if transfer is not None:
            raise _unsupported(f"its colours are high dynamic range ({transfer})", where, "Map it to standard range.")
        matrix = int(self.frame.colorspace)
        if matrix not in _MATRICES:
            raise _unsupported(f"its colours have the matrix {matrix} of ITU-T H.273", where, "Convert it to BT.709.")
        if self.frame.interlaced_frame:
            raise _unsupported("its frames are interlaced", where, "Deinterlace it.")
        try:
            rgb = rgb_of_frame(self.frame, where, self.index)
        except CorruptFileError as error:
            raise _corrupted(error.found, where) from error
        return _turned(_with_square_pixels(rgb, self.aspect), self.frame, where)


class _Reader:
    """Demuxes a whole file, and decodes as much of it as is asked for.

    Attributes:
        count: frames up to now.
        end: the latest end of a frame, seconds from the first frame's beginning.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.video.stream.VideoStream, where: str) -> None:
        self._container, self._stream, self._where = container, stream, where
        self._base = Fraction(stream.time_base or 1)
        rate = stream.average_rate or stream.guessed_rate
        self._usual = 1 / Fraction(rate) if rate else Fraction(0)
        self._aspect = Fraction(stream.sample_aspect_ratio or 1)
        self._packets = container.demux(stream)
        self._first: int | None = None
        self.count = 0
        self.end = Fraction(0)

    @property
    def declared_seconds(self) -> float | None:
        """Duration by the file's header; None where it declares none."""
        duration = self._container.duration
        return None if duration is None else duration / 1e6

    def facts(self) -> dict[str, Any]:
        """What the file is, JSON."""
        stream = self._stream
        return {
            "container": self._container.format.name,
            "codec": stream.codec_context.name,
            "size": [stream.codec_context.height, stream.codec_context.width],
            "average_rate": float(stream.average_rate or 0),
        }

    def decoded(self) -> Iterator[_Decoded]:
        """Frames in the order of time. Raises VideoRefused for damage, and for frames of another size."""
        size: tuple[int, int] | None = None
        latest = Fraction(-1)
        index = 0
        for packet in self._packets:
            self._count(packet)
            for frame in packet.decode():
                if frame.pts is None:
                    raise _corrupted(f"frame {index} has no time stamp", self._where)
                if self._first is None:
                    self._first = frame.pts
                size = size or (frame.height, frame.width)
                if (frame.height, frame.width) != size:
                    found = (
                        f"frame {index} has {frame.height} × {frame.width} pixels, those before {size[0]} × {size[1]}"
                    )
                    raise VideoRefused(
                        VideoProblem.VARIABLE_SIZE, found, where=self._where, remedy="Encode it anew at one size."
                    )
                seconds = (frame.pts - self._first) * self._base
                length = frame.duration * self._base if frame.duration else self._usual
                if seconds > latest:
                    latest = seconds
                    self.end = max(self.end, seconds + length)
                    yield _Decoded(index, seconds, seconds + length, self._aspect, frame)
                index += 1

    def skip_the_rest(self) -> None:
        """Go through what was not decoded, to count it. Raises VideoRefused when frames are missing."""
        for packet in self._packets:
            self._count(packet)
        declared = self._stream.frames
        # Of a video that an edit list trims, FFmpeg gives the packets of its index alone.
        declared = min(declared, len(self._stream.index_entries) or declared)
        if self.count < declared:
            found = f"it declares {declared} frames and holds {self.count}: the file is cut short"
            raise _corrupted(found, self._where)

    def _count(self, packet: Any) -> None:
        if not packet.size:
            return
        if packet.is_corrupt:
            raise _corrupted(f"packet {self.count} is damaged or cut short", self._where)
        self.count += 1
        if packet.pts is not None and self._first is not None:
            length = packet.duration * self._base if packet.duration else self._usual
            self.end = max(self.end, (packet.pts - self._first) * self._base + length)


def _nearest(decoded: Iterator[_Decoded], times: list[Fraction], where: str) -> Iterator[_Decoded]:
    """For every time the frame with the nearest stamp, the earlier of two; the last frame stands until its end."""
    before: _Decoded | None = None
    waiting = iter(times)
    time = next(waiting, None)
    for after in decoded:
        while time is not None and time <= after.seconds:
            closer_to_before = before is not None and time - before.seconds <= after.seconds - time
            yield before if before is not None and closer_to_before else after
            time = next(waiting, None)
        if time is None:
            return
        before = after
    if before is None:
        raise _corrupted("no frame decodes", where)
    while time is not None and time <= before.end:
        yield before
        time = next(waiting, None)
    if time is not None:
        raise VideoRefused(
            VideoProblem.TOO_SHORT,
            f"it ends after {float(before.end):.4g} s, and a clip reaches to {float(times[-1]):.4g} s",
            where=where,
            remedy="Use a longer video, lower frames.count, raise frames.frames_per_second, or start earlier.",
        )


@contextmanager
def _opened(file: IO[bytes], where: str) -> Iterator[_Reader]:
    """A reader of the file's first video stream; whatever FFmpeg refuses becomes VideoRefused."""
    import av
    import av.error

    if not file.read(1):
        raise VideoRefused(VideoProblem.EMPTY_FILE, "the file is empty", where=where, remedy="Fetch it again.")
    file.seek(0)
    opened = False
    try:
        # Tags of old programs are in encodings of their own.
        with av.open(file, "r", metadata_errors="replace") as container:
            stream = _video_stream(container, where)
            opened = True
            stream.codec_context.options = dict(_STRICT)
            stream.codec_context.thread_count = 1
            yield _Reader(container, stream, where)
    except av.error.FFmpegError as error:
        if opened:
            raise _corrupted(f"it cannot be decoded ({error.strerror})", where) from error
        found = f"the file is not a video in a known format ({error.strerror})"
        raise VideoRefused(
            VideoProblem.UNREADABLE, found, where=where, remedy="Use MP4, MOV, Matroska or WebM."
        ) from error


def _video_stream(container: av.container.InputContainer, where: str) -> av.video.stream.VideoStream:
    from av.stream import Disposition

    # The cover of a piece of music is a video stream of one picture.
    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not streams:
        raise VideoRefused(
            VideoProblem.NO_VIDEO, "the file holds no video stream", where=where, remedy="Choose a file with pictures."
        )
    if getattr(streams[0], "codec_context", None) is None:
        raise VideoRefused(
            VideoProblem.UNREADABLE, "no decoder here reads its codec", where=where, remedy="Encode it as H.264."
        )
    return streams[0]


def _with_square_pixels(rgb: UInt8, aspect: Fraction) -> UInt8:
    """Widened or narrowed where the file says that its pixels are not square."""
    from PIL import Image

    if aspect == 1:
        return rgb
    height, width = rgb.shape[:2]
    size = (max(round(width * float(aspect)), 1), height)
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))


def _turned(rgb: UInt8, frame: av.video.frame.VideoFrame, where: str) -> UInt8:
    """Rotated and mirrored as the file's display matrix asks: phones store upright pictures lying on their side."""
    from av.sidedata.sidedata import Type

    sides: Any = frame.side_data
    found = sides.get(Type.DISPLAYMATRIX)
    if found is None:
        return rgb
    # (x, y) is shown at (a·x + c·y, b·x + d·y); 16.16 fixed point, rows (a, b, u), (c, d, v), (x, y, w).
    a, b, _, c, d, _, *_ = np.frombuffer(bytes(found), "<i4") / 65536
    if not np.isin(np.abs([a, b, c, d]), (0.0, 1.0)).all() or abs(a * d - b * c) != 1.0:
        raise _unsupported(f"it is to be shown turned by {frame.rotation}°", where, "Encode it upright.")
    if a == 0.0:
        rgb, a, d = np.swapaxes(rgb, 0, 1), c, b
    return np.ascontiguousarray(rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _corrupted(found: str, where: str) -> VideoRefused:
    return VideoRefused(VideoProblem.CORRUPTED, found, where=where, remedy="Fetch or encode the file again.")


def _unsupported(found: str, where: str, remedy: str) -> VideoRefused:
    return VideoRefused(VideoProblem.UNSUPPORTED_PIXELS, found, where=where, remedy=remedy)

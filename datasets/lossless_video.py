"""Lossless video files: frames come back as they were, bit by bit. For what later work must see exactly.

H.264 of RGB without quantisation (High 4:4:4 Predictive, x264's qp 0) in MP4: players built on FFmpeg show it, browsers
do not. A clip of 704 × 1280 with sensor noise takes about half of its bare bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .files import unfinished_file

UInt8 = NDArray[np.uint8]

_GROUP_OF_PICTURES = 16


def write_lossless_video(path: Path, frames: Iterable[UInt8], *, fps: float | Fraction) -> int:
    """Write (H, W, 3) uint8 sRGB frames of one size; `video.read_video` gives the same arrays back.

    The same frames give the same bytes. The file appears whole under its name, or not at all.

    Returns:
        How many frames were written.

    Raises:
        InputError: no frame, or a frame of another size, shape or dtype than the first.
    """
    import av

    options = {
        "qp": "0",
        "preset": "ultrafast",
        "threads": "1",
        "x264-params": f"keyint={_GROUP_OF_PICTURES}:scenecut=0:bframes=0:mbtree=0",
    }
    count = 0
    shape: tuple[int, ...] | None = None
    with unfinished_file(path) as unfinished:
        muxer_options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(str(unfinished), "w", format="mp4", options=muxer_options) as container:
            stream = container.add_stream("libx264rgb", rate=Fraction(fps).limit_denominator(1001), options=options)
            context: Any = stream.codec_context
            context.thread_count = 1
            for frame in frames:
                shape = shape or frame.shape
                if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or frame.shape != shape:
                    raise InputError(
                        f"frame {count} is {frame.dtype}{frame.shape}",
                        where=str(path),
                        remedy="All frames are (H, W, 3) uint8 and of one size.",
                    )
                if not count:
                    stream.height, stream.width, stream.pix_fmt = frame.shape[0], frame.shape[1], "rgb24"
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                picture.pts = count
                container.mux(stream.encode(picture))
                count += 1
            if not count:
                raise InputError("there is no frame to write", where=str(path), remedy="Give at least one frame.")
            container.mux(stream.encode(None))
    return count

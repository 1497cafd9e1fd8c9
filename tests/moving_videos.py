"""Small real videos: foreign files of any codec and rotation, and scenes of a still camera before which shapes move."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sceneloom.datasets.video import write_video


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random picture with enough corners to track, (height, width, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(40, 216, (max(height // 6, 2), max(width // 6, 2), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def moving_square(
    frames: int, height: int, width: int, *, seed: int = 0, side: int = 20, step: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """A white-framed red square that slides to the right before a still background.

    Returns:
        (T, H, W, 3) uint8 frames, and (T, H, W) bool, where the square is.
    """
    stacked = np.repeat(textured(height, width, seed)[None], frames, axis=0)
    where = np.zeros((frames, height, width), bool)
    top = (height - side) // 2
    for index in range(frames):
        left = 4 + step * index
        where[index, top : top + side, left : left + side] = True
        stacked[index][where[index]] = (250, 250, 250)
        stacked[index, top + 3 : top + side - 3, left + 3 : left + side - 3] = (220, 20, 20)
    return stacked, where


def write_moving_square(path: Path, *, frames: int = 12, height: int = 96, width: int = 160, seed: int = 0) -> Path:
    """Write a video of `moving_square` at 24 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, moving_square(frames, height, width, seed=seed)[0], fps=24, crf=6)
    return path


SLIDE_CAPTION = "a red square slides to the right"


def write_captioned_video(folder: Path, *, frames: int = 12, height: int = 64, width: int = 64) -> str:
    """Write a folder with one video of `moving_square`, its caption, and a file that is no video; returns its name."""
    videos = folder / "videos"
    write_moving_square(videos / "slide.mp4", frames=frames, height=height, width=width, seed=3)
    (videos / "slide.txt").write_text(SLIDE_CAPTION)
    (videos / "broken.mp4").write_bytes(b"")
    return videos.name


def write_foreign(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    rate: int = 10,
    codec: str = "libx264",
    rotation: int | None = None,
    flipped: bool = False,
    stamps: Sequence[int] | None = None,
    transfer: int | None = None,
    matrix: int | None = None,
    pixel_aspect: str | None = None,
    title: str | None = None,
) -> Path:
    """Write frames as another program would.

    Args:
        rotation: counter-clockwise turn that players are told to make, degrees.
        flipped: whether they are told to mirror left and right after it.
        stamps: time stamps of the frames, in 1 / rate seconds; None: 0, 1, 2, …
        transfer, matrix: codes of the transfer characteristics and of the matrix, as ITU-T H.273 numbers them.
        pixel_aspect: width of a pixel by its height, such as "2/1".
        title: tag of the file.
    """
    import av

    with av.open(str(path), "w") as container:
        if title is not None:
            container.metadata["title"] = title
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = Fraction(pixel_aspect)
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=flipped)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = index if stamps is None else stamps[index]
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path

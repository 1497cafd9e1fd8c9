"""Picture files into plain RGB arrays: every pixel format is either brought to sRGB uint8 or refused by name."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from ..datasets.errors import InputError

UInt8 = NDArray[np.uint8]

MINIMUM_SIDE = 64
"""Default least height and width of a picture, pixels."""

MAXIMUM_PIXELS = 64_000_000
"""Default most pixels of a picture; beyond it the header alone is read."""

# Only raster formats whose decoders are part of Pillow; EPS, for one, would start another program.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000")

# What Pillow's decoders raise on damaged files: they read lengths, offsets and tags out of them and trust those.
_DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    RuntimeError,
    struct.error,
)

_MODES_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_MODES_WITH_PROFILE = frozenset({"L", "RGB", "CMYK"})
_LARGEST_16_BIT = 65535


class PictureProblem(StrEnum):
    """Why a picture cannot be used. The words are written to tables: never rename one."""

    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    ANIMATED = "animated"
    UNSUPPORTED_PIXELS = "unsupported_pixels"


class PictureRefused(InputError):
    """A picture that cannot be used; `problem` says why in one word."""

    def __init__(self, problem: PictureProblem, found: str, *, where: str, remedy: str) -> None:
        super().__init__(found, where=where, remedy=remedy)
        self.problem = problem

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.problem, self.found, self.where, self.remedy))


def _rebuild(problem: PictureProblem, found: str, where: str, remedy: str) -> PictureRefused:
    return PictureRefused(problem, found, where=where, remedy=remedy)


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A picture as an array, and what was done to get there.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB, upright.
        file_format: "JPEG", "PNG", …
        file_mode: the file's own pixel format in Pillow's words ("RGB", "CMYK", "I;16", …).
        file_size: (height, width) before any rotation, pixels.
        steps: conversions in the order they were made, e.g. ("exif_orientation", "alpha_over_white").
    """

    rgb: UInt8
    file_format: str
    file_mode: str
    file_size: tuple[int, int]
    steps: tuple[str, ...]


def decode_picture(
    content: bytes,
    *,
    where: str,
    minimum_side: int = MINIMUM_SIDE,
    maximum_pixels: int = MAXIMUM_PIXELS,
) -> DecodedPicture:
    """Decode one still picture to upright sRGB.

    The size is checked from the header, before any pixel is decoded. EXIF orientation is applied; 16-bit values are
    scaled to 8 bits; an embedded colour profile is converted to sRGB; transparency is laid over white; grey, palette
    and CMYK become RGB.

    Args:
        content: the file's bytes.
        where: name or URL of the file, for the error.
        minimum_side: least height and width, pixels.
        maximum_pixels: most pixels (height × width).

    Raises:
        PictureRefused: with its `problem` named.
    """
    image = _open(content, where, maximum_pixels)
    file_format, file_mode, (width, height) = image.format or "unknown", image.mode, image.size
    _check_header(image, where, minimum_side, maximum_pixels)
    steps: list[str] = []
    # Pillow keeps the high byte of 16-bit colour by itself; the file's raw mode is the only place that tells.
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())) and image.mode in {"RGB", "RGBA", "LA"}:
        steps.append("16_bit_to_8")
    _load(image, where)
    upright = _apply_orientation(image, steps)
    rgb = np.asarray(_to_rgb(upright, where, steps), dtype=np.uint8)
    return DecodedPicture(np.ascontiguousarray(rgb), file_format, file_mode, (height, width), tuple(steps))


def fit_picture(rgb: UInt8, height: int, width: int) -> UInt8:
    """Scale a picture to cover (height, width) and crop it about its centre.

    One Lanczos resampling of the largest centred region that has the target's aspect; Pillow widens the filter when
    it shrinks, so there is no aliasing.

    Args:
        rgb: (h, w, 3) uint8 sRGB.
        height, width: target size, pixels.

    Returns:
        (height, width, 3) uint8 sRGB.
    """
    source_height, source_width = rgb.shape[:2]
    scale = min(source_height / height, source_width / width)
    crop_height, crop_width = height * scale, width * scale
    left, top = max(0.0, (source_width - crop_width) / 2), max(0.0, (source_height - crop_height) / 2)
    # Rounding must not carry the box across the border.
    box = (left, top, min(left + crop_width, source_width), min(top + crop_height, source_height))
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS, box=box))


def _open(content: bytes, where: str, maximum_pixels: int) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureRefused(
            PictureProblem.TOO_LARGE,
            f"the picture declares more pixels than the limit of {maximum_pixels:,} ({error})",
            where=where,
            remedy="Scale it down.",
        ) from error
    except _DECODER_ERRORS as error:
        found = "the file is empty" if not content else "the file is not a picture in a known format"
        raise PictureRefused(
            PictureProblem.UNREADABLE, found, where=where, remedy=f"Use one of {', '.join(_FORMATS)}."
        ) from error


def _check_header(image: Image.Image, where: str, minimum_side: int, maximum_pixels: int) -> None:
    width, height = image.size
    if width * height > maximum_pixels:
        raise PictureRefused(
            PictureProblem.TOO_LARGE,
            f"the picture has {height} × {width} pixels, the limit is {maximum_pixels:,}",
            where=where,
            remedy="Scale it down, or raise the limit on pixels.",
        )
    if min(width, height) < minimum_side:
        raise PictureRefused(
            PictureProblem.TOO_SMALL,
            f"the picture has {height} × {width} pixels, each side must have at least {minimum_side}",
            where=where,
            remedy="Use a larger version of it.",
        )
    # MPO is how cameras store a photograph with its preview or its stereo partner: the first one is the photograph.
    frames = _frame_count(image, where)
    if frames > 1 and image.format != "MPO":
        raise PictureRefused(
            PictureProblem.ANIMATED,
            f"the file holds {frames} frames or pages",
            where=where,
            remedy="Save the frame that you mean as a still picture.",
        )


def _frame_count(image: Image.Image, where: str) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except _DECODER_ERRORS as error:
        raise _truncated(error, where) from error


def _load(image: Image.Image, where: str) -> None:
    try:
        image.load()
    except _DECODER_ERRORS as error:
        raise _truncated(error, where) from error


def _truncated(error: Exception, where: str) -> PictureRefused:
    return PictureRefused(
        PictureProblem.TRUNCATED,
        f"the header is good but the rest cannot be decoded ({error})",
        where=where,
        remedy="The file is cut off or damaged: fetch it again.",
    )


def _apply_orientation(image: Image.Image, steps: list[str]) -> Image.Image:
    try:
        orientation = image.getexif().get(0x0112, 1)
        upright = ImageOps.exif_transpose(image)
    except _DECODER_ERRORS:
        # The pixels are sound; only the camera's notes about them are not.
        steps.append("exif_ignored")
        return image
    if orientation != 1:
        steps.append("exif_orientation")
    return upright


def _to_rgb(image: Image.Image, where: str, steps: list[str]) -> Image.Image:
    image = _to_8_bit(image, where, steps)
    if image.mode in _MODES_WITH_ALPHA or "transparency" in image.info:
        steps.append("alpha_over_white")
        profile = image.info.get("icc_profile")
        layered = image.convert("RGBA")
        canvas = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        image = Image.alpha_composite(canvas, layered).convert("RGB")
        image.info["icc_profile"] = profile
    elif image.mode in {"P", "1"}:
        steps.append("palette_to_rgb" if image.mode == "P" else "bilevel_to_grey")
        profile = image.info.get("icc_profile")
        image = image.convert("RGB" if image.mode == "P" else "L")
        image.info["icc_profile"] = profile
    image = _to_srgb(image, steps)
    if image.mode == "RGB":
        return image
    if image.mode not in {"L", "CMYK", "YCbCr"}:
        raise _unsupported(image.mode, where)
    steps.append({"L": "grey_to_rgb", "CMYK": "cmyk_to_rgb", "YCbCr": "ycbcr_to_rgb"}[image.mode])
    return image.convert("RGB")


def _to_8_bit(image: Image.Image, where: str, steps: list[str]) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _LARGEST_16_BIT:
        raise _unsupported(f"{image.mode} with values {values.min()}..{values.max()}", where)
    steps.append("16_bit_to_8")
    # 65535 / 255 = 257 exactly, so white stays white.
    grey = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    grey.info["icc_profile"] = image.info.get("icc_profile")
    return grey


def _to_srgb(image: Image.Image, steps: list[str]) -> Image.Image:
    profile_bytes = image.info.get("icc_profile")
    if not profile_bytes or image.mode not in _MODES_WITH_PROFILE:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        # Damaged, or made for another kind of pixels: the colours are then read as sRGB, as viewers do.
        steps.append("colour_profile_ignored")
        return image
    steps.append("colour_profile_to_srgb")
    return image if converted is None else converted


def _unsupported(mode: str, where: str) -> PictureRefused:
    return PictureRefused(
        PictureProblem.UNSUPPORTED_PIXELS,
        f"pixels are {mode}, which has no agreed way to be shown",
        where=where,
        remedy="Save it as 8-bit or 16-bit grey or RGB.",
    )

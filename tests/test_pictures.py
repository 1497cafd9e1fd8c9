from __future__ import annotations

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from sceneloom.ops.pictures import DecodedPicture, PictureProblem, PictureRefused, decode_picture, fit_picture


def gradient(height: int = 80, width: int = 120) -> NDArray[np.uint8]:
    rows, columns = np.indices((height, width))
    return np.stack([rows * 255 // height, columns * 255 // width, np.full_like(rows, 90)], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def png(header: bytes, rows: bytes) -> bytes:
    """A PNG file from its header fields and its filtered rows."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def decoded(content: bytes, **limits: int) -> DecodedPicture:
    return decode_picture(content, where="test", **limits)


def problem_of(content: bytes, **limits: int) -> PictureProblem:
    with pytest.raises(PictureRefused) as refusal:
        decoded(content, **limits)
    return refusal.value.problem


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_rgb_comes_back_exactly(file_format: str) -> None:
    picture = decoded(encoded(Image.fromarray(gradient()), file_format))
    assert picture.steps == ()
    assert picture.file_size == (80, 120)
    np.testing.assert_array_equal(picture.rgb, gradient())


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_lossy_formats_are_read(file_format: str) -> None:
    picture = decoded(encoded(Image.fromarray(gradient()), file_format))
    assert np.abs(picture.rgb.astype(int) - gradient()).mean() < 4


def test_grey_becomes_three_equal_channels() -> None:
    grey = gradient()[..., 1]
    picture = decoded(encoded(Image.fromarray(grey)))
    assert picture.steps == ("grey_to_rgb",)
    np.testing.assert_array_equal(picture.rgb, np.repeat(grey[..., None], 3, axis=2))


def test_sixteen_bit_grey_is_scaled_so_that_white_stays_white() -> None:
    values = np.linspace(0, 65535, 80 * 120).reshape(80, 120).astype(np.uint16)
    picture = decoded(encoded(Image.fromarray(values)))
    assert picture.steps == ("16_bit_to_8", "grey_to_rgb")
    np.testing.assert_array_equal(picture.rgb[..., 0], np.round(values / 257).astype(np.uint8))


def test_sixteen_bit_colour_is_noted_and_read() -> None:
    wide = gradient().astype(np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    picture = decoded(png(struct.pack(">IIBBBBB", 120, 80, 16, 2, 0, 0, 0), rows))
    assert picture.steps == ("16_bit_to_8",)
    np.testing.assert_array_equal(picture.rgb, gradient())


def test_alpha_is_laid_over_white() -> None:
    rgba = np.dstack([gradient(), np.full((80, 120), 255, np.uint8)])
    rgba[:40, :, 3] = 0
    picture = decoded(encoded(Image.fromarray(rgba)))
    assert picture.steps == ("alpha_over_white",)
    assert (picture.rgb[:40] == 255).all()
    np.testing.assert_array_equal(picture.rgb[40:], gradient()[40:])


def test_palette_with_a_transparent_entry() -> None:
    image = Image.new("P", (100, 100), 1)
    image.putpalette([0, 0, 0, 200, 30, 40])
    image.paste(0, (0, 0, 50, 100))
    picture = decoded(encoded(image, transparency=0))
    assert (picture.rgb[:, :50] == 255).all()
    assert (picture.rgb[:, 50:] == (200, 30, 40)).all()


def test_plain_palette() -> None:
    picture = decoded(encoded(Image.fromarray(gradient()).quantize(64), "GIF"))
    assert picture.steps == ("palette_to_rgb",)
    assert np.abs(picture.rgb.astype(int) - gradient()).mean() < 25


def test_bilevel() -> None:
    picture = decoded(encoded(Image.new("1", (70, 70), 1)))
    assert (picture.rgb == 255).all()
    assert picture.steps == ("bilevel_to_grey", "grey_to_rgb")


def test_cmyk_jpeg_keeps_its_colours() -> None:
    picture = decoded(encoded(Image.new("CMYK", (80, 80), (0, 255, 255, 0)), "JPEG", quality=95))
    assert picture.steps == ("cmyk_to_rgb",)
    red, green, blue = picture.rgb.reshape(-1, 3).mean(axis=0)
    assert red > 200
    assert max(green, blue) < 60


def _linear_profile() -> bytes:
    """An sRGB profile whose tone curves are replaced by the straight line (gamma 1)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for index in range(struct.unpack_from(">I", profile, 128)[0]):
        name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if name in {b"rTRC", b"gTRC", b"bTRC"}:
            profile[offset : offset + 12] = b"curv" + bytes(8)
        if name == b"desc":
            start = profile.find("sRGB".encode("utf-16-be"), offset)
            profile[start : start + 8] = "flat".encode("utf-16-be")
    return bytes(profile)


def test_an_embedded_profile_is_converted_to_srgb() -> None:
    image = Image.new("RGB", (80, 80), (55, 55, 55))
    picture = decoded(encoded(image, icc_profile=_linear_profile()))
    assert picture.steps == ("colour_profile_to_srgb",)
    linear = 55 / 255
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(picture.rgb.astype(float) - expected).max() <= 2


def test_an_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = decoded(encoded(Image.fromarray(gradient()), icc_profile=profile))
    np.testing.assert_array_equal(picture.rgb, gradient())


def test_a_damaged_profile_is_ignored_and_noted() -> None:
    picture = decoded(encoded(Image.fromarray(gradient()), icc_profile=b"not a profile"))
    assert picture.steps == ("colour_profile_ignored",)
    np.testing.assert_array_equal(picture.rgb, gradient())


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_applied(orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decoded(encoded(Image.fromarray(gradient()), exif=exif.tobytes()))
    assert picture.steps == ("exif_orientation",)
    assert picture.file_size == (80, 120)
    np.testing.assert_array_equal(picture.rgb, np.rot90(gradient(), turns))


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_animations_are_refused(file_format: str) -> None:
    frames = [Image.new("RGB", (80, 80), colour) for colour in ("red", "green", "blue")]
    content = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert problem_of(content) == PictureProblem.ANIMATED


def test_a_stereo_photograph_gives_its_first_picture() -> None:
    frames = [Image.fromarray(gradient()), Image.new("RGB", (120, 80), "blue")]
    picture = decoded(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert np.abs(picture.rgb.astype(int) - gradient()).mean() < 4


def test_too_small_and_too_large_are_told_from_the_header() -> None:
    # The pixels are cut off: a decoder that came this far would call the file truncated.
    header_only = encoded(Image.fromarray(gradient()))[:60]
    assert problem_of(header_only, minimum_side=81) == PictureProblem.TOO_SMALL
    assert problem_of(header_only, maximum_pixels=80 * 120 - 1) == PictureProblem.TOO_LARGE


def test_a_decompression_bomb_is_refused_whatever_the_limit() -> None:
    content = png(struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), bytes(64))
    assert problem_of(content, maximum_pixels=10**12) == PictureProblem.TOO_LARGE


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_cut_off_files_are_refused(file_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), file_format)
    assert problem_of(content[: len(content) // 2]) in {PictureProblem.TRUNCATED, PictureProblem.UNREADABLE}


@pytest.mark.parametrize("content", [b"", b"hello", b"<svg width='100'/>", b"%!PS-Adobe-3.0 EPSF"])
def test_what_is_no_picture_is_unreadable(content: bytes) -> None:
    assert problem_of(content) == PictureProblem.UNREADABLE


def test_floating_point_pixels_are_refused() -> None:
    content = encoded(Image.fromarray(np.full((80, 80), 0.5, np.float32)), "TIFF")
    assert problem_of(content) == PictureProblem.UNSUPPORTED_PIXELS


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP"]))
def test_a_damaged_byte_never_escapes_as_another_error(place: int, value: int, file_format: str) -> None:
    content = bytearray(encoded(Image.fromarray(gradient()), file_format))
    content[place % len(content)] = value
    try:
        picture = decoded(bytes(content))
    except PictureRefused:
        return
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.shape[2] == 3


def test_a_refusal_survives_pickling() -> None:
    with pytest.raises(PictureRefused) as refusal:
        decoded(b"hello")
    again = pickle.loads(pickle.dumps(refusal.value))
    assert (again.problem, str(again)) == (refusal.value.problem, str(refusal.value))


def test_fit_crops_about_the_centre() -> None:
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 100:200] = 255
    fitted = fit_picture(picture, 50, 50)
    assert fitted.shape == (50, 50, 3)
    assert (fitted == 255).mean() > 0.9


def test_fit_to_the_same_size_is_the_identity() -> None:
    np.testing.assert_array_equal(fit_picture(gradient(), 80, 120), gradient())


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(fit_picture(stripes, 90, 90).astype(int) - 127).max() <= 12


@settings(deadline=None, max_examples=40)
@given(*(st.integers(1, 70) for _ in range(4)))
def test_fit_gives_the_asked_size_and_keeps_flat_colour(height: int, width: int, to_height: int, to_width: int) -> None:
    fitted = fit_picture(np.full((height, width, 3), (10, 120, 250), np.uint8), to_height, to_width)
    assert fitted.shape == (to_height, to_width, 3)
    assert (fitted == (10, 120, 250)).all()

"""datasets/exr.py against the OpenEXR package, both ways, and against deliberate damage."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from sceneloom.datasets.errors import CorruptFileError, InputError
from sceneloom.datasets.exr import Compression, decode_exr, encode_exr


def _ramp(height: int, width: int, kind: type = np.float16) -> NDArray[Any]:
    rows, columns = np.mgrid[:height, :width]
    return (1.0 + 0.03 * rows + 0.01 * columns).astype(kind)


def _legacy(content: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header and channels of a file as OpenEXR's legacy interface gives them."""
    file = OpenEXR.InputFile(io.BytesIO(content))
    header = file.header()
    return header, {name: file.channel(name) for name in header["channels"]}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), compression=st.sampled_from(["none", "zip"]))
def test_any_channels_come_back_bit_by_bit(data: st.DataObject, compression: Compression) -> None:
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 9)))
    names = data.draw(st.lists(st.text("ABYZz.é", min_size=1, max_size=40), min_size=1, max_size=4, unique=True))
    channels = {
        name: data.draw(arrays.arrays(data.draw(st.sampled_from([np.float16, np.float32, np.uint32])), shape))
        for name in names
    }
    decoded = decode_exr(encode_exr(channels, compression=compression), "test")
    assert list(decoded) == sorted(names, key=lambda name: name.encode())
    for name, values in channels.items():
        assert decoded[name].dtype == values.dtype
        assert decoded[name].tobytes() == values.tobytes()


@pytest.mark.parametrize("compression", ["none", "zip"])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 8), (37, 53)])
def test_openexr_reads_what_is_written(compression: Compression, kind: type, height: int, width: int) -> None:
    values = _ramp(height, width, kind)
    header, channels = _legacy(encode_exr({"Z": values}, compression=compression))
    assert list(channels) == ["Z"]
    assert np.frombuffer(channels["Z"], kind).reshape(height, width).tobytes() == values.tobytes()
    assert (header["dataWindow"].max.x, header["dataWindow"].max.y) == (width - 1, height - 1)


def test_openexr_reads_noise_whose_blocks_are_stored_uncompressed() -> None:
    noise = np.random.default_rng(0).integers(0, 2**15 - 2**10, (33, 21)).astype(np.uint16).view(np.float16)
    content = encode_exr({"Z": noise})
    assert len(content) >= noise.nbytes
    assert _legacy(content)[1]["Z"] == noise.tobytes()
    assert decode_exr(content, "test")["Z"].tobytes() == noise.tobytes()


def test_openexr_reads_several_channels(tmp_path: Path) -> None:
    channels = {name: _ramp(20, 12, np.float32) * scale for name, scale in (("R", 1), ("G", 2), ("B", 3), ("A", 4))}
    path = tmp_path / "normal.exr"
    path.write_bytes(encode_exr(channels))
    with OpenEXR.File(str(path), separate_channels=True) as file:
        found = file.channels()
        assert {name: found[name].pixels.tobytes() for name in channels} == {
            name: values.tobytes() for name, values in channels.items()
        }


@pytest.mark.parametrize("compression", ["NO_COMPRESSION", "ZIPS_COMPRESSION", "ZIP_COMPRESSION"])
def test_files_of_openexr_are_read(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "depth.exr"
    depth, mask = _ramp(35, 17), _ramp(35, 17, np.float32)
    header = {"compression": getattr(OpenEXR, compression), "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": depth, "mask": mask}).write(str(path))
    decoded = decode_exr(path.read_bytes(), "depth.exr")
    assert decoded["Z"].dtype == np.float16
    assert decoded["Z"].tobytes() == depth.tobytes()
    assert decoded["mask"].tobytes() == mask.tobytes()


def test_a_compression_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "depth.exr"
    header = {"compression": OpenEXR.PIZ_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": _ramp(40, 40)}).write(str(path))
    with pytest.raises(CorruptFileError, match="PIZ"):
        decode_exr(path.read_bytes(), "depth.exr")


def test_a_tiled_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiled.exr"
    header = {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}
    OpenEXR.File(header, {"Z": _ramp(40, 40)}).write(str(path))
    with pytest.raises(CorruptFileError, match="tiles"):
        decode_exr(path.read_bytes(), "tiled.exr")


@pytest.mark.parametrize("compression", ["none", "zip"])
def test_every_cut_is_found(compression: Compression) -> None:
    content = encode_exr({"Z": _ramp(20, 6)}, compression=compression)
    for length in range(len(content)):
        with pytest.raises(CorruptFileError):
            decode_exr(content[:length], "cut.exr")


def test_damaged_blocks_are_found() -> None:
    content = bytearray(encode_exr({"Z": _ramp(40, 30)}))
    content[-6:] = b"\xff" * 6
    with pytest.raises(CorruptFileError, match="inflate"):
        decode_exr(bytes(content), "damaged.exr")


def test_a_block_under_a_wrong_line_is_found() -> None:
    content = bytearray(encode_exr({"Z": _ramp(4, 4)}, compression="none"))
    block = len(content) - 16
    assert struct.unpack_from("<ii", content, block) == (3, 8)
    struct.pack_into("<i", content, block, 2)
    with pytest.raises(CorruptFileError, match="starts at line 2, expected 3"):
        decode_exr(bytes(content), "moved.exr")


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_a_changed_byte_gives_arrays_or_a_corrupt_file_error(place: int, value: int) -> None:
    content = bytearray(encode_exr({"Z": _ramp(20, 6)}))
    content[place % len(content)] = value
    try:
        decode_exr(bytes(content), "changed.exr")
    except CorruptFileError:
        return


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({}, "no channel"),
        ({"": np.zeros((2, 2), np.float16)}, "cannot name"),
        ({"Z": np.zeros((2, 2), np.float64)}, "float64"),
        ({"Z": np.zeros((2, 2, 1), np.float16)}, "shape"),
        ({"Z": np.zeros((0, 2), np.float16)}, "shape"),
        ({"Z": np.zeros((2, 2), np.float16), "Y": np.zeros((2, 3), np.float16)}, "shape"),
    ],
)
def test_what_is_no_image_is_refused(channels: dict[str, NDArray[Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode_exr(channels)


def test_the_same_arrays_give_the_same_bytes() -> None:
    values = _ramp(40, 30)
    assert encode_exr({"Z": values}) == encode_exr({"Z": values[::1].copy(order="F")})

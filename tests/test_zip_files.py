"""datasets/zip_files.py: the same members give the same bytes, and nothing half-written stays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sceneloom.datasets.zip_files import EARLIEST_DATE, encode_npz, write_stored_zip


def test_members_are_stored_undated_and_in_order(tmp_path: Path) -> None:
    members = [("00001.exr", b"b" * 100), ("00000.exr", b"")]
    write_stored_zip(tmp_path / "one.zip", members)
    write_stored_zip(tmp_path / "other.zip", iter(members))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert [(info.filename, archive.read(info)) for info in archive.infolist()] == members
        assert {(info.compress_type, info.date_time) for info in archive.infolist()} == {
            (zipfile.ZIP_STORED, EARLIEST_DATE)
        }


def test_nothing_is_left_when_a_member_fails(tmp_path: Path) -> None:
    def members() -> Iterator[tuple[str, bytes]]:
        yield "a", b"a"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_stored_zip(tmp_path / "one.zip", members())
    assert list(tmp_path.iterdir()) == []


def test_equal_arrays_give_equal_npz_bytes() -> None:
    arrays = {"data": np.eye(3, dtype=np.float32), "inds": np.arange(3)}
    content = encode_npz(arrays)
    assert content == encode_npz({name: values.copy() for name, values in arrays.items()})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {info.date_time for info in archive.infolist()} == {EARLIEST_DATE}
    with np.load(io.BytesIO(content)) as loaded:
        np.testing.assert_array_equal(loaded["data"], arrays["data"])

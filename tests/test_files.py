from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets.errors import CorruptFileError
from sceneloom.datasets.files import (
    require_checksum,
    sha256_of_file,
    write_atomically,
    write_bytes_atomically,
)

from .file_systems import small_file_system


def test_a_file_appears_whole_in_folders_made_for_it(tmp_path: Path) -> None:
    write_bytes_atomically(tmp_path / "a" / "b.json", b"{}")
    assert (tmp_path / "a" / "b.json").read_bytes() == b"{}"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.json"
    write_bytes_atomically(target, b"old")

    def half(file: BinaryIO) -> None:
        file.write(b"ne")
        assert target.read_bytes() == b"old"
        raise error

    with pytest.raises(type(error)):
        write_atomically(target, half)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "small") as folder:
        target = folder / "table.parquet"
        write_bytes_atomically(target, b"old")
        with pytest.raises(OSError, match="No space left") as raised:
            write_bytes_atomically(target, bytes(2 << 20))
        assert raised.value.errno == errno.ENOSPC
        assert target.read_bytes() == b"old"
        assert list(folder.iterdir()) == [target]


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([0, (1 << 20) - 1, 1 << 20, 1 << 21]))
def test_checksums_are_those_of_the_whole_content(tmp_path_factory: pytest.TempPathFactory, end: bytes, n: int) -> None:
    content = bytes(n) + end
    path = tmp_path_factory.mktemp("sums") / "file"
    path.write_bytes(content)
    assert sha256_of_file(path) == hashlib.sha256(content).hexdigest()


def test_what_was_published_passes_and_anything_else_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"depth")
    sha256 = sha256_of_file(path)
    require_checksum(path, sha256=sha256, size=5, where="room/view/a.npz")

    path.write_bytes(b"dept")
    with pytest.raises(CorruptFileError, match=r"room/view/a.npz: the file holds 4 bytes, 5 were published"):
        require_checksum(path, sha256=sha256, size=5, where="room/view/a.npz")
    path.write_bytes(b"depht")
    with pytest.raises(CorruptFileError, match=f"the file's SHA-256 is .*…, {sha256[:12]}… was published"):
        require_checksum(path, sha256=sha256, size=5, where="room/view/a.npz")
    path.unlink()
    with pytest.raises(CorruptFileError, match=r"room/view/a.npz: the file is missing"):
        require_checksum(path, sha256=sha256, size=5, where="room/view/a.npz")

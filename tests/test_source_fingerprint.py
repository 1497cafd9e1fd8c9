from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from sceneloom.resources.source_fingerprint import source_fingerprint


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    (tmp_path / "prompts.txt").write_text("a red room\n")
    (tmp_path / "pictures" / "a.png").write_bytes(b"a")
    (tmp_path / "pictures" / "deep" / "b.png").write_bytes(b"b")
    for path in tmp_path.rglob("*.*"):
        os.utime(path, (1000, 1000))
    return [str(tmp_path / "prompts.txt"), str(tmp_path / "pictures")]


def test_it_stays_while_nothing_changes(sources: list[str]) -> None:
    assert source_fingerprint(sources) == source_fingerprint(sources)
    assert source_fingerprint(sources) == source_fingerprint(sources[::-1])
    assert len(source_fingerprint(sources)) == 64


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file of another size": lambda folder: (folder / "prompts.txt").write_text("a red room\na blue one\n"),
    "a file written again": lambda folder: os.utime(folder / "pictures" / "a.png", (2000, 2000)),
    "a new file": lambda folder: (folder / "pictures" / "c.png").write_bytes(b"c"),
    "a new file in a folder below": lambda folder: (folder / "pictures" / "deep" / "c.png").write_bytes(b"c"),
    "a file gone": lambda folder: (folder / "pictures" / "deep" / "b.png").unlink(),
    "a file renamed": lambda folder: (folder / "pictures" / "a.png").rename(folder / "pictures" / "z.png"),
    "a whole source gone": lambda folder: (folder / "prompts.txt").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_it_changes_with_what_the_sources_hold(
    tmp_path: Path, sources: list[str], change: Callable[[Path], object]
) -> None:
    before = source_fingerprint(sources)
    change(tmp_path)
    assert source_fingerprint(sources) != before


def test_a_source_that_comes_back_as_it_was_is_no_change(tmp_path: Path, sources: list[str]) -> None:
    before = source_fingerprint(sources)
    (tmp_path / "prompts.txt").rename(tmp_path / "away")
    absent = source_fingerprint(sources)
    (tmp_path / "away").rename(tmp_path / "prompts.txt")
    assert source_fingerprint(sources) == before != absent


def test_nothing_is_opened(sources: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a source was opened")

    monkeypatch.setattr(fsspec.spec.AbstractFileSystem, "open", refuse)
    source_fingerprint(sources)


def test_it_follows_remote_sources() -> None:
    source = f"memory://{uuid.uuid4().hex}"
    absent = source_fingerprint([source])
    fsspec.filesystem("memory").pipe_file(f"{source}/a.png", b"a")
    one = source_fingerprint([source])
    fsspec.filesystem("memory").pipe_file(f"{source}/a.png", b"b")  # of the same size
    assert len({absent, one, source_fingerprint([source])}) == 3

"""The scene store: where stage outputs live, how they are published, and how they are read back.

Layout under one fsspec URL, for each collection::

    <url>/<collection>/scenes/<scene>/<stage>/record.json
    <url>/<collection>/scenes/<scene>/<stage>/failure.json          only while the stage is failing
    <url>/<collection>/scenes/<scene>/<stage>/<key>-<nonce>/…       the files that the record lists
    <url>/<collection>/tables/*.parquet
    <url>/.staging/<host>-<pid>-<nonce>/                            local stores: outputs being made

An output is made in a private scratch directory, moved to a directory of its own, and becomes real with the atomic
replacement of record.json, which names that directory. So a reader never sees half an output, a crash leaves only
unreferenced files, and of two runs that make the same output at once the first record stands and both end well.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ValidationError

from ..datasets.errors import CorruptFileError, StoreError
from ..datasets.files import require_checksum, sha256_of_file, write_bytes_atomically
from .records import Failure, PublishedFile, Record

_Model = TypeVar("_Model", bound=BaseModel)

RECORD_NAME = "record.json"
FAILURE_NAME = "failure.json"
CORRUPT_SUFFIX = ".corrupt"
_FULL = {errno.ENOSPC, errno.EDQUOT}


class CorruptOutputError(CorruptFileError):
    """A published file of a stage does not hold what its record says; `scene` and `stage` name the record."""

    def __init__(self, found: str, *, where: str, remedy: str) -> None:
        super().__init__(found, where=where, remedy=remedy)
        self.scene, self.stage = where.split("/")[:2]


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a cleaning found that no record refers to."""

    directories: tuple[str, ...]
    bytes: int


class SceneStore:
    """Outputs and records of one collection, under an fsspec URL.

    Args:
        url: local path or fsspec URL ("s3://bucket/prefix", "memory://…") of the store.
        collection: name of the collection.
    """

    def __init__(self, url: str, collection: str) -> None:
        filesystem, root = fsspec.core.url_to_fs(str(url))
        self.url = str(url)
        self.collection = collection
        self.is_local = isinstance(filesystem, LocalFileSystem)
        self._filesystem = filesystem
        self._root = PurePosixPath(root)
        self._local_cache = _LocalCache()

    # ---------------------------------------------------------------- places

    def _stage_path(self, scene: str, stage: str) -> PurePosixPath:
        return self._root / self.collection / "scenes" / scene / stage

    def stage_url(self, scene: str, stage: str) -> str:
        """Where a stage's outputs of a scene live, as a URL that fsspec opens."""
        return self._filesystem.unstrip_protocol(str(self._stage_path(scene, stage)))

    def file_url(self, record: Record, name: str) -> str:
        """URL of one published file."""
        path = self._stage_path(record.scene, record.stage) / record.directory / name
        return str(path) if self.is_local else self._filesystem.unstrip_protocol(str(path))

    def table_url(self, name: str) -> str:
        """URL of the collection's table of that name."""
        path = self._root / self.collection / "tables" / f"{name}.parquet"
        return str(path) if self.is_local else self._filesystem.unstrip_protocol(str(path))

    def write_table_file(self, name: str, content: bytes) -> None:
        """Write a file beside the tables, whole or not at all."""
        self._write_bytes(self._root / self.collection / "tables" / name, content)

    # ---------------------------------------------------------------- records

    def record(self, scene: str, stage: str) -> Record | None:
        """The stage's record, or None when it has never been made.

        Raises CorruptFileError when the record cannot be read as one, StoreError when the store cannot be reached.
        """
        return self._read_model(self._stage_path(scene, stage) / RECORD_NAME, Record)

    def failure(self, scene: str, stage: str) -> Failure | None:
        """The stage's failed attempts since it last succeeded, or None."""
        return self._read_model(self._stage_path(scene, stage) / FAILURE_NAME, Failure)

    def write_failure(self, failure: Failure) -> None:
        """Note failed attempts beside the (older or absent) record."""
        path = self._stage_path(failure.scene, failure.stage) / FAILURE_NAME
        self._write_bytes(path, failure.model_dump_json(indent=1).encode())

    def clear_failure(self, scene: str, stage: str) -> bool:
        """Forget failed attempts (lifts a quarantine). Returns whether there were any."""
        return self._remove(self._stage_path(scene, stage) / FAILURE_NAME)

    def set_aside_record(self, scene: str, stage: str) -> None:
        """Take a record that cannot be trusted out of the way, so that the stage counts as not made.

        It is kept as record.json.corrupt for whoever wants to know what happened.
        """
        path = self._stage_path(scene, stage) / RECORD_NAME
        with self._reporting(path), contextlib.suppress(FileNotFoundError):
            self._filesystem.mv(str(path), str(path) + CORRUPT_SUFFIX)

    def scenes(self) -> list[str]:
        """Ids of all scenes that anything was ever written for, sorted."""
        path = self._root / self.collection / "scenes"
        with self._reporting(path):
            if not self._filesystem.exists(str(path)):
                return []
            return sorted(PurePosixPath(entry).name for entry in self._filesystem.ls(str(path), detail=False))

    # ---------------------------------------------------------------- writing outputs

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private local directory to make an output in; removed at the end, whatever happens.

        For a local store it is on the store's own file system, so that publishing is a rename. Raises StoreError when
        that file system is full.
        """
        with self._reporting(self._root):
            directory = self._staging_root() / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            directory.mkdir(parents=True)
        try:
            yield directory
        except OSError as error:
            # Whoever writes here may say no more than "No space left on device".
            if error.errno in _FULL and not isinstance(error, StoreError):
                raise self._refused(error, self._root) from error
            raise
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def publish(self, draft: Record, scratch: Path) -> Record:
        """Publish the files of `scratch` under the draft's scene, stage and key; the record is written last.

        Args:
            draft: the record without `directory` and `files` filled in (any values there are replaced).
            scratch: local directory with the finished files; emptied by this call when the store is local.

        Returns the record that stands: ours, or that of another run which published the same key first.
        Raises StoreError when the store is full or cannot be written; nothing of the output is left then.
        """
        stage_path = self._stage_path(draft.scene, draft.stage)
        directory = f"{draft.key[:16]}-{uuid.uuid4().hex[:8]}"
        files = [
            PublishedFile(
                path=path.relative_to(scratch).as_posix(), bytes=path.stat().st_size, sha256=sha256_of_file(path)
            )
            for path in sorted(scratch.rglob("*"))
            if path.is_file()
        ]
        record = draft.model_copy(update={"directory": directory, "files": files})
        target = stage_path / directory
        try:
            self._move_into_store(scratch, target)
            with self._one_publisher(stage_path):
                standing = self._standing_record(draft)
                if standing is None:
                    self._write_bytes(stage_path / RECORD_NAME, record.model_dump_json(indent=1).encode())
            if standing is not None:
                self._remove_tree(target)
                return standing
        except BaseException:
            with contextlib.suppress(OSError):
                self._remove_tree(target)
            raise
        self.clear_failure(draft.scene, draft.stage)
        return record

    @contextlib.contextmanager
    def _one_publisher(self, stage_path: PurePosixPath) -> Iterator[None]:
        """Hold the stage's folder while its record is looked at and replaced, against other runs on a local store.

        Object stores have no such lock: there the later of two records that cross stands, and the files of the
        earlier one stay until the store is cleaned.
        """
        if not self.is_local:
            yield
            return
        folder = os.open(stage_path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # some network file systems have no locks; there it is as in a bucket
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _standing_record(self, draft: Record) -> Record | None:
        """A whole output of the same key that somebody else published while ours was being made."""
        try:
            standing = self.record(draft.scene, draft.stage)
        except CorruptFileError:
            return None
        if standing is None or standing.key != draft.key or not self.has_files(standing):
            return None
        return standing

    def _move_into_store(self, scratch: Path, target: PurePosixPath) -> None:
        with self._reporting(target):
            if self.is_local:
                Path(target.parent).mkdir(parents=True, exist_ok=True)
                scratch.rename(Path(target))
            else:
                self._filesystem.put(str(scratch), str(target), recursive=True)

    # ---------------------------------------------------------------- reading outputs

    def has_files(self, record: Record) -> bool:
        """Whether the record's files are there with their sizes (contents are checked when they are read)."""
        base = self._stage_path(record.scene, record.stage) / record.directory
        with self._reporting(base):
            if self.is_local:
                return all(_has_size(Path(base / file.path), file.bytes) for file in record.files)
            sizes = {
                PurePosixPath(path).relative_to(base).as_posix(): entry["size"]
                for path, entry in self._filesystem.find(str(base), detail=True).items()
            }
            return all(sizes.get(file.path) == file.bytes for file in record.files)

    def fetch(self, record: Record, name: str) -> Path:
        """A published file as a local path, its checksum verified (once a process for each file and state).

        Raises CorruptOutputError when the file is missing or does not hold what was published, KeyError when the
        record lists no such file.
        """
        where = f"{record.scene}/{record.stage}/{name}"
        listed = {file.path: file for file in record.files}[name]
        path = self._stage_path(record.scene, record.stage) / record.directory / name
        if self.is_local:
            local = Path(path)
        else:
            with self._reporting(path):
                local = self._local_cache.download(self._filesystem, str(path), listed.sha256)
        if not self._local_cache.is_verified(local, listed.sha256):
            try:
                require_checksum(local, sha256=listed.sha256, size=listed.bytes, where=where)
            except CorruptFileError as error:
                if not self.is_local:
                    local.unlink(missing_ok=True)  # what is published in its place may have the same checksum
                raise CorruptOutputError(error.found, where=where, remedy=error.remedy) from error
            self._local_cache.mark_verified(local, listed.sha256)
        return local

    # ---------------------------------------------------------------- cleaning

    def leftovers(self) -> Leftovers:
        """Output directories that no record names: superseded outputs, and what crashes left behind."""
        found: list[str] = []
        size = 0
        for scene in self.scenes():
            scene_path = self._root / self.collection / "scenes" / scene
            for stage_entry in self._filesystem.ls(str(scene_path), detail=False):
                stage = PurePosixPath(stage_entry).name
                named = self._named_directory(scene, stage)
                for entry in self._filesystem.ls(stage_entry, detail=True):
                    if entry["type"] == "directory" and PurePosixPath(entry["name"]).name != named:
                        found.append(entry["name"])
                        size += self._filesystem.du(entry["name"])
        return Leftovers(tuple(found), size)

    def remove(self, leftovers: Leftovers) -> None:
        """Delete what `leftovers` found."""
        for directory in leftovers.directories:
            self._remove_tree(PurePosixPath(directory))

    def remove_abandoned_scratch(self) -> int:
        """Remove scratch directories of processes of this host that no longer live. Returns how many."""
        root = self._staging_root()
        if not root.is_dir():
            return 0
        removed = 0
        for directory in root.iterdir():
            host, _, rest = directory.name.rpartition("-")[0].rpartition("-")
            if host == socket.gethostname() and rest.isdigit() and not _process_lives(int(rest)):
                shutil.rmtree(directory, ignore_errors=True)
                removed += 1
        return removed

    def _named_directory(self, scene: str, stage: str) -> str | None:
        try:
            record = self.record(scene, stage)
        except CorruptFileError:
            return None
        return record.directory if record else None

    # ---------------------------------------------------------------- file system

    def _staging_root(self) -> Path:
        if self.is_local:
            return Path(self._root) / ".staging"
        return Path(tempfile.gettempdir()) / "sceneloom-staging"

    def _read_model(self, path: PurePosixPath, model: type[_Model]) -> _Model | None:
        with self._reporting(path):
            try:
                content = Path(path).read_bytes() if self.is_local else self._filesystem.cat_file(str(path))
            except (FileNotFoundError, NotADirectoryError):
                return None
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise CorruptFileError(
                f"not a {model.__name__.lower()} ({len(content)} bytes; {first['msg']})",
                where=str(path),
                remedy="Run the stage again for this scene: the file is set aside and the output is made anew.",
            ) from error

    def _write_bytes(self, path: PurePosixPath, content: bytes) -> None:
        with self._reporting(path):
            if not self.is_local:
                self._filesystem.pipe_file(str(path), content)
                return
            # Written in scratch, where a crash's leavings are found, and moved under its name whole.
            with self.scratch() as scratch:
                unfinished = scratch / path.name
                write_bytes_atomically(unfinished, content)
                Path(path.parent).mkdir(parents=True, exist_ok=True)
                unfinished.replace(Path(path))

    def _remove(self, path: PurePosixPath) -> bool:
        with self._reporting(path):
            try:
                self._filesystem.rm_file(str(path))
            except FileNotFoundError:
                return False
        return True

    def _remove_tree(self, path: PurePosixPath) -> None:
        with self._reporting(path), contextlib.suppress(FileNotFoundError):
            self._filesystem.rm(str(path), recursive=True)

    @contextlib.contextmanager
    def _reporting(self, path: PurePosixPath) -> Iterator[None]:
        """Turn the operating system's refusals into one message that names the store."""
        try:
            yield
        except (StoreError, FileNotFoundError):
            raise
        except OSError as error:
            raise self._refused(error, path) from error

    def _refused(self, error: OSError, path: PurePosixPath) -> StoreError:
        """The operating system's refusal as a StoreError with the same errno."""
        remedy = f"Make {self.url} writable, with space left."
        refusal = StoreError(error.strerror or str(error), where=str(path), remedy=remedy)
        refusal.errno = error.errno
        return refusal


class _LocalCache:
    """Local copies of remote files, and which local files were already found to hold their checksum."""

    def __init__(self) -> None:
        self._verified: dict[tuple[str, int, int], str] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    def download(self, filesystem: fsspec.AbstractFileSystem, path: str, sha256: str) -> Path:
        with self._lock:
            if self._directory is None:
                self._directory = tempfile.TemporaryDirectory(prefix="sceneloom-cache-")
            local = Path(self._directory.name) / sha256 / PurePosixPath(path).name
        if not local.exists():
            local.parent.mkdir(parents=True, exist_ok=True)
            unfinished = local.with_name(f".{uuid.uuid4().hex}.part")
            try:
                filesystem.get_file(path, str(unfinished))
                unfinished.replace(local)
            except FileNotFoundError:
                return local
            finally:
                unfinished.unlink(missing_ok=True)
        return local

    def is_verified(self, path: Path, sha256: str) -> bool:
        return path.exists() and self._verified.get(_state_of(path)) == sha256

    def mark_verified(self, path: Path, sha256: str) -> None:
        self._verified[_state_of(path)] = sha256


def _state_of(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return (str(path), status.st_size, status.st_mtime_ns)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except (FileNotFoundError, NotADirectoryError):
        return False


def _process_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path

import fsspec
import pytest

from sceneloom.datasets.errors import CorruptFileError, StoreError
from sceneloom.resources.failures import Reason, classify
from sceneloom.resources.records import Attempt, Failure, KeyParts, Record
from sceneloom.resources.store import CorruptOutputError, SceneStore

from .file_systems import read_only, small_file_system

SCENE, STAGE = "red-room", "view"


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh store on each kind of file system."""
    return str(tmp_path / "store") if request.param == "local" else f"memory://{uuid.uuid4().hex}/store"


@pytest.fixture
def store(url: str) -> SceneStore:
    return SceneStore(url, "rooms")


@pytest.fixture
def local(tmp_path: Path) -> SceneStore:
    return SceneStore(str(tmp_path / "store"), "rooms")


def draft(scene: str = SCENE, stage: str = STAGE, seed: int = 1) -> Record:
    parts = KeyParts(inputs={"source": "a"}, settings={}, code_version="1", engine={"name": "toy"}, seed=seed)
    return Record(
        scene=scene,
        stage=stage,
        key=parts.key(),
        key_parts=parts,
        directory="",
        files=[],
        engine="toy",
        licence="CC0-1.0",
        seconds=0.0,
        created_at="2026-01-01T00:00:00+00:00",
        run="r",
    )


def publish(store: SceneStore, content: bytes = b"depth", **where: object) -> Record:
    with store.scratch() as scratch:
        (scratch / "depth.npz").write_bytes(content)
        (scratch / "frames").mkdir()
        (scratch / "frames" / "0.png").write_bytes(content[::-1])
        return store.publish(draft(**where), scratch)  # pyright: ignore[reportArgumentType]


def failure(key: str = "k") -> Failure:
    attempt = Attempt(at="now", run="r", reason="engine_failed", message="no", key=key, seconds=0.1)
    return Failure(scene=SCENE, stage=STAGE, attempts=[attempt])


def files_of(store: SceneStore) -> set[str]:
    """Everything that the store holds, relative to its collection."""
    filesystem, root = fsspec.core.url_to_fs(store.url)
    return {path.removeprefix(f"{root}/rooms/scenes/") for path in filesystem.find(root)}


def put(store: SceneStore, path: str, content: bytes) -> None:
    with fsspec.open(f"{store.url}/rooms/scenes/{path}", "wb") as file:
        file.write(content)  # pyright: ignore[reportAttributeAccessIssue]


# ---------------------------------------------------------------- publishing and reading, on every file system


def test_what_is_published_is_read_back(store: SceneStore) -> None:
    record = publish(store)

    assert store.record(SCENE, STAGE) == record
    assert [(file.path, file.bytes) for file in record.files] == [("depth.npz", 5), ("frames/0.png", 5)]
    assert store.fetch(record, "depth.npz").read_bytes() == b"depth"
    assert store.fetch(record, "frames/0.png").read_bytes() == b"htped"
    assert store.has_files(record)
    with fsspec.open(store.file_url(record, "depth.npz"), "rb") as file:
        assert file.read() == b"depth"  # pyright: ignore[reportAttributeAccessIssue]
    assert files_of(store) == {
        f"{SCENE}/{STAGE}/record.json",
        f"{SCENE}/{STAGE}/{record.directory}/depth.npz",
        f"{SCENE}/{STAGE}/{record.directory}/frames/0.png",
    }


def test_a_store_that_was_never_written_is_empty(store: SceneStore) -> None:
    assert store.record(SCENE, STAGE) is None
    assert store.failure(SCENE, STAGE) is None
    assert store.scenes() == []
    assert store.leftovers().directories == ()
    assert store.clear_failure(SCENE, STAGE) is False
    assert store.remove_abandoned_scratch() == 0
    store.set_aside_record(SCENE, STAGE)


def test_scenes_are_listed_in_order_and_as_they_appear(store: SceneStore) -> None:
    publish(store, scene="b-room")
    assert store.scenes() == ["b-room"]
    publish(store, scene="a-room")
    assert store.scenes() == ["a-room", "b-room"]


def test_collections_do_not_see_each_other(url: str) -> None:
    publish(SceneStore(url, "rooms"))
    assert SceneStore(url, "streets").record(SCENE, STAGE) is None


def test_the_first_of_two_outputs_of_one_key_stands(store: SceneStore) -> None:
    first = publish(store, b"first")
    second = publish(store, b"later")

    assert second == first == store.record(SCENE, STAGE)
    assert store.fetch(second, "depth.npz").read_bytes() == b"first"
    assert not any("later" in name for name in files_of(store))
    assert store.leftovers().directories == ()


def test_an_output_of_another_key_replaces_the_record_and_leaves_the_old_files_to_clean(store: SceneStore) -> None:
    old = publish(store, b"older")
    new = publish(store, b"newer", seed=2)

    assert store.record(SCENE, STAGE) == new
    leftovers = store.leftovers()
    assert [Path(directory).name for directory in leftovers.directories] == [old.directory]
    assert leftovers.bytes == 10
    assert store.fetch(old, "depth.npz").read_bytes() == b"older"  # a reader that began before may finish

    store.remove(leftovers)

    assert store.leftovers().directories == ()
    assert store.fetch(new, "depth.npz").read_bytes() == b"newer"
    assert not any(old.directory in name for name in files_of(store))


def test_a_whole_output_takes_the_place_of_one_with_files_missing(store: SceneStore) -> None:
    first = publish(store)
    filesystem, root = fsspec.core.url_to_fs(store.url)
    filesystem.rm_file(f"{root}/rooms/scenes/{SCENE}/{STAGE}/{first.directory}/depth.npz")
    assert not store.has_files(first)

    second = publish(store)

    assert second.directory != first.directory
    assert store.record(SCENE, STAGE) == second


def test_a_file_of_another_size_is_noticed_without_reading_it(store: SceneStore) -> None:
    record = publish(store)
    put(store, f"{SCENE}/{STAGE}/{record.directory}/depth.npz", b"dept")
    assert not store.has_files(record)


def test_failures_are_kept_until_the_stage_succeeds(store: SceneStore) -> None:
    store.write_failure(failure())
    assert store.failure(SCENE, STAGE) == failure()
    assert store.record(SCENE, STAGE) is None

    publish(store)

    assert store.failure(SCENE, STAGE) is None


def test_clearing_a_failure_tells_whether_there_was_one(store: SceneStore) -> None:
    store.write_failure(failure())
    assert store.clear_failure(SCENE, STAGE) is True
    assert store.clear_failure(SCENE, STAGE) is False


@pytest.mark.parametrize("content", [b"other", b"dep", b""])
def test_a_changed_file_is_an_error_that_names_scene_stage_and_file(store: SceneStore, content: bytes) -> None:
    record = publish(store)
    put(store, f"{SCENE}/{STAGE}/{record.directory}/depth.npz", content)

    with pytest.raises(CorruptOutputError, match=f"^{SCENE}/{STAGE}/depth.npz: the file") as raised:
        store.fetch(record, "depth.npz")

    assert (raised.value.scene, raised.value.stage) == (SCENE, STAGE)
    assert "make the stage again" in raised.value.remedy
    assert store.fetch(record, "frames/0.png").read_bytes() == b"htped"


def test_a_missing_file_is_an_error_that_names_it(store: SceneStore) -> None:
    record = publish(store)
    filesystem, root = fsspec.core.url_to_fs(store.url)
    filesystem.rm_file(f"{root}/rooms/scenes/{SCENE}/{STAGE}/{record.directory}/frames/0.png")

    with pytest.raises(CorruptOutputError, match=f"{SCENE}/{STAGE}/frames/0.png: the file is missing"):
        store.fetch(record, "frames/0.png")


def test_a_file_that_was_mended_is_read_again(store: SceneStore) -> None:
    record = publish(store)
    path = f"{SCENE}/{STAGE}/{record.directory}/depth.npz"
    put(store, path, b"other")
    with pytest.raises(CorruptOutputError):
        store.fetch(record, "depth.npz")

    put(store, path, b"depth")

    assert store.fetch(record, "depth.npz").read_bytes() == b"depth"


def test_a_file_that_changes_after_it_was_verified_is_noticed(local: SceneStore) -> None:
    record = publish(local)
    local.fetch(record, "depth.npz")
    path = Path(local.file_url(record, "depth.npz"))
    path.write_bytes(b"other")
    os.utime(path, ns=(1, 1))

    with pytest.raises(CorruptOutputError, match="SHA-256"):
        local.fetch(record, "depth.npz")


def test_only_files_that_the_record_lists_can_be_fetched(store: SceneStore) -> None:
    record = publish(store)
    with pytest.raises(KeyError, match="absent"):
        store.fetch(record, "absent")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b'{"format": "sceneloom.record/2"}', b"\xff\xfe", b"\0" * 4096]
)
def test_a_record_that_is_none_is_an_error_that_names_the_file(store: SceneStore, content: bytes) -> None:
    publish(store)
    put(store, f"{SCENE}/{STAGE}/record.json", content)

    with pytest.raises(CorruptFileError, match=rf"{SCENE}/{STAGE}/record.json: not a record \({len(content)} bytes"):
        store.record(SCENE, STAGE)


def test_a_record_set_aside_counts_as_never_made_and_is_kept_to_look_at(store: SceneStore) -> None:
    publish(store)
    put(store, f"{SCENE}/{STAGE}/record.json", b"{")

    store.set_aside_record(SCENE, STAGE)

    assert store.record(SCENE, STAGE) is None
    assert f"{SCENE}/{STAGE}/record.json.corrupt" in files_of(store)


def test_publishing_over_a_corrupt_record_makes_it_whole(store: SceneStore) -> None:
    publish(store)
    put(store, f"{SCENE}/{STAGE}/record.json", b"{")
    record = publish(store)
    assert store.record(SCENE, STAGE) == record


def test_scratch_is_empty_private_and_gone_afterwards(store: SceneStore) -> None:
    with store.scratch() as one, store.scratch() as other:
        assert one != other
        assert list(one.iterdir()) == []
        (one / "half").write_bytes(b"x")
    assert not one.exists()

    def interrupted() -> None:
        nonlocal one
        with store.scratch() as one:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not one.exists()


def test_urls_open_with_fsspec(store: SceneStore) -> None:
    record = publish(store)
    filesystem, path = fsspec.core.url_to_fs(store.stage_url(SCENE, STAGE))
    assert filesystem.exists(f"{path}/record.json")
    assert store.table_url("scene_catalog").endswith("/rooms/tables/scene_catalog.parquet")
    assert store.file_url(record, "depth.npz").endswith(f"/{record.directory}/depth.npz")


# ---------------------------------------------------------------- two publishers at once


def test_of_two_records_that_cross_the_first_stands(local: SceneStore, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = SceneStore._standing_record

    def look_slowly(self: SceneStore, made: Record) -> Record | None:
        standing = looked(self, made)
        time.sleep(0.2)  # long enough for the other to look as well, if it were let
        return standing

    monkeypatch.setattr(SceneStore, "_standing_record", look_slowly)
    returned: list[Record] = []
    threads = [
        threading.Thread(target=lambda: returned.append(publish(SceneStore(local.url, "rooms")))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)

    assert len(returned) == 3
    assert returned[0] == returned[1] == returned[2] == local.record(SCENE, STAGE)
    assert local.leftovers().directories == ()


# ---------------------------------------------------------------- crashes

PUBLISH_IN_A_LOOP = """
import itertools, os, random, signal, sys
from sceneloom.resources.records import KeyParts, Record
from sceneloom.resources.store import SceneStore

store = SceneStore(sys.argv[1], "rooms")
{before}
for number in itertools.count():
    parts = KeyParts(inputs={{}}, settings={{}}, code_version="1", engine={{}}, seed=number)
    draft = Record(scene=f"room-{{number % 3}}", stage="view", key=parts.key(), key_parts=parts, directory="", files=[],
                   engine="toy", licence="CC0-1.0", seconds=0.0, created_at="now", run="r")
    with store.scratch() as scratch:
        for name in "abcd":
            (scratch / name).write_bytes(random.randbytes(60_000))
        store.publish(draft, scratch)
    if number == 5:
        print("going", flush=True)
"""

DIE_BEFORE = """
original = {owner}.{name}
calls = itertools.count()
def die(*arguments, **options):
    if next(calls) >= {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
{owner}.{name} = die
"""


def publishing_process(store: SceneStore, before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PUBLISH_IN_A_LOOP).format(before=before), store.url],
        stdout=subprocess.PIPE,
        text=True,
    )


def require_nothing_half_published(store: SceneStore) -> None:
    """Records point at whole files; beside them there are only folders that `leftovers` names."""
    root = Path(store.url)
    store.remove_abandoned_scratch()
    assert list((root / ".staging").iterdir()) == []
    store.remove(store.leftovers())
    for scene in store.scenes():
        record = store.record(scene, STAGE)
        stage_folder = root / "rooms" / "scenes" / scene / STAGE
        if record is None:
            assert list(stage_folder.iterdir()) == []
            continue
        assert {path.name for path in stage_folder.iterdir()} == {"record.json", record.directory}
        for file in record.files:
            store.fetch(record, file.path)


def test_a_process_killed_at_any_moment_leaves_nothing_half_published(local: SceneStore) -> None:
    moments = random.Random(0)
    abandoned = 0
    for _ in range(6):
        process = publishing_process(local)
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        time.sleep(moments.uniform(0.0, 0.08))
        process.kill()
        assert process.wait(timeout=20) == -signal.SIGKILL
        process.stdout.close()
        abandoned += len(list((Path(local.url) / ".staging").iterdir()))
        require_nothing_half_published(local)
        assert local.scenes() == ["room-0", "room-1", "room-2"]
        assert all(local.record(scene, STAGE) is not None for scene in local.scenes())
    assert abandoned > 0  # else no kill fell into the making of an output


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        pytest.param("SceneStore", "publish", 4, id="files made, not moved"),
        pytest.param("SceneStore", "_standing_record", 4, id="files moved, no record"),
        pytest.param("os", "fsync", 4, id="record half written"),
        pytest.param("SceneStore", "clear_failure", 4, id="record written"),
        pytest.param("SceneStore", "_move_into_store", 0, id="before the first output"),
    ],
)
def test_a_process_killed_at_a_known_step_leaves_nothing_half_published(
    local: SceneStore, owner: str, name: str, call: int
) -> None:
    process = publishing_process(local, DIE_BEFORE.format(owner=owner, name=name, call=call))
    assert process.wait(timeout=20) == -signal.SIGKILL
    require_nothing_half_published(local)
    assert local.scenes() == (["room-0", "room-1", "room-2"] if call else [])


def test_scratch_of_living_processes_and_other_machines_is_left_alone(local: SceneStore) -> None:
    staging = Path(local.url) / ".staging"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    other_machine = staging / f"other-host-{ended.pid}-0123abcd"
    of_the_dead = staging / f"{socket.gethostname()}-{ended.pid}-0123abcd"
    for folder in (other_machine, of_the_dead):
        folder.mkdir(parents=True)
        (folder / "half.mp4").write_bytes(b"x")

    with local.scratch() as ours:
        assert local.remove_abandoned_scratch() == 1
        assert ours.is_dir()
    assert other_machine.is_dir()
    assert not of_the_dead.exists()


# ---------------------------------------------------------------- full and unwritable stores


def test_a_full_disk_is_said_so_and_leaves_what_was_there_whole(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "small") as folder:
        store = SceneStore(str(folder), "rooms")
        before = publish(store, b"small" * 100)
        with store.scratch() as scratch:
            (scratch / "one-page").write_bytes(b"x")
            filler = folder / "filler"
            filler.write_bytes(bytes(shutil.disk_usage(folder).free))
            with pytest.raises(StoreError, match="No space left on device") as raised:
                store.publish(draft(scene="full-room"), scratch)

        assert classify(raised.value) is Reason.STORE_FULL
        assert f"Make {folder} writable, with space left." in raised.value.remedy
        assert store.record("full-room", STAGE) is None
        assert list((folder / "rooms" / "scenes" / "full-room" / STAGE).iterdir()) == []
        assert list((folder / ".staging").iterdir()) == []
        with filler.open("ab") as file:
            file.write(bytes(shutil.disk_usage(folder).free))
        with pytest.raises(StoreError, match="No space left on device") as of_a_note:
            store.write_failure(failure())
        assert classify(of_a_note.value) is Reason.STORE_FULL
        assert store.record(SCENE, STAGE) == before
        assert store.fetch(before, "depth.npz").read_bytes() == b"small" * 100

        filler.unlink()

        assert publish(store, scene="full-room") == store.record("full-room", STAGE)


def test_a_read_only_store_can_be_read_and_says_so_when_written(tmp_path: Path) -> None:
    store = SceneStore(str(tmp_path / "store"), "rooms")
    record = publish(store)
    with read_only(tmp_path / "store"):
        assert store.record(SCENE, STAGE) == record
        assert store.fetch(record, "depth.npz").read_bytes() == b"depth"
        assert store.remove_abandoned_scratch() == 0
        with pytest.raises(StoreError, match="Read-only file system") as raised:
            publish(store, seed=2)
    assert classify(raised.value) is Reason.STORE_UNAVAILABLE
    assert store.record(SCENE, STAGE) == record


def test_a_file_in_place_of_the_store_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    store = SceneStore(str(tmp_path / "store"), "rooms")
    with pytest.raises(StoreError, match=r"store.*Make .*store writable") as raised:
        publish(store)
    assert classify(raised.value) is Reason.STORE_UNAVAILABLE


def test_a_remote_store_that_refuses_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SceneStore(f"memory://{uuid.uuid4().hex}", "rooms")
    record = publish(store)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Access Denied")

    for name in ("cat_file", "pipe_file", "put", "rm_file", "find", "get_file"):
        monkeypatch.setattr(type(store._filesystem), name, refuse)
    refused = [
        lambda: store.record(SCENE, STAGE),
        lambda: store.write_failure(failure()),
        lambda: store.clear_failure(SCENE, STAGE),
        lambda: publish(store, seed=2),
        lambda: store.has_files(record),
        lambda: store.fetch(record, "depth.npz"),
    ]
    for call in refused:
        with pytest.raises(StoreError, match="Access Denied") as raised:
            call()
        assert classify(raised.value) is Reason.STORE_UNAVAILABLE

"""WebDataset's layout: streamed by the webdataset package, read by ranges, and damaged."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from webdataset.compat import WebDataset

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.latent_spaces import LatentSpace
from sceneloom.datasets.layouts.release import (
    FindingKind,
    LayoutSummary,
    ReleaseDirectory,
    ReleaseRequest,
    ReleaseScene,
)
from sceneloom.datasets.layouts.webdataset import LAYOUT
from sceneloom.datasets.layouts.webdataset_examination import INDEX_FORMAT
from sceneloom.datasets.video import read_video

from .release_scenes import latent_space, make_clip, make_scene

TAR, INDEX = "train-000000.tar", "train-000000.json"
KEY = "room0-left"


def scenes() -> list[ReleaseScene]:
    return [
        make_scene("room0", trajectories=("left", "zoom_in"), seed=1),
        make_scene("room1", trajectories=("up",), seed=2),
        make_scene("room2", trajectories=("up",), split="test", prompt=None, seed=3),
    ]


def publish(root: Path, given: list[ReleaseScene], **request: Any) -> LayoutSummary:
    root.mkdir(exist_ok=True)
    settings = {"options": {"clips_per_tar": "2"}, **request}
    return LAYOUT.write(ReleaseDirectory(root), given, ReleaseRequest(root, **settings))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("webdataset") / "set"
    summary = publish(root, scenes())
    assert summary.counts == {"clips": 4, "tars": 3}
    return root


def test_the_webdataset_package_streams_every_clip(published: Path) -> None:
    stream: Any = WebDataset(f"{published}/train-{{000000..000001}}.tar", shardshuffle=False).decode()
    samples: list[dict[str, Any]] = list(stream)
    assert [sample["__key__"] for sample in samples] == [KEY, "room0-zoom_in", "room1-up"]
    sample, clip = samples[0], scenes()[0].clips["left"]
    np.testing.assert_array_equal(sample["latents.npy"], clip.latents())
    assert sample["latents.npy"].dtype == np.float16
    np.testing.assert_array_equal(sample["cameras.npz"]["c2w"], clip.cameras()[0])
    np.testing.assert_array_equal(sample["cameras.npz"]["intrinsics"], clip.cameras()[1])
    np.testing.assert_array_equal(read_video(sample["rgb.mp4"]), clip.rgb())
    last = zipfile.ZipFile(io.BytesIO(sample["depth.zip"])).read("00008.exr")
    with OpenEXR.File(io.BytesIO(last)) as file:
        np.testing.assert_array_equal(file.channels()["Z"].pixels, clip.depth([8])[0])
    metadata = sample["metadata.json"]
    assert (metadata["scene_id"], metadata["trajectory"], metadata["split"]) == ("room0", "left", "train")
    spaces = json.loads((published / "latent_spaces.json").read_text())
    restored = LatentSpace.from_json(spaces[metadata["latent_space"]])
    np.testing.assert_array_equal(restored.mean, latent_space(9).mean)


def test_one_ranged_read_fetches_one_field(published: Path) -> None:
    index = json.loads((published / INDEX).read_text())
    assert index["format"] == INDEX_FORMAT
    tar = (published / index["tar"]).read_bytes()
    assert len(tar) == index["length"]
    assert hashlib.sha256(tar).hexdigest() == index["sha256"]
    wanted = {entry["field"]: entry for entry in index["members"] if entry["key"] == "room0-zoom_in"}
    assert list(wanted) == ["rgb.mp4", "latents.npy", "cameras.npz", "depth.zip", "metadata.json"]
    entry = wanted["latents.npy"]
    with (published / index["tar"]).open("rb") as file:
        file.seek(entry["offset"])
        content = file.read(entry["length"])
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), scenes()[0].clips["zoom_in"].latents())


def test_long_names_keep_their_offsets(tmp_path: Path) -> None:
    name, trajectory = "s" * 63, "t" * 63
    clip = make_clip(name, trajectory)
    publish(tmp_path, [dataclasses.replace(make_scene(name, trajectories=()), clips={trajectory: clip})])
    assert LAYOUT.examine(tmp_path, {}) == []
    [sample] = list(WebDataset(str(tmp_path / TAR), shardshuffle=False))
    assert sample["__key__"] == f"{name}-{trajectory}"


def test_nothing_is_found_in_a_fresh_set(published: Path) -> None:
    assert LAYOUT.examine(published, {}) == []


def test_the_same_scenes_give_the_same_bytes(published: Path, tmp_path: Path) -> None:
    publish(tmp_path / "again", scenes())
    assert sorted(path.name for path in published.iterdir()) == [
        "latent_spaces.json",
        "test-000000.json",
        "test-000000.tar",
        "train-000000.json",
        "train-000000.tar",
        "train-000001.json",
        "train-000001.tar",
    ]
    for file in published.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_members_have_no_time_and_no_owner(published: Path) -> None:
    with tarfile.open(published / TAR) as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")


def test_fields_can_be_chosen(tmp_path: Path) -> None:
    publish(tmp_path, scenes(), fields=frozenset({"latents", "cameras"}))
    assert LAYOUT.examine(tmp_path, {}) == []
    with tarfile.open(tmp_path / TAR) as archive:
        assert archive.getnames()[:3] == [f"{KEY}.latents.npy", f"{KEY}.cameras.npz", f"{KEY}.metadata.json"]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"room\.0-left"):
        publish(tmp_path, [make_scene("room.0", trajectories=("left",))])
    with pytest.raises(InputError, match="clips_per_tar=0"):
        publish(tmp_path, scenes(), options={"clips_per_tar": "0"})
    other = dataclasses.replace(scenes()[1], latent_space=dataclasses.replace(latent_space(9), scale=1.0))
    with pytest.raises(InputError, match="two latent spaces"):
        publish(tmp_path, [scenes()[0], other])
    assert not list(tmp_path.iterdir())


def test_a_licence_that_was_corrected_meanwhile_makes_no_other_latent_space(tmp_path: Path) -> None:
    other = dataclasses.replace(scenes()[1], latent_space=dataclasses.replace(latent_space(9), licence="MIT"))
    publish(tmp_path, [scenes()[0], other])
    assert LAYOUT.examine(tmp_path, {}) == []


# --- damage ---------------------------------------------------------------------------------------------------------


def rewrite(path: Path, change: Callable[[dict[str, bytes]], Iterable[tuple[str, bytes]]]) -> None:
    """Write a tar file again with other members, and an index that agrees with it."""
    with tarfile.open(path) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}  # pyright: ignore[reportOptionalMemberAccess]
    index = json.loads(path.with_suffix(".json").read_text())
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in change(members):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    index["members"] = []
    with tarfile.open(path) as archive:
        for member in archive:
            key, _, field = member.name.partition(".")
            content = path.read_bytes()[member.offset_data : member.offset_data + member.size]
            entry = {"key": key, "field": field, "offset": member.offset_data, "length": member.size}
            index["members"].append({**entry, "sha256": hashlib.sha256(content).hexdigest()})
    path.with_suffix(".json").write_text(json.dumps(index))


def with_field(field: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: rewrite(root / TAR, lambda members: {**members, f"{KEY}.{field}": content}.items())


def without_field(field: str) -> Callable[[Path], None]:
    return lambda root: rewrite(
        root / TAR, lambda members: [one for one in members.items() if one[0] != f"{KEY}.{field}"]
    )


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_byte(root: Path) -> None:
    index = json.loads((root / INDEX).read_text())
    entry = next(entry for entry in index["members"] if entry["field"] == "metadata.json")
    content = bytearray((root / TAR).read_bytes())
    place = entry["offset"] + content[entry["offset"] :].index(b"small")
    content[place] = ord("S")
    (root / TAR).write_bytes(content)


def change_index(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((root / INDEX).read_text())
    change(index)
    (root / INDEX).write_text(json.dumps(index))


def copy_to(root: Path, name: str) -> None:
    shutil.copy(root / TAR, root / f"{name}.tar")
    shutil.copy(root / INDEX, root / f"{name}.json")


CLIP = make_clip("room0", "left", seed=1)
POSES, LENSES = CLIP.cameras()
DAMAGES: dict[str, tuple[Callable[[Path], object], str, FindingKind, str]] = {
    "tar cut": (lambda root: cut(root / TAR), TAR, FindingKind.TRUNCATED, "webdataset stops after"),
    "tar gone": (lambda root: (root / TAR).unlink(), TAR, FindingKind.MISSING, "webdataset stops"),
    "tar of the middle gone": (
        lambda root: [(root / TAR).unlink(), (root / INDEX).unlink()],
        TAR,
        FindingKind.MISSING,
        "left out",
    ),
    "index gone": (lambda root: (root / INDEX).unlink(), INDEX, FindingKind.MISSING, "streamed only"),
    "index cut": (lambda root: cut(root / INDEX), INDEX, FindingKind.TRUNCATED, "no index"),
    "index of other offsets": (
        lambda root: change_index(root, lambda index: index["members"][1].update(offset=512)),
        INDEX,
        FindingKind.MISALIGNED,
        "listed at (512",
    ),
    "index lacks a member": (
        lambda root: change_index(root, lambda index: index["members"].pop()),
        INDEX,
        FindingKind.MISSING,
        "not listed",
    ),
    "member changed": (flip_byte, TAR, FindingKind.CHANGED, "SHA-256"),
    "video cut": (with_field("rgb.mp4", CLIP.rgb_mp4()[:700]), TAR, FindingKind.TRUNCATED, f"{KEY}: rgb.mp4"),
    "video of another clip": (
        with_field("rgb.mp4", make_clip("x", "y", frames=5).rgb_mp4()),
        TAR,
        FindingKind.MISALIGNED,
        "(5, 32, 48)",
    ),
    "poses of other frames": (
        with_field("cameras.npz", npz(c2w=POSES[:-1], intrinsics=LENSES[:-1])),
        TAR,
        FindingKind.MISALIGNED,
        "8 poses",
    ),
    "poses not rigid": (
        with_field("cameras.npz", npz(c2w=POSES * np.float32(2), intrinsics=LENSES)),
        TAR,
        FindingKind.OUT_OF_CONVENTION,
        "every ray",
    ),
    "lens normalised": (
        with_field("cameras.npz", npz(c2w=POSES, intrinsics=LENSES / np.float32(48))),
        TAR,
        FindingKind.OUT_OF_CONVENTION,
        "every ray",
    ),
    "cameras no npz": (with_field("cameras.npz", b"PK\3\4"), TAR, FindingKind.TRUNCATED, "cameras.npz"),
    "latents in float32": (
        with_field("latents.npy", npy(np.zeros((16, 2, 4, 6), np.float32))),
        TAR,
        FindingKind.OUT_OF_CONVENTION,
        "float16",
    ),
    "latents not finite": (
        with_field("latents.npy", npy(np.full((16, 2, 4, 6), np.nan, np.float16))),
        TAR,
        FindingKind.OUT_OF_CONVENTION,
        "not finite",
    ),
    "latents pickled": (
        with_field("latents.npy", npy(np.array([{}], object))),
        TAR,
        FindingKind.TRUNCATED,
        "latents.npy",
    ),
    "depth cut": (with_field("depth.zip", b"PK\5\6"), TAR, FindingKind.TRUNCATED, "depth.zip"),
    "metadata broken": (with_field("metadata.json", b"{"), TAR, FindingKind.TRUNCATED, "metadata.json"),
    "metadata gone": (without_field("metadata.json"), TAR, FindingKind.MISSING, "no metadata.json"),
    "a clip without latents": (without_field("latents.npy"), TAR, FindingKind.MISSING, "no latents.npy"),
    "stray dot": (
        lambda root: rewrite(
            root / TAR, lambda members: {**members, f"{KEY}.v2.rgb.mp4": members[f"{KEY}.rgb.mp4"]}.items()
        ),
        TAR,
        FindingKind.UNEXPECTED,
        "dot",
    ),
    "members apart": (
        lambda root: rewrite(root / TAR, lambda members: sorted(members.items(), key=lambda one: one[0][::-1])),
        TAR,
        FindingKind.MISALIGNED,
        "two samples",
    ),
    "latent spaces gone": (
        lambda root: (root / "latent_spaces.json").unlink(),
        TAR,
        FindingKind.MISSING,
        "cannot be decoded",
    ),
    "clips twice": (
        lambda root: copy_to(root, "train-000002"),
        "train-000002.tar",
        FindingKind.UNEXPECTED,
        "twice",
    ),
    "scene in two splits": (
        lambda root: copy_to(root, "test-000001"),
        TAR,
        FindingKind.OUT_OF_CONVENTION,
        "held-out",
    ),
    "stray file": (lambda root: (root / "notes.txt").write_text("x"), "notes.txt", FindingKind.UNEXPECTED, "neither"),
    "misnamed tar": (
        lambda root: copy_to(root, "clips"),
        "clips.tar",
        FindingKind.UNEXPECTED,
        "patterns",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, published: Path, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(published, root)
    damage, path, kind, message = DAMAGES[name]
    damage(root)
    findings = LAYOUT.examine(root, {})
    assert any(found.path == path and found.kind == kind and message in found.message for found in findings), findings


def test_findings_name_the_scene(published: Path, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(published, root)
    flip_byte(root)
    assert [finding.scene_id for finding in LAYOUT.examine(root, {})] == ["room0"]


def test_any_file_may_be_junk(published: Path, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(published, root)
    for file in [root / TAR, root / INDEX, root / "latent_spaces.json"]:
        content = file.read_bytes()
        for junk in (b"", b"[1, 2]", b"\xff\xfe\x00", content[: len(content) // 2]):
            file.write_bytes(junk)
            assert LAYOUT.examine(root, {}), (file, junk[:10])
        file.unlink()
        file.mkdir()
        assert LAYOUT.examine(root, {}), file
        file.rmdir()
        file.write_bytes(content)

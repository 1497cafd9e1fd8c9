from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from sceneloom.datasets.errors import InputError
from sceneloom.datasets.exr import decode_exr
from sceneloom.datasets.layouts import hugging_face
from sceneloom.datasets.layouts.hugging_face import LAYOUT, table_schema
from sceneloom.datasets.layouts.publishing import examine, publish
from sceneloom.datasets.layouts.release import FindingKind, ReleaseScene

from .release_scenes import MemoryClip, make_scene

CHANGED, MISALIGNED, MISSING = FindingKind.CHANGED, FindingKind.MISALIGNED, FindingKind.MISSING
ODD, TRUNCATED, UNEXPECTED = FindingKind.OUT_OF_CONVENTION, FindingKind.TRUNCATED, FindingKind.UNEXPECTED


def scenes() -> list[ReleaseScene]:
    return [
        make_scene("room-a", trajectories=("left", "zoom_in"), seed=1),
        make_scene("room-b", trajectories=("left",), split="test", prompt=None, seed=2),
    ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hugging_face") / "out"
    publish(LAYOUT, scenes(), out, collection="toy")
    return out


@pytest.fixture
def root(shared: Path, tmp_path: Path) -> Path:
    """A copy without the manifest, as somebody who downloaded the dataset has it."""
    return Path(shutil.copytree(shared, tmp_path / "copy"))


def rows(root: Path, split: str = "train") -> list[dict[str, object]]:
    return pq.read_table(root / f"data/{split}-00000.parquet").to_pylist()


def header(root: Path) -> dict[str, object]:
    return yaml.safe_load((root / "README.md").read_text().split("---\n")[1])


# --- what is written ------------------------------------------------------------------------------------------------


def test_each_row_names_files_that_hold_its_clip(shared: Path) -> None:
    by_name = {f"{scene.scene_id}-{name}": clip for scene in scenes() for name, clip in scene.clips.items()}
    found = [*rows(shared), *rows(shared, "test")]
    assert {row["clip"] for row in found} == set(by_name)
    for row in found:
        clip = by_name[str(row["clip"])]
        assert isinstance(clip, MemoryClip)
        for field in LAYOUT.fields:
            content = (shared / str(row[field])).read_bytes()
            assert row[f"{field}_bytes"] == len(content)
            assert row[f"{field}_sha256"] == hashlib.sha256(content).hexdigest()
        assert (shared / str(row["rgb"])).read_bytes() == clip.rgb_mp4()
        np.testing.assert_array_equal(np.load(shared / str(row["latents"])), clip.latent)
        with np.load(shared / str(row["cameras"])) as cameras:
            np.testing.assert_array_equal(cameras["c2w"], clip.c2w)
            np.testing.assert_array_equal(cameras["estimated_intrinsics"], clip.intrinsics)
        with zipfile.ZipFile(shared / str(row["depth"])) as archive:
            planes = [decode_exr(archive.read(name), name)["Z"] for name in sorted(archive.namelist())]
        np.testing.assert_array_equal(np.stack(planes), clip.depths)


def test_the_viewer_gets_a_picture_of_each_clip(shared: Path) -> None:
    table = pq.read_table(shared / "data/train-00000.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["preview"] == {"_type": "Image"}
    assert features.keys() == set(table.schema.names)
    preview = rows(shared)[0]["preview"]
    assert isinstance(preview, dict)
    assert Image.open(io.BytesIO(preview["bytes"])).size == (48, 32)


def test_the_cards_header_is_yaml_that_finds_every_table(shared: Path) -> None:
    card = header(shared)
    assert card["license"] == "cc0-1.0"
    assert card["size_categories"] == ["n<1K"]
    (config,) = card["configs"]  # type: ignore[misc]
    for entry in config["data_files"]:
        (table,) = shared.glob(entry["path"])
        assert {row["split"] for row in pq.read_table(table).to_pylist()} == {entry["split"]}
    text = (shared / "README.md").read_text()
    for said in ("3 synthetic clips of 2 3D scenes", "| train | 2 | 1 |", "test-cosmos-8x8x8", "z-depth", "`raycast`"):
        assert said in text


def test_no_path_of_this_machine_is_in_any_file(shared: Path) -> None:
    outside = str(shared.parent).encode()
    for path in shared.rglob("*"):
        assert not path.is_file() or outside not in path.read_bytes(), path
    assert not any(str(row[name]).startswith("/") for row in rows(shared) for name in LAYOUT.fields)


def test_the_same_scenes_give_the_same_bytes(shared: Path, tmp_path: Path) -> None:
    publish(LAYOUT, scenes(), tmp_path / "again", collection="toy")
    for path in shared.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(shared)).read_bytes(), path


def test_a_part_of_the_fields(tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = publish(LAYOUT, scenes(), out, collection="toy", fields=frozenset({"latents"}))
    endings = {"".join(Path(name).suffixes) for name in manifest.files if name.startswith("clips/")}
    assert endings == {".latents.npy"}
    assert "preview" not in pq.read_schema(out / "data/train-00000.parquet").names
    assert examine(out, {LAYOUT.name: LAYOUT}) == []


def test_tables_are_split_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugging_face, "ROWS_PER_TABLE", 1)
    out = tmp_path / "out"
    publish(LAYOUT, scenes(), out, collection="toy", fields=frozenset({"cameras"}))
    assert sorted(path.name for path in out.glob("data/*")) == [
        "test-00000.parquet",
        "train-00000.parquet",
        "train-00001.parquet",
    ]
    assert examine(out, {LAYOUT.name: LAYOUT}) == []


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    without = [dataclasses.replace(scene, latent_space=None) for scene in scenes()]
    for given, options, told in [
        (without, {}, "no latent space"),
        (scenes(), {"date": "yesterday"}, '"yesterday" is no day'),
        ([dataclasses.replace(scenes()[0], clips={})], {}, "clip"),
    ]:
        with pytest.raises(InputError, match=told):
            publish(LAYOUT, given, tmp_path / "out", collection="toy", options=options)
    assert list(tmp_path.iterdir()) == []


# --- examine --------------------------------------------------------------------------------------------------------

LEFT = "clips/room-a/left"
TRAIN = "data/train-00000.parquet"


def rewrite(root: Path, change: Callable[[list[dict[str, object]]], object]) -> None:
    """Change the rows of the train table, and tell croissant.json its new checksum."""
    found = rows(root)
    change(found)
    pq.write_table(pa.Table.from_pylist(found, schema=table_schema(LAYOUT.fields)), root / TRAIN)
    content = json.loads((root / "croissant.json").read_text())
    for each in content["distribution"]:
        if each.get("contentUrl") == TRAIN:
            each["sha256"] = hashlib.sha256((root / TRAIN).read_bytes()).hexdigest()
    (root / "croissant.json").write_text(json.dumps(content))


def replaced(root: Path, field: str, content: bytes) -> None:
    """Other content for a clip's file, which its row vouches for."""
    path = f"{LEFT}.{hugging_face.FIELDS[field]}"
    (root / path).write_bytes(content)

    def change(found: list[dict[str, object]]) -> None:
        for row in found:
            if row[field] == path:
                row |= {f"{field}_bytes": len(content), f"{field}_sha256": hashlib.sha256(content).hexdigest()}

    rewrite(root, change)


def saved(array: np.ndarray, intrinsics: np.ndarray | None = None) -> bytes:
    buffer = io.BytesIO()
    if intrinsics is None:
        np.save(buffer, array)
    else:
        np.savez(buffer, c2w=array, intrinsics=intrinsics)
    return buffer.getvalue()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


POSES = np.tile(np.eye(4, dtype=np.float32), (9, 1, 1))
LENS = np.tile(np.array([38.4, 38.4, 24, 16], np.float32), (9, 1))

DAMAGES: dict[str, tuple[Callable[[Path], object], set[tuple[str, FindingKind]]]] = {
    "no video": (lambda root: (root / f"{LEFT}.mp4").unlink(), {(f"{LEFT}.mp4", MISSING)}),
    "short depth": (
        lambda root: (root / f"{LEFT}.depth.zip").write_bytes(b"PK"),
        {(f"{LEFT}.depth.zip", TRUNCATED)},
    ),
    "long latents": (
        lambda root: (root / f"{LEFT}.latents.npy").open("ab").write(b"more"),
        {(f"{LEFT}.latents.npy", CHANGED)},
    ),
    "one bit of the latents": (
        lambda root: flip(root / f"{LEFT}.latents.npy"),
        {(f"{LEFT}.latents.npy", CHANGED)},
    ),
    "another clip's video": (
        lambda root: replaced(root, "rgb", make_scene("x", frames=5).clips["left"].rgb_mp4()),
        {(f"{LEFT}.mp4", MISALIGNED)},
    ),
    "float32 latents": (
        lambda root: replaced(root, "latents", saved(np.zeros((16, 2, 4, 6), np.float32))),
        {(f"{LEFT}.latents.npy", MISALIGNED)},
    ),
    "latents that are none": (
        lambda root: replaced(root, "latents", b"nothing"),
        {(f"{LEFT}.latents.npy", MISALIGNED)},
    ),
    "depth that is none": (
        lambda root: replaced(root, "depth", b"nothing"),
        {(f"{LEFT}.depth.zip", MISALIGNED)},
    ),
    "too few poses": (
        lambda root: replaced(root, "cameras", saved(POSES[:8], intrinsics=LENS)),
        {(f"{LEFT}.cameras.npz", MISALIGNED)},
    ),
    "mirrored poses": (
        lambda root: replaced(root, "cameras", saved(POSES * np.array([1, 1, -1, 1], np.float32), intrinsics=LENS)),
        {(f"{LEFT}.cameras.npz", MISALIGNED)},
    ),
    "intrinsics of no lens": (
        lambda root: replaced(root, "cameras", saved(POSES, intrinsics=LENS / 480)),
        {(f"{LEFT}.cameras.npz", MISALIGNED)},
    ),
    "a file too many": (lambda root: (root / "notes.txt").write_text(""), {("notes.txt", UNEXPECTED)}),
    "no tables": (
        lambda root: shutil.rmtree(root / "data"),
        {("data", MISSING), (TRAIN, MISSING), ("data/test-00000.parquet", MISSING)}
        | {
            (f"clips/{clip}.{ending}", UNEXPECTED)
            for clip in ("room-a/left", "room-a/zoom_in", "room-b/left")
            for ending in hugging_face.FIELDS.values()
        },
    ),
    "rows of another split": (
        lambda root: rewrite(root, lambda found: found[0].update(split="test")),
        {(TRAIN, MISALIGNED)},
    ),
    "swapped files": (
        lambda root: rewrite(root, lambda found: found[0].update(rgb=found[1]["rgb"])),
        {(TRAIN, MISALIGNED), (f"{LEFT}.mp4", UNEXPECTED)},
    ),
    "a row twice": (
        lambda root: rewrite(root, lambda found: found.append(found[0])),
        {("data", MISALIGNED), ("README.md", MISALIGNED)},
    ),
    "a column too few": (
        lambda root: pq.write_table(pq.read_table(root / TRAIN).drop_columns(["frames"]), root / TRAIN),
        {(TRAIN, ODD)}
        | {
            (f"clips/room-a/{clip}.{ending}", UNEXPECTED)
            for clip in ("left", "zoom_in")
            for ending in hugging_face.FIELDS.values()
        },
    ),
    "no card": (lambda root: (root / "README.md").unlink(), {("README.md", MISSING)}),
    "a card cut short": (
        lambda root: (root / "README.md").write_text("---\nlicense: mit\n"),
        {("README.md", TRUNCATED)},
    ),
    "a card without licence": (
        lambda root: edit(root / "README.md", "license: cc0-1.0\n", ""),
        {("README.md", ODD)},
    ),
    "a card without test": (
        lambda root: edit(root / "README.md", "data/test-*.parquet", "data/tests-*.parquet"),
        {("README.md", MISALIGNED)},
    ),
    "a card with other counts": (
        lambda root: edit(root / "README.md", "| train | 2 |", "| train | 3 |"),
        {("README.md", MISALIGNED)},
    ),
    "no licences": (lambda root: (root / "LICENSE.md").unlink(), {("LICENSE.md", MISSING)}),
    "licences cut short": (lambda root: (root / "LICENSE.md").write_text("# Licences"), {("LICENSE.md", TRUNCATED)}),
    "no croissant": (lambda root: (root / "croissant.json").unlink(), {("croissant.json", MISSING)}),
    "half a croissant": (lambda root: (root / "croissant.json").write_text("{"), {("croissant.json", TRUNCATED)}),
    "another table's checksum": (
        lambda root: edit(root / "croissant.json", hashlib.sha256((root / TRAIN).read_bytes()).hexdigest(), "0" * 64),
        {(TRAIN, CHANGED)},
    ),
    "another column in croissant": (
        lambda root: edit(root / "croissant.json", '"column": "kind"', '"column": "sort"'),
        {("croissant.json", MISALIGNED)},
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(root: Path, damage: str) -> None:
    change, expected = DAMAGES[damage]
    assert LAYOUT.examine(root, {}) == []
    change(root)
    assert {(found.path, found.kind) for found in LAYOUT.examine(root, {})} == expected


def test_a_table_cut_short_is_found(root: Path) -> None:
    content = (root / TRAIN).read_bytes()
    (root / TRAIN).write_bytes(content[: len(content) // 2])
    assert (TRAIN, TRUNCATED) in {(found.path, found.kind) for found in LAYOUT.examine(root, {})}

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sceneloom.datasets.catalog import (
    SCENE_CATALOG,
    SCENE_REJECTS,
    Reject,
    SceneEntry,
    Split,
    catalog_entries,
    catalog_table,
    rejects,
    rejects_table,
)
from sceneloom.datasets.errors import ContractError, InputError
from sceneloom.datasets.video import read_video, write_video
from sceneloom.resources import collections as collections_module
from sceneloom.resources.collections import CatalogResult, merge_with_previous, read_sources, split_of
from sceneloom.resources.input_videos import VideoLimits, VideoSampling

from .moving_videos import textured, write_moving_square

EXAMPLES = Path(__file__).parents[1] / "examples"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def picture(seed: int, *, size: tuple[int, int] = (96, 80), file_format: str = "PNG") -> bytes:
    """A smooth random picture; different seeds look different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, file_format)
    return file.getvalue()


def reasons(result: CatalogResult) -> list[str]:
    return [reject.reason for reject in result.rejects]


@pytest.fixture
def memory() -> Iterator[Any]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()


# --- prompts -------------------------------------------------------------------------------------------------------


def test_prompts_one_a_line(tmp_path: Path) -> None:
    source = write(tmp_path / "p.txt", "\ufeff# a comment\r\n\r\na  red   chair\r\n\ta lamp \r\n")
    result = read_sources([source])
    assert [entry.prompt for entry in result.entries] == ["a red chair", "a lamp"]
    assert [entry.source for entry in result.entries] == [f"{source}#3", f"{source}#4"]
    assert {entry.kind for entry in result.entries} == {"prompt"}
    assert result.rejects == []


def test_ids_come_from_words_and_content(tmp_path: Path) -> None:
    entry = read_sources([write(tmp_path / "p.txt", "Ein schöner Garten, mit Bäumen & Teich!")]).entries[0]
    assert re.fullmatch(r"ein-schoner-garten-mit-baumen-teich-[0-9a-f]{8}", entry.scene_id)
    assert entry.scene_id.endswith(entry.content_digest[:8])


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_every_prompt_gives_a_valid_id_or_a_reject(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("prompts")
    source = write(folder / "p.jsonl", json.dumps({"prompt": text}) + "\n")
    result = read_sources([source])
    assert len(result.entries) + len(result.rejects) == 1
    for entry in result.entries:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{2,62}", entry.scene_id)
        assert 0 <= entry.seed < 2**63


def test_identity_does_not_depend_on_order_spacing_or_normal_form(tmp_path: Path) -> None:
    first = read_sources([write(tmp_path / "a.txt", "a café table\na lamp\n")])
    second = read_sources([write(tmp_path / "b" / "b.txt", "a lamp\na  cafe\u0301\ttable\n")])
    assert {(e.scene_id, e.seed, e.split, e.content_digest) for e in first.entries} == {
        (e.scene_id, e.seed, e.split, e.content_digest) for e in second.entries
    }


def test_identity_stays_what_it_was(tmp_path: Path) -> None:
    # Written down: a change here would rename every scene of every collection.
    entry = read_sources([write(tmp_path / "p.txt", "a red chair")]).entries[0]
    assert entry.scene_id == "a-red-chair-c8de5884"
    assert entry.seed == 1056901761


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"byte 3 .*not UTF-8"):
        read_sources([write(tmp_path / "p.txt", b"caf\xc3\xe9")])


# --- tables --------------------------------------------------------------------------------------------------------


ROWS = [
    {"id": "first-scene", "prompt": "a hall", "seed": 5, "split": "test", "licence": "CC0-1.0", "tags": ["b", "a"]},
    {"id": None, "prompt": "a shed", "seed": None, "split": None, "licence": None, "tags": None},
]


def as_jsonl(folder: Path) -> Path:
    return write(folder / "t.jsonl", "\n".join(json.dumps(row) for row in ROWS))


def as_csv(folder: Path) -> Path:
    lines = ["id,prompt,seed,split,licence,tags", "first-scene,a hall,5,test,CC0-1.0,b; a", ",a shed,,,,"]
    return write(folder / "t.csv", "\n".join(lines))


def as_parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "t.parquet")
    return folder / "t.parquet"


@pytest.mark.parametrize("make", [as_jsonl, as_csv, as_parquet])
def test_every_kind_of_table_gives_the_same_scenes(tmp_path: Path, make: Any) -> None:
    result = read_sources([make(tmp_path)])
    assert result.rejects == []
    first, second = result.entries
    assert (first.scene_id, first.seed, first.split, first.licence, first.tags) == (
        "first-scene",
        5,
        "test",
        "CC0-1.0",
        ["a", "b"],
    )
    plain = read_sources([write(tmp_path / "plain.txt", "a shed")]).entries[0]
    assert (second.scene_id, second.seed, second.content_digest) == (plain.scene_id, plain.seed, plain.content_digest)


def test_a_csv_value_may_hold_line_ends(tmp_path: Path) -> None:
    result = read_sources([write(tmp_path / "t.csv", 'prompt,seed\n"a hall\nwith a rug",4\n')])
    assert result.entries[0].prompt == "a hall with a rug"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "prompt,colour\na,b\n"),
        ("t.jsonl", '{"prompt": "a", "colour": "b"}'),
    ],
)
def test_unknown_columns_are_refused_with_the_known_ones(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(InputError, match=r"'colour'.*id, prompt, image, video, seed, split, licence, tags"):
        read_sources([write(tmp_path / name, content)])


@pytest.mark.parametrize("header", ["seed,tags", "prompt,prompt", ""])
def test_a_table_needs_a_prompt_or_an_image_column_once(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match="columns"):
        read_sources([write(tmp_path / "t.csv", header + "\n1,2\n")])


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.parquet.*cannot be read"):
        read_sources([write(tmp_path / "t.parquet", b"PAR1 nothing")])


@pytest.mark.parametrize("name", ["nothing.txt", "folder", "t.docx"])
def test_a_missing_or_unknown_source_is_an_error(tmp_path: Path, name: str) -> None:
    write(tmp_path / "t.docx", "x")
    with pytest.raises(InputError, match=re.escape(name)):
        read_sources([tmp_path / name])


def test_an_unknown_protocol_is_an_error() -> None:
    with pytest.raises(InputError, match="nowhere"):
        read_sources(["nowhere://bucket/p.txt"])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "invalid_row"),
        ("[1]", "invalid_row"),
        ('{"prompt": ["a"]}', "invalid_row"),
        ('{"prompt": "a", "tags": 3}', "invalid_row"),
        ('{"prompt": "\\ud800"}', "invalid_row"),
        ('{"prompt": " ", "seed": 3}', "empty"),
        ('{"prompt": "a", "id": "Hall"}', "invalid_id"),
        ('{"prompt": "a", "id": "ab"}', "invalid_id"),
        ('{"prompt": "a", "id": "a,b,c"}', "invalid_id"),
        ('{"prompt": "a", "seed": -1}', "invalid_seed"),
        ('{"prompt": "a", "seed": 1.5}', "invalid_seed"),
        ('{"prompt": "a", "seed": true}', "invalid_seed"),
        ('{"prompt": "a", "seed": 9223372036854775808}', "invalid_seed"),
        ('{"prompt": "a", "split": "dev"}', "invalid_split"),
        ('{"image": "nothing.png"}', "missing_image"),
        ('{"image": "nowhere://x/y.png"}', "missing_image"),
    ],
)
def test_a_bad_row_is_a_reject_and_stops_nothing(tmp_path: Path, row: str, reason: str) -> None:
    source = write(tmp_path / "t.jsonl", '{"prompt": "before"}\n' + row + '\n{"prompt": "after"}\n')
    result = read_sources([source])
    assert [entry.prompt for entry in result.entries] == ["before", "after"]
    assert reasons(result) == [reason]
    assert result.rejects[0].source == f"{source}#2"


def test_a_csv_row_with_too_many_values_is_a_reject(tmp_path: Path) -> None:
    assert reasons(read_sources([write(tmp_path / "t.csv", "prompt,seed\na hall, with a rug,3\n")])) == ["invalid_row"]


# --- pictures ------------------------------------------------------------------------------------------------------


def test_a_folder_of_pictures_with_captions(tmp_path: Path) -> None:
    write(tmp_path / "b.png", picture(1))
    write(tmp_path / "sub" / "a.JPG", picture(2, file_format="JPEG"))
    write(tmp_path / "b.txt", "a caption\nin two lines")
    write(tmp_path / "notes.md", "not a picture")
    write(tmp_path / ".hidden.png", b"")
    write(tmp_path / "lonely.txt", "no picture has this name")
    result = read_sources([tmp_path])
    assert [(e.kind, e.prompt, e.width, e.height) for e in result.entries] == [
        ("image", "a caption in two lines", 96, 80),
        ("image", None, 96, 80),
    ]
    assert result.entries[1].scene_id.startswith("a-")
    assert reasons(result) == ["caption_without_image"]
    with fsspec.open(result.entries[0].image_url, "rb") as file:
        assert file.read() == picture(1)  # pyright: ignore[reportAttributeAccessIssue]


def test_pictures_of_a_table_are_found_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "images" / "x.png", picture(1))
    absolute = write(tmp_path / "elsewhere" / "y.png", picture(2))
    table = write(tmp_path / "t.csv", f"image\nimages/x.png\n{absolute}\n")
    result = read_sources([table])
    assert [Path(e.image_url or "").name for e in result.entries] == ["x.png", "y.png"]


def test_one_picture_is_a_source(tmp_path: Path) -> None:
    assert read_sources([write(tmp_path / "x.png", picture(1))]).entries[0].kind == "image"


def test_a_folder_that_was_emptied_holds_no_scene(tmp_path: Path) -> None:
    # Not an error: removing the last picture retires its scene like removing any other.
    assert read_sources([tmp_path]).entries == []


def test_other_file_systems_give_the_same_scenes(tmp_path: Path, memory: Any) -> None:
    write(tmp_path / "t.csv", "image,prompt\nimages/x.png,a hall\n")
    write(tmp_path / "images" / "x.png", picture(1))
    memory.pipe("/set/t.csv", (tmp_path / "t.csv").read_bytes())
    memory.pipe("/set/images/x.png", picture(1))
    local, remote = read_sources([tmp_path / "t.csv"]), read_sources(["memory://set/t.csv"])
    assert remote.entries[0].image_url == "memory:///set/images/x.png"
    assert local.entries[0].scene_id == remote.entries[0].scene_id
    folder = read_sources(["memory://set/images"])
    assert folder.entries[0].image_url == "memory:///set/images/x.png"


def test_unusable_pictures_are_rejects_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a_empty.png", b"")
    write(tmp_path / "b_small.png", picture(1, size=(96, 20)))
    write(tmp_path / "c_large.png", picture(2, size=(400, 400)))
    write(tmp_path / "d_good.png", picture(3))
    result = read_sources([tmp_path], minimum_side=64, maximum_pixels=100_000)
    assert reasons(result) == ["unreadable", "too_small", "too_large"]
    assert [Path(r.image_url or "").name for r in result.rejects] == ["a_empty.png", "b_small.png", "c_large.png"]
    assert len(result.entries) == 1


def test_an_unchanged_picture_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.png", picture(1))
    changed = write(tmp_path / "b.png", picture(2))
    first = read_sources([tmp_path])
    write(changed, picture(3))
    os.utime(changed, ns=(10**18, 10**18))
    decoded: list[str] = []
    original = collections_module.decode_picture

    def counted(content: bytes, *, where: str, **limits: int) -> Any:
        decoded.append(Path(where).name)
        return original(content, where=where, **limits)

    monkeypatch.setattr(collections_module, "decode_picture", counted)
    second = read_sources([tmp_path], previous=catalog_table(first.entries))
    assert decoded == ["b.png"]
    assert second.entries[0] == first.entries[0]
    assert second.entries[1].image_sha256 != first.entries[1].image_sha256


def test_tighter_limits_reach_known_pictures_too(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(1))
    previous = catalog_table(read_sources([tmp_path]).entries)
    assert reasons(read_sources([tmp_path], previous=previous, minimum_side=90)) == ["too_small"]
    assert reasons(read_sources([tmp_path], previous=previous, maximum_pixels=5_000)) == ["too_large"]


# --- repeats -------------------------------------------------------------------------------------------------------


def test_exact_repeats_name_the_first(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.txt", "a hall\na shed\na  hall"), write(tmp_path / "2.txt", "a shed")
    result = read_sources([one, two])
    assert [entry.prompt for entry in result.entries] == ["a hall", "a shed"]
    assert reasons(result) == ["exact_duplicate", "exact_duplicate"]
    assert [r.repeats for r in result.rejects] == [entry.scene_id for entry in result.entries]


def test_a_stated_seed_makes_a_variant(tmp_path: Path) -> None:
    write(tmp_path / "x.png", picture(1))
    rows = '{"image": "x.png", "seed": 1}\n{"image": "x.png", "seed": 2}\n{"prompt": "a", "seed": 1}\n{"prompt": "a"}'
    result = read_sources([write(tmp_path / "t.jsonl", rows)])
    assert len(result.entries) == 4
    assert result.rejects == []


def test_pictures_that_look_alike_are_dropped(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(1))
    write(tmp_path / "b.jpg", picture(1, size=(192, 160), file_format="JPEG"))
    write(tmp_path / "c.png", picture(2))
    result = read_sources([tmp_path])
    assert [Path(e.image_url or "").name for e in result.entries] == ["a.png", "c.png"]
    assert reasons(result) == ["near_duplicate"]
    assert result.rejects[0].repeats == result.entries[0].scene_id
    assert len(read_sources([tmp_path], perceptual_distance=-1).entries) == 3


def test_an_id_that_is_taken_is_named(tmp_path: Path) -> None:
    rows = '{"id": "hall", "prompt": "a hall"}\n{"id": "hall", "prompt": "another hall"}'
    result = read_sources([write(tmp_path / "t.jsonl", rows)])
    assert [entry.prompt for entry in result.entries] == ["a hall"]
    assert reasons(result) == ["id_collision"]
    assert "hall" in result.rejects[0].message


def test_a_dropped_picture_takes_no_id(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(1))
    write(tmp_path / "b.jpg", picture(1, file_format="JPEG"))
    rows = '{"image": "a.png"}\n{"id": "hall", "image": "b.jpg"}\n{"id": "hall", "prompt": "a hall"}'
    result = read_sources([write(tmp_path / "t.jsonl", rows)])
    assert reasons(result) == ["near_duplicate"]
    assert result.entries[1].scene_id == "hall"


# --- splits --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("abc0123", min_size=3, max_size=12), min_size=1, max_size=50), st.floats(0, 0.2))
def test_a_change_of_fractions_moves_only_what_it_must(ids: list[str], change: float) -> None:
    before: dict[Split, float] = {"train": 0.7, "validation": 0.2, "test": 0.1}
    after: dict[Split, float] = {"train": 0.7, "validation": 0.2 - change, "test": 0.1 + change}
    for scene_id in ids:
        old, new = split_of(scene_id, before), split_of(scene_id, after)
        assert old == new or (old, new) == ("validation", "test")


def test_splits_have_their_fractions() -> None:
    fractions: dict[Split, float] = {"train": 0.8, "validation": 0.15, "test": 0.05}
    splits = [split_of(f"scene-{number}", fractions) for number in range(20_000)]
    for name, fraction in fractions.items():
        assert abs(splits.count(name) / len(splits) - fraction) < 0.01


def test_a_split_without_a_fraction_stays_empty() -> None:
    assert {split_of(f"scene-{n}", {"train": 1.0, "validation": 0.0}) for n in range(500)} == {"train"}


@pytest.mark.parametrize("split", [{"train": 0.5}, {"train": 1.5, "test": -0.5}, {"train": 0.5, "dev": 0.5}])
def test_fractions_must_sum_to_one(tmp_path: Path, split: Any) -> None:
    with pytest.raises(InputError, match="sum to 1"):
        read_sources([write(tmp_path / "p.txt", "a")], split=split)


# --- tables of scenes ----------------------------------------------------------------------------------------------


def test_a_scene_that_vanishes_is_retired_and_may_return(tmp_path: Path) -> None:
    both = read_sources([write(tmp_path / "p.txt", "a hall\na shed")]).entries
    hall, shed = both
    without = merge_with_previous(catalog_table(both), [shed])
    assert [(e.prompt, e.status) for e in without] == [("a shed", "active"), ("a hall", "retired")]
    again = merge_with_previous(catalog_table(without), [shed])
    assert again == without
    returned = merge_with_previous(catalog_table(again), both)
    assert returned == [hall, shed]
    assert merge_with_previous(None, both) == both


def test_tables_keep_every_value(tmp_path: Path) -> None:
    write(tmp_path / "x.png", picture(1))
    write(tmp_path / "p.txt", "a hall")
    write(tmp_path / "bad" / "y.png", b"")
    result = read_sources([tmp_path / "x.png", tmp_path / "p.txt", tmp_path / "bad"])
    table, rejected = catalog_table(result.entries), rejects_table(result.rejects)
    assert table.schema.equals(SCENE_CATALOG)
    assert rejected.schema.equals(SCENE_REJECTS)
    table.validate(full=True)
    assert catalog_entries(table) == result.entries
    assert rejects(rejected) == result.rejects
    assert catalog_table([]).schema.equals(SCENE_CATALOG)


def test_columns_and_attributes_are_the_same() -> None:
    assert tuple(SceneEntry.__dataclass_fields__) == tuple(SCENE_CATALOG.names)
    assert tuple(Reject.__dataclass_fields__) == tuple(SCENE_REJECTS.names)


def test_a_table_of_another_shape_is_refused() -> None:
    with pytest.raises(ContractError, match=r"scene_catalog.*expected scene_id: string not null"):
        catalog_entries(pa.table({"scene_id": ["a"]}))
    with pytest.raises(ContractError, match="scene_rejects"):
        rejects(pa.table({"scene_id": ["a"]}))


# --- examples and size ---------------------------------------------------------------------------------------------


def test_the_example_collection_reads_without_rejects() -> None:
    result = read_sources([EXAMPLES / "prompts.txt", EXAMPLES / "images"])
    assert result.rejects == []
    assert sum(entry.kind == "prompt" for entry in result.entries) >= 8
    assert sum(entry.kind == "image" for entry in result.entries) >= 4


def test_the_mixed_example_tables() -> None:
    result = read_sources([EXAMPLES / "mixed.jsonl", EXAMPLES / "mixed.csv"])
    assert result.rejects == []
    kinds = [entry.kind for entry in result.entries]
    assert kinds == ["prompt", "prompt", "image", "image", "prompt", "prompt", "image"]
    assert {entry.scene_id for entry in result.entries} >= {"reading-corner", "corridor-walk", "gallery-visit"}


def test_example_pictures_stay_small() -> None:
    assert all(path.stat().st_size <= 150_000 for path in (EXAMPLES / "images").iterdir())


def test_ten_thousand_prompts_are_read_quickly(tmp_path: Path) -> None:
    prompts = "\n".join(f"a room with {n} chairs, {n % 7} tables and lamp number {n * 31}" for n in range(10_000))
    source = write(tmp_path / "p.txt", prompts)
    start = time.process_time()
    result = read_sources([source])
    catalog_table(result.entries)
    assert len(result.entries) == 10_000
    assert time.process_time() - start < 3.0


# --- videos --------------------------------------------------------------------------------------------------------

SMALL = VideoLimits(minimum_side_pixels=32)


def video(path: Path, seed: int = 0, frames: int = 12) -> Path:
    return write_moving_square(path, frames=frames, height=48, width=64, seed=seed)


def test_folders_of_videos_with_captions(tmp_path: Path) -> None:
    video(tmp_path / "clips" / "slide.mp4", 1)
    video(tmp_path / "clips" / "deep" / "other.MP4", 2)
    write(tmp_path / "clips" / "slide.txt", "a red square slides")
    write(tmp_path / "clips" / "picture.png", picture(3))
    write(tmp_path / "clips" / "alone.txt", "nothing has this name")
    result = read_sources([tmp_path / "clips"], video_limits=SMALL)
    assert reasons(result) == ["caption_without_image"]
    kinds = {entry.source.rsplit("/", 1)[1]: entry.kind for entry in result.entries}
    assert kinds == {"other.MP4": "video", "picture.png": "image", "slide.mp4": "video"}
    slide = next(entry for entry in result.entries if entry.prompt)
    content = (tmp_path / "clips" / "slide.mp4").read_bytes()
    assert slide.prompt == "a red square slides"
    assert slide.scene_id.startswith("a-red-square-slides-")
    assert (slide.video_sha256, slide.video_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (slide.video_frames, slide.video_seconds, slide.height, slide.width) == (12, 0.5, 48, 64)
    assert (slide.video_url or "").endswith("slide.mp4")
    assert slide.image_url is None
    other = next(entry for entry in result.entries if entry.kind == "video" and entry.prompt is None)
    assert other.scene_id.startswith("other-")
    table = catalog_table(result.entries)
    assert catalog_entries(table) == result.entries
    single = read_sources([tmp_path / "clips" / "slide.mp4"], video_limits=SMALL).entries
    assert [entry.kind for entry in single] == ["video"]


def test_tables_of_videos(tmp_path: Path) -> None:
    video(tmp_path / "clips" / "slide.mp4", 1)
    rows = [
        {"id": "first", "video": "clips/slide.mp4", "licence": "CC0-1.0", "seed": 3},
        {"video": "clips/gone.mp4"},
        {"video": "clips/slide.mp4", "image": "x.png"},
        {"video": 5},
    ]
    result = read_sources([write(tmp_path / "t.jsonl", "\n".join(json.dumps(row) for row in rows))], video_limits=SMALL)
    assert [(entry.scene_id, entry.kind, entry.licence, entry.seed) for entry in result.entries] == [
        ("first", "video", "CC0-1.0", 3)
    ]
    assert reasons(result) == ["missing_video", "invalid_row", "invalid_row"]
    assert result.rejects[0].video_url is not None
    assert result.rejects[0].image_url is None
    assert "both an image and a video" in result.rejects[1].message
    assert rejects(rejects_table(result.rejects)) == result.rejects


def test_videos_are_compared_by_their_first_frames_with_videos_alone(tmp_path: Path) -> None:
    first = video(tmp_path / "a.mp4", 1)
    longer = video(tmp_path / "b.mp4", 1, frames=14)
    shutil.copy(first, tmp_path / "c.mp4")
    video(tmp_path / "d.mp4", 2)
    Image.fromarray(read_video(first, [0])[0]).save(tmp_path / "e.png")
    result = read_sources([tmp_path], video_limits=SMALL, minimum_side=32)
    assert [entry.source.rsplit("/", 1)[1] for entry in result.entries] == ["a.mp4", "d.mp4", "e.png"]
    assert {reject.source.rsplit("/", 1)[1]: reject.reason for reject in result.rejects} == {
        longer.name: "near_duplicate",
        "c.mp4": "exact_duplicate",
    }
    assert "the first frame looks the same as that of" in result.rejects[0].message


def test_unusable_videos_are_rejected_by_name(tmp_path: Path) -> None:
    write(tmp_path / "clips" / "empty.mp4", b"")
    write(tmp_path / "clips" / "words.mkv", b"no video" * 50)
    video(tmp_path / "clips" / "short.mp4", 1, frames=5)
    video(tmp_path / "clips" / "slide.mp4", 2)
    result = read_sources([tmp_path / "clips"], video_limits=SMALL, sampling=VideoSampling(9, 24))
    assert {reject.source.rsplit("/", 1)[1]: reject.reason for reject in result.rejects} == {
        "empty.mp4": "empty_file",
        "short.mp4": "too_short",
        "words.mkv": "unreadable",
    }
    assert [entry.source.rsplit("/", 1)[1] for entry in result.entries] == ["slide.mp4"]
    assert all((reject.video_url or "").endswith(reject.source.rsplit("/", 1)[1]) for reject in result.rejects)


def test_an_unchanged_video_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "a.mp4", 1)
    before = read_sources([path], video_limits=SMALL)
    calls: list[str] = []
    original = collections_module.examine_video

    def counted(*arguments: Any, where: str) -> Any:
        calls.append(where)
        return original(*arguments, where=where)

    monkeypatch.setattr(collections_module, "examine_video", counted)
    previous = catalog_table(before.entries)
    assert read_sources([path], video_limits=SMALL, previous=previous).entries == before.entries
    assert calls == []
    # It is looked at again where its limits, or the clip that is taken of it, may say otherwise now.
    larger = VideoLimits(minimum_side_pixels=64)
    assert reasons(read_sources([path], video_limits=larger, previous=previous)) == ["too_small"]
    longer = VideoSampling(25, 24)
    assert reasons(read_sources([path], video_limits=SMALL, sampling=longer, previous=previous)) == ["too_short"]
    video(path, 5)
    assert read_sources([path], video_limits=SMALL, previous=previous).entries != before.entries
    assert len(calls) == 3


@pytest.mark.parametrize("changed", [VideoSampling(3, 24, 0.25), VideoSampling(5, 24), VideoSampling(3, 12)])
def test_a_video_is_looked_at_again_when_another_part_is_taken(tmp_path: Path, changed: VideoSampling) -> None:
    shots = [textured(96, 160, seed) for seed in (1, 2)]
    write_video(tmp_path / "a.mp4", [shots[index >= 5] for index in range(12)], fps=24)
    first = VideoSampling(3, 24)
    before = read_sources([tmp_path / "a.mp4"], video_limits=SMALL, sampling=first).entries
    [fresh] = read_sources([tmp_path / "a.mp4"], video_limits=SMALL, sampling=changed).entries
    [again] = read_sources(
        [tmp_path / "a.mp4"], video_limits=SMALL, sampling=changed, previous=catalog_table(before)
    ).entries
    assert again == fresh
    assert again.video_version != before[0].video_version
    assert (again.perceptual_hash != before[0].perceptual_hash) == (changed.start > 0)


def test_videos_lie_behind_any_url(tmp_path: Path, memory: Any) -> None:
    content = video(tmp_path / "a.mp4", 1).read_bytes()
    memory.pipe_file("/clips/a.mp4", content)
    [entry] = read_sources(["memory://clips"], video_limits=SMALL).entries
    [local] = read_sources([tmp_path / "a.mp4"], video_limits=SMALL).entries
    assert (entry.kind, entry.content_digest, entry.perceptual_hash) == (
        "video",
        local.content_digest,
        local.perceptual_hash,
    )

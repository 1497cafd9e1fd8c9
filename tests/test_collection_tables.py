"""The collection's tables: rows of active scenes, numbers that stay, urls that open, and the CSV's rules."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from sceneloom.assets import gaussian_shards
from sceneloom.assets.catalog import Catalog
from sceneloom.assets.collection_tables import NUMBERS_SCHEMA, write_scenegen_metadata, write_training_index
from sceneloom.datasets.object_table import SCENEGEN_CSV, SCENEGEN_METADATA, scenegen_problems
from sceneloom.datasets.parquet import read_parquet
from sceneloom.datasets.shards import ShardReader
from sceneloom.datasets.training_index import TRAINING_INDEX_SCHEMA, read_table

from .tiny import FRAMES, HEIGHT, TRAJECTORIES, WIDTH, MadeCollection, copied_collection, made_collection, run_scene


@pytest.fixture
def made(tmp_path: Path) -> MadeCollection:
    return copied_collection(tmp_path / "copy")


def retired(catalog: Catalog, scene_id: str) -> Catalog:
    entry = dataclasses.replace(catalog.entries[scene_id], status="retired")
    return Catalog({**catalog.entries, scene_id: entry})


def test_every_row_of_the_index_opens_through_its_relative_url() -> None:
    made = made_collection()
    url = made.runtime.store.table_url("training_index")
    table = read_table(url)
    assert table.num_rows == len(made.catalog.active()) * len(TRAJECTORIES)
    for row in table.to_pylist():
        reader = ShardReader(Path(url).parent / row["shard"])
        clip = reader.clips[row["clip_index"]]
        assert (clip.scene_id, clip.trajectory) == (row["scene_id"], row["trajectory"])
        assert reader.depth(row["scene_id"], row["trajectory"]).shape == (row["frames"], row["height"], row["width"])
        assert reader.latent_space["id"] == row["latent_space"]
        for name, value in clip.quality.items():
            if name != "frames":
                assert row[f"quality_{name}"] == pytest.approx(value, rel=1e-6)


def test_rows_of_the_index_carry_the_scenes_facts() -> None:
    made = made_collection()
    for row in read_table(made.runtime.store.table_url("training_index")).to_pylist():
        scene = made.catalog.entries[row["scene_id"]]
        for name in ("split", "kind", "prompt", "licence", "seed"):
            assert row[name] == getattr(scene, name)
        assert (row["frames"], row["height"], row["width"], row["fps"]) == (FRAMES, HEIGHT, WIDTH, 24.0)
        assert row["content_key"] == made.record(scene, "gaussian_shards").key
        assert row["metric"] is (scene.kind == "prompt")
        assert row["passed"]
        assert row["failures"] == []


def test_the_index_moves_with_its_store(made: MadeCollection, tmp_path: Path) -> None:
    moved = (tmp_path / "copy" / "store" / "tiny").rename(tmp_path / "elsewhere")
    for row in read_table(moved / "tables" / "training_index.parquet").to_pylist():
        assert ShardReader(moved / "tables" / row["shard"]).clips


def test_retired_scenes_leave_the_tables_and_keep_their_number(made: MadeCollection) -> None:
    pipeline = made.runtime.pipeline()
    with_objects = [scene for scene in made.catalog.active() if made.objects(scene)]
    first, other = with_objects[:2]
    before = dict(_numbers(made))
    catalog = retired(made.catalog, first.scene_id)
    assert first.scene_id not in write_training_index(catalog, pipeline)["scene_id"].to_pylist()
    assert set(write_scenegen_metadata(catalog, pipeline)["scene_name"].to_pylist()) == {other.scene_id}
    assert dict(_numbers(made)) == before, "a number is never given to a second scene"
    again = write_scenegen_metadata(made.catalog, pipeline)
    assert dict(zip(again["scene_name"].to_pylist(), again["scene_id"].to_pylist(), strict=True)) == before
    assert made.record(first, gaussian_shards.NAME), "nothing of the scene is deleted"


def _numbers(made: MadeCollection) -> list[tuple[str, str]]:
    table = read_parquet(made.runtime.store.table_url("scene_numbers"), NUMBERS_SCHEMA)
    return list(zip(table["scene_name"].to_pylist(), table["scene_number"].to_pylist(), strict=True))


def test_scenes_that_were_not_made_are_left_out(made: MadeCollection) -> None:
    scene = made.scene()
    made.runtime.store.set_aside_record(scene.scene_id, "gaussian_shards")
    table = write_training_index(made.catalog, made.runtime.pipeline())
    assert scene.scene_id not in table["scene_id"].to_pylist()
    assert table.num_rows == (len(made.catalog.active()) - 1) * len(TRAJECTORIES)


def test_what_was_made_under_other_settings_is_left_out_until_it_is_made_again(tmp_path: Path) -> None:
    made = copied_collection(
        tmp_path / "copy", video={"constant_rate_factor": 30}, objects={"minimum_visible_pixels": 30}
    )
    first, *_ = made.catalog.active()
    run_scene(made, first)
    pipeline = made.runtime.pipeline()
    assert set(write_training_index(made.catalog, pipeline)["scene_id"].to_pylist()) == {first.scene_id}
    assert set(write_scenegen_metadata(made.catalog, pipeline)["scene_name"].to_pylist()) <= {first.scene_id}


def test_a_scene_that_came_to_be_rejected_leaves_the_index(tmp_path: Path) -> None:
    made = copied_collection(tmp_path / "copy", quality={"minimum_sharpness": 19.0})
    for scene in made.catalog.active():
        assert run_scene(made, scene)[-1].outcome == "failed"
        assert made.record(scene, "gaussian_shards"), "the shard of before still stands"
    assert write_training_index(made.catalog, made.runtime.pipeline()).num_rows == 0


def test_the_same_scenes_give_the_same_bytes(made: MadeCollection) -> None:
    tables = Path(made.runtime.store.table_url("training_index")).parent
    before = {path.name: path.read_bytes() for path in tables.iterdir() if path.stem != "scene_catalog"}
    write_training_index(made.catalog, made.runtime.pipeline())
    write_scenegen_metadata(made.catalog, made.runtime.pipeline())
    for name, content in before.items():
        if name.startswith(("training", "scenegen", "metadata", "scene_numbers")):
            assert (tables / name).read_bytes() == content, name


def test_the_object_table_repeats_what_the_scenes_published() -> None:
    made = made_collection()
    table = read_parquet(made.runtime.store.table_url("scenegen_metadata"), SCENEGEN_METADATA)
    rows = {(row["scene_name"], row["object_index"]): row for row in table.to_pylist()}
    count = 0
    for scene in made.catalog.active():
        digests = {file.path: file.sha256 for file in made.record(scene, "scene_objects").files}
        for index, published in enumerate(made.objects(scene)):
            row = rows[scene.scene_id, index]
            count += 1
            assert row["instance_id"] == published["instance_id"]
            assert row["mask_box"] == published["box"]
            assert row["translation"] == published["scenegen"]["translation"]
            assert row["sha256"] == digests[published["obj"]]
            np.testing.assert_array_equal(
                np.reshape(row["camera_from_object"], (4, 4)), np.array(published["camera_from_object"])
            )
    assert count == len(rows) > 0


def test_the_csv_keeps_scenegens_rules() -> None:
    """Column order, seven-digit ids, lists as JSON: specs of build_metadata_scene.py of SceneGen."""
    made = made_collection()
    path = Path(made.runtime.store.table_url("scenegen_metadata")).with_name("metadata_scene.csv")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == SCENEGEN_CSV.names
    assert rows
    for row in rows:
        assert len(row["scene_id"]) == 7
        assert row["scene_id"].isdigit()
        assert row["scene_id"][0] != "0", "read as an integer it stays seven digits long"
        for name in ("translation", "rotation"):
            values = json.loads(row[name])
            assert len(values) == 3
            assert np.isfinite(values).all()
        assert float(row["scale"]) > 0
        assert json.loads(row["translation"])[2] < 0, "in front of an OpenGL camera"
        assert json.loads(row["captions"])
        assert row["rendered"] in {"True", "False"}
        assert float(row["aesthetic_score"]) >= 4.5
        assert row["masked_image_path"].startswith(f"masked_images/{row['scene_id']}/")
    assert len({row["scene_id"] for row in rows}) == 2


def test_the_only_thing_that_scenegen_misses_is_what_trellis_makes() -> None:
    table = read_parquet(made_collection().runtime.store.table_url("scenegen_metadata"), SCENEGEN_METADATA)
    problems = [problem for problem in scenegen_problems(table) if "exactly 4 objects" not in problem]
    assert all("cond_rendered is False" in each or "ss_latent" in each for each in problems), problems


def test_an_index_of_no_scene_is_an_empty_table_of_the_schema(made: MadeCollection) -> None:
    table = write_training_index(Catalog({}), made.runtime.pipeline())
    assert table.num_rows == 0
    assert read_table(made.runtime.store.table_url("training_index")).schema.equals(TRAINING_INDEX_SCHEMA)

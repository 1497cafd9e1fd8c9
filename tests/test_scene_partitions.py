from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from sceneloom.assets.scene_partitions import KEYS_PER_CALL, register_scenes, scene_partitions


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance over real SQLite files."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


def test_each_collection_has_partitions_of_its_own(instance: dg.DagsterInstance) -> None:
    register_scenes(instance, scene_partitions("night-streets"), ["a"])
    register_scenes(instance, scene_partitions("night_streets"), ["b"])

    assert scene_partitions("night-streets").get_partition_keys(dynamic_partitions_store=instance) == ["a"]
    assert scene_partitions("night_streets").get_partition_keys(dynamic_partitions_store=instance) == ["b"]


def test_scenes_that_are_there_stay_where_they_are(instance: dg.DagsterInstance) -> None:
    partitions = scene_partitions("rooms")
    register_scenes(instance, partitions, ["c-room", "a-room"])
    register_scenes(instance, partitions, ["b-room", "a-room", "c-room"])
    assert partitions.get_partition_keys(dynamic_partitions_store=instance) == ["c-room", "a-room", "b-room"]


def test_no_scenes_are_no_fault(instance: dg.DagsterInstance) -> None:
    register_scenes(instance, scene_partitions("streets"), [])
    assert scene_partitions("streets").get_partition_keys(dynamic_partitions_store=instance) == []


def test_more_scenes_than_sqlite_binds_in_one_statement_are_registered(instance: dg.DagsterInstance) -> None:
    scenes = [f"room-{number:06}" for number in range(KEYS_PER_CALL * 4 + 1)]
    assert len(scenes) > 32_766
    register_scenes(instance, scene_partitions("many"), scenes)
    assert scene_partitions("many").get_partition_keys(dynamic_partitions_store=instance) == scenes

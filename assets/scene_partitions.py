"""Partitions: one key a scene, one definition a collection. Trajectories stay inside a scene."""

from collections.abc import Sequence

import dagster as dg

KEYS_PER_CALL = 10_000
"""SQLite binds one variable a key, and stock builds allow 32,766."""


def scene_partitions(collection: str) -> dg.DynamicPartitionsDefinition:
    """The partitions of a collection's scenes."""
    return dg.DynamicPartitionsDefinition(name=f"scenes_{collection}")


def register_scenes(
    instance: dg.DagsterInstance, partitions: dg.DynamicPartitionsDefinition, scene_ids: Sequence[str]
) -> None:
    """Add the scenes' keys; keys that are there already stay where they are."""
    assert partitions.name is not None
    for start in range(0, len(scene_ids), KEYS_PER_CALL):
        instance.add_dynamic_partitions(partitions.name, list(scene_ids[start : start + KEYS_PER_CALL]))

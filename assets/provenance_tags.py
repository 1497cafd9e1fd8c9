"""What Dagster is told an output was made from, so that its pages tell synced scenes from unsynced ones.

Dagster adds these tags by itself only to events that it makes itself; a batch logs its own, one a scene and stage.
"""

from __future__ import annotations

import dagster as dg

from ..resources.records import Record
from .catalog import CATALOG_TABLE

CATALOG_VERSION = "scenes"
"""Data version of the catalogue, always the same: a refresh that adds scenes makes no other scene stale.

When what a scene is made from changes under its id, its content key tells, and the next run makes it again.
"""
_NO_EVENT = "NULL"


def provenance_tags(instance: dg.DagsterInstance, record: Record) -> dict[str, str]:
    """Tags of a materialization: the output's content key as its data version, its code version, and its inputs."""
    tags = {"dagster/data_version": record.key, "dagster/code_version": record.key_parts.code_version}
    for name, key in record.key_parts.inputs.items():
        if name == "source":
            tags |= _input_tags(CATALOG_TABLE, CATALOG_VERSION, _NO_EVENT)
        else:
            tags |= _input_tags(name, key, _event_of(instance, name, record.scene, key))
    return tags


def _input_tags(asset: str, version: str, event: str) -> dict[str, str]:
    return {f"dagster/input_data_version/{asset}": version, f"dagster/input_event_pointer/{asset}": event}


def _event_of(instance: dg.DagsterInstance, asset: str, scene: str, key: str) -> str:
    """Id of the event by which Dagster knows the input, if it knows that very version."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[scene])
    for latest in instance.fetch_materializations(wanted, limit=1).records:
        materialization = latest.asset_materialization
        if materialization is not None and (materialization.tags or {}).get("dagster/data_version") == key:
            return str(latest.storage_id)
    return _NO_EVENT

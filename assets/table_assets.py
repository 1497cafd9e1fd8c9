"""The assets of a whole collection: its catalogue, and the tables made from what its scenes published."""

import datetime
from collections import Counter

import dagster as dg
import pyarrow as pa

from ..datasets.catalog import SCENE_CATALOG, SCENE_REJECTS
from ..datasets.errors import SceneloomError
from ..datasets.object_table import SCENEGEN_METADATA
from ..datasets.parquet import read_parquet
from ..datasets.training_index import TRAINING_INDEX_SCHEMA
from .catalog import CATALOG_TABLE, REJECTS_TABLE, Catalog, refresh_catalog
from .collection_forecast import CollectionForecast, collection_standing, standing_forecast
from .collection_tables import write_scenegen_metadata, write_training_index
from .event_metadata import plain_failures
from .provenance_tags import CATALOG_VERSION
from .scene_assets import OWNERS, RUNTIME_RESOURCE
from .scene_partitions import register_scenes
from .scene_runtime import SceneRuntime

TABLE_GROUP = "tables"
LISTED_REJECTS = 100
FORECAST_SCENES = 200
"""Scenes that a refresh looks at for its forecast: of a larger collection a random sample stands for all."""
_TABLES: dict[str, tuple[str, pa.Schema]] = {
    CATALOG_TABLE: (CATALOG_TABLE, SCENE_CATALOG),
    "scenegen_metadata": ("scenegen_metadata", SCENEGEN_METADATA),
    "training_index": ("training_index", TRAINING_INDEX_SCHEMA),
}


def build_table_assets(partitions: dg.DynamicPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """scene_catalog, scenegen_metadata and training_index."""

    @dg.asset(
        description="Every scene of the collection with its id, source, seed, split and licence, read from prompt "
        "files, tables, and folders of pictures and videos; rejects are listed in scene_rejects with the reason. "
        "Scenes whose input is gone are retired, never deleted. Every refresh forecasts what the missing scenes take.",
        group_name=TABLE_GROUP,
        owners=OWNERS,
        kinds={"parquet"},
        required_resource_keys={RUNTIME_RESOURCE},
    )
    def scene_catalog(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        runtime: SceneRuntime = getattr(context.resources, RUNTIME_RESOURCE)
        with plain_failures():
            refresh = refresh_catalog(runtime.profile, runtime.store)
        active = refresh.catalog.active()
        register_scenes(context.instance, partitions, [entry.scene_id for entry in active])
        return dg.MaterializeResult(
            data_version=dg.DataVersion(CATALOG_VERSION),
            metadata={
                "scenes": len(active),
                "added": len(refresh.added),
                "retired": len(refresh.catalog.entries) - len(active),
                "retired_now": len(refresh.retired),
                "rejects": len(refresh.rejects),
                "rejects_by_reason": dg.MetadataValue.json(dict(Counter(str(row.reason) for row in refresh.rejects))),
                "splits": dg.MetadataValue.json(dict(Counter(entry.split for entry in active))),
                "rejected": dg.MetadataValue.table(
                    [
                        dg.TableRecord({"source": row.source, "reason": str(row.reason), "message": row.message})
                        for row in refresh.rejects[:LISTED_REJECTS]
                    ],
                    _text_columns("source", "reason", "message"),
                ),
                "dagster/row_count": len(refresh.catalog.entries),
                "dagster/uri": runtime.store.table_url(CATALOG_TABLE),
                "dagster/column_schema": column_schema(SCENE_CATALOG),
                **forecast_metadata(runtime, refresh.catalog),
            },
        )

    @dg.asset(
        deps=["scene_objects"],
        description="One row for each object that a conditioning view sees: pose, size, mask and mesh, as SceneGen "
        "reads them; written as Parquet and as SceneGen's CSV.",
        group_name=TABLE_GROUP,
        owners=OWNERS,
        kinds={"parquet", "csv"},
        required_resource_keys={RUNTIME_RESOURCE},
    )
    def scenegen_metadata(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        runtime: SceneRuntime = getattr(context.resources, RUNTIME_RESOURCE)
        with plain_failures():
            table = write_scenegen_metadata(runtime.catalog(), runtime.pipeline())
        scenes = Counter(table.column("scene_id").to_pylist())
        return dg.MaterializeResult(
            metadata={
                "objects": table.num_rows,
                "scenes_by_object_count": dg.MetadataValue.json(
                    {str(count): number for count, number in sorted(Counter(scenes.values()).items())}
                ),
                "dagster/row_count": table.num_rows,
                "dagster/uri": runtime.store.table_url("scenegen_metadata"),
                "dagster/column_schema": column_schema(SCENEGEN_METADATA),
            }
        )

    @dg.asset(
        deps=["gaussian_shards", "clip_captions"],
        description="One row for each clip in a shard: where it is, its split, size, caption, latent space, licence "
        "and quality numbers. What a training job opens first.",
        group_name=TABLE_GROUP,
        owners=OWNERS,
        kinds={"parquet"},
        required_resource_keys={RUNTIME_RESOURCE},
    )
    def training_index(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        runtime: SceneRuntime = getattr(context.resources, RUNTIME_RESOURCE)
        with plain_failures():
            table = write_training_index(runtime.catalog(), runtime.pipeline())
        return dg.MaterializeResult(
            metadata={
                "clips": table.num_rows,
                "splits": dg.MetadataValue.json(dict(Counter(table.column("split").to_pylist()))),
                "dagster/row_count": table.num_rows,
                "dagster/uri": runtime.store.table_url("training_index"),
                "dagster/column_schema": column_schema(TRAINING_INDEX_SCHEMA),
            }
        )

    return [scene_catalog, scenegen_metadata, training_index]


def forecast_metadata(runtime: SceneRuntime, catalog: Catalog) -> dict[str, dg.MetadataValue]:
    """What the missing scenes take, for the catalogue's page; never an error: a refresh goes on without a forecast."""
    pipeline = runtime.pipeline()
    counts: dict[str, dg.MetadataValue] = {}
    try:
        standing = collection_standing(catalog, pipeline, look_at=FORECAST_SCENES)
        counts = {
            "forecast/missing_scenes": dg.MetadataValue.int(round(standing.unfinished)),
            "forecast/quarantined_scenes": dg.MetadataValue.int(round(standing.quarantined)),
            "forecast/scenes_looked_at": dg.MetadataValue.int(standing.looked_at),
        }
        return counts | _forecast_values(standing_forecast(standing, pipeline, runtime.profile.forecast))
    except SceneloomError as error:
        return counts | {"forecast/note": dg.MetadataValue.text(str(error))}


def _forecast_values(found: CollectionForecast) -> dict[str, dg.MetadataValue]:
    total = found.forecast
    values = {
        "forecast/gpu_hours": dg.MetadataValue.float(total.gpu_hours),
        "forecast/gpus": dg.MetadataValue.int(total.gpus),
        "forecast/finish": dg.MetadataValue.timestamp(total.finish(datetime.datetime.now(datetime.UTC))),
        "forecast/measured_on": dg.MetadataValue.json(found.measured_on),
        "forecast/stages": dg.MetadataValue.json(total.for_metadata()),
    }
    if total.bytes is not None:
        values["forecast/bytes"] = dg.MetadataValue.int(round(total.bytes))
    if total.cost is not None:
        values["forecast/cost"] = dg.MetadataValue.float(total.cost)
    if found.note is not None:
        values["forecast/note"] = dg.MetadataValue.text(found.note)
    return values


def build_table_checks() -> list[dg.AssetChecksDefinition]:
    """A blocking check for each table: it is read back and held to its declared schema."""
    checks = [_schema_check(asset, table, schema) for asset, (table, schema) in _TABLES.items()]
    return [*checks, _schema_check(CATALOG_TABLE, REJECTS_TABLE, SCENE_REJECTS)]


def _schema_check(asset: str, table: str, schema: pa.Schema) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name=f"{table}_schema",
        asset=asset,
        blocking=True,
        description=f"{table} reads back with its declared columns, types and no null where none may be.",
        required_resource_keys={RUNTIME_RESOURCE},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        runtime: SceneRuntime = getattr(context.resources, RUNTIME_RESOURCE)
        expected = ", ".join(f"{field.name}: {field.type}" for field in schema)
        try:
            found = read_parquet(runtime.store.table_url(table), schema)
        except SceneloomError as error:
            return dg.AssetCheckResult(passed=False, metadata={"expected": expected, "found": str(error)})
        return dg.AssetCheckResult(
            passed=True,
            metadata={
                "expected": expected,
                "found": ", ".join(f"{field.name}: {field.type}" for field in found.schema),
                "rows": found.num_rows,
            },
        )

    return check


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """A table's columns for its asset page."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(field.name, str(field.type), constraints=dg.TableColumnConstraints(nullable=field.nullable))
            for field in schema
        ]
    )


def _text_columns(*names: str) -> dg.TableSchema:
    return dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in names])

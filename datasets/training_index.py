"""The training index: one row a clip, saying what it is, how good it is, and in which shard it lies."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from .parquet import read_parquet, require_schema, write_parquet

QUALITY_NUMBERS = (
    "depth_coverage",
    "depth_coverage_minimum",
    "depth_invalid_values",
    "depth_minimum",
    "depth_maximum",
    "covisibility",
    "photometric_error",
    "photometric_psnr",
    "depth_error_median",
    "depth_error_p95",
    "depth_conflict",
    "sharpness",
    "exposure_mean",
    "clipped_dark",
    "clipped_bright",
    "flicker",
    "duplicate_fraction",
    "clearance",
)
"""Names of the quality numbers, as `sceneloom.ops.quality.ClipMetrics` measures and describes them."""

TRAINING_INDEX_SCHEMA = pa.schema(
    [
        pa.field("scene_id", pa.string(), nullable=False),
        pa.field("trajectory", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False, metadata={"meaning": "URL relative to the index's folder"}),
        pa.field("clip_index", pa.int32(), nullable=False, metadata={"meaning": "row of the shard's arrays"}),
        pa.field("split", pa.string(), nullable=False, metadata={"meaning": "train, validation or test"}),
        pa.field("kind", pa.string(), nullable=False, metadata={"meaning": "prompt, image or video"}),
        pa.field("prompt", pa.string(), metadata={"meaning": "null for a picture or video without caption"}),
        pa.field("caption", pa.string(), metadata={"meaning": "what the clip shows, a line a window; null for none"}),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False, metadata={"unit": "pixels"}),
        pa.field("width", pa.int32(), nullable=False, metadata={"unit": "pixels"}),
        pa.field("fps", pa.float64(), nullable=False, metadata={"unit": "frames per second"}),
        pa.field("latent_space", pa.string(), nullable=False, metadata={"meaning": "id of the VAE and normalisation"}),
        pa.field("metric", pa.bool_(), nullable=False, metadata={"meaning": "depth and poses are truly in metres"}),
        pa.field("engine", pa.string(), nullable=False, metadata={"meaning": "what made the pictures"}),
        pa.field(
            "licence", pa.string(), metadata={"meaning": "of prompt, picture or video, null when the source is silent"}
        ),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("content_key", pa.string(), nullable=False, metadata={"meaning": "digest of all that made the shard"}),
        pa.field("passed", pa.bool_(), nullable=False, metadata={"meaning": "verdict of the quality thresholds"}),
        pa.field("failures", pa.list_(pa.string()), nullable=False, metadata={"meaning": "metrics beyond their limit"}),
        *(
            pa.field(f"quality_{name}", pa.float64(), metadata={"meaning": "null when it could not be measured"})
            for name in QUALITY_NUMBERS
        ),
    ],
    metadata={"format": "sceneloom.training-index", "format_version": "1"},
)


def write_table(path: str | Path, table: pa.Table) -> None:
    """Write the training index; rows are put in the order of scene, then trajectory.

    Raises:
        ContractError: the table's columns are not those of TRAINING_INDEX_SCHEMA.
        StoreError: the place cannot be written.
    """
    require_schema(table, TRAINING_INDEX_SCHEMA, where=str(path))
    ordered = table.sort_by([("scene_id", "ascending"), ("trajectory", "ascending")])
    write_parquet(path, ordered, TRAINING_INDEX_SCHEMA)


def read_table(path: str | Path) -> pa.Table:
    """Read a training index.

    Raises:
        InputError: there is no such file.
        CorruptFileError: the file is not a whole Parquet table.
        ContractError: its columns are not those of TRAINING_INDEX_SCHEMA.
        StoreError: the store cannot be read.
    """
    return read_parquet(path, TRAINING_INDEX_SCHEMA)

"""The training index: rows in a fixed order, columns that fit what is measured."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sceneloom.datasets.errors import ContractError
from sceneloom.datasets.training_index import QUALITY_NUMBERS, TRAINING_INDEX_SCHEMA, read_table, write_table
from sceneloom.ops.quality import ClipMetrics


def row(scene_id: str, trajectory: str, **changes: Any) -> dict[str, Any]:
    quality = {f"quality_{name}": float(index) for index, name in enumerate(QUALITY_NUMBERS)}
    facts = {
        "scene_id": scene_id,
        "trajectory": trajectory,
        "shard": f"shards/{scene_id}",
        "clip_index": 0,
        "split": "train",
        "kind": "prompt",
        "prompt": "a red chair",
        "caption": None,
        "frames": 17,
        "height": 176,
        "width": 320,
        "fps": 24.0,
        "latent_space": "test-vae",
        "metric": True,
        "engine": "raycast",
        "licence": None,
        "seed": 7,
        "content_key": "0" * 64,
        "passed": True,
        "failures": [],
    }
    return facts | quality | changes


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=TRAINING_INDEX_SCHEMA)


def test_rows_are_stored_in_one_order_whatever_order_they_come_in(tmp_path: Path) -> None:
    rows = [row("b", "left"), row("a", "right"), row("a", "left", quality_flicker=None, failures=["flicker"])]
    write_table(tmp_path / "a.parquet", table(*rows))
    write_table(tmp_path / "b.parquet", table(*reversed(rows)))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    found = read_table(tmp_path / "a.parquet")
    assert found.to_pylist() == [rows[2], rows[1], rows[0]]


def test_rows_can_be_chosen_by_a_quality_number(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", table(row("a", "left"), row("b", "left", quality_photometric_psnr=40.0)))
    chosen = read_table(tmp_path / "t.parquet").filter(pc.field("quality_photometric_psnr") > 30)
    assert chosen["scene_id"].to_pylist() == ["b"]


def test_an_index_without_rows_is_an_index(tmp_path: Path) -> None:
    write_table(tmp_path / "empty.parquet", table())
    assert read_table(tmp_path / "empty.parquet").num_rows == 0


def test_a_table_without_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"expected column scene_id \(string\), found none"):
        write_table(tmp_path / "t.parquet", table(row("a", "left")).drop_columns(["scene_id"]))
    assert list(tmp_path.iterdir()) == []


def test_the_columns_are_the_numbers_that_are_measured() -> None:
    assert tuple(field.name for field in fields(ClipMetrics) if field.name != "frames") == QUALITY_NUMBERS

"""Parquet tables: whole or absent, same bytes each time, and every difference from the schema is named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from sceneloom.datasets.errors import ContractError, CorruptFileError, InputError, StoreError
from sceneloom.datasets.parquet import read_parquet, write_parquet

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("count", pa.int32()),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
    ],
    metadata={"format": "test"},
)


def table(count: int = 3) -> pa.Table:
    rows = [{"name": f"row {i}", "count": None if i else 7, "tags": ["a"] * i} for i in range(count)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("place", ["local", "memory"])
def test_tables_come_back_with_their_schema(tmp_path: Path, place: str, count: int) -> None:
    url = f"{tmp_path}/folder/t.parquet" if place == "local" else f"memory://{tmp_path.name}/t.parquet"
    write_parquet(url, table(count), SCHEMA)
    found = read_parquet(url, SCHEMA)
    assert found.equals(table(count))
    assert found.schema.equals(SCHEMA, check_metadata=True)


def test_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_parquet(tmp_path / name, table(), SCHEMA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (table().drop_columns(["count"]), r"expected column count \(int32\), found none"),
        (table().append_column("extra", pa.array([1, 2, 3])), "expected no column extra, found one"),
        (
            table().set_column(1, "count", pa.array([1, 2, 3], pa.int64())),
            "expected column count to be int32, found int64",
        ),
        (table().set_column(0, "name", pa.array(["a", None, "c"])), "expected no null in column name, found 1"),
        (table().select(["count", "name", "tags"]), "expected the column order"),
    ],
)
def test_tables_of_another_schema_are_refused_both_ways(tmp_path: Path, broken: pa.Table, message: str) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(ContractError, match=message):
        write_parquet(path, broken, SCHEMA)
    assert list(tmp_path.iterdir()) == []
    write_parquet(path, broken, pa.schema([field.with_nullable(True) for field in broken.schema]))
    with pytest.raises(ContractError, match=message):
        read_parquet(path, SCHEMA)


def test_a_table_that_fails_to_be_written_leaves_the_former_one(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(path, table(), SCHEMA)
    with pytest.raises(ContractError):
        write_parquet(path, table().drop_columns(["name"]), SCHEMA)
    assert read_parquet(path, SCHEMA).num_rows == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.parquet"]


def test_damaged_and_missing_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(InputError, match="no such table"):
        read_parquet(path, SCHEMA)
    write_parquet(path, table(), SCHEMA)
    content = path.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"not a table"):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"t\.parquet"):
            read_parquet(path, SCHEMA)


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_parquet(tmp_path / "file" / "t.parquet", table(), SCHEMA)

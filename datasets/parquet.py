"""Parquet tables with a declared schema, whole or absent, local and remote alike."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import ContractError, CorruptFileError, InputError, StoreError
from .files import write_bytes_atomically


def write_parquet(path: str | Path, table: pa.Table, schema: pa.Schema) -> None:
    """Write `table` under a path or fsspec URL; readers see the former table or the whole new one.

    The same table gives the same bytes (no time stamp is stored).

    Raises:
        ContractError: the table's columns are not those of `schema`, or a column that may not hold nulls does.
        StoreError: the place cannot be written.
    """
    import fsspec

    where = str(path)
    require_schema(table, schema, where=where)
    buffer = io.BytesIO()
    pq.write_table(table.cast(schema), buffer, compression="zstd")
    filesystem, location = fsspec.url_to_fs(where)
    try:
        if _is_local(filesystem):
            write_bytes_atomically(Path(location), buffer.getvalue())
        else:
            # Object stores show an object only once its upload is complete.
            filesystem.pipe_file(location, buffer.getvalue())
    except OSError as error:
        raise StoreError(f"the table cannot be written ({error})", where=where, remedy="Check the store.") from error


def read_parquet(path: str | Path, schema: pa.Schema) -> pa.Table:
    """Read a table and check that it has the declared columns.

    Raises:
        InputError: there is no such file.
        CorruptFileError: the file is not Parquet, or is cut short.
        ContractError: its columns are not those of `schema`.
        StoreError: the store cannot be read.
    """
    import fsspec

    where = str(path)
    filesystem, location = fsspec.url_to_fs(where)
    try:
        content = filesystem.cat_file(location)
    except FileNotFoundError as error:
        raise InputError("there is no such table", where=where, remedy="Check the path.") from error
    except OSError as error:
        raise StoreError(f"the table cannot be read ({error})", where=where, remedy="Check the store.") from error
    try:
        table = parquet_table(content)
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptFileError(
            f"the file is not a whole Parquet table ({error})", where=where, remedy="Write the table again."
        ) from error
    require_schema(table, schema, where=where)
    return table.cast(schema)


def parquet_table(content: bytes) -> pa.Table:
    """The table in the bytes of a Parquet file, whatever its columns. Raises pyarrow.ArrowInvalid or OSError.

    It is read in this thread. `pyarrow.parquet.read_table` leaves it to Arrow's threads, one of which may still hold
    these bytes when Python ends: 10 of 400 processes that did nothing else ended by SIGABRT on a busy machine
    (pyarrow 26.0.1), none of 400 that read like this.
    """
    return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)


def require_schema(table: pa.Table, schema: pa.Schema, *, where: str) -> None:
    """Raise ContractError naming each column that is missing, unknown, of another type, or wrongly null."""
    problems = [*_column_problems(table.schema, schema), *_null_problems(table, schema)]
    if not problems and table.schema.names != schema.names:
        problems = [f"expected the column order {schema.names}, found {table.schema.names}"]
    if problems:
        raise ContractError(
            "; ".join(problems), where=where, remedy="Write the table with this version of sceneloom's schema."
        )


def _column_problems(found: pa.Schema, expected: pa.Schema) -> list[str]:
    problems = []
    for field in expected:
        index = found.get_field_index(field.name)
        if index < 0:
            problems.append(f"expected column {field.name} ({field.type}), found none")
        elif found.field(index).type != field.type:
            problems.append(f"expected column {field.name} to be {field.type}, found {found.field(index).type}")
    unknown = [name for name in found.names if name not in expected.names]
    return problems + [f"expected no column {name}, found one" for name in unknown]


def _null_problems(table: pa.Table, schema: pa.Schema) -> list[str]:
    return [
        f"expected no null in column {field.name}, found {table.column(field.name).null_count}"
        for field in schema
        if not field.nullable and field.name in table.schema.names and table.column(field.name).null_count
    ]


def _is_local(filesystem: object) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem, LocalFileSystem)

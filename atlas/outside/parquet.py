"""Conversion of rows between NDJSON and Parquet, which Foundry reads natively.

Format: https://parquet.apache.org/docs/file-format/. pyarrow comes with the extra `parquet` and
takes 60 MiB of memory, so this module is imported only if Parquet is used.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import json, parquet

from atlas.core.ports import Bytes
from atlas.core.rows import COLUMNS, KEYED_COLUMN_TYPES
from atlas.core.stream import DELETION_COLUMN

TYPES = {"string": pa.string(), "double": pa.float64(), "boolean": pa.bool_()}
SCHEMA = pa.schema([(name, TYPES[type]) for name, type in KEYED_COLUMN_TYPES.items()])
SORT_KEYS = [
    ("auth0_user_id", "ascending"),
    ("start_date", "ascending"),
]  # rows that are queried together
UNIQUE_COLUMNS = {"uuid", "start_date", "end_date", "value_double", "raw_healthkit_record"}
# columns with few distinct values
DICTIONARY_COLUMNS = [name for name in COLUMNS if name not in UNIQUE_COLUMNS]
BATCH_ROWS = 1_000  # rows as Python objects take 20 times the memory of a table
ZSTANDARD_LEVEL = 1  # compresses sorted rows better than level 3, in 75 % of its time


def to_parquet(ndjson: Bytes) -> Bytes:
    """Return the rows as Parquet, sorted by user and start, with 21 or 23 columns as they have.

    If some rows have 21 columns and some 23, because the setting has changed, the file has 23.
    """
    # a single block, because a line must not span two
    read_options = json.ReadOptions(use_threads=False, block_size=len(ndjson))
    parse_options = json.ParseOptions(SCHEMA, unexpected_field_behavior="error")
    table = json.read_json(pa.BufferReader(ndjson), read_options, parse_options)
    if table[DELETION_COLUMN].null_count == len(table):
        table = table.select(COLUMNS)
    file = pa.BufferOutputStream()
    parquet.write_table(
        table.sort_by(SORT_KEYS),
        file,
        use_dictionary=DICTIONARY_COLUMNS,
        compression="zstd",
        compression_level=ZSTANDARD_LEVEL,
    )
    content: bytes = file.getvalue().to_pybytes()
    return content


def to_ndjson(file: Bytes) -> Bytes:
    """Return the rows of a Parquet file as NDJSON, in the form that `atlas.core.rows` writes.

    Raises ValueError if the file is not valid Parquet.
    """
    try:
        table = parquet.read_table(pa.BufferReader(file))
    except (pa.ArrowException, OSError) as error:
        raise ValueError("The file is not valid Parquet.") from error
    batches = table.to_batches(max_chunksize=BATCH_ROWS)
    rows: Iterator[dict[str, Any]] = (row for batch in batches for row in batch.to_pylist())
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def read_columns(file: Bytes, names: Sequence[str]) -> list[list[Any]]:
    """Return the values of these columns of a Parquet file. Raises ValueError if it is not one."""
    try:
        table = parquet.read_table(pa.BufferReader(file), columns=list(names), use_threads=False)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError("The file is not valid Parquet.") from error
    if table.column_names != list(names):
        raise ValueError("The file lacks a column.")
    return [column.to_pylist() for column in table.columns]

"""Rows as Parquet, which Foundry reads as it is: https://parquet.apache.org/docs/file-format/

pyarrow comes with the extra `parquet`, and takes 60 MiB of memory: whoever wants no Parquet does
not import this.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import json, parquet

from atlas.core.ports import Bytes
from atlas.core.rows import COLUMNS

NUMBER_COLUMN = "value_double"
SCHEMA = pa.schema(
    [(name, pa.float64() if name == NUMBER_COLUMN else pa.string()) for name in COLUMNS]
)
SORT_KEYS = [("auth0_user_id", "ascending"), ("start_date", "ascending")]  # what is asked together
UNIQUE_COLUMNS = {"uuid", "start_date", "end_date", NUMBER_COLUMN, "raw_healthkit_record"}
DICTIONARY_COLUMNS = [name for name in COLUMNS if name not in UNIQUE_COLUMNS]  # a dictionary pays
BATCH_ROWS = 1_000
ZSTANDARD_LEVEL = 1  # with sorted rows it packs better than 3, and in three quarters of the time


def to_parquet(ndjson: Bytes) -> Bytes:
    """The same rows, sorted by user and start; value_double is DOUBLE, all else STRING."""
    one_block = json.ReadOptions(use_threads=False, block_size=len(ndjson))  # no line is in two
    as_ours = json.ParseOptions(SCHEMA, unexpected_field_behavior="error")
    table = json.read_json(pa.BufferReader(ndjson), one_block, as_ours)
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
    """Its rows, a line each, written as those of an NDJSON file are.

    Raises ValueError for what is no Parquet.
    """
    try:
        table = parquet.read_table(pa.BufferReader(file))
    except (pa.ArrowException, OSError) as error:
        raise ValueError("This is no Parquet that can be read.") from error
    batches = table.to_batches(max_chunksize=BATCH_ROWS)  # objects are 20 times larger
    rows: Iterator[dict[str, Any]] = (row for batch in batches for row in batch.to_pylist())
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)

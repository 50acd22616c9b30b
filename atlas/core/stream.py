"""Rows as records of a Foundry stream, and the exports whose rows are not published yet.

A record has the 23 columns of `KEYED_COLUMNS`, whatever the files in the dataset have: its key is
the user and the sample, so that a record that is published again replaces itself.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from atlas.core.rows import build_sample_key, is_deletion

KEY_COLUMNS = ("auth0_user_id", "sample_key")
ORDERING_COLUMN, DELETION_COLUMN = "ingested_at", "is_deleted"
StreamKind = Literal["LOW_LATENCY", "HIGH_THROUGHPUT"]
STEP_ROWS = 1_000  # take about 2 ms


class StreamLimits(Struct, frozen=True):
    """The limits of one request. A record larger than the limit gets a request of its own."""

    records_max: int = 500
    bytes_max: int = 1_000_000


class UnpublishedExport(Struct, frozen=True):
    """An export whose rows are not all in the stream. `payload` is compressed NDJSON.

    `size` is that of its rows as NDJSON. `payload` is None if it is damaged or lost.
    """

    number: int
    id: str
    at: datetime
    rows: int
    size: int
    payload: bytes | None


class StreamBacklog(Struct, frozen=True):
    """The rows that are not published yet, and their size as NDJSON.

    `oldest` is the time of acceptance of the first one. `dropped` is the number of rows that were
    given up just now, because the backlog was too large or too old.
    """

    rows: int = 0
    bytes: int = 0
    oldest: datetime | None = None
    dropped: int = 0


class StoredRow(Struct, gc=False):
    """The columns of a row from which the two additional ones are made, if it lacks them."""

    uuid: str
    sample_type: str
    start_date: str
    raw_healthkit_record: str
    sample_key: str | None = None


_decode_row = msgspec.json.Decoder(StoredRow).decode
_encode = msgspec.json.Encoder().encode


def build_records(ndjson: bytes) -> Generator[None, None, list[bytes]]:
    """Build the records of rows, in steps. Rows of 23 columns are records as they are."""
    records = list[bytes]()
    for index, line in enumerate(ndjson.splitlines()):
        if index and index % STEP_ROWS == 0:
            yield
        records.append(build_record(line))
    return records


def build_record(line: bytes) -> bytes:
    row = _decode_row(line)
    if row.sample_key is not None:
        return line
    added = {
        "sample_key": build_sample_key(row.uuid, row.raw_healthkit_record),
        "is_deleted": is_deletion(row.uuid, row.sample_type, row.start_date),
    }
    return line[:-1] + b"," + _encode(added)[1:]


def encode_request(records: Iterable[bytes]) -> bytes:
    """Encode the body of a request that publishes these records."""
    return b'{"records":[' + b",".join(records) + b"]}"


def divide_records(sizes: Sequence[int], limits: StreamLimits) -> Iterator[range]:
    """Divide records of these sizes into requests, each a range of their positions."""
    start = size = 0
    for position, record_bytes in enumerate(sizes):
        is_full = position - start >= limits.records_max or size + record_bytes > limits.bytes_max
        if position > start and is_full:
            yield range(start, position)
            start, size = position, 0
        size += record_bytes + 1  # and a comma
    if start < len(sizes):
        yield range(start, len(sizes))

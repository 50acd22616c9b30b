"""What the journal costs: sealing, beside the codec; accepting, many at once; a slow disk.

A slow disk is one whose sync takes 10 ms: SQLite waits for it before each commit, here in its own
trace of the statement, as a real disk would be waited for in the sync.
"""

import asyncio
import base64
import hashlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from atlas.core import ndjson, rows
from atlas.core.messages import (
    CompressedRows,
    ExportMetadata,
    FlattenedExport,
    RawExport,
    RowTable,
    User,
)
from atlas.outside.sqlite.capacity import CapacityLimits
from atlas.outside.sqlite.cipher import Cipher, generate_data_key
from atlas.outside.sqlite.compression import compress
from atlas.outside.sqlite.journal import open_journal
from atlas.outside.sqlite.row_codec import ImmutableColumns, PrivateFields, RowCodec
from tests.bench.codec import HEADER
from tests.support.exports import NOON
from tests.support.generator import lines

SMALL_LINES, LARGE_LINES, ROUNDS = 11, 4_000, 9
EXPORTS, AT_ONCE, SERIES = 20_000, 256, 5
SYNC_SECONDS, SLOW_EXPORTS = 0.01, 2_000
PENDING = 10_000
BOUNDS = CapacityLimits(free_bytes=0)


def measure() -> Iterator[tuple[str, str, str]]:
    yield (
        "compressing and sealing, as a share of the codec's time (4,000 records)",
        f"{share_of_sealing(LARGE_LINES):.0%}",
        "25 % or less",
    )
    yield (
        "... of an export of 11 records",
        f"{share_of_sealing(SMALL_LINES):.0%}",
        "25 % or less",
    )
    yield (
        f"accepting {SMALL_LINES} records each, in groups",
        f"{EXPORTS / min(seconds_in_a_new_folder() for _ in range(SERIES)):,.0f}/s",
        "5,000/s",
    )
    with folder() as path, slow_syncs():
        took = asyncio.run(seconds_to_accept(path, SLOW_EXPORTS))
        rate = f"{SLOW_EXPORTS / took:,.0f}/s"
        yield "... on a disk whose sync takes 10 ms", rate, "200/s"
    with folder() as path:
        asyncio.run(seconds_to_accept(path, PENDING))
        began = time.perf_counter()
        with open_journal(path, BOUNDS):
            took = time.perf_counter() - began
        yield f"opening a journal in which {PENDING:,} wait", f"{took:.2f} s", ""


@contextmanager
def folder() -> Iterator[Path]:
    """On the disk of the machine, and not in memory: what is measured are its syncs."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", Path.cwd())) as name:
        yield Path(name) / "journal"


@dataclass(frozen=True, slots=True)
class Sample:
    """An export of so many records, as it comes and as it is kept."""

    lines: tuple[bytes, ...]
    table: RowTable

    @classmethod
    def of(cls, count: int) -> "Sample":
        found = tuple(lines(count))
        return cls(found, rows.flatten(found, HEADER))


def share_of_sealing(count: int) -> float:
    sample, entries = Sample.of(count), RowCodec(Cipher(generate_data_key()))
    file = sample.table.ndjson
    fixed = ImmutableColumns("id", "user", NOON.isoformat(), count, 0, len(file))
    label = PrivateFields("auth0|ada", "healthkit/raw/auth0|ada/x.ndjson", (), "correlation")
    head = ExportMetadata(User("auth0|ada"), "iPhone", "", "correlation")
    export = RawExport(head, base64.b64encode(b"\n".join(sample.lines)))

    def codec() -> None:
        rows.flatten(ndjson.split_lines(ndjson.decode(export, 2**30, 2**20).text), HEADER)

    def seal() -> None:
        entries.encrypt_fields(fixed, label)
        entries.encrypt_payload(fixed, compress(file))

    return best(seal) / best(codec)


def best(work: Callable[[], None]) -> float:
    """The seconds of one, of the best of several rounds."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(20):
            work()
        found.append((time.perf_counter() - began) / 20)
    return min(found)


def seconds_in_a_new_folder() -> float:
    with folder() as path:
        return asyncio.run(seconds_to_accept(path, EXPORTS))


async def seconds_to_accept(path: Path, count: int) -> float:
    """With as many senders side by side as there are in a busy minute."""
    table = Sample.of(SMALL_LINES).table
    head, numbers = (
        ExportMetadata(User("auth0|ada"), "iPhone", "", "correlation"),
        iter(range(count)),
    )
    with open_journal(path, BOUNDS) as journal:

        async def send() -> None:
            for number in numbers:
                id = hashlib.sha256(str(number).encode()).hexdigest()
                at = datetime.fromtimestamp(number, UTC)
                file = CompressedRows(compress(table.ndjson), len(table.ndjson), table.ingested, 0)
                await journal.intake.append(FlattenedExport(id, head, at, file))

        began = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(AT_ONCE)))
        return time.perf_counter() - began


@contextmanager
def slow_syncs() -> Iterator[None]:
    connect = sqlite3.connect

    def slow(*arguments: object, **options: object) -> sqlite3.Connection:
        db = connect(*arguments, **options)  # type: ignore[call-overload]
        db.set_trace_callback(lambda sql: time.sleep(SYNC_SECONDS) if sql == "COMMIT" else None)
        return db

    sqlite3.connect = slow  # type: ignore[assignment]
    try:
        yield
    finally:
        sqlite3.connect = connect

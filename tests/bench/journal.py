"""The cost of the journal: encryption relative to the codec, accepting in groups, a slow disk.

A slow disk has a sync of 10 ms, simulated by a trace callback that sleeps before each COMMIT.
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
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.cipher import Cipher, generate_data_key
from atlas.outside.journal.compression import compress
from atlas.outside.journal.row_codec import ImmutableColumns, PrivateFields, RowCodec
from atlas.outside.sqlite.journal import open_journal
from tests.bench.codec import HEADER
from tests.support.exports import NOON
from tests.support.generator import lines

SMALL_LINES, LARGE_LINES, ROUNDS = 11, 4_000, 9
EXPORTS, SENDERS, SERIES = 20_000, 256, 5
SYNC_SECONDS, SLOW_EXPORTS = 0.01, 2_000
PENDING = 10_000
BOUNDS = CapacityLimits(free_bytes=0)


def measure() -> Iterator[tuple[str, str, str]]:
    yield (
        "compression and encryption, as a share of the codec's time (4,000 records)",
        f"{measure_encryption_share(LARGE_LINES):.0%}",
        "25 % or less",
    )
    yield (
        "... for an export of 11 records",
        f"{measure_encryption_share(SMALL_LINES):.0%}",
        "25 % or less",
    )
    yield (
        f"accepting exports of {SMALL_LINES} records, in groups",
        f"{EXPORTS / min(time_new_journal() for _ in range(SERIES)):,.0f}/s",
        "5,000/s",
    )
    with journal_folder() as path, slow_syncs():
        took = asyncio.run(time_acceptance(path, SLOW_EXPORTS))
        rate = f"{SLOW_EXPORTS / took:,.0f}/s"
        yield "... on a disk whose sync takes 10 ms", rate, "200/s"
    with journal_folder() as path:
        asyncio.run(time_acceptance(path, PENDING))
        began = time.perf_counter()
        with open_journal(path, BOUNDS):
            took = time.perf_counter() - began
        yield f"opening a journal with {PENDING:,} waiting exports", f"{took:.2f} s", ""


@contextmanager
def journal_folder() -> Iterator[Path]:
    """Create a folder on disk, not in memory, because syncs are measured."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", Path.cwd())) as name:
        yield Path(name) / "journal"


@dataclass(frozen=True, slots=True)
class Sample:
    """An export of `count` records, as received and as stored."""

    lines: tuple[bytes, ...]
    table: RowTable

    @classmethod
    def generate(cls, count: int) -> "Sample":
        found = tuple(lines(count))
        return cls(found, rows.flatten(found, HEADER))


def measure_encryption_share(count: int) -> float:
    sample, entries = Sample.generate(count), RowCodec(Cipher(generate_data_key()))
    file = sample.table.ndjson
    fixed = ImmutableColumns("id", "user", NOON.isoformat(), count, 0, len(file))
    label = PrivateFields("auth0|ada", "healthkit/raw/auth0|ada/x.ndjson", (), "correlation")
    head = ExportMetadata(User("auth0|ada"), "iPhone", "", "correlation")
    export = RawExport(head, base64.b64encode(b"\n".join(sample.lines)))

    def run_codec() -> None:
        rows.flatten(ndjson.split_lines(ndjson.decode(export, 2**30, 2**20).text), HEADER)

    def encrypt() -> None:
        entries.encrypt_fields(fixed, label)
        entries.encrypt_payload(fixed, compress(file))

    return time_best(encrypt) / time_best(run_codec)


def time_best(work: Callable[[], None]) -> float:
    """Return the seconds of one call, in the best of several rounds."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(20):
            work()
        found.append((time.perf_counter() - began) / 20)
    return min(found)


def time_new_journal() -> float:
    with journal_folder() as path:
        return asyncio.run(time_acceptance(path, EXPORTS))


async def time_acceptance(path: Path, count: int) -> float:
    """Accept exports from as many concurrent senders as there are in a busy minute."""
    table = Sample.generate(SMALL_LINES).table
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
        await asyncio.gather(*(send() for _ in range(SENDERS)))
        return time.perf_counter() - began


@contextmanager
def slow_syncs() -> Iterator[None]:
    connect = sqlite3.connect

    def connect_slowly(*arguments: object, **options: object) -> sqlite3.Connection:
        db = connect(*arguments, **options)  # type: ignore[call-overload]
        db.set_trace_callback(lambda sql: time.sleep(SYNC_SECONDS) if sql == "COMMIT" else None)
        return db

    sqlite3.connect = connect_slowly  # type: ignore[assignment]
    try:
        yield
    finally:
        sqlite3.connect = connect

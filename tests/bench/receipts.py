"""The cost of an export on the journal's thread, with few and with many receipts.

As in the service there are senders without pauses, one uploader that commits the waiting exports,
and an event loop with other work for each export. CPU and written bytes are those of the thread
alone, as reported by the kernel.
"""

import asyncio
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from atlas.core.commits import Conclusion, Verdict
from atlas.core.messages import (
    BranchSnapshot,
    CompressedRows,
    ExportMetadata,
    FlattenedExport,
    GroupLimits,
    User,
)
from atlas.core.ports import JournalPorts
from atlas.core.traces import Trace
from atlas.outside.journal.compression import compress
from atlas.outside.sqlite.journal import open_journal
from tests.bench.journal import BOUNDS, SMALL_LINES, Sample, journal_folder
from tests.support.exports import NOON

RECEIPTS, MANY_RECEIPTS = 100_000, 1_000_000
EXPORTS, SENDERS, USERS, ROUNDS = 3_000, 64, 50, 3
BUSY_SECONDS = 0.0005  # of the event loop, per export
RID = "ri.foundry.main.transaction.00000000-0000-0000-0000-000000000000"
COMMITTED = Verdict("committed", transaction=RID)
PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ThreadUsage:
    """Resources used by a thread so far: proc_pid_io(5), proc_pid_stat(5)."""

    seconds: float
    kernel_seconds: float
    written_bytes: int

    @classmethod
    def read(cls, thread: threading.Thread) -> "ThreadUsage":
        proc = Path(f"/proc/self/task/{thread.native_id}")
        run_ns = int((proc / "schedstat").read_text().split()[0])
        ticks = int((proc / "stat").read_text().rpartition(")")[2].split()[12])
        counts = dict(line.split(": ") for line in (proc / "io").read_text().splitlines())
        kernel = ticks / os.sysconf("SC_CLK_TCK")
        return cls(run_ns / 1e9, kernel, int(counts["wchar"]))

    def subtract(self, before: "ThreadUsage") -> "ThreadUsage":
        return ThreadUsage(
            self.seconds - before.seconds,
            self.kernel_seconds - before.kernel_seconds,
            self.written_bytes - before.written_bytes,
        )


def measure() -> Iterator[tuple[str, str, str]]:
    for count in (0, RECEIPTS):
        with journal_folder() as path:
            fill_journal(path, count)
            found = [asyncio.run(measure_usage(path, EXPORTS, round)) for round in range(ROUNDS)]
        best = min(each.seconds for each in found) / EXPORTS
        yield (
            f"CPU of the journal's thread per export, with {count:,} receipts",
            f"{best * 1e6:.0f} µs",
            "130 µs or less",
        )
        pages = min(each.written_bytes for each in found) / EXPORTS / PAGE_BYTES
        yield "... pages written", f"{pages:.1f}", "6 or fewer"
    with journal_folder() as path:
        fill_journal(path, MANY_RECEIPTS)
        took = min(time_opening(path) for _ in range(ROUNDS))
        size = f"{path.stat().st_size // 2**20:,} MiB"
        yield (
            f"opening a journal with {MANY_RECEIPTS:,} receipts ({size}), cold",
            f"{took:.2f} s",
            "2 s",
        )


def time_opening(path: Path) -> float:
    """Open the journal with an empty page cache."""
    for each in path.parent.iterdir():
        with each.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    with open_journal(path, BOUNDS):
        return time.perf_counter() - began


def fill_journal(path: Path, count: int) -> None:
    """Fill the journal with `count` committed exports of many users."""
    table = Sample.generate(SMALL_LINES).table
    with open_journal(path, BOUNDS) as journal:
        if count:
            asyncio.run(append_exports(journal, table.ndjson, min(count, 5_000)))
    with closing(sqlite3.connect(path)) as db, db:
        set_receipt_count(db, count)


def set_receipt_count(db: sqlite3.Connection, count: int) -> None:
    """Delete or copy receipts until there are `count`, with other ids and users for the copies."""
    names = [name for _, name, *_ in db.execute("PRAGMA table_info(export)")]
    made = {"number": "NULL", "id": "lower(hex(randomblob(32)))"}
    made |= {"user": "lower(hex(randomblob(16)))"}
    columns = ", ".join(made.get(name, name) for name in names)
    db.execute("DELETE FROM export WHERE number > ?", [count])
    (existing,) = db.execute("SELECT count(*) FROM export").fetchone()
    for start in range(existing, count, max(existing, 1)):
        limit = min(existing, count - start)
        db.execute(f"INSERT INTO export SELECT {columns} FROM export LIMIT {limit}")


async def append_exports(journal: JournalPorts, ndjson: bytes, count: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            at = datetime.now(UTC)
            tasks.create_task(
                journal.intake.append(build_export(f"fill {number}", number, at, ndjson))
            )
    await commit_all(journal, count)


def build_export(name: str, number: int, at: datetime, ndjson: bytes) -> FlattenedExport:
    id = hashlib.sha256(name.encode()).hexdigest()
    user = User(f"auth0|{number % USERS:024x}")
    trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    head = ExportMetadata(user, "iPhone", "", "0f0e0d0c-0b0a-0908-0706-050403020100", trace=trace)
    file = CompressedRows(compress(ndjson), len(ndjson), SMALL_LINES, 0)
    return FlattenedExport(id, head, at, file)


async def commit_all(journal: JournalPorts, count: int) -> None:
    """Commit exports in groups of those that wait, like the uploader."""
    left, limits, outbox = count, GroupLimits(), journal.outbox
    while left:
        group = await outbox.claim(limits, BranchSnapshot("head", NOON), "normal")
        if group is None:
            await outbox.read_backlog(limits)
            await asyncio.sleep(0.001)
            continue
        group = await outbox.record_open(RID, limits)
        await asyncio.sleep(0.005)
        await outbox.read([each.id for each in group.exports])
        await outbox.conclude(Conclusion(RID, default_verdict=COMMITTED))
        left -= len(group.exports)


async def measure_usage(path: Path, count: int, round: int) -> ThreadUsage:
    """Return the usage of the journal's thread for `count` exports, from acceptance to commit."""
    ndjson = Sample.generate(SMALL_LINES).table.ndjson
    numbers = iter(range(count))
    with open_journal(path, BOUNDS) as journal:
        (thread,) = (each for each in threading.enumerate() if each.name.startswith("journal"))

        async def send() -> None:
            for number in numbers:
                busy_until = time.perf_counter() + BUSY_SECONDS
                while time.perf_counter() < busy_until:
                    pass
                at = datetime.now(UTC)
                await journal.intake.append(build_export(f"{round} {number}", number, at, ndjson))

        before = ThreadUsage.read(thread)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(commit_all(journal, count))
            for _ in range(SENDERS):
                tasks.create_task(send())
        return ThreadUsage.read(thread).subtract(before)

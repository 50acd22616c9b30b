"""Several replicas on PostgreSQL: the journal alone, and whole replicas over it.

The server runs on this machine, with fsync, on the disk of BENCH_FOLDER. The slow disk is a library
that is loaded into the server, and sleeps before each fdatasync.
"""

import asyncio
import hashlib
import resource
import secrets
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from shutil import which

import asyncpg

from atlas.core.commits import Conclusion, Verdict
from atlas.core.messages import (
    BranchSnapshot,
    CompressedRows,
    ExportMetadata,
    FlattenedExport,
    GroupLimits,
    User,
)
from atlas.core.ports import JournalPorts, Topic
from atlas.local.postgres import PostgresServer, find_programs
from atlas.outside.journal.compression import compress
from atlas.outside.journal.retention import ReceiptRetention
from atlas.outside.postgres.address import parse_address
from atlas.outside.postgres.journal import JournalOptions, open_journal
from tests.bench import replicas
from tests.bench.journal import SMALL_LINES, Sample, journal_folder, time_acceptance
from tests.support.exports import NOON
from tests.support.temporary_postgres import create_standby, run_temporary_server

EXPORTS, SENDERS, SERIES = 10_000, 256, 3
GROUP = GroupLimits(1_000, 2**40)
GROUPS = 20
RECEIPTS = 2_000_000
HELD_SECONDS, HELD_RATE = 60, 1_000
SLEEPER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    usleep(10000);
    return real(file);
}
"""
FILL = """
    INSERT INTO {schema}.export
        (id, sender, at, ingested, rejected, bytes, moment, label, status, rid)
    SELECT encode(sha256(('receipt ' || n)::bytea), 'hex'), md5((n % 100000)::text),
        timestamptz '2026-01-02 12:00:00Z' - (interval '20 days') * (1 - n / {count}.0),
        11, 0, 15000, 1700000000000 + n, sha256(n::text::bytea) || repeat('x', 160)::bytea,
        'committed', 'ri.foundry.main.transaction.' || (n / 1000)
    FROM generate_series(1, {count}) n
"""
RELATION_SIZE = """
    SELECT sum(pg_total_relation_size(pg_class.oid))::bigint FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = '{schema}' AND relkind = 'r'
"""
WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'"

Rows = Iterator[tuple[str, str, str]]


def measure() -> Rows:
    """Measure everything; takes about eight minutes."""
    with run_temporary_server(find_programs(), SERVER) as server:
        yield from asyncio.run(collect(measure_intake(server)))
        yield from asyncio.run(collect(measure_uploader(server)))
        yield from asyncio.run(collect(measure_notifications(server)))
        yield from asyncio.run(collect(measure_standby(server)))
    yield from measure_slow_disk()
    with run_temporary_server(find_programs(), SERVER) as server:
        yield from asyncio.run(collect(measure_receipts(server)))
    yield from replicas.measure()


SERVER = {"shared_buffers": "512MB", "max_wal_size": "4GB"}


async def collect(figures: AsyncIterator[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return [each async for each in figures]


# the journal of one replica


async def measure_intake(server: PostgresServer) -> AsyncIterator[tuple[str, str, str]]:
    rates, costs, sqlite_rates, sqlite_costs = [], [], [], []
    for _ in range(SERIES):  # alternately, because other programs run on this machine
        async with open_bench_journal(server) as journal:
            began, processor = time.perf_counter(), measure_processor()
            await append_many(journal, EXPORTS)
            rates.append(EXPORTS / (time.perf_counter() - began))
            costs.append((measure_processor() - processor) / EXPORTS)
        with journal_folder() as path:
            processor = measure_processor()
            took = await time_acceptance(path, EXPORTS)
            sqlite_rates.append(EXPORTS / took)
            sqlite_costs.append((measure_processor() - processor) / EXPORTS)
    rate, sqlite_rate = max(rates), max(sqlite_rates)
    yield (
        f"one replica accepts exports of {SMALL_LINES} records",
        f"{rate:,.0f}/s",
        f"6,000/s, and SQLite's: {sqlite_rate:,.0f}/s",
    )
    yield (
        "... processor of the service, an export",
        f"{min(costs) * 1e6:.0f} µs",
        f"SQLite's: {min(sqlite_costs) * 1e6:.0f} µs",
    )
    async with open_bench_journal(server) as journal:
        times = await time_singles(journal, 500)
    yield "one export alone: p99", format_ms(quantile(times, 0.99)), "5 ms"


async def measure_uploader(server: PostgresServer) -> AsyncIterator[tuple[str, str, str]]:
    async with open_bench_journal(server) as journal:
        await append_many(journal, GROUPS * GROUP.exports_max)
        await journal.leadership.acquire()
        times = await upload_groups(journal, GROUPS)
    seconds = sum(sum(each) for each in times.values())
    rate = GROUPS * GROUP.exports_max / seconds
    yield "uploading a backlog, the journal's part", f"{rate:,.0f} exports/s", "5,000/s"
    for step, each in times.items():
        yield f"... {step}, 1,000 exports: p50", format_ms(quantile(each, 0.5)), ""


async def measure_notifications(server: PostgresServer) -> AsyncIterator[tuple[str, str, str]]:
    """Measure how long after `conclude` another replica knows the outcome of all 1,000."""
    async with AsyncExitStack() as stack:
        url = stack.enter_context(new_schema(server))
        leader = await stack.enter_async_context(open_at(url))
        other = await stack.enter_async_context(open_at(url))
        await leader.leadership.acquire()
        known = asyncio.Event()

        async def handle(topic: Topic) -> None:
            if topic == "settled" and len((await other.peers.read_outcomes(ids)).receipts) == count:
                known.set()

        ids, count = list[str](), GROUP.exports_max
        listening = asyncio.create_task(other.peers.listen(handle))
        waits = []
        for number in range(GROUPS):
            ids[:] = await append_many(leader, count, number * count)
            known.clear()
            await asyncio.sleep(0.1)
            await upload_groups(leader, 1)
            began = time.perf_counter()
            await known.wait()
            waits.append(time.perf_counter() - began)
        listening.cancel()
    yield (
        "a phone's wait for the commit of another replica, 1,000 phones: p50, p99",
        f"{format_ms(quantile(waits, 0.5))}, {format_ms(quantile(waits, 0.99))}",
        "20, 100 ms",
    )


async def measure_standby(server: PostgresServer) -> AsyncIterator[tuple[str, str, str]]:
    async with open_bench_journal(server) as journal:
        alone = await time_rate(journal)
    with tempfile.TemporaryDirectory() as folder:
        standby = create_standby(server, Path(folder) / "standby", "second", {})
        with standby:
            await execute(server, "ALTER SYSTEM SET synchronous_standby_names = 'second'")
            await execute(server, "SELECT pg_reload_conf()")
            await asyncio.sleep(1.0)
            async with open_bench_journal(server) as journal:
                with_standby = await time_rate(journal)
                times = await time_singles(journal, 500)
            await execute(server, "ALTER SYSTEM RESET synchronous_standby_names")
            await execute(server, "SELECT pg_reload_conf()")
    yield (
        "with a synchronous standby on this machine, as a share",
        f"{with_standby / alone:.2f}",
        "0.6",
    )
    yield "... one export alone: p99", format_ms(quantile(times, 0.99)), "15 ms"


def measure_slow_disk() -> Rows:
    compiler = which("cc")
    if compiler is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "sleeper.c", Path(folder) / "sleeper.so"
        source.write_text(SLEEPER, encoding="utf-8")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
        library.chmod(0o755)
        Path(folder).chmod(0o755)
        environ = {"LD_PRELOAD": str(library)}
        server = PostgresServer(
            find_programs(), Path(folder) / "data", settings=SERVER, environ=environ
        )
        with server:

            async def run() -> float:
                async with open_bench_journal(server) as journal:
                    return await time_rate(journal)

            yield "on a disk whose sync takes 10 ms", f"{asyncio.run(run()):,.0f}/s", "3,000/s"


# 2,000,000 receipts


async def measure_receipts(server: PostgresServer) -> AsyncIterator[tuple[str, str, str]]:
    async with AsyncExitStack() as stack:
        url = stack.enter_context(new_schema(server))
        journal = await stack.enter_async_context(open_at(url))
        schema = parse_address(url).schema
        await execute(server, FILL.format(schema=schema, count=RECEIPTS))
        await execute(server, f"VACUUM ANALYZE {schema}.export")
        size = await execute(server, RELATION_SIZE.format(schema=schema))
        yield "2,000,000 receipts", f"{size / 2**30:.2f} GiB", "1.5 GiB"
        await journal.leadership.acquire()
        before, count = await execute(server, WAL), GROUPS * GROUP.exports_max
        times: dict[str, list[float]] = {}
        for number in range(GROUPS):
            await append_many(journal, GROUP.exports_max, number * GROUP.exports_max)
            for step, each in (await upload_groups(journal, 1)).items():
                times.setdefault(step, []).extend(each)
        wal = (await execute(server, WAL) - before) / count
        yield "... claim 1,000: p50", format_ms(quantile(times["claim"], 0.5)), "30 ms"
        yield "... conclude 1,000: p50", format_ms(quantile(times["conclude"], 0.5)), "100 ms"
        yield "... write-ahead log of an export, all its life", f"{float(wal):,.0f} B", "12,000 B"
        held = await time_claims_behind_transaction(server, journal)
        yield (
            f"... claim after {HELD_SECONDS} s at {HELD_RATE:,}/s, a transaction held open: p99",
            format_ms(quantile(held, 0.99)),
            "50 ms",
        )


async def time_claims_behind_transaction(
    server: PostgresServer, journal: JournalPorts
) -> list[float]:
    """Upload a group each second while a transaction keeps dead rows from being removed."""
    connection = await asyncpg.connect(server.url)
    claims = []
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class")
        for second in range(HELD_SECONDS):
            due = time.perf_counter() + 1.0
            await append_many(journal, HELD_RATE, 10_000_000 + second * HELD_RATE)
            claims += (await upload_groups(journal, 1))["claim"]
            await asyncio.sleep(max(due - time.perf_counter(), 0))
    finally:
        await connection.close()
    return claims[-HELD_SECONDS // 4 :]


# parts


@contextmanager
def new_schema(server: PostgresServer) -> Iterator[str]:
    yield f"{server.url}?schema=bench_{secrets.token_hex(4)}"


def open_at(url: str) -> "AsyncExitStack":
    retention = ReceiptRetention(lambda: NOON + timedelta(days=1))
    options = JournalOptions(retention=retention, lease_seconds=60.0)
    return open_journal(parse_address(url), [bytes(32)], options)


@asynccontextmanager
async def open_bench_journal(server: PostgresServer) -> AsyncIterator[JournalPorts]:
    with new_schema(server) as url:
        async with open_at(url) as journal:
            yield journal


@dataclass(frozen=True, slots=True)
class Export:
    """Builds exports with the same rows, as the stage before the journal hands them on."""

    sample: Sample
    head: ExportMetadata

    def build(self, number: int) -> FlattenedExport:
        table = self.sample.table
        id = hashlib.sha256(str(number).encode()).hexdigest()
        data = compress(table.ndjson)
        packed = CompressedRows(data, len(table.ndjson), table.ingested, 0)
        return FlattenedExport(id, self.head, NOON + timedelta(milliseconds=number), packed)


EXPORT = Export(
    Sample.generate(SMALL_LINES),
    ExportMetadata(User("auth0|ada"), "iPhone", "", "correlation"),
)


async def append_many(journal: JournalPorts, count: int, first: int = 0) -> list[str]:
    """Accept exports from as many concurrent senders as there are in a busy minute."""
    numbers, ids = iter(range(first, first + count)), list[str]()

    async def send() -> None:
        for number in numbers:
            ids.append((await journal.intake.append(EXPORT.build(number))).id)

    await asyncio.gather(*(send() for _ in range(SENDERS)))
    return ids


async def time_rate(journal: JournalPorts) -> float:
    began = time.perf_counter()
    await append_many(journal, EXPORTS)
    return EXPORTS / (time.perf_counter() - began)


async def time_singles(journal: JournalPorts, count: int) -> list[float]:
    times = []
    for number in range(count):
        began = time.perf_counter()
        await journal.intake.append(EXPORT.build(20_000_000 + number))
        times.append(time.perf_counter() - began)
    return times


async def upload_groups(journal: JournalPorts, groups: int) -> Mapping[str, list[float]]:
    """Take the journal's steps of as many groups, and time each."""
    times: dict[str, list[float]] = {"claim": [], "record": [], "read": [], "conclude": []}
    outbox, snapshot = journal.outbox, BranchSnapshot("head", NOON)

    async def timed(step: str, work: Callable[[], object]) -> object:
        began = time.perf_counter()
        result = await work()  # type: ignore[misc]
        times[step].append(time.perf_counter() - began)
        return result

    for _ in range(groups):
        rid = f"ri.foundry.main.transaction.{secrets.token_hex(8)}"
        group = await timed("claim", lambda: outbox.claim(GROUP, snapshot, "normal"))
        await timed("record", lambda rid=rid: outbox.record_open(rid, GROUP))
        ids = [export.id for export in group.exports]  # type: ignore[union-attr]

        async def read(ids: list[str] = ids) -> None:
            for first in range(0, len(ids), 64):
                await outbox.read(ids[first : first + 64])

        await timed("read", read)
        conclusion = Conclusion(rid, {}, Verdict("committed", transaction=rid))
        await timed("conclude", lambda conclusion=conclusion: outbox.conclude(conclusion))
    return times


async def execute(server: PostgresServer, statement: str) -> object:
    """Run one statement and return its first value."""
    connection = await asyncpg.connect(server.url, timeout=10)
    try:
        return await connection.fetchval(statement, timeout=600)
    finally:
        await connection.close()


def measure_processor() -> float:
    """Return the processor time of this process in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def format_ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"

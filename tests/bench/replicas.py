"""Whole replicas over one PostgreSQL: the processor time of each part, an export.

On a machine with few cores the rate says little, because senders and stubs need processors, too.
So the table shows what each part costs, and that it does not rise with the number of replicas.
"""

import asyncio
import base64
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

from atlas.local.postgres import PostgresServer, find_programs
from tests.bench.processes import Process, list_children, measure_cpu_seconds, measure_pss
from tests.bench.senders import Exports, Fleet, Outcome, fetch_tokens, raise_descriptors
from tests.bench.sides import (
    NO_LIMITS,
    SILENT_SECONDS,
    Load,
    Side,
    disk_folder,
    measure_cost,
    start_side,
    stubs,
)
from tests.support.temporary_postgres import run_temporary_server

SERVER = {"shared_buffers": "512MB", "max_wal_size": "4GB", "max_connections": "100"}
LOAD = Load(connections=64, seconds=6.0, warm_seconds=4.0)
SETTINGS = {**NO_LIMITS, "foundry.commit_interval_seconds": "0.0"}
COUNTS = (1, 2, 4)
ROUNDS = 3
KEY = base64.b64encode(bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Parts:
    """Processor time of each part in microseconds an export; memory of the largest replica."""

    rate: float
    service: float
    database: float
    stubs: float
    senders: float
    memory: float

    @property
    def bottleneck(self) -> str:
        parts = {
            "the replicas": self.service,
            "PostgreSQL": self.database,
            "the stubs": self.stubs,
            "the senders": self.senders,
        }
        return max(parts, key=lambda name: parts[name])


def measure() -> Iterator[tuple[str, str, str]]:
    """Measure one process with SQLite, and 1, 2 and 4 replicas, in turn; the best of three."""
    sqlite = list[float]()
    found: dict[int, list[Parts]] = {count: [] for count in COUNTS}
    for _ in range(ROUNDS):
        cost = measure_cost(Side("sqlite", settings=SETTINGS), LOAD)
        sqlite.append(cost.per_export(cost.service + cost.workers) * 1e3)
        for count in COUNTS:
            found[count].append(measure_replicas(count))
    best = {count: min(each, key=lambda parts: parts.service) for count, each in found.items()}
    yield "one process with SQLite: service, an export", f"{min(sqlite):.0f} µs", ""
    for count, parts in best.items():
        target = f"SQLite's: {min(sqlite):.0f} µs" if count == 1 else ""
        if count > 1:
            target = f"{1.2 * best[1].service:.0f} µs: 20 % more than one"
        yield f"{count} replicas: service, an export", f"{parts.service:.0f} µs", target
        yield (
            "... PostgreSQL, stubs, senders",
            f"{parts.database:.0f}, {parts.stubs:.0f}, {parts.senders:.0f} µs",
            "",
        )
        yield (
            "... rate on this machine, and the part that needs most of it",
            f"{parts.rate:,.0f}/s, {parts.bottleneck}",
            "",
        )
        yield "... memory of a replica at most", f"{parts.memory:.0f} MiB", "256 MiB"


def measure_replicas(count: int) -> Parts:
    """Start everything, measure one window, and end everything."""
    raise_descriptors()
    with ExitStack() as stack:
        server = stack.enter_context(run_temporary_server(find_programs(), SERVER))
        systems = stack.enter_context(stubs())
        services = [
            stack.enter_context(start_replica(server, systems, stack.enter_context(disk_folder())))
            for _ in range(count)
        ]
        exports = Exports(LOAD.records, fetch_tokens(systems.first_line.split()[1]), "")
        return uvloop.run(measure_window(services, exports, server, systems))


def start_replica(
    server: PostgresServer, systems: Process, folder: Path
) -> AbstractContextManager[Process]:
    settings = {
        **SETTINGS,
        "journal.url": json.dumps(f"{server.url}?schema=bench"),
        "journal.keys": json.dumps([KEY]),
    }
    return start_side(Side("replica", settings=settings), systems, folder)


async def measure_window(
    services: Sequence[Process], exports: Exports, server: PostgresServer, systems: Process
) -> Parts:
    """Measure a window that begins and ends with an answer, after the warm-up."""
    fleets = [Fleet(each.url, exports) for each in services]
    for fleet in fleets:
        fleet.send_without_pauses(LOAD.connections // len(fleets))
    await asyncio.sleep(LOAD.warm_seconds)
    await fleets[0].wait_for_answer(SILENT_SECONDS)
    loop = asyncio.get_running_loop()
    began, before, memory = loop.time(), measure_cpu(services, server, systems), 0.0
    for fleet in fleets:
        fleet.outcome = Outcome()
    while loop.time() - began < LOAD.seconds:
        await asyncio.sleep(0.25)
        memory = max(memory, *(measure_pss(each.pid) for each in services))
    outcomes = [fleet.outcome for fleet in fleets]
    seconds = loop.time() - began
    after = measure_cpu(services, server, systems)
    exports_done = max(1, sum(outcome.safe_count for outcome in outcomes))
    for fleet in fleets:
        fleet.is_over = True
        await fleet.close()
    service, database, stub, sender = (
        1e6 * (end - start) / exports_done for start, end in zip(before, after, strict=True)
    )
    return Parts(exports_done / seconds, service, database, stub, sender, memory)


def measure_cpu(
    services: Sequence[Process], server: PostgresServer, systems: Process
) -> list[float]:
    """Return the CPU seconds so far of the replicas, PostgreSQL, the stubs and the senders."""
    replicas = [pid for each in services for pid in (each.pid, *list_children(each.pid))]
    process = server.process
    database = [] if process is None else [process.pid, *list_children(process.pid)]
    groups: list[list[int]] = [replicas, database, [systems.pid], [os.getpid()]]
    return [sum(map(measure_cpu_seconds, group)) for group in groups]

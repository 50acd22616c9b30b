"""The cost of observability: a scrape with many receipts in the journal, and all event subscribers.

The exports go through the whole service in this process, over ASGI, with a journal in memory and a
dataset that answers at once, so that little else is measured. The recorded events are then given to
the subscribers alone; both take CPU time, round by round. (On a shared machine, two flows with and
without subscribers differ by more than the subscribers cost.)
"""

import asyncio
import base64
import os
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import msgspec

from atlas.actors.upload import Timing
from atlas.computing import WorkerExecutor
from atlas.core.events import Event
from atlas.core.identifiers import API_PREFIX
from atlas.core.status import JournalTotals, RuntimeGauges
from atlas.outside import log
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from atlas.service import (
    Dependencies,
    EventSubscribers,
    Service,
    build_subscribers,
    run_service,
)
from atlas.settings import FoundrySettings, Settings
from tests.conftest import asgi
from tests.support.exports import NOON
from tests.support.fakes import KnownUsers, MemoryDataset
from tests.support.generator import lines

RECEIPTS, SCRAPES = 100_000, 5
EXPORTS, SENDERS, ROUNDS = 600, 32, 5
RECORDS = 11
SETTINGS = Settings(foundry=FoundrySettings(commit_interval_seconds=0.0))
NO_LIMITS = CapacityLimits(free_bytes=0)
RECEIPT = """
    INSERT INTO export (id, user, at, ingested, rejected, bytes, moment, label, status)
    VALUES (?, 'user', '2026-01-02T12:00:00+00:00', 11, 0, 6000, ?, x'00', 'committed')
"""


def measure() -> Iterator[tuple[str, str, str]]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        fill(path)
        took = min(asyncio.run(time_scrapes(path)))
        yield f"a scrape with {RECEIPTS:,} receipts", f"{took * 1000:.0f} ms", "50 ms or less"
    flows, readers = zip(*(measure_round() for _ in range(ROUNDS)), strict=True)
    share = f"{min(readers) / min(flows):.1%}"
    yield "metrics, status, log and a viewer, as a share of an export's cost", share, "3 % or less"


def fill(path: Path) -> None:
    with open_journal(path, NO_LIMITS):
        pass  # creates the tables
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany(RECEIPT, ((f"id-{each}", each) for each in range(RECEIPTS)))


async def time_scrapes(path: Path) -> list[float]:
    """Return the seconds of each scrape; the first also counts live data, once a minute."""
    found = []
    async with run_in_memory(path, []) as service:
        for _ in range(SCRAPES):
            began = time.perf_counter()
            await scrape(service)
            found.append(time.perf_counter() - began)
    return found


async def scrape(service: Service) -> None:
    answer = await asgi(service.operator, "GET", "/metrics", {"host": "127.0.0.1"})
    assert b"atlas_journal_exports" in answer.body


def measure_round() -> tuple[float, float]:
    """Return the CPU seconds of the exports, and of the subscribers for their events."""
    events: list[Event] = []
    flow = anyio.run(time_exports, events, backend_options={"use_uvloop": True})
    with open_subscribers() as readers:
        began = time.process_time()
        for event in events:
            readers.publish(event)
        read = time.process_time() - began
        began = time.process_time()
        msgspec.json.encode(readers.status.take_snapshot(RuntimeGauges(JournalTotals({}, {}))))
        shown = time.process_time() - began
    return flow, read + shown * flow  # one snapshot a second


async def time_exports(events: list[Event]) -> float:
    ndjson = b"\n".join(lines(RECORDS))
    body = msgspec.json.encode({"rawhealthkit": base64.b64encode(ndjson).decode()})
    numbers = iter(range(EXPORTS))
    async with run_in_memory(None, events) as service:

        async def send() -> None:
            for number in numbers:
                headers = {"authorization": f"Bearer token-of-{number}"}
                answer = await asgi(service.public, "POST", f"{API_PREFIX}/export", headers, body)
                assert answer.status == 200

        began = time.process_time()
        async with anyio.create_task_group() as senders:
            for _ in range(SENDERS):
                senders.start_soon(send)
        return time.process_time() - began


@contextmanager
def open_subscribers() -> Iterator[EventSubscribers]:
    """Open all subscribers; the log writes to /dev/null."""
    with Path(os.devnull).open("w") as sink:
        event_log = log.EventLog(log.build_logger(sink, "info"), b"k" * 32)
        yield build_subscribers(SETTINGS, event_log, lambda: NOON)


@dataclass(frozen=True, slots=True)
class EventRecorder(EventSubscribers):
    """Only records events, so that the cost of the real subscribers can be measured separately."""

    events: list[Event] = field(default_factory=list)

    def publish(self, event: Event) -> None:
        self.events.append(event)


@asynccontextmanager
async def run_in_memory(path: Path | None, events: list[Event]) -> AsyncIterator[Service]:
    status = build_subscribers(SETTINGS, clock=lambda: NOON).status
    with open_journal(path, NO_LIMITS) as journal:
        dependencies = Dependencies(
            identities=KnownUsers(),
            store=journal,
            branch=MemoryDataset(),
            clock=lambda: NOON,
            timing=Timing(anyio.current_time, random.Random(1).random),
            compute=WorkerExecutor(),
            subscribers=EventRecorder(status, None, events=events),
        )
        async with run_service(dependencies, SETTINGS) as service:
            yield service

"""What it costs to be watched: a scrape of a journal that holds many receipts, and all readers.

The flow is the whole service in this process, over ASGI, with a journal in memory and a dataset
that answers at once: what the readers cost stands out against so little else. They are given what
has happened in it once more, by themselves; both are measured by the time of the processor, round
by round. (A flow with them beside one without differs by more than they cost, on a shared machine.)
"""

import asyncio
import base64
import os
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
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
from atlas.outside.sqlite.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from atlas.service import (
    Dependencies,
    EventSubscribers,
    Service,
    build_subscribers,
    collect_ports,
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
ROOMY = CapacityLimits(free_bytes=0)
RECEIPT = """
    INSERT INTO export (id, user, at, ingested, rejected, bytes, moment, label, status)
    VALUES (?, 'user', '2026-01-02T12:00:00+00:00', 11, 0, 6000, ?, x'00', 'committed')
"""


def measure() -> Iterator[tuple[str, str, str]]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        fill(path)
        took = min(asyncio.run(seconds_of_scrapes(path)))
        yield f"a scrape with {RECEIPTS:,} receipts", f"{took * 1000:.0f} ms", "50 ms or less"
    flows, readers = zip(*(one_round() for _ in range(ROUNDS)), strict=True)
    share = f"{min(readers) / min(flows):.1%}"
    yield "metrics, picture, log and a viewer, of what an export costs", share, "3 % or less"


def fill(path: Path) -> None:
    with open_journal(path, ROOMY):
        pass  # it makes the tables
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany(RECEIPT, ((f"id-{each}", each) for each in range(RECEIPTS)))


async def seconds_of_scrapes(path: Path) -> list[float]:
    """Of each; the first counts what is live, as one in a minute does."""
    found = []
    async with running(path, [].append) as service:
        for _ in range(SCRAPES):
            began = time.perf_counter()
            await scrape(service)
            found.append(time.perf_counter() - began)
    return found


async def scrape(service: Service) -> None:
    answer = await asgi(service.operator, "GET", "/metrics", {"host": "127.0.0.1"})
    assert b"atlas_journal_exports" in answer.body


def one_round() -> tuple[float, float]:
    """The seconds of the processor for the exports, and of the readers for what happened."""
    happened: list[Event] = []
    flow = anyio.run(seconds_of_flow, happened, backend_options={"use_uvloop": True})
    with silent() as readers:
        began = time.process_time()
        for event in happened:
            readers.publish(event)
        read = time.process_time() - began
        began = time.process_time()
        msgspec.json.encode(readers.status.take_snapshot(RuntimeGauges(JournalTotals({}, {}))))
        shown = time.process_time() - began
    return flow, read + shown * flow  # one a second


async def seconds_of_flow(happened: list[Event]) -> float:
    ndjson = b"\n".join(lines(RECORDS))
    body = msgspec.json.encode({"rawhealthkit": base64.b64encode(ndjson).decode()})
    numbers = iter(range(EXPORTS))
    async with running(None, happened.append) as service:

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
def silent() -> Iterator[EventSubscribers]:
    """All readers; the log says what it has to say to nobody."""
    with Path(os.devnull).open("w") as nobody:
        told = log.EventLog(log.build_logger(nobody, "info"), b"k" * 32)
        yield build_subscribers(SETTINGS, told, lambda: NOON)


class Unread(EventSubscribers):
    """None of them reads; who measures does."""

    def watch(self, event: Event) -> None:
        self.log(event)


@asynccontextmanager
async def running(path: Path | None, watch: Callable[[Event], object]) -> AsyncIterator[Service]:
    all_of_them = build_subscribers(SETTINGS, watch, lambda: NOON)
    with open_journal(path, ROOMY) as journal:
        world = Dependencies(
            identities=KnownUsers(),
            store=collect_ports(journal),
            branch=MemoryDataset(),
            clock=lambda: NOON,
            timing=Timing(anyio.current_time, random.Random(1).random),
            compute=WorkerExecutor(),
            subscribers=Unread(all_of_them.status, watch),
        )
        async with run_service(world, SETTINGS) as service:
            yield service

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

from atlas.actors.upload import Chance
from atlas.computing import Computing
from atlas.core.events import Event
from atlas.core.names import API_PREFIX
from atlas.core.picture import Depth, Sight
from atlas.outside import log
from atlas.outside.sqlite.journal import opened
from atlas.outside.sqlite.room import Bounds
from atlas.service import Readers, Service, World, reading, serving, stored
from atlas.settings import Foundry, Settings
from tests.conftest import asgi
from tests.support.exports import NOON
from tests.support.fakes import KnownUsers, MemoryDataset
from tests.support.generator import lines

RECEIPTS, SCRAPES = 100_000, 5
EXPORTS, SENDERS, ROUNDS = 600, 32, 5
RECORDS = 11
SETTINGS = Settings(foundry=Foundry(commit_interval_seconds=0.0))
ROOMY = Bounds(free_bytes=0)
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
    with opened(path, ROOMY):
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
            readers.watch(event)
        read = time.process_time() - began
        began = time.process_time()
        msgspec.json.encode(readers.status.picture(Sight(Depth({}, {}))))
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
def silent() -> Iterator[Readers]:
    """All readers; the log says what it has to say to nobody."""
    with Path(os.devnull).open("w") as nobody:
        told = log.Log(log.logger(nobody, "info"), b"k" * 32)
        yield reading(SETTINGS, told, lambda: NOON)


class Unread(Readers):
    """None of them reads; who measures does."""

    def watch(self, event: Event) -> None:
        self.log(event)


@asynccontextmanager
async def running(path: Path | None, watch: Callable[[Event], object]) -> AsyncIterator[Service]:
    all_of_them = reading(SETTINGS, watch, lambda: NOON)
    with opened(path, ROOMY) as journal:
        world = World(
            identities=KnownUsers(),
            store=stored(journal),
            branch=MemoryDataset(),
            now=lambda: NOON,
            chance=Chance(anyio.current_time, random.Random(1).random),
            compute=Computing(),
            readers=Unread(all_of_them.status, watch),
        )
        async with serving(world, SETTINGS) as service:
            yield service

"""Fixtures: the real service over ASGI, with fake external systems and a real journal."""

import base64
import os
import random
import resource
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from starlette.types import ASGIApp, Message

from atlas.actors.upload import Timing
from atlas.computing import WorkerExecutor
from atlas.core.events import Event, EventSink
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import FileFormat, FileLayout, GroupLimits
from atlas.core.ports import (
    Clock,
    CpuExecutor,
    Identities,
    JournalPorts,
    Outbox,
    PersonalDataStore,
)
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from atlas.service import (
    Dependencies,
    EventSubscribers,
    Service,
    build_subscribers,
    run_service,
)
from atlas.settings import Auth0Settings, EdgeSettings, ExportSettings, FoundrySettings, Settings
from tests.support.command_line import atlas  # noqa: F401 - a fixture used by all modules
from tests.support.exports import NOON, SHELF
from tests.support.fakes import KnownUsers, MemoryDataset
from tests.support.postgres import SOURCES, PostgresServers, open_postgres_journal, open_schema
from tests.support.schemas import (  # noqa: F401 - fixtures used by all modules
    database_server,
    journal_url,
    schema_name,
)
from tests.support.served_foundry import emulator, url  # noqa: F401 - fixtures, too

END, GONE = b"<END>", b"<GONE>"
Body = bytes | Iterable[bytes]
RID = "ri.foundry.main.dataset.1"

# a busy machine generates slowly, which says nothing about the code
settings.register_profile("atlas", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("atlas")


def pytest_configure():
    """Keep the tests off any proxy that this machine is configured to use."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)


def pytest_collection_modifyitems(items):
    """Run the quick tests first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def an_export(ndjson: bytes = b'{"uuid":"a"}\n', **more: object) -> dict[str, object]:
    return {"rawhealthkit": base64.b64encode(ndjson).decode(), **more}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: Any
    body_was_read: bool


class EventRecorder(list[Event]):
    """Records the service's events, and waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self._more = anyio.Event()

    def watch(self, event: Event) -> None:
        self.append(event)
        self._more.set()
        self._more = anyio.Event()

    def find_handler(self, _kind: type[Event]) -> EventSink:
        return self.watch

    async def wait_for(self, kind: type[Event], count: int = 1) -> None:
        with anyio.fail_after(5):
            while self.count_of(kind) < count:
                await self._more.wait()

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]

    def count_of(self, kind: type[Event]) -> int:
        return len(self.of(kind))


@dataclass
class Flow:
    service: Service
    seen: EventRecorder
    outbox: Outbox
    people: PersonalDataStore
    readers: EventSubscribers
    store: JournalPorts

    async def post(
        self,
        body: object,
        path: str = "/export",
        token: str | None = "token-of-ada",
        **headers: str,
    ) -> Answer:
        return await self.send(
            "POST", API_PREFIX + path, token, msgspec.json.encode(body), **headers
        )

    async def is_empty(self) -> None:
        """Return once no export is waiting for Foundry."""
        with anyio.fail_after(5):
            while await self.waiting():
                await anyio.sleep(0.001)

    async def waiting(self) -> int:
        return (await self.outbox.read_backlog(GroupLimits())).waiting

    async def receipt(self, id: str, token: str = "token-of-ada") -> Answer:
        return await self.send("GET", f"{API_PREFIX}/exports/{id}", token)

    async def send(
        self, method: str, path: str, token: str | None, body: Body = b"", **headers: str
    ) -> Answer:
        """Send one request to the public listener; `Idempotency_Key="k"` becomes a header.

        The body may come in pieces; the piece GONE is a lost connection.
        """
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return await asgi(self.service.public, method, path, headers, body)


async def asgi(
    app: ASGIApp, method: str, path: str, headers: dict[str, str], body: Body = b""
) -> Answer:
    sent: list[Message] = []
    was_read = False
    pieces = iter([body] if isinstance(body, bytes) else body)
    coming = next(pieces, b"")

    async def receive() -> Message:
        nonlocal was_read, coming
        was_read = was_read or not sent  # input drained after the response does not count as read
        piece, coming = coming, next(pieces, END)
        if piece is GONE:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": coming is not END}

    async def send(message: Message) -> None:
        sent.append(message)

    address, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": address,
        "query_string": query.encode(),
        "headers": [
            (name.lower().replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in headers.items()
        ],
    }
    await app(scope, receive, send)
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    text = b"".join(message.get("body", b"") for message in sent[1:])
    said = msgspec.json.decode(text) if text and "json" in told["content-type"] else text or None
    return Answer(sent[0]["status"], told, said, was_read)


@dataclass
class ServiceHarness:
    """The settings of one run of the service. The dataset and the journal outlive the run."""

    journal: Path | str | None  # a string is the URL of a schema in PostgreSQL
    dataset: MemoryDataset = field(default_factory=MemoryDataset)
    identities: Identities = field(default_factory=KnownUsers)
    reply_seconds: float = 5.0
    journal_bytes_max: int = 1_000_000
    journal_exports_max: int = 1_000_000
    free_bytes_min: int = 0
    interval_seconds: float = 0.0
    drain_seconds: float = 5.0
    uploads_at_once: int = 64
    layout: FileLayout = "auto"
    format: FileFormat = "ndjson"
    group: GroupLimits = field(default_factory=GroupLimits)
    sole_writer: bool = True
    required_scope: str = ""
    cors_origins: tuple[str, ...] = ()
    export: ExportSettings = field(default_factory=ExportSettings)
    compute: CpuExecutor = field(default_factory=WorkerExecutor)
    now: Clock = lambda: NOON
    readers: dict[str, Any] = field(default_factory=dict)  # replacements for the usual ones
    stream_bytes_max: int = 64 * 1024 * 1024
    edge: dict[str, Any] = field(default_factory=dict)  # overridden settings of the edge
    auth0: dict[str, Any] = field(default_factory=dict)  # overridden settings of the tokens

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Flow]:
        """Run the service. Not a fixture: a task group must be left by the task that entered it."""
        seen = EventRecorder()
        readers = replace(build_subscribers(self.settings(), seen, lambda: NOON), **self.readers)
        bounds = CapacityLimits(
            self.journal_bytes_max, self.journal_exports_max, self.free_bytes_min
        )
        async with AsyncExitStack() as stack:
            if isinstance(self.journal, str):
                shared = open_postgres_journal(self.journal, bounds, SHELF)
                journal = await stack.enter_async_context(shared)
            else:
                journal = stack.enter_context(open_journal(self.journal, bounds, retention=SHELF))
            journal.events.subscribe(readers.publish)
            world = Dependencies(
                identities=self.identities,
                store=journal,
                branch=self.dataset,
                clock=self.now,
                timing=Timing(anyio.current_time, Quick(1).random),
                compute=self.compute,
                subscribers=readers,
            )
            async with run_service(world, self.settings()) as service:
                outbox, people = journal.outbox, journal.personal_data
                yield Flow(service, seen, outbox, people, readers, journal)
        assert self.dataset.complaints == []

    def settings(self) -> Settings:
        return Settings(
            edge=EdgeSettings(
                commit_wait_seconds=self.reply_seconds,
                body_bytes_max=24_000_000,
                stream_bytes_max=self.stream_bytes_max,
                cors_origins=self.cors_origins,
                **{"rate_per_minute": 0} | self.edge,
            ),
            auth0=Auth0Settings(required_scope=self.required_scope, **self.auth0),
            export=self.export,
            foundry=FoundrySettings(
                dataset_rid=RID,
                group=self.group,
                commit_interval_seconds=self.interval_seconds,
                sole_writer=self.sole_writer,
                drain_seconds=self.drain_seconds,
                uploads_at_once=self.uploads_at_once,
                file_layout=self.layout,
                file_format=self.format,
            ),
        )


@pytest.fixture(scope="session")
def postgres_servers():
    """PostgreSQL servers of this worker, each started when it is first asked for."""
    with PostgresServers(cannot_run) as servers:
        yield servers


@pytest.fixture(params=SOURCES)
async def postgres_url(request, postgres_servers):
    """The URL of a database with a schema of the test's own, on each server that there is."""
    async with open_schema(postgres_servers.get(request.param)) as found:
        yield found


class Quick(random.Random):
    """Seeded randomness with small values, so that back-offs stay short."""

    def random(self) -> float:
        return super().random() / 100


def needs(*command: str) -> None:
    """Skip the test if a command is missing, unless nothing may be skipped, as in CI."""
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        cannot_run(f"needs to run: {' '.join(map(str, command))}")


def cannot_run(reason: str) -> None:
    if os.environ.get("TESTS_SKIP_NOTHING"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(tmp_path / "journal")


@contextmanager
def no_file_may_grow(bytes_max=512):
    """Make every write beyond the first bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

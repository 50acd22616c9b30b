"""Adapter for Palantir Foundry's public API (v2).

token.py        the access token
call_gate.py    rate limit and circuit breaker
client.py       HTTP calls: deadlines and retries
responses.py    parsing of responses
errors.py       classification of errors, with a remedy for the operator
uploads.py      interpretation of the answer to an upload
listing.py      listings of files
dataset.py      implements the port Branch
stream.py       implements the port Stream
observations.py behaviour of Foundry that its documentation leaves open
inspection.py   implements the port DatasetInspection, for `atlas diagnose`
schemas.py      implements the port SchemaInspection, and puts a schema
queries.py      implements the port RowCounter
views.py        creates a View

README.md lists the calls that Atlas makes, and the outcome of each answer.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio

from atlas.core.events import EventSink
from atlas.core.ports import Clock
from atlas.outside.foundry.call_gate import CallGate, Sleep
from atlas.outside.foundry.client import FoundryClient
from atlas.outside.foundry.dataset import FoundryDataset
from atlas.outside.foundry.inspection import FoundryInspection
from atlas.outside.foundry.observations import Observations
from atlas.outside.foundry.queries import SQL_SCOPE, TableRows
from atlas.outside.foundry.stream import (
    STREAM_SCOPE,
    FoundryStream,
    build_create_request,
    create_stream,
)
from atlas.outside.foundry.token import Credentials, FoundryToken
from atlas.outside.foundry.views import build_preview_url, build_view_body
from atlas.outside.network import DEFAULT_TRANSPORT, Transport, open_session

__all__ = [
    "CallLimits",
    "Credentials",
    "FoundryDataset",
    "FoundryInspection",
    "FoundryStream",
    "FoundryTarget",
    "build_create_request",
    "build_preview_url",
    "build_view_body",
    "create_stream",
    "open_dataset",
    "open_inspection",
    "open_stream",
    "open_stream_client",
    "open_stream_inspection",
]

INSPECTION_SECONDS = 10.0  # per call, because an operator is waiting
INSPECTION_CALLS = 1_000
SPARE_CONNECTIONS = 4  # so that commits and token requests do not wait for uploads


@dataclass(frozen=True, slots=True)
class FoundryTarget:
    """The branch to write to. `host` is a URL without a trailing slash."""

    host: str
    dataset_rid: str
    branch: str
    transport: Transport = DEFAULT_TRANSPORT

    @property
    def location(self) -> tuple[str, str]:
        """The RID of the dataset and the name of the branch."""
        return self.dataset_rid, self.branch


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits on concurrent calls, on calls per minute, and on the duration of a call."""

    calls_at_once: int
    calls_per_minute: int
    call_seconds: float


@asynccontextmanager
async def open_dataset(
    target: FoundryTarget,
    credentials: Credentials,
    limits: CallLimits,
    emit: EventSink,
    clock: Clock,
    monotonic: Callable[[], float],
    rng: Callable[[], float],
    sleep: Sleep = anyio.sleep,
) -> AsyncIterator[FoundryDataset]:
    """Open the dataset with its own connections. Make no call. Raises ConfigurationError."""
    seconds, observations = limits.call_seconds, Observations()
    async with open_session(
        target.transport, connections_max=limits.calls_at_once + SPARE_CONNECTIONS
    ) as session:
        token = FoundryToken(session, credentials, seconds, emit, observations)
        gate = CallGate(monotonic, rng, limits.calls_per_minute, sleep)
        client = FoundryClient(session, token, target.host, seconds, gate, emit)
        yield FoundryDataset(client, target.location, seconds, clock, observations)


@asynccontextmanager
async def open_inspection(
    target: FoundryTarget, credentials: Credentials, clock: Clock, monotonic: Callable[[], float]
) -> AsyncIterator[FoundryInspection]:
    """Open the dataset for `atlas diagnose`. No call is retried, to show the present state.

    Raises ConfigurationError.
    """
    seconds, observations, location = INSPECTION_SECONDS, Observations(), target.location
    async with open_session(target.transport) as session:
        token = FoundryToken(session, credentials, seconds, ignore, observations)
        gate = CallGate(monotonic, lambda: 0.0, INSPECTION_CALLS)
        sql = FoundryToken(
            session, replace(credentials, scope=SQL_SCOPE), seconds, ignore, Observations()
        )
        client, sql_client = (
            FoundryClient(session, each, target.host, seconds, gate, ignore, attempts=1)
            for each in (token, sql)
        )
        dataset = FoundryDataset(client, location, seconds, clock, observations)
        rows = TableRows(client, sql_client, location)
        yield FoundryInspection(client, token, credentials, dataset, rows, location, clock)


@asynccontextmanager
async def open_stream(
    target: FoundryTarget,
    credentials: Credentials,
    limits: CallLimits,
    emit: EventSink,
    monotonic: Callable[[], float],
    rng: Callable[[], float],
    sleep: Sleep = anyio.sleep,
) -> AsyncIterator[FoundryStream]:
    """Open a stream: `target.dataset_rid` is its RID. Make no call. Raises ConfigurationError.

    It has its own token, connections and rate limit. So a client that may not use streams, or a
    stream that does not answer, is never in the way of the dataset.
    """
    gate = CallGate(monotonic, rng, limits.calls_per_minute, sleep)
    async with open_session(target.transport, connections_max=limits.calls_at_once) as session:
        token = FoundryToken(
            session,
            replace(credentials, scope=STREAM_SCOPE),
            limits.call_seconds,
            ignore,
            Observations(),
        )
        client = FoundryClient(session, token, target.host, limits.call_seconds, gate, emit)
        yield FoundryStream(client, target.location)


@asynccontextmanager
async def open_stream_inspection(
    target: FoundryTarget, credentials: Credentials, monotonic: Callable[[], float]
) -> AsyncIterator[FoundryStream]:
    """Open a stream for `atlas diagnose`. No call is retried. Raises ConfigurationError."""
    async with open_stream_client(target, credentials, monotonic) as client:
        yield FoundryStream(client, target.location)


@asynccontextmanager
async def open_stream_client(
    target: FoundryTarget, credentials: Credentials, monotonic: Callable[[], float]
) -> AsyncIterator[FoundryClient]:
    """Open a client with the scopes of streams. No call is retried. Raises ConfigurationError."""
    seconds = INSPECTION_SECONDS
    async with open_session(target.transport) as session:
        scoped = replace(credentials, scope=STREAM_SCOPE)
        token = FoundryToken(session, scoped, seconds, ignore, Observations())
        gate = CallGate(monotonic, lambda: 0.0, INSPECTION_CALLS)
        yield FoundryClient(session, token, target.host, seconds, gate, ignore, attempts=1)


def ignore(_event: object) -> None:
    """Discard an event, because inspections are not part of the service's metrics."""

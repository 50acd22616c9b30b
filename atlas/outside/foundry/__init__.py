"""Adapter for Palantir Foundry's public API (v2).

token.py        the access token
call_gate.py    rate limit and circuit breaker
client.py       HTTP calls: deadlines and retries
responses.py    parsing of responses
errors.py       classification of errors, with a remedy for the operator
uploads.py      interpretation of the answer to an upload
listing.py      listings of files
dataset.py      implements the port Branch
observations.py behaviour of Foundry that its documentation leaves open
inspection.py   implements the port DatasetInspection, for `atlas diagnose`

README.md lists the calls that Atlas makes, and the outcome of each answer.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from atlas.core.events import EventSink
from atlas.core.ports import Clock
from atlas.outside.foundry.call_gate import CallGate, Sleep
from atlas.outside.foundry.client import FoundryClient
from atlas.outside.foundry.dataset import FoundryDataset
from atlas.outside.foundry.inspection import FoundryInspection
from atlas.outside.foundry.observations import Observations
from atlas.outside.foundry.token import Credentials, FoundryToken
from atlas.outside.network import DEFAULT_TRANSPORT, Transport, open_session

__all__ = [
    "CallLimits",
    "Credentials",
    "FoundryDataset",
    "FoundryInspection",
    "FoundryTarget",
    "open_dataset",
    "open_inspection",
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
        client = FoundryClient(session, token, target.host, seconds, gate, ignore, attempts=1)
        dataset = FoundryDataset(client, location, seconds, clock, observations)
        yield FoundryInspection(client, token, credentials, location, dataset, clock)


def ignore(_event: object) -> None:
    """Discard an event, because inspections are not part of the service's metrics."""

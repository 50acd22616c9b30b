"""The adapter of Palantir Foundry's public API (v2).

token.py        the access token
call_gate.py    rate limit and circuit breaker
client.py       HTTP calls: deadlines and retries
responses.py    what is read of a response
errors.py       what an error is about, and what to do
uploads.py      what the answer to an upload means
listing.py      listings of files
dataset.py      implements the port Branch
observations.py what Foundry was seen to do where its documentation is silent
inspection.py   implements the ports of `atlas diagnose`

README.md says what Atlas needs of Foundry, and how it treats each answer.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from atlas.core.events import Watch
from atlas.core.ports import Clock
from atlas.outside.foundry.call_gate import CallGate
from atlas.outside.foundry.client import FoundryClient
from atlas.outside.foundry.dataset import FoundryDataset
from atlas.outside.foundry.inspection import (
    FoundryAccess,
    FoundryBranches,
    FoundryContents,
    FoundryInspection,
    FoundrySchemas,
    InspectionClient,
)
from atlas.outside.foundry.observations import Observations
from atlas.outside.foundry.token import Credentials, FoundryToken
from atlas.outside.network import DEFAULT, Transport, open_session

__all__ = [
    "CallLimits",
    "Credentials",
    "FoundryDataset",
    "FoundryInspection",
    "Target",
    "open_dataset",
    "open_inspection",
]

INSPECTION_SECONDS = 10.0  # of a call: an operator waits for it
INSPECTION_CALLS = 1_000
SPARE_CONNECTIONS = 4  # a commit does not wait for uploads, nor a token for either


@dataclass(frozen=True, slots=True)
class Target:
    """The branch to write to. `host` is a URL without a slash at its end."""

    host: str
    dataset_rid: str
    branch: str
    transport: Transport = DEFAULT


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The calls at once and in a minute, and the seconds that a call may take."""

    calls_at_once: int
    calls_per_minute: int
    call_seconds: float


@asynccontextmanager
async def open_dataset(
    target: Target,
    credentials: Credentials,
    limits: CallLimits,
    emit: Watch,
    clock: Clock,
    monotonic: Callable[[], float],
    rng: Callable[[], float],
) -> AsyncIterator[FoundryDataset]:
    """Open the dataset, over connections of its own. No call is made yet."""
    seconds, observations = limits.call_seconds, Observations()
    async with open_session(
        target.transport, connections_max=limits.calls_at_once + SPARE_CONNECTIONS
    ) as session:
        token = FoundryToken(session, credentials, seconds, emit, observations)
        gate = CallGate(monotonic, rng, limits.calls_per_minute)
        client = FoundryClient(session, token, target.host, seconds, gate, emit)
        location = target.dataset_rid, target.branch
        yield FoundryDataset(client, location, seconds, clock, observations)


@asynccontextmanager
async def open_inspection(
    target: Target, credentials: Credentials, clock: Clock, monotonic: Callable[[], float]
) -> AsyncIterator[FoundryInspection]:
    """Open the same for inspections, with a token of its own: fetching it is one of them."""
    async with open_session(target.transport) as session:
        token = FoundryToken(
            session, credentials, INSPECTION_SECONDS, lambda _: None, Observations()
        )
        gate = CallGate(monotonic, lambda: 0.0, INSPECTION_CALLS)
        calls = FoundryClient(session, token, target.host, INSPECTION_SECONDS, gate, lambda _: None)
        client = InspectionClient(calls, target.dataset_rid, target.branch, credentials.client_id)
        yield FoundryInspection(
            FoundryAccess(session, credentials, client, clock),
            FoundryBranches(client),
            FoundryContents(client),
            FoundrySchemas(client),
        )

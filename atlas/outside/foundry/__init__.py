"""Foundry, spoken to over its public API (v2).

`token.py` is who we are, `door.py` when we may ask, `calls.py` how, `refusals.py` what a no means,
`dataset.py` what: it answers the ports Dataset and History. `inspection.py` looks at all of it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from atlas.core.events import Watch
from atlas.core.ports import Clock
from atlas.outside.foundry.calls import Calls
from atlas.outside.foundry.dataset import FoundryDataset
from atlas.outside.foundry.door import Door
from atlas.outside.foundry.inspection import (
    FoundryAccess,
    FoundryBranches,
    FoundryContents,
    FoundryInspection,
    FoundrySchemas,
    Questions,
)
from atlas.outside.foundry.token import Credentials, FoundryToken

__all__ = [
    "Allowed",
    "Credentials",
    "FoundryDataset",
    "FoundryInspection",
    "Target",
    "connected",
    "inspected",
]

INSPECTION_SECONDS = 10.0  # for a call: whoever looks does not wait for long
INSPECTION_CALLS = 1_000
SPARE_CONNECTIONS = 4  # a commit does not wait for uploads, nor a token for either


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go. `host` is a URL without a slash at its end."""

    host: str
    dataset_rid: str
    branch: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """How many calls at once and in a minute, and how long each may take."""

    calls_at_once: int
    calls_per_minute: int
    call_seconds: float


@asynccontextmanager
async def connected(
    place: Target,
    credentials: Credentials,
    allowed: Allowed,
    watch: Watch,
    elapsed: Callable[[], float],
    random: Callable[[], float],
) -> AsyncIterator[FoundryDataset]:
    """The dataset, over connections of its own. Nothing is asked yet."""
    seconds = allowed.call_seconds
    connector = aiohttp.TCPConnector(limit=allowed.calls_at_once + SPARE_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        token = FoundryToken(session, credentials, seconds, watch)
        door = Door(elapsed, random, allowed.calls_per_minute)
        calls = Calls(session, token, place.host, seconds, door, watch)
        yield FoundryDataset(calls, place.dataset_rid, place.branch, seconds)


@asynccontextmanager
async def inspected(
    place: Target, credentials: Credentials, now: Clock, elapsed: Callable[[], float]
) -> AsyncIterator[FoundryInspection]:
    """The same, to look at, with a token of its own: so it is seen whether we get one."""
    async with aiohttp.ClientSession() as session:
        token = FoundryToken(session, credentials, INSPECTION_SECONDS, lambda _: None)
        door = Door(elapsed, lambda: 0.0, INSPECTION_CALLS)
        calls = Calls(session, token, place.host, INSPECTION_SECONDS, door, lambda _: None)
        asked = Questions(calls, place.dataset_rid, place.branch, credentials.client_id)
        yield FoundryInspection(
            FoundryAccess(session, credentials, asked, now),
            FoundryBranches(asked),
            FoundryContents(asked),
            FoundrySchemas(asked),
        )

"""All that is not ours to decide: systems, time, chance, processors, who wants to know."""

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar, TypeVarTuple

import anyio

from atlas.actors.upload import Chance
from atlas.core import ports
from atlas.core.events import Watch
from atlas.outside import auth0, foundry
from atlas.service.store import Store
from atlas.settings import Settings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

INLINE_BYTES_MAX = 128 * 1024  # flattened in a millisecond; a thread costs a tenth of one


@dataclass(frozen=True, slots=True)
class World:
    """What a service runs in."""

    identities: ports.Identities
    store: Store
    branch: ports.Branch
    now: ports.Clock
    chance: Chance
    compute: ports.Compute
    watch: Watch


@asynccontextmanager
async def connected(
    settings: Settings, store: Store, watch: Watch, wall: ports.Clock = lambda: datetime.now(UTC)
) -> AsyncIterator[World]:
    """The systems that the settings name. Nothing is asked of them yet."""
    tenant, stack = settings.auth0, settings.foundry
    now = clock(wall, time.monotonic)
    place = foundry.Place(stack.host, stack.dataset_rid, stack.branch)
    client = foundry.Credentials(stack.oauth_token_url, stack.client_id, stack.client_secret)
    chance = Chance(time.monotonic, random.SystemRandom().random)
    async with (
        auth0.connected(tenant.issuer, tenant.audience, now, time.monotonic, watch) as identities,
        foundry.connected(
            place,
            client,
            stack.uploads_at_once,
            stack.call_seconds,
            watch,
            chance.elapsed,
            chance.random,
        ) as branch,
    ):
        yield World(identities, store, branch, now, chance, compute, watch)


def clock(wall: ports.Clock, elapsed: Callable[[], float]) -> ports.Clock:
    """Wall time that never goes back: corrections are taken when they go forward."""
    start, began = wall(), elapsed()

    def now() -> datetime:
        nonlocal start
        passed = timedelta(seconds=elapsed() - began)
        start = max(start, wall() - passed)
        return start + passed

    return now


async def compute(bytes: int, work: Callable[[*Ts], T], /, *args: *Ts) -> T:
    """What is quick, here; what is not, in a thread, so that the loop turns meanwhile."""
    if bytes <= INLINE_BYTES_MAX:
        return work(*args)
    return await anyio.to_thread.run_sync(work, *args)

"""All that is not ours to decide: systems, time, chance, processors, who wants to know."""

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from atlas.actors.upload import Chance
from atlas.computing import Computing
from atlas.core import ports
from atlas.core.events import Watch
from atlas.outside import auth0, foundry, network
from atlas.service import machine
from atlas.service.readers import Readers
from atlas.service.store import Store
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class World:
    """What a service runs in."""

    identities: ports.Identities
    store: Store
    branch: ports.Branch
    now: ports.Clock
    chance: Chance
    compute: ports.Compute
    readers: Readers

    @property
    def watch(self) -> Watch:
        return self.readers.watch


@asynccontextmanager
async def connected(
    settings: Settings,
    store: Store,
    readers: Readers,
    wall: ports.Clock = lambda: datetime.now(UTC),
) -> AsyncIterator[World]:
    """The systems that the settings name. Nothing is asked of them yet."""
    tenant, stack, watch = settings.auth0, settings.foundry, readers.watch
    transport = transport_of(settings)
    now = clock(wall, time.monotonic)
    place = foundry.Target(stack.host, stack.dataset_rid, stack.branch, transport)
    client = foundry.Credentials(stack.oauth_token_url, stack.client_id, stack.client_secret)
    chance = Chance(time.monotonic, random.Random().random)  # noqa: S311 - only spreads retries
    async with (
        auth0.connected(
            tenant.issuer, tenant.audience, now, time.monotonic, watch, transport
        ) as identities,
        foundry.open_dataset(
            place,
            client,
            foundry.CallLimits(
                stack.uploads_at_once, stack.requests_per_minute, stack.call_seconds
            ),
            watch,
            now,
            chance.elapsed,
            chance.random,
        ) as branch,
    ):
        asked = settings.export.workers
        computing = Computing(asked if asked >= 0 else machine.here().workers())
        yield World(identities, store, branch, now, chance, computing, readers)


def transport_of(settings: Settings) -> network.Transport:
    return network.Transport(settings.network.ca_bundle, settings.network.use_proxy)


def clock(wall: ports.Clock, elapsed: Callable[[], float]) -> ports.Clock:
    """Wall time that never goes back: corrections are taken when they go forward."""
    latest, seen_at, is_behind = wall(), elapsed(), False

    def now() -> datetime:
        nonlocal latest, seen_at, is_behind
        at, moment = wall(), elapsed()
        if is_behind or at < latest:  # set back: go on by the other clock
            ours = latest + timedelta(seconds=moment - seen_at)
            is_behind = at < ours
            if is_behind:
                return ours
        latest, seen_at = at, moment
        return at

    return now

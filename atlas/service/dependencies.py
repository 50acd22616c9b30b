"""External dependencies: Foundry, Auth0, journal, clock, randomness, CPU workers, event sink."""

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from atlas.actors.upload import Timing
from atlas.computing import WorkerExecutor
from atlas.core import ports
from atlas.core.events import EventSink
from atlas.outside import auth0, foundry, network
from atlas.service import cgroup
from atlas.service.store import JournalPorts
from atlas.service.subscribers import EventSubscribers, utc_now
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The external dependencies of a service."""

    identities: ports.Identities
    store: JournalPorts
    branch: ports.Branch
    clock: ports.Clock
    timing: Timing
    compute: ports.CpuExecutor
    subscribers: EventSubscribers

    @property
    def emit(self) -> EventSink:
        return self.subscribers.publish


@asynccontextmanager
async def open_dependencies(
    settings: Settings,
    store: JournalPorts,
    subscribers: EventSubscribers,
    wall_clock: ports.Clock = utc_now,
) -> AsyncIterator[Dependencies]:
    """Open the systems named by the settings. No request is sent yet."""
    tenant, emit, transport = settings.auth0, subscribers.publish, build_transport(settings)
    clock = build_steady_clock(wall_clock, time.monotonic)
    timing = Timing(time.monotonic, random.Random().random)  # noqa: S311 - only spreads retries
    async with (
        auth0.open_identities(
            tenant.issuer, tenant.audience, clock, time.monotonic, emit, transport
        ) as identities,
        foundry.open_dataset(
            build_target(settings),
            build_credentials(settings),
            foundry.CallLimits(
                settings.foundry.uploads_at_once,
                settings.foundry.requests_per_minute,
                settings.foundry.call_seconds,
            ),
            emit,
            clock,
            timing.monotonic,
            timing.random,
        ) as branch,
    ):
        workers = settings.export.workers
        if workers < 0:
            workers = cgroup.detect_limits().count_workers()
        executor = WorkerExecutor(workers)
        yield Dependencies(identities, store, branch, clock, timing, executor, subscribers)


def build_transport(settings: Settings) -> network.Transport:
    return network.Transport(settings.network.ca_bundle, settings.network.use_proxy)


def build_target(settings: Settings) -> foundry.FoundryTarget:
    options = settings.foundry
    transport = build_transport(settings)
    return foundry.FoundryTarget(options.host, options.dataset_rid, options.branch, transport)


def build_credentials(settings: Settings) -> foundry.Credentials:
    options = settings.foundry
    return foundry.Credentials(options.oauth_token_url, options.client_id, options.client_secret)


def build_steady_clock(wall_clock: ports.Clock, monotonic: Callable[[], float]) -> ports.Clock:
    """Build a wall clock that never goes back. Corrections that move it forward take effect."""
    latest, latest_at, is_behind = wall_clock(), monotonic(), False

    def read() -> datetime:
        nonlocal latest, latest_at, is_behind
        now, monotonic_now = wall_clock(), monotonic()
        if is_behind or now < latest:  # set back: continue with the monotonic clock
            continued = latest + timedelta(seconds=monotonic_now - latest_at)
            is_behind = now < continued
            if is_behind:
                return continued
        latest, latest_at = now, monotonic_now
        return now

    return read

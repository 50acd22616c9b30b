"""All that is not ours to decide: systems, time, chance, processors, who wants to know."""

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from atlas.actors.upload import Timing
from atlas.computing import WorkerExecutor
from atlas.core import ports
from atlas.core.events import EventSink
from atlas.outside import auth0, foundry, network
from atlas.service import cgroup
from atlas.service.store import JournalPorts
from atlas.service.subscribers import EventSubscribers
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a service runs in."""

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
    wall_clock: ports.Clock = lambda: datetime.now(UTC),
) -> AsyncIterator[Dependencies]:
    """The systems that the settings name. Nothing is asked of them yet."""
    tenant, foundry_settings, emit = settings.auth0, settings.foundry, subscribers.publish
    transport = build_transport(settings)
    clock = build_steady_clock(wall_clock, time.monotonic)
    target = foundry.FoundryTarget(
        foundry_settings.host, foundry_settings.dataset_rid, foundry_settings.branch, transport
    )
    client = foundry.Credentials(
        foundry_settings.oauth_token_url, foundry_settings.client_id, foundry_settings.client_secret
    )
    timing = Timing(time.monotonic, random.Random().random)  # noqa: S311 - only spreads retries
    async with (
        auth0.open_identities(
            tenant.issuer, tenant.audience, clock, time.monotonic, emit, transport
        ) as identities,
        foundry.open_dataset(
            target,
            client,
            foundry.CallLimits(
                foundry_settings.uploads_at_once,
                foundry_settings.requests_per_minute,
                foundry_settings.call_seconds,
            ),
            emit,
            clock,
            timing.monotonic,
            timing.random,
        ) as branch,
    ):
        requested_workers = settings.export.workers
        executor = WorkerExecutor(
            requested_workers if requested_workers >= 0 else cgroup.detect_limits().count_workers()
        )
        yield Dependencies(identities, store, branch, clock, timing, executor, subscribers)


def build_transport(settings: Settings) -> network.Transport:
    return network.Transport(settings.network.ca_bundle, settings.network.use_proxy)


def build_steady_clock(wall_clock: ports.Clock, monotonic: Callable[[], float]) -> ports.Clock:
    """Wall time that never goes back: corrections are taken when they go forward."""
    latest, seen_at, is_behind = wall_clock(), monotonic(), False

    def read() -> datetime:
        nonlocal latest, seen_at, is_behind
        at, moment = wall_clock(), monotonic()
        if is_behind or at < latest:  # set back: go on by the other clock
            continued = latest + timedelta(seconds=moment - seen_at)
            is_behind = at < continued
            if is_behind:
                return continued
        latest, seen_at = at, moment
        return at

    return read

"""External dependencies: Foundry, Auth0, journal, clock, randomness, CPU workers, event sink."""

import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

from atlas.actors.upload import Timing
from atlas.computing import WorkerExecutor
from atlas.core import ports
from atlas.core.events import EventSink
from atlas.outside import auth0, foundry, network
from atlas.service import cgroup
from atlas.service.subscribers import EventSubscribers, utc_now
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The external dependencies of a service."""

    identities: ports.Identities
    store: ports.JournalPorts
    branch: ports.Branch
    clock: ports.Clock
    timing: Timing
    compute: ports.CpuExecutor
    subscribers: EventSubscribers
    stream: ports.Stream | None = None

    @property
    def emit(self) -> EventSink:
        return self.subscribers.publish


@asynccontextmanager
async def open_dependencies(
    settings: Settings,
    store: ports.JournalPorts,
    subscribers: EventSubscribers,
    wall_clock: ports.Clock = utc_now,
) -> AsyncIterator[Dependencies]:
    """Open the systems named by the settings. No request is sent yet."""
    policy, emit, transport = (
        build_token_policy(settings),
        subscribers.publish,
        build_transport(settings),
    )
    clock = build_steady_clock(wall_clock, time.monotonic)
    timing = Timing(time.monotonic, random.Random().random)  # noqa: S311 - only spreads retries
    async with (
        auth0.open_identities(policy, clock, time.monotonic, emit, transport) as identities,
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
        open_stream(settings, timing, emit) as stream,
    ):
        workers = settings.export.workers
        if workers < 0:
            workers = cgroup.detect_limits().count_workers()
        executor = WorkerExecutor(workers)
        yield Dependencies(identities, store, branch, clock, timing, executor, subscribers, stream)


def open_stream(
    settings: Settings, timing: Timing, emit: EventSink
) -> AbstractAsyncContextManager[ports.Stream | None]:
    """Open the stream beside the dataset, if there is one. No request is sent yet."""
    options = settings.stream
    if not options.rid:
        return nullcontext()
    seconds = settings.foundry.call_seconds
    return foundry.open_stream(
        build_stream_target(settings),
        build_credentials(settings),
        foundry.CallLimits(options.calls_at_once, options.requests_per_minute, seconds),
        emit,
        timing.monotonic,
        timing.random,
    )


def build_transport(settings: Settings) -> network.Transport:
    return network.Transport(settings.network.ca_bundle, settings.network.use_proxy)


def build_token_policy(settings: Settings) -> auth0.TokenPolicy:
    options = settings.auth0
    return auth0.TokenPolicy(
        options.issuers,
        options.audiences,
        options.algorithms,
        options.accept_agents,
        auth0.ProofPolicy(
            options.dpop,
            options.dpop_algorithms,
            options.dpop_seconds,
            build_nonce_keys(settings) if options.dpop_nonce else (),
        ),
    )


def build_nonce_keys(settings: Settings) -> tuple[bytes, ...]:
    """Derive the keys from those of the journal, so that replicas accept each other's nonces."""
    secrets = [key.encode() for key in settings.journal.keys] or [os.urandom(32)]
    return tuple(map(auth0.derive_nonce_key, secrets))


def build_target(settings: Settings) -> foundry.FoundryTarget:
    options = settings.foundry
    transport = build_transport(settings)
    return foundry.FoundryTarget(options.host, options.dataset_rid, options.branch, transport)


def build_stream_target(settings: Settings) -> foundry.FoundryTarget:
    options, transport = settings.stream, build_transport(settings)
    return foundry.FoundryTarget(settings.foundry.host, options.rid, options.branch, transport)


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

"""Puts the rooms together. The only file that knows them all."""

import random
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TextIO, TypeVar, TypeVarTuple

import anyio
from starlette.types import ASGIApp

from atlas import __version__
from atlas.actors.authenticate import Authenticate
from atlas.actors.decode import Decode
from atlas.actors.flatten import Flatten
from atlas.actors.journal import Journal
from atlas.actors.quarantine import Quarantine, Replay
from atlas.actors.upload import Chance, Pace, Upload
from atlas.core import ports
from atlas.core.errors import Draining, Unavailable
from atlas.core.events import ActorCrashed, DrainEnded, DrainStarted, Watch
from atlas.core.messages import Receipt
from atlas.edge import openapi
from atlas.edge.app import Errors, public
from atlas.edge.exports import Exports, Terms
from atlas.edge.health import Health
from atlas.edge.operator import Operator
from atlas.edge.refusals import Refusals
from atlas.outside import auth0, foundry, log
from atlas.outside.sqlite import journal, keys
from atlas.outside.sqlite.room import Bounds
from atlas.outside.sqlite.shelf import Shelf
from atlas.runtime import Bell, OnCrash, Promises, Rescue, Restarts, Stages, supervise
from atlas.settings import Settings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

INLINE_BYTES_MAX = 128 * 1024  # flattened in a millisecond; a thread costs a tenth of one


@dataclass(frozen=True, slots=True)
class Store:
    """The parts of a journal."""

    intake: ports.Intake
    receipts: ports.Receipts
    outbox: ports.Outbox
    aside: ports.Aside
    ledger: ports.Ledger
    is_durable: bool


@dataclass(frozen=True, slots=True)
class World:
    """All that is not ours to decide: systems, time, chance, processors, who wants to know."""

    identities: ports.Identities
    store: Store
    branch: ports.Branch
    now: ports.Clock
    chance: Chance
    compute: ports.Compute
    watch: Watch


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: what its two listeners serve, and how it is told to end."""

    public: ASGIApp
    operator: ASGIApp
    drain: Callable[[], None]


class Drain:
    """Ending, in this order: nothing new, whoever waits is told, the uploader finishes."""

    def __init__(self, promises: Promises[Receipt], bell: Bell, watch: Watch) -> None:
        self.has_begun = False
        self._promises = promises
        self._bell = bell
        self._watch = watch

    def begin(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._watch(DrainStarted())
            self._promises.call_off()
            self._bell.take_down()

    async def check(self) -> None:
        if self.has_begun:
            raise Draining


@contextmanager
def opened(settings: Settings, stderr: TextIO) -> Iterator[tuple[Store, Watch]]:
    """The journal, and the log of what happens. Raises JournalHeld, CannotStart.

    To be entered before an event loop runs: it may wait for a predecessor to end.
    """
    with held(settings, wait_seconds=journal.HELD_SECONDS) as found:
        store = stored(found)
        stream = log.logger(stderr, settings.log.level)
        rid, shows_users = settings.foundry.dataset_rid, settings.log.user_ids
        watch = log.Log(stream, rid, found.log_key, shows_users).watch
        found.news.listen(watch)
        yield store, watch


def stored(found: journal.SqliteJournal) -> Store:
    return Store(
        found.intake, found.receipts, found.outbox, found.aside, found.ledger, found.is_durable
    )


@contextmanager
def unheld(settings: Settings) -> Iterator[Store]:
    """A journal that nobody serves just now. Raises JournalHeld, CannotStart."""
    with held(settings, wait_seconds=0) as found:
        yield stored(found)


def abandon(settings: Settings) -> int:
    """Give up all that was sealed with a key that is lost; how many exports that is.

    Raises JournalHeld, CannotStart when there is nothing that this key does not open.
    """
    sealed_with = [keys.key(text) for text in settings.journal.keys]
    return journal.abandon(settings.journal.path, sealed_with)


def held(settings: Settings, wait_seconds: float) -> AbstractContextManager[journal.SqliteJournal]:
    kept = settings.journal
    bounds = Bounds(kept.bytes_max, kept.exports_max, kept.free_bytes_min)
    sealed_with = [keys.key(text) for text in kept.keys]
    shelf = Shelf(partial(datetime.now, UTC), kept.receipts_days, kept.receipts_max)
    owner = settings.operator.listen
    return journal.opened(kept.path, bounds, sealed_with, owner, wait_seconds, shelf)


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


@asynccontextmanager
async def serving(world: World, settings: Settings) -> AsyncIterator[Service]:
    """The running service. Leaving drains the flow, stage after stage, and then the uploader.

    Whoever waits for a receipt is told at once that the export is safe. The rest takes at most
    `drain_seconds`; what is left then is settled after the next start.
    """
    store, now, compute, watch = world.store, world.now, world.compute, world.watch
    promises, bell = Promises[Receipt](), Bell()
    drain, on_crash = Drain(promises, bell, watch), told(watch)
    uploader = Upload(world.branch, store.outbox, promises, pace(settings), world.chance, watch)
    limits, scope = settings.export, settings.auth0.required_scope

    async with anyio.create_task_group() as uploads:
        restarts = Restarts()
        run = partial(uploader.run, bell, restarts)
        uploads.start_soon(supervise, "Upload", run, restarts, on_crash)
        async with anyio.create_task_group() as tasks:
            stages = Stages(tasks, on_crash)
            quarantine = Quarantine(store.aside, promises, now, watch)
            await quarantine.remember()
            keeper = stages.spawn_last(quarantine)
            rescue = Rescue(keeper, quarantine.knows)
            journaler = stages.spawn_last(Journal(store.intake, promises, bell, watch), at_once=64)
            flattener = stages.spawn(Flatten(compute, now), journaler, rescue=rescue, at_once=2)
            decode = Decode(compute, limits.bytes_max, limits.lines_max, watch)
            decoder = stages.spawn(decode, flattener, rescue=rescue, at_once=2)
            doorkeeper = stages.spawn_last(Authenticate(world.identities, scope), at_once=16)
            tasks.start_soon(warm, world.identities)
            async with keeper.stream, doorkeeper.stream, decoder.stream:
                refusals = Refusals(now, world.chance.random, watch)
                exports = Exports(
                    users=doorkeeper,
                    exports=decoder,
                    receipts=store.receipts,
                    terms=terms(settings, is_durable=store.is_durable),
                    refusals=refusals,
                    now=now,
                    watch=watch,
                    is_draining=lambda: drain.has_begun,
                )
                errors = Errors(refusals, on_crash)
                replay = Replay(quarantine, decoder, flattener, bell.ring)
                yield Service(
                    public=listener(exports, errors, world, drain, settings),
                    operator=operator(store, replay, settings),
                    drain=drain.begin,
                )
                drain.begin()
            drain_seconds = settings.foundry.drain_seconds
            uploads.cancel_scope.deadline = anyio.current_time() + drain_seconds
    watch(DrainEnded(await store.outbox.waiting()))


def listener(
    exports: Exports, errors: Errors, world: World, drain: Drain, settings: Settings
) -> ASGIApp:
    checks = {
        "journal": world.store.ledger.ready,
        "keys": world.identities.ready,
        "draining": drain.check,
    }
    health = Health(checks, __version__, world.now)
    routes = [*exports.routes(), *health.routes(), openapi.route(__version__)]
    return public(list(routes), errors, settings.edge.cors_origins)


def operator(store: Store, replay: Replay, settings: Settings) -> ASGIApp:
    hosts = frozenset({"localhost", "127.0.0.1", "::1", settings.operator.address[0]})
    return Operator(store.ledger, store.aside, replay, settings.operator.token, hosts).app()


def pace(settings: Settings) -> Pace:
    foundry = settings.foundry
    return Pace(
        group=foundry.group,
        interval_seconds=foundry.commit_interval_seconds,
        uploads_at_once=foundry.uploads_at_once,
        is_sole_writer=foundry.sole_writer,
    )


def terms(settings: Settings, *, is_durable: bool) -> Terms:
    edge = settings.edge
    return Terms(
        dataset_rid=settings.foundry.dataset_rid,
        reply_seconds=edge.reply_seconds,
        body_bytes_max=edge.body_bytes_max,
        chunks_max=edge.chunks_max,
        is_durable=is_durable,
    )


def told(watch: Watch) -> OnCrash:
    """A crash as an event: where it happened, without the values, which may be somebody's data."""

    def tell(actor: str, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        where = tuple(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
        watch(ActorCrashed(actor, type(error).__name__, where))

    return tell


async def warm(identities: ports.Identities) -> None:
    """The first sender should not wait for the keys."""
    with suppress(Unavailable):
        await identities.ready()


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

"""Starts the actors, and ends them in order."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import anyio
from starlette.types import ASGIApp

from atlas import __version__
from atlas.actors.authenticate import Authenticate
from atlas.actors.decode import Decode
from atlas.actors.flatten import Flatten
from atlas.actors.journal import Journal
from atlas.actors.quarantine import Quarantine, Replay
from atlas.actors.upload import (
    NDJSON,
    BranchMaintenance,
    FilePolicy,
    Format,
    PersonalData,
    Publisher,
    SharedFiles,
    Uploader,
    UploadPolicy,
)
from atlas.core import ports
from atlas.core.errors import BadSetting, Unavailable
from atlas.core.events import (
    DrainEnded,
    ParquetOfEach,
    ServiceStarted,
    StageWorked,
    Watch,
    crash_of,
)
from atlas.core.messages import Receipt
from atlas.edge.operator import GaugeReader, Live, OperatorServices
from atlas.outside.sqlite.packing import pack, unpack_into
from atlas.runtime import (
    CompletionRegistry,
    DeadLetterRoute,
    Lock,
    OnCrash,
    RestartBudget,
    StageObserver,
    Stages,
    Wakeup,
    supervise,
)
from atlas.service.diagnosing import Diagnosing
from atlas.service.drain import Drain
from atlas.service.listeners import Actors, admission_of, listener, operator
from atlas.service.world import World
from atlas.settings import Settings

FLATTEN_AT_ONCE = 5  # one more than there may be workers


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: the applications of its two listeners, and its shutdown."""

    public: ASGIApp
    operator: ASGIApp
    drain: Callable[[], None]
    maintenance: ports.MaintenanceTasks


@asynccontextmanager
async def serving(world: World, settings: Settings) -> AsyncIterator[Service]:
    """Run the service. Leaving drains the flow, stage after stage, and then the uploader.

    Requests that wait for a commit are answered at once that the export is safe. The rest takes at
    most `drain_seconds`; what is left then is recovered after the next start.
    """
    store, now, compute, watch = world.store, world.now, world.compute, world.watch
    completions, wakeup = CompletionRegistry[Receipt](), Wakeup()
    admission, on_crash = admission_of(settings, world.chance.elapsed), crash_reporter(watch)
    drain = Drain(completions, admission.quota, wakeup, watch)
    if settings.foundry.file_format == "parquet" and settings.foundry.file_layout == "per-export":
        watch(ParquetOfEach())
    uploader = uploader_of(world, settings, completions)
    maintenance = BranchMaintenance(uploader, wakeup)
    limits, scope = settings.export, settings.auth0.required_scope

    async with anyio.create_task_group() as uploads:
        restarts = RestartBudget()
        run = partial(uploader.run, wakeup, restarts)
        uploads.start_soon(supervise, "upload", run, restarts, on_crash)
        async with anyio.create_task_group() as tasks:
            stages = Stages(tasks, on_crash, work_reporter(watch))
            quarantine = Quarantine(store.aside, completions, now, watch)
            await quarantine.remember()
            quarantine_address = stages.start_sink(quarantine)
            rescue = DeadLetterRoute(quarantine_address, quarantine.contains)
            journal = Journal(store.intake, completions, wakeup, watch)
            journaler = stages.start_sink(journal, concurrency=64)
            flatten = Flatten(compute, pack, now, watch)
            flattener = stages.start_stage(
                flatten, journaler, rescue=rescue, concurrency=FLATTEN_AT_ONCE
            )
            decode = Decode(compute, limits.bytes_max, limits.lines_max, watch)
            decoder = stages.start_stage(decode, flattener, rescue=rescue, concurrency=2)
            doorkeeper = stages.start_sink(Authenticate(world.identities, scope), concurrency=16)
            tasks.start_soon(prefetch_keys, world.identities)
            async with quarantine_address.channel, doorkeeper.channel, decoder.channel:
                actors = Actors(doorkeeper, decoder, journal.recall)
                status, alone = world.readers.status, Lock()
                gauges = GaugeReader(store.ledger, stages.queues, drain.has_begun, admission.load)
                live = Live(status, gauges)
                diagnosing = Diagnosing(settings, store.checkup, maintenance, status, now)
                people = people_of(world, settings, maintenance, completions, quarantine, alone)
                replay = Replay(quarantine, decoder, flattener, wakeup.notify, alone)
                orders = OperatorServices(store.ledger, store.aside, replay, people, diagnosing)
                watch(started(settings))
                async with live.ticking(on_crash):
                    yield Service(
                        public=listener(actors, admission, world, drain, settings, on_crash),
                        operator=operator(orders, live, world, settings),
                        drain=drain.begin,
                        maintenance=maintenance,
                    )
                    drain.begin()
            drain_seconds = settings.foundry.drain_seconds
            uploads.cancel_scope.deadline = anyio.current_time() + drain_seconds
    backlog = await store.outbox.backlog(settings.foundry.group)
    watch(DrainEnded(backlog.waiting))


def started(settings: Settings) -> ServiceStarted:
    return ServiceStarted(__version__, settings.foundry.dataset_rid, settings.foundry.branch)


def uploader_of(
    world: World, settings: Settings, completions: CompletionRegistry[Receipt]
) -> Uploader:
    return Uploader(
        branch=world.branch,
        outbox=world.store.outbox,
        publisher=Publisher(completions, world.now, world.watch),
        policy=upload_policy(settings),
        file_policy=file_policy(settings),
        compute=world.compute,
        chance=world.chance,
        watch=world.watch,
    )


def people_of(
    world: World,
    settings: Settings,
    maintenance: BranchMaintenance,
    completions: CompletionRegistry[Receipt],
    quarantine: Quarantine,
    alone: Lock,
) -> PersonalData:
    return PersonalData(
        journal=world.store.people,
        folders=world.branch,
        shared_files=shared_files_of(world, settings),
        maintenance=maintenance,
        completions=completions,
        leave=quarantine.known.difference_update,
        alone=alone,
        now=world.now,
        watch=world.watch,
    )


def shared_files_of(world: World, settings: Settings) -> SharedFiles:
    return SharedFiles(world.branch, world.store.outbox, file_policy(settings), world.compute)


def maintenance_alone(world: World, settings: Settings) -> BranchMaintenance:
    """Maintenance for one command, where no flow runs."""
    return BranchMaintenance(uploader_of(world, settings, CompletionRegistry[Receipt]()), Wakeup())


def upload_policy(settings: Settings) -> UploadPolicy:
    foundry = settings.foundry
    return UploadPolicy(
        group=foundry.group,
        interval_seconds=foundry.commit_interval_seconds,
        uploads_at_once=foundry.uploads_at_once,
        is_sole_writer=foundry.sole_writer,
    )


def file_policy(settings: Settings) -> FilePolicy:
    """Raises BadSetting when a format needs a package that is not installed."""
    foundry = settings.foundry
    layout, wave = foundry.file_layout, foundry.uploads_at_once
    has_parquet = find_spec("pyarrow") is not None
    readable = {PARQUET.name: PARQUET} if has_parquet else {}
    if foundry.file_format == "ndjson":
        return FilePolicy(unpack_into, layout, NDJSON, wave, readable)
    try:
        import_module("atlas.outside.parquet")
    except ImportError as error:
        raise BadSetting(
            "ATLAS_FILE_FORMAT=parquet needs pyarrow: pip install 'atlas-healthkit[parquet]'."
        ) from error
    return FilePolicy(unpack_into, layout, PARQUET, wave, readable)


def write_parquet(ndjson: ports.Bytes) -> ports.Bytes:
    from atlas.outside import parquet  # noqa: PLC0415 - 60 MiB, only where there is any Parquet

    return parquet.written(ndjson)


def read_parquet(file: ports.Bytes) -> ports.Bytes:
    from atlas.outside import parquet  # noqa: PLC0415

    return parquet.read(file)


PARQUET = Format("parquet", write_parquet, read_parquet)


def crash_reporter(watch: Watch) -> OnCrash:
    """Build a callback that emits a crash as an event."""

    def tell(stage: str, error: Exception) -> None:
        watch(crash_of(stage, error))

    return tell


def work_reporter(watch: Watch) -> StageObserver:
    """Build a callback that emits the work of a stage as an event."""

    def tell(stage: str, message: object, seconds: float) -> None:
        head = getattr(message, "head", None)  # a token has none
        watch(StageWorked(stage, seconds, None if head is None else head.trace))

    return tell


async def prefetch_keys(identities: ports.Identities) -> None:
    """Fetch the keys now, so that the first sender does not wait for them."""
    with suppress(Unavailable):
        await identities.ready()

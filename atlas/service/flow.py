"""Starts the actors, and stops them in the order of the data."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import anyio
from starlette.types import ASGIApp

from atlas import __version__
from atlas.actors.authenticate import Authenticate
from atlas.actors.decode import Decode
from atlas.actors.flatten import Flatten
from atlas.actors.journal import Journal
from atlas.actors.quarantine import Quarantine, Replayer
from atlas.actors.upload import BranchMaintenance
from atlas.core import ports
from atlas.core.errors import Unavailable
from atlas.core.events import (
    DrainEnded,
    EventSink,
    ParquetPerExport,
    ServiceStarted,
    StageCompleted,
    build_crash_event,
)
from atlas.core.messages import Receipt
from atlas.edge.operator import GaugeReader, OperatorServices, StatusStream
from atlas.outside.sqlite.compression import compress
from atlas.runtime import (
    CompletionRegistry,
    DeadLetterRoute,
    Lock,
    OnCrash,
    QueueLoad,
    RestartBudget,
    StageObserver,
    Stages,
    Wakeup,
    supervise,
)
from atlas.service.dependencies import Dependencies
from atlas.service.diagnosis import DiagnosisService
from atlas.service.listeners import (
    FlowAddresses,
    build_admission,
    build_operator_app,
    build_public_app,
)
from atlas.service.shutdown import Shutdown
from atlas.service.uploads import build_personal_data, build_uploader
from atlas.settings import Settings

FLATTEN_AT_ONCE = 5  # WORKERS_MAX + 1, so that no worker is idle


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: the applications of its two listeners, and the start of its shutdown."""

    public: ASGIApp
    operator: ASGIApp
    drain: Callable[[], None]
    maintenance: ports.MaintenanceTasks


@dataclass(frozen=True, slots=True)
class RunningStages:
    """The stages before the uploader, as the two applications see them."""

    addresses: FlowAddresses
    quarantine: Quarantine
    replayer: Replayer
    measure_queues: Callable[[], Mapping[str, QueueLoad]]


@asynccontextmanager
async def run_service(dependencies: Dependencies, settings: Settings) -> AsyncIterator[Service]:
    """Run the service. On exit, drain the flow stage by stage, then the uploader.

    Requests waiting for a commit are answered immediately: their exports are in the journal. The
    rest takes at most `drain_seconds`; the next start recovers the exports that remain.
    """
    store, emit, status = dependencies.store, dependencies.emit, dependencies.subscribers.status
    completions, wakeup, erasure_lock = CompletionRegistry[Receipt](), Wakeup(), Lock()
    admission = build_admission(settings, dependencies.timing.monotonic)
    shutdown = Shutdown(completions, admission.quota, wakeup, emit)
    on_crash, foundry = build_crash_reporter(emit), settings.foundry
    if foundry.file_format == "parquet" and foundry.file_layout == "per-export":
        emit(ParquetPerExport())
    uploader = build_uploader(dependencies, settings, completions)
    maintenance = BranchMaintenance(uploader, wakeup)
    diagnosis = DiagnosisService(settings, store.inspector, maintenance, status, dependencies.clock)

    async with anyio.create_task_group() as uploads:
        restarts = RestartBudget()
        run = partial(uploader.run, wakeup, restarts)
        uploads.start_soon(supervise, "upload", run, restarts, on_crash)
        async with run_stages(
            dependencies, settings, completions, wakeup, erasure_lock, on_crash
        ) as stages:
            personal_data = build_personal_data(
                dependencies,
                settings,
                maintenance,
                completions,
                erasure_lock,
                discard_ids=stages.quarantine.known.difference_update,
            )
            services = OperatorServices(
                store.ledger, store.dead_letters, stages.replayer, personal_data, diagnosis
            )
            gauges = GaugeReader(
                store.ledger, stages.measure_queues, shutdown.has_begun, admission.measure_load
            )
            live = StatusStream(status, gauges)
            emit(ServiceStarted(__version__, foundry.dataset_rid, foundry.branch))
            async with live.run(on_crash):
                yield Service(
                    public=build_public_app(
                        stages.addresses, admission, dependencies, shutdown, settings, on_crash
                    ),
                    operator=build_operator_app(services, live, dependencies, settings),
                    drain=shutdown.begin,
                    maintenance=maintenance,
                )
                shutdown.begin()
            uploads.cancel_scope.deadline = anyio.current_time() + foundry.drain_seconds
    backlog = await store.outbox.read_backlog(foundry.group)
    emit(DrainEnded(backlog.waiting))


@asynccontextmanager
async def run_stages(
    dependencies: Dependencies,
    settings: Settings,
    completions: CompletionRegistry[Receipt],
    wakeup: Wakeup,
    erasure_lock: Lock,
    on_crash: OnCrash,
) -> AsyncIterator[RunningStages]:
    """Run the stages before the uploader. On exit, each finishes the messages in its queue."""
    store, clock, emit = dependencies.store, dependencies.clock, dependencies.emit
    compute, limits = dependencies.compute, settings.export
    async with anyio.create_task_group() as tasks:
        stages = Stages(tasks, on_crash, build_work_reporter(emit))
        quarantine = Quarantine(store.dead_letters, completions, clock, emit)
        await quarantine.load()
        quarantiner = stages.start_sink(quarantine)
        dead_letters = DeadLetterRoute(quarantiner, quarantine.contains)
        journal = Journal(store.intake, completions, wakeup, emit)
        journaler = stages.start_sink(journal, concurrency=64)
        flattener = stages.start_stage(
            Flatten(compute, compress, clock, emit),
            journaler,
            dead_letter_route=dead_letters,
            concurrency=FLATTEN_AT_ONCE,
        )
        decoder = stages.start_stage(
            Decode(compute, limits.bytes_max, limits.lines_max, emit),
            flattener,
            dead_letter_route=dead_letters,
            concurrency=2,
        )
        authenticator = stages.start_sink(
            Authenticate(dependencies.identities, settings.auth0.required_scope), concurrency=16
        )
        tasks.start_soon(prefetch_keys, dependencies.identities)
        async with quarantiner.channel, authenticator.channel, decoder.channel:
            yield RunningStages(
                FlowAddresses(authenticator, decoder, journal.find_existing),
                quarantine,
                Replayer(quarantine, decoder, flattener, wakeup.notify, erasure_lock),
                stages.measure_queues,
            )


def build_crash_reporter(emit: EventSink) -> OnCrash:
    def report(stage: str, error: Exception) -> None:
        emit(build_crash_event(stage, error))

    return report


def build_work_reporter(emit: EventSink) -> StageObserver:
    def report(stage: str, message: object, seconds: float) -> None:
        head = getattr(message, "head", None)  # absent if the message is a token
        emit(StageCompleted(stage, seconds, None if head is None else head.trace))

    return report


async def prefetch_keys(identities: ports.Identities) -> None:
    """Fetch the signing keys now, so that the first request need not wait for them."""
    with suppress(Unavailable):
        await identities.check_ready()

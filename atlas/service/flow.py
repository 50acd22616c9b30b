"""Starts the actors, and stops them in the order of the data."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import anyio
from starlette.types import ASGIApp

from atlas.actors.authenticate import Authenticate
from atlas.actors.decode import Decode
from atlas.actors.flatten import Flatten
from atlas.actors.journal import Journal
from atlas.actors.publish import StreamPublisher
from atlas.actors.quarantine import Quarantine, Replayer
from atlas.actors.upload import BranchMaintenance, Uploader
from atlas.core import ports
from atlas.core.errors import Unavailable
from atlas.core.events import (
    DrainEnded,
    EventSink,
    ParquetPerExport,
    StageCompleted,
    build_crash_event,
)
from atlas.core.messages import Receipt
from atlas.core.rows import RowForm
from atlas.edge.admission import Admission
from atlas.edge.health import explain_unready
from atlas.edge.operator import GaugeReader, OperatorServices, StatusStream
from atlas.outside.journal.compression import compress
from atlas.replicas import Leader, NotificationHandler, UsageExchange
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
    run_in_background,
    supervise,
)
from atlas.service.dependencies import Dependencies
from atlas.service.diagnosis import DiagnosisService
from atlas.service.listeners import (
    FlowAddresses,
    build_admission,
    build_checks,
    build_operator_app,
    build_public_app,
    build_readiness_checks,
)
from atlas.service.phone_monitor import PhoneMonitor
from atlas.service.shutdown import Shutdown
from atlas.service.start_report import count_waiting, describe_start
from atlas.service.streams import build_publisher, publish_in_background
from atlas.service.uploads import build_personal_data, build_uploader
from atlas.settings import Settings

FLATTEN_AT_ONCE = 5  # WORKERS_MAX + 1, so that no worker is idle


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: the applications of its two listeners, and the start of its shutdown.

    `explain_unready` returns the reason why no export can be accepted now, None if one can.
    """

    public: ASGIApp
    operator: ASGIApp
    drain: Callable[[], None]
    maintenance: ports.MaintenanceTasks
    explain_unready: Callable[[], Awaitable[str | None]]


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
    on_crash, foundry = build_crash_reporter(emit), settings.foundry
    warn_of_layout(settings, emit)
    uploader = build_uploader(dependencies, settings, completions)
    leader = build_leader(dependencies, uploader, wakeup, on_crash)
    publisher = build_publisher(dependencies, settings, lambda: leader.epoch is not None)
    maintenance = BranchMaintenance(uploader, wakeup, leader.hold)
    shutdown = Shutdown(completions, admission.quota, [wakeup.close, leader.close], emit)

    async with anyio.create_task_group() as uploads:
        uploads.start_soon(leader.run)
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
            gauges = build_gauge_reader(dependencies, stages, shutdown, admission, publisher)
            diagnosis = DiagnosisService(
                settings, store.inspector, maintenance, status, gauges, dependencies.clock
            )
            services = OperatorServices(
                store.ledger, store.dead_letters, stages.replayer, personal_data, diagnosis
            )
            live = StatusStream(status, gauges)
            emit(await describe_start(dependencies, settings))
            notifications = NotificationHandler(
                store.peers, completions, stages.quarantine.load, wakeup.notify, leader.wake
            )
            usage = UsageExchange(store.peers, admission.rate_limiter)
            replicas = follow_replicas(notifications, usage, on_crash)
            stream = publish_in_background(publisher, store.stream, on_crash)
            readiness = build_readiness_checks(dependencies, shutdown)
            phones = watch_phones(dependencies, settings, on_crash)
            async with live.run(on_crash), replicas, stream, phones:
                yield Service(
                    public=build_public_app(
                        stages.addresses, admission, dependencies, shutdown, settings, on_crash
                    ),
                    operator=build_operator_app(services, live, dependencies, settings),
                    drain=shutdown.begin,
                    maintenance=maintenance,
                    explain_unready=partial(explain_unready, readiness, on_crash),
                )
                shutdown.begin()
            uploads.cancel_scope.deadline = anyio.current_time() + foundry.drain_seconds
    emit(DrainEnded(await count_waiting(store.outbox, foundry.group)))


def warn_of_layout(settings: Settings, emit: EventSink) -> None:
    """Warn if Parquet files have one export each, which saves little space."""
    foundry = settings.foundry
    if foundry.file_format == "parquet" and foundry.file_layout == "per-export":
        emit(ParquetPerExport())


def build_gauge_reader(
    dependencies: Dependencies,
    stages: RunningStages,
    shutdown: Shutdown,
    admission: Admission,
    publisher: StreamPublisher | None,
) -> GaugeReader:
    return GaugeReader(
        dependencies.store.ledger,
        stages.measure_queues,
        shutdown.has_begun,
        admission.measure_load,
        build_checks(dependencies),
        None if publisher is None else publisher.measure_lag,
    )


def build_leader(
    dependencies: Dependencies, uploader: Uploader, wakeup: Wakeup, on_crash: OnCrash
) -> Leader:
    """Build the leader, which runs the uploader and restarts it after a crash."""
    restarts = RestartBudget()
    run = partial(supervise, "upload", partial(uploader.run, wakeup, restarts), restarts, on_crash)
    timing = dependencies.timing
    return Leader(dependencies.store.leadership, uploader, run, timing.monotonic, dependencies.emit)


@asynccontextmanager
async def follow_replicas(
    notifications: NotificationHandler, usage: UsageExchange, on_crash: OnCrash
) -> AsyncIterator[None]:
    """Handle the notifications of other replicas, and exchange the usage of users with them."""
    follow = partial(supervise, "notifications", notifications.run, RestartBudget(), on_crash)
    exchange = partial(supervise, "usage", usage.run, RestartBudget(), on_crash)
    async with run_in_background(follow), run_in_background(exchange):
        yield


@asynccontextmanager
async def watch_phones(
    dependencies: Dependencies, settings: Settings, on_crash: OnCrash
) -> AsyncIterator[None]:
    """Count the phones every minute."""
    monitor = PhoneMonitor(
        dependencies.store.phones,
        dependencies.clock,
        settings.operator.quiet_days,
        settings.journal.phones_max,
        dependencies.emit,
    )
    async with run_in_background(
        partial(supervise, "phones", monitor.run, RestartBudget(), on_crash)
    ):
        yield


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
            Flatten(compute, compress, clock, emit, RowForm(limits.columns, limits.whole_numbers)),
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

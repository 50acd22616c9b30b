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
from atlas.actors.quarantine import Quarantine, Replayer
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
from atlas.core.errors import ConfigurationError, Unavailable
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
from atlas.outside.sqlite.compression import compress, decompress_into
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
from atlas.service.dependencies import Dependencies
from atlas.service.diagnosis import DiagnosisService
from atlas.service.listeners import (
    FlowAddresses,
    build_admission,
    build_operator_app,
    build_public_app,
)
from atlas.service.shutdown import Shutdown
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
async def run_service(dependencies: Dependencies, settings: Settings) -> AsyncIterator[Service]:
    """Run the service. Leaving drains the flow, stage after stage, and then the uploader.

    Requests that wait for a commit are answered at once that the export is safe. The rest takes at
    most `drain_seconds`; what is left then is recovered after the next start.
    """
    store, clock, compute, emit = (
        dependencies.store,
        dependencies.clock,
        dependencies.compute,
        dependencies.emit,
    )
    completions, wakeup = CompletionRegistry[Receipt](), Wakeup()
    admission, on_crash = (
        build_admission(settings, dependencies.timing.monotonic),
        build_crash_reporter(emit),
    )
    shutdown = Shutdown(completions, admission.quota, wakeup, emit)
    if settings.foundry.file_format == "parquet" and settings.foundry.file_layout == "per-export":
        emit(ParquetPerExport())
    uploader = build_uploader(dependencies, settings, completions)
    maintenance = BranchMaintenance(uploader, wakeup)
    limits, scope = settings.export, settings.auth0.required_scope

    async with anyio.create_task_group() as uploads:
        restarts = RestartBudget()
        run = partial(uploader.run, wakeup, restarts)
        uploads.start_soon(supervise, "upload", run, restarts, on_crash)
        async with anyio.create_task_group() as tasks:
            stages = Stages(tasks, on_crash, build_work_reporter(emit))
            quarantine = Quarantine(store.dead_letters, completions, clock, emit)
            await quarantine.load()
            quarantine_address = stages.start_sink(quarantine)
            dead_letter_route = DeadLetterRoute(quarantine_address, quarantine.contains)
            journal = Journal(store.intake, completions, wakeup, emit)
            journaler = stages.start_sink(journal, concurrency=64)
            flatten = Flatten(compute, compress, clock, emit)
            flattener = stages.start_stage(
                flatten, journaler, dead_letter_route=dead_letter_route, concurrency=FLATTEN_AT_ONCE
            )
            decode = Decode(compute, limits.bytes_max, limits.lines_max, emit)
            decoder = stages.start_stage(
                decode, flattener, dead_letter_route=dead_letter_route, concurrency=2
            )
            authenticator = stages.start_sink(
                Authenticate(dependencies.identities, scope), concurrency=16
            )
            tasks.start_soon(prefetch_keys, dependencies.identities)
            async with quarantine_address.channel, authenticator.channel, decoder.channel:
                addresses = FlowAddresses(authenticator, decoder, journal.find_existing)
                status, erasure_lock = dependencies.subscribers.status, Lock()
                gauges = GaugeReader(
                    store.ledger, stages.measure_queues, shutdown.has_begun, admission.measure_load
                )
                live = StatusStream(status, gauges)
                diagnosis = DiagnosisService(settings, store.inspector, maintenance, status, clock)
                personal_data = build_personal_data(
                    dependencies, settings, maintenance, completions, quarantine, erasure_lock
                )
                replayer = Replayer(quarantine, decoder, flattener, wakeup.notify, erasure_lock)
                services = OperatorServices(
                    store.ledger, store.dead_letters, replayer, personal_data, diagnosis
                )
                emit(build_start_event(settings))
                async with live.run(on_crash):
                    yield Service(
                        public=build_public_app(
                            addresses, admission, dependencies, shutdown, settings, on_crash
                        ),
                        operator=build_operator_app(services, live, dependencies, settings),
                        drain=shutdown.begin,
                        maintenance=maintenance,
                    )
                    shutdown.begin()
            drain_seconds = settings.foundry.drain_seconds
            uploads.cancel_scope.deadline = anyio.current_time() + drain_seconds
    backlog = await store.outbox.read_backlog(settings.foundry.group)
    emit(DrainEnded(backlog.waiting))


def build_start_event(settings: Settings) -> ServiceStarted:
    return ServiceStarted(__version__, settings.foundry.dataset_rid, settings.foundry.branch)


def build_uploader(
    dependencies: Dependencies, settings: Settings, completions: CompletionRegistry[Receipt]
) -> Uploader:
    return Uploader(
        branch=dependencies.branch,
        outbox=dependencies.store.outbox,
        publisher=Publisher(completions, dependencies.clock, dependencies.emit),
        policy=build_upload_policy(settings),
        file_policy=build_file_policy(settings),
        compute=dependencies.compute,
        timing=dependencies.timing,
        emit=dependencies.emit,
    )


def build_personal_data(
    dependencies: Dependencies,
    settings: Settings,
    maintenance: BranchMaintenance,
    completions: CompletionRegistry[Receipt],
    quarantine: Quarantine,
    replay_lock: Lock,
) -> PersonalData:
    return PersonalData(
        journal=dependencies.store.personal_data,
        listing=dependencies.branch,
        shared_files=build_shared_files(dependencies, settings),
        maintenance=maintenance,
        completions=completions,
        discard_ids=quarantine.known.difference_update,
        replay_lock=replay_lock,
        clock=dependencies.clock,
        emit=dependencies.emit,
    )


def build_shared_files(dependencies: Dependencies, settings: Settings) -> SharedFiles:
    return SharedFiles(
        dependencies.branch,
        dependencies.store.outbox,
        build_file_policy(settings),
        dependencies.compute,
    )


def build_offline_maintenance(dependencies: Dependencies, settings: Settings) -> BranchMaintenance:
    """Maintenance for one command, where no flow runs."""
    return BranchMaintenance(
        build_uploader(dependencies, settings, CompletionRegistry[Receipt]()), Wakeup()
    )


def build_upload_policy(settings: Settings) -> UploadPolicy:
    foundry = settings.foundry
    return UploadPolicy(
        group=foundry.group,
        interval_seconds=foundry.commit_interval_seconds,
        uploads_at_once=foundry.uploads_at_once,
        is_sole_writer=foundry.sole_writer,
    )


def build_file_policy(settings: Settings) -> FilePolicy:
    """Raises ConfigurationError when a format needs a package that is not installed."""
    foundry = settings.foundry
    layout, wave = foundry.file_layout, foundry.uploads_at_once
    has_parquet = find_spec("pyarrow") is not None
    readable = {PARQUET.name: PARQUET} if has_parquet else {}
    if foundry.file_format == "ndjson":
        return FilePolicy(decompress_into, layout, NDJSON, wave, readable)
    try:
        import_module("atlas.outside.parquet")
    except ImportError as error:
        raise ConfigurationError(
            "ATLAS_FILE_FORMAT=parquet needs pyarrow: pip install 'atlas-healthkit[parquet]'."
        ) from error
    return FilePolicy(decompress_into, layout, PARQUET, wave, readable)


def write_parquet(ndjson: ports.Bytes) -> ports.Bytes:
    from atlas.outside import parquet  # noqa: PLC0415 - 60 MiB, only where there is any Parquet

    return parquet.to_parquet(ndjson)


def read_parquet(file: ports.Bytes) -> ports.Bytes:
    from atlas.outside import parquet  # noqa: PLC0415

    return parquet.to_ndjson(file)


PARQUET = Format("parquet", write_parquet, read_parquet)


def build_crash_reporter(emit: EventSink) -> OnCrash:
    """Build a callback that emits a crash as an event."""

    def report(stage: str, error: Exception) -> None:
        emit(build_crash_event(stage, error))

    return report


def build_work_reporter(emit: EventSink) -> StageObserver:
    """Build a callback that emits the work of a stage as an event."""

    def report(stage: str, message: object, seconds: float) -> None:
        head = getattr(message, "head", None)  # a token has none
        emit(StageCompleted(stage, seconds, None if head is None else head.trace))

    return report


async def prefetch_keys(identities: ports.Identities) -> None:
    """Fetch the keys now, so that the first sender does not wait for them."""
    with suppress(Unavailable):
        await identities.check_ready()

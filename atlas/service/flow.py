"""Starts the actors, and stops them in the order of the data."""

from collections.abc import AsyncIterator, Callable, Collection
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

FLATTEN_AT_ONCE = 5  # WORKERS_MAX + 1, so that no worker is idle


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: the applications of its two listeners, and the start of its shutdown."""

    public: ASGIApp
    operator: ASGIApp
    drain: Callable[[], None]
    maintenance: ports.MaintenanceTasks


@asynccontextmanager
async def run_service(dependencies: Dependencies, settings: Settings) -> AsyncIterator[Service]:
    """Run the service. On exit, drain the flow stage by stage, then the uploader.

    Requests waiting for a commit are answered immediately: their exports are in the journal. The
    uploader gets at most `drain_seconds`; the next start recovers the remaining exports.
    """
    store, clock, emit = dependencies.store, dependencies.clock, dependencies.emit
    completions, wakeup = CompletionRegistry[Receipt](), Wakeup()
    admission = build_admission(settings, dependencies.timing.monotonic)
    on_crash = build_crash_reporter(emit)
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
            flatten = Flatten(dependencies.compute, compress, clock, emit)
            flattener = stages.start_stage(
                flatten, journaler, dead_letter_route=dead_letter_route, concurrency=FLATTEN_AT_ONCE
            )
            decode = Decode(dependencies.compute, limits.bytes_max, limits.lines_max, emit)
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
                    dependencies,
                    settings,
                    maintenance,
                    completions,
                    erasure_lock,
                    discard_ids=quarantine.known.difference_update,
                )
                replayer = Replayer(quarantine, decoder, flattener, wakeup.notify, erasure_lock)
                services = OperatorServices(
                    store.ledger, store.dead_letters, replayer, personal_data, diagnosis
                )
                foundry = settings.foundry
                emit(ServiceStarted(__version__, foundry.dataset_rid, foundry.branch))
                async with live.ticking(on_crash):
                    yield Service(
                        public=build_public_app(
                            addresses, admission, dependencies, shutdown, settings, on_crash
                        ),
                        operator=build_operator_app(services, live, dependencies, settings),
                        drain=shutdown.begin,
                        maintenance=maintenance,
                    )
                    shutdown.begin()
            uploads.cancel_scope.deadline = anyio.current_time() + settings.foundry.drain_seconds
    backlog = await store.outbox.read_backlog(settings.foundry.group)
    emit(DrainEnded(backlog.waiting))


def build_uploader(
    dependencies: Dependencies, settings: Settings, completions: CompletionRegistry[Receipt]
) -> Uploader:
    foundry = settings.foundry
    return Uploader(
        branch=dependencies.branch,
        outbox=dependencies.store.outbox,
        publisher=Publisher(completions, dependencies.clock, dependencies.emit),
        policy=UploadPolicy(
            group=foundry.group,
            interval_seconds=foundry.commit_interval_seconds,
            uploads_at_once=foundry.uploads_at_once,
            is_sole_writer=foundry.sole_writer,
        ),
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
    replay_lock: Lock,
    discard_ids: Callable[[Collection[str]], object],
) -> PersonalData:
    branch, store = dependencies.branch, dependencies.store
    file_policy = build_file_policy(settings)
    return PersonalData(
        journal=store.personal_data,
        listing=branch,
        shared_files=SharedFiles(branch, store.outbox, file_policy, dependencies.compute),
        maintenance=maintenance,
        completions=completions,
        discard_ids=discard_ids,
        replay_lock=replay_lock,
        clock=dependencies.clock,
        emit=dependencies.emit,
    )


def build_offline_maintenance(dependencies: Dependencies, settings: Settings) -> BranchMaintenance:
    """Build maintenance for a single command, without a running flow."""
    uploader = build_uploader(dependencies, settings, CompletionRegistry[Receipt]())
    return BranchMaintenance(uploader, Wakeup())


def build_file_policy(settings: Settings) -> FilePolicy:
    """Raise ConfigurationError if the format needs a package that is not installed."""
    foundry = settings.foundry
    layout, wave = foundry.file_layout, foundry.uploads_at_once
    readable = {} if find_spec("pyarrow") is None else {PARQUET.name: PARQUET}
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
    from atlas.outside import parquet  # noqa: PLC0415 - 60 MiB of memory, only if used

    return parquet.to_parquet(ndjson)


def read_parquet(file: ports.Bytes) -> ports.Bytes:
    from atlas.outside import parquet  # noqa: PLC0415

    return parquet.to_ndjson(file)


PARQUET = Format("parquet", write_parquet, read_parquet)


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

"""Operations for a single command while no service is running."""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio

from atlas import __version__
from atlas.actors.upload import BranchMaintenance
from atlas.core import ports
from atlas.core.diagnosis import Diagnosis, DiagnosisRequest
from atlas.core.errors import JournalLocked, Unavailable
from atlas.core.messages import Receipt, RemovalResult
from atlas.diagnose import Context, run_checks
from atlas.outside.sqlite import journal, readonly
from atlas.runtime import CompletionRegistry, Lock
from atlas.service.dependencies import open_dependencies
from atlas.service.diagnosis import open_inspectors
from atlas.service.store import JournalPorts, build_capacity_limits, build_inspector, collect_ports
from atlas.service.subscribers import build_subscribers, utc_now
from atlas.service.uploads import build_offline_maintenance, build_personal_data
from atlas.settings import Settings

CLEANUP_SECONDS = 10.0


def find_lock_owner(settings: Settings) -> JournalLocked | None:
    """Return the process that holds the lock of the journal, or None."""
    return readonly.find_lock_owner(settings.journal.path, settings.operator.listen)


async def diagnose_offline(
    settings: Settings, request: DiagnosisRequest, *, is_locked: bool, clock: ports.Clock = utc_now
) -> Diagnosis:
    """Diagnose without a running service. Raises ConfigurationError.

    The journal is opened read-only. The branch is probed unless another process holds the lock.
    """
    inspector = build_inspector(settings)
    async with AsyncExitStack() as stack:
        maintenance = (
            None if is_locked else await stack.enter_async_context(open_maintenance(settings))
        )
        inspectors = await stack.enter_async_context(
            open_inspectors(settings, request, inspector, maintenance, clock)
        )
        return await run_checks(
            Context(settings, request, inspectors, clock, is_serving=False), __version__
        )


async def remove_files(settings: Settings, paths: Collection[str]) -> RemovalResult:
    """Remove these files from the dataset. Raises FoundryError."""
    async with open_maintenance(settings) as maintenance:
        return await maintenance.remove(paths)


@asynccontextmanager
async def open_personal_data(
    settings: Settings, store: JournalPorts
) -> AsyncIterator[ports.PersonalDataTasks]:
    """Open the personal-data operations: no waiting requests, no in-memory quarantine."""
    async with (
        open_dependencies(settings, store, build_subscribers(settings)) as dependencies,
        ensure_ended(build_offline_maintenance(dependencies, settings)) as maintenance,
    ):
        yield build_personal_data(
            dependencies,
            settings,
            maintenance,
            CompletionRegistry[Receipt](),
            Lock(),
            discard_ids=lambda _ids: None,  # a command has no quarantine in memory
        )


@asynccontextmanager
async def open_maintenance(settings: Settings) -> AsyncIterator[BranchMaintenance]:
    """Open maintenance with a temporary journal in memory: the configured one is not opened."""
    with journal.open_journal(None, build_capacity_limits(settings)) as temporary_journal:
        async with (
            open_dependencies(
                settings, collect_ports(temporary_journal), build_subscribers(settings)
            ) as dependencies,
            ensure_ended(build_offline_maintenance(dependencies, settings)) as maintenance,
        ):
            yield maintenance


@asynccontextmanager
async def ensure_ended(maintenance: BranchMaintenance) -> AsyncIterator[BranchMaintenance]:
    """On exit, wait until its transaction is closed, also after Ctrl-C; `CLEANUP_SECONDS` max."""
    try:
        yield maintenance
    finally:
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True), suppress(Unavailable):
            async with maintenance.exclusive():
                pass

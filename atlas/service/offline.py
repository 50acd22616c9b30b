"""Operations for a single command while no service is running."""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager

from atlas import __version__
from atlas.actors.upload import BranchMaintenance
from atlas.core import ports
from atlas.core.diagnosis import Diagnosis, DiagnosisRequest
from atlas.core.errors import JournalLocked
from atlas.core.messages import Receipt, RemovalResult
from atlas.diagnose import Context, run_checks
from atlas.outside.sqlite import journal, readonly
from atlas.runtime import CompletionRegistry, Lock
from atlas.service.dependencies import open_dependencies
from atlas.service.diagnosis import open_inspectors
from atlas.service.store import (
    UnopenedJournal,
    build_capacity_limits,
    open_inspector,
    open_store,
)
from atlas.service.subscribers import build_subscribers, utc_now
from atlas.service.uploads import build_personal_data, open_offline_maintenance
from atlas.settings import Settings


def find_lock_owner(settings: Settings) -> JournalLocked | None:
    """Return the process that holds the lock of the journal, or None; also if it is shared."""
    if settings.journal.is_shared:
        return None
    return readonly.find_lock_owner(settings.journal.path, settings.operator.listen)


async def diagnose_offline(
    settings: Settings, request: DiagnosisRequest, *, is_locked: bool, clock: ports.Clock = utc_now
) -> Diagnosis:
    """Diagnose without a running service. Raises ConfigurationError.

    A file is opened read-only. The branch is probed unless another process holds the lock.
    """
    async with AsyncExitStack() as stack:
        inspector = await stack.enter_async_context(open_inspector(settings))
        maintenance = None
        if not is_locked and not isinstance(inspector, UnopenedJournal):
            maintenance = await stack.enter_async_context(open_maintenance(settings))
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
    settings: Settings, store: ports.JournalPorts
) -> AsyncIterator[ports.PersonalDataTasks]:
    """Open the personal-data operations: no waiting requests, no in-memory quarantine."""
    async with (
        open_dependencies(settings, store, build_subscribers(settings)) as dependencies,
        open_offline_maintenance(dependencies, settings) as maintenance,
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
    """Open maintenance; beside running replicas, which hand over the lease meanwhile.

    Without replicas, a temporary journal in memory is used: the configured one is not opened.
    """
    async with (
        open_lease(settings) as store,
        open_dependencies(settings, store, build_subscribers(settings)) as dependencies,
        open_offline_maintenance(dependencies, settings) as maintenance,
    ):
        yield maintenance


@asynccontextmanager
async def open_lease(settings: Settings) -> AsyncIterator[ports.JournalPorts]:
    if settings.journal.is_shared:
        async with open_store(settings) as store:
            yield store
    else:
        with journal.open_journal(None, build_capacity_limits(settings)) as store:
            yield store

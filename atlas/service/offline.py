"""Where no service runs: the journal and Foundry for one command."""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio

from atlas import __version__
from atlas.actors.upload import BranchMaintenance, PersonalData
from atlas.core import ports
from atlas.core.diagnosis import Diagnosis, DiagnosisRequest
from atlas.core.errors import JournalLocked, Unavailable
from atlas.core.messages import Receipt, RemovalResult
from atlas.diagnose import Context, run_checks
from atlas.outside.sqlite import journal, readonly
from atlas.runtime import CompletionRegistry, Lock
from atlas.service.dependencies import open_dependencies
from atlas.service.diagnosis import open_inspectors, utc_now
from atlas.service.flow import build_offline_maintenance, build_shared_files
from atlas.service.store import JournalPorts, build_capacity_limits, build_inspector, collect_ports
from atlas.service.subscribers import build_subscribers
from atlas.settings import Settings

CLEANUP_SECONDS = 10.0


def find_lock_owner(settings: Settings) -> JournalLocked | None:
    """Whoever serves with these settings just now, by the lock of the journal."""
    return readonly.find_lock_owner(settings.journal.path, settings.operator.listen)


async def diagnose_offline(
    settings: Settings, request: DiagnosisRequest, *, is_locked: bool, clock: ports.Clock = utc_now
) -> Diagnosis:
    """Where no service answers. A journal is only looked at; what is probed is probed by us, but
    not while another process owns the branch. Raises BadSetting.
    """
    checkup = build_inspector(settings)
    async with AsyncExitStack() as stack:
        maintenance = (
            None if is_locked else await stack.enter_async_context(open_maintenance(settings))
        )
        inspectors = await stack.enter_async_context(
            open_inspectors(settings, request, checkup, maintenance, clock)
        )
        return await run_checks(
            Context(settings, request, inspectors, clock, serves=False), __version__
        )


async def remove_files(settings: Settings, paths: Collection[str]) -> RemovalResult:
    """Take these files out of the dataset. Raises FoundryError."""
    async with open_maintenance(settings) as maintenance:
        return await maintenance.remove(paths)


@asynccontextmanager
async def open_personal_data(
    settings: Settings, store: JournalPorts
) -> AsyncIterator[ports.PersonalDataTasks]:
    """Personal data for a one-shot command: no waiting requests, no quarantine in memory."""
    subscribers = build_subscribers(settings, None, utc_now)
    async with (
        open_dependencies(settings, store, subscribers) as dependencies,
        ensure_ended(build_offline_maintenance(dependencies, settings)) as maintenance,
    ):
        shared_files = build_shared_files(dependencies, settings)
        parts = (
            store.personal_data,
            dependencies.branch,
            shared_files,
            maintenance,
            CompletionRegistry[Receipt](),
        )
        yield PersonalData(*parts, ignore_ids, Lock(), dependencies.clock, dependencies.emit)


@asynccontextmanager
async def open_maintenance(settings: Settings) -> AsyncIterator[BranchMaintenance]:
    """Maintenance backed by a temporary journal in memory: the configured one is not opened."""
    subscribers = build_subscribers(settings, None, utc_now)
    with journal.open_journal(None, build_capacity_limits(settings)) as temporary_journal:
        async with (
            open_dependencies(
                settings, collect_ports(temporary_journal), subscribers
            ) as dependencies,
            ensure_ended(build_offline_maintenance(dependencies, settings)) as maintenance,
        ):
            yield maintenance


@asynccontextmanager
async def ensure_ended(maintenance: BranchMaintenance) -> AsyncIterator[BranchMaintenance]:
    """With nothing left open behind it, even behind a Ctrl-C."""
    try:
        yield maintenance
    finally:
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True), suppress(Unavailable):
            async with maintenance.exclusive():
                pass


def ignore_ids(_ids: Collection[str]) -> None:
    """No service runs that has seen them crash."""

"""Where no service runs: the journal and Foundry for one command."""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio

from atlas import __version__
from atlas.actors.upload import BranchMaintenance, PersonalData
from atlas.core import ports
from atlas.core.diagnosis import Asked, Diagnosis
from atlas.core.errors import JournalHeld, Unavailable
from atlas.core.messages import Receipt, RemovalResult
from atlas.diagnose import Context, walk
from atlas.outside.sqlite import journal, look
from atlas.runtime import CompletionRegistry, Lock
from atlas.service.diagnosing import sources, wall
from atlas.service.flow import maintenance_alone, shared_files_of
from atlas.service.readers import reading
from atlas.service.store import Store, bounds, looked, stored
from atlas.service.world import connected
from atlas.settings import Settings

END_SECONDS = 10.0


def holder(settings: Settings) -> JournalHeld | None:
    """Whoever serves with these settings just now, by the lock of the journal."""
    return look.holder(settings.journal.path, settings.operator.listen)


async def diagnosed(
    settings: Settings, asked: Asked, *, is_held: bool, now: ports.Clock = wall
) -> Diagnosis:
    """Where no service answers. A journal is only looked at; what is probed is probed by us, but
    not while another process owns the branch. Raises BadSetting.
    """
    checkup = looked(settings)
    async with AsyncExitStack() as ours:
        maintenance = None if is_held else await ours.enter_async_context(of_the_branch(settings))
        found = await ours.enter_async_context(sources(settings, asked, checkup, maintenance, now))
        return await walk(Context(settings, asked, found, now, serves=False), __version__)


async def remove(settings: Settings, paths: Collection[str]) -> RemovalResult:
    """Take these files out of the dataset. Raises FoundryError."""
    async with of_the_branch(settings) as maintenance:
        return await maintenance.remove(paths)


@asynccontextmanager
async def persons(settings: Settings, store: Store) -> AsyncIterator[ports.People]:
    """Personal data for a one-shot command: no waiting requests, no quarantine in memory."""
    readers = reading(settings, None, wall)
    async with (
        connected(settings, store, readers) as world,
        ended(maintenance_alone(world, settings)) as maintenance,
    ):
        shared_files = shared_files_of(world, settings)
        asked = store.people, world.branch, shared_files, maintenance, CompletionRegistry[Receipt]()
        yield PersonalData(*asked, nobody_remembers, Lock(), world.now, world.watch)


@asynccontextmanager
async def of_the_branch(settings: Settings) -> AsyncIterator[BranchMaintenance]:
    """Maintenance backed by a temporary journal in memory: the configured one is not opened."""
    readers = reading(settings, None, wall)
    with journal.opened(None, bounds(settings)) as kept:
        async with (
            connected(settings, stored(kept), readers) as world,
            ended(maintenance_alone(world, settings)) as maintenance,
        ):
            yield maintenance


@asynccontextmanager
async def ended(maintenance: BranchMaintenance) -> AsyncIterator[BranchMaintenance]:
    """With nothing left open behind it, even behind a Ctrl-C."""
    try:
        yield maintenance
    finally:
        with anyio.move_on_after(END_SECONDS, shield=True), suppress(Unavailable):
            async with maintenance.exclusive():
                pass


def nobody_remembers(_ids: Collection[str]) -> None:
    """No service runs that has seen them crash."""

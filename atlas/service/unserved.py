"""The walk where no service answers: a journal is only looked at, and what is probed, by us."""

from collections.abc import Collection
from contextlib import AsyncExitStack

from atlas import __version__
from atlas.core import ports
from atlas.core.diagnosis import Asked, Diagnosis
from atlas.core.errors import JournalHeld
from atlas.core.messages import Removed
from atlas.diagnose import Asking, walk
from atlas.outside.sqlite import look
from atlas.service import alone, store
from atlas.service.diagnosing import sources, wall
from atlas.settings import Settings


def holder(settings: Settings) -> JournalHeld | None:
    """Whoever serves with these settings just now, by the lock of the journal."""
    return look.holder(settings.journal.path, settings.operator.listen)


async def diagnosed(
    settings: Settings, asked: Asked, *, is_held: bool, now: ports.Clock = wall
) -> Diagnosis:
    """Where no service answers. A journal is only looked at; what is probed is probed by us, but
    not while another process owns the branch. Raises BadSetting.
    """
    checkup = store.looked(settings)
    async with AsyncExitStack() as ours:
        errands = None if is_held else await ours.enter_async_context(alone.of_the_branch(settings))
        found = await ours.enter_async_context(sources(settings, asked, checkup, errands, now))
        return await walk(Asking(settings, asked, found, now, serves=False), __version__)


async def remove(settings: Settings, paths: Collection[str]) -> Removed:
    """Where nobody serves. Raises FoundryError."""
    async with alone.of_the_branch(settings) as errands:
        return await errands.remove(paths)

"""The journal and Foundry for one command, where no service runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

import anyio

from atlas.actors.upload import Errands, People
from atlas.core import ports
from atlas.core.errors import Unavailable
from atlas.core.events import Event
from atlas.core.messages import Receipt
from atlas.outside.sqlite import journal
from atlas.runtime import Lock, Promises
from atlas.service.flow import errands_alone
from atlas.service.readers import reading
from atlas.service.store import Store, bounds, stored
from atlas.service.world import connected
from atlas.settings import Settings

END_SECONDS = 10.0


@asynccontextmanager
async def persons(settings: Settings, store: Store) -> AsyncIterator[ports.People]:
    """Whom nobody waits for."""
    readers = reading(settings, unheard, partial(datetime.now, UTC))
    async with connected(settings, store, readers) as world:
        waiting, branch = Promises[Receipt](), world.branch
        async with ended(errands_alone(world, settings)) as todo:
            yield People(store.people, branch, todo, waiting, len, Lock(), world.now, world.watch)


@asynccontextmanager
async def of_the_branch(settings: Settings) -> AsyncIterator[Errands]:
    """Errands that are noted in a journal which is gone with them: none is opened, or made."""
    readers = reading(settings, unheard, partial(datetime.now, UTC))
    with journal.opened(None, bounds(settings)) as kept:
        async with (
            connected(settings, stored(kept), readers) as world,
            ended(errands_alone(world, settings)) as todo,
        ):
            yield todo


@asynccontextmanager
async def ended(todo: Errands) -> AsyncIterator[Errands]:
    """With nothing left open behind it, even behind a Ctrl-C."""
    try:
        yield todo
    finally:
        with anyio.move_on_after(END_SECONDS, shield=True), suppress(Unavailable):
            async with todo.between_groups():
                pass


def unheard(_event: Event) -> None:
    """Its command tells what it did."""

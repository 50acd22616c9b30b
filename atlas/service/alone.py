"""The journal and Foundry for one command, where no service runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

import anyio

from atlas.actors.people import People
from atlas.core import ports
from atlas.core.errors import Unavailable
from atlas.core.events import Event
from atlas.core.messages import Receipt
from atlas.runtime import Promises
from atlas.service.flow import errands
from atlas.service.readers import reading
from atlas.service.store import Store
from atlas.service.world import connected
from atlas.settings import Settings

END_SECONDS = 10.0


@asynccontextmanager
async def persons(settings: Settings, store: Store) -> AsyncIterator[ports.Persons]:
    """Whom nobody waits for. What is left open is ended, even behind a Ctrl-C."""
    readers = reading(settings, unheard, partial(datetime.now, UTC))
    async with connected(settings, store, readers) as world:
        todo = errands(world, settings)
        waiting, branch = Promises[Receipt](), world.branch
        try:
            yield People(store.people, branch, todo, waiting, len, world.now, world.watch)
        finally:
            with anyio.move_on_after(END_SECONDS, shield=True), suppress(Unavailable):
                async with todo.between_groups():
                    pass


def unheard(_event: Event) -> None:
    """Its command tells what it did."""

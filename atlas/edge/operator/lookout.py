"""What no event tells: how full everything is just now."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import anyio

from atlas.core.errors import Unavailable
from atlas.core.picture import Depth, Press, Sight
from atlas.core.ports import Ledger
from atlas.runtime import Queue

LOOK_SECONDS_MAX = 2.0


class Ending(Protocol):
    """Whether we were told to end."""

    has_begun: bool


@dataclass(frozen=True, slots=True)
class Lookout:
    """Looks at the journal, the queues, whether we are ending, the press, and what is under way."""

    ledger: Ledger
    queues: Callable[[], Mapping[str, Queue]]
    drain: Ending
    press: Callable[[], Press] = Press

    async def look(self) -> Sight:
        depth, tasks = await self.depth(), len(asyncio.all_tasks())
        return Sight(depth, self.queues(), self.drain.has_begun, self.press(), tasks)

    async def depth(self) -> Depth | None:
        """A disk that fails, or stands still, keeps nobody from seeing the rest."""
        with anyio.move_on_after(LOOK_SECONDS_MAX):
            try:
                return await self.ledger.depth()
            except Unavailable:
                return None
        return None

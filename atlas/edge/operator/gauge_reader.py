"""Reads what no event tells: how full everything is at this moment."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anyio

from atlas.core.errors import Unavailable
from atlas.core.ports import Ledger
from atlas.core.status import AdmissionLoad, JournalTotals, RuntimeGauges
from atlas.runtime import QueueLoad

READ_SECONDS_MAX = 2.0


@dataclass(frozen=True, slots=True)
class GaugeReader:
    """Reads the journal, the queues, the shutdown, the load of the edge, and the event loop."""

    ledger: Ledger
    queues: Callable[[], Mapping[str, QueueLoad]]
    is_draining: Callable[[], bool]
    press: Callable[[], AdmissionLoad] = AdmissionLoad

    async def read(self) -> RuntimeGauges:
        depth, tasks = await self.depth(), len(asyncio.all_tasks())
        return RuntimeGauges(depth, self.queues(), self.is_draining(), self.press(), tasks)

    async def depth(self) -> JournalTotals | None:
        """None if the disk fails, or takes too long: the rest is shown all the same."""
        with anyio.move_on_after(READ_SECONDS_MAX):
            try:
                return await self.ledger.read_totals()
            except Unavailable:
                return None
        return None

"""Reads the current values that no event reports, such as the fill level of the queues."""

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
    measure_load: Callable[[], AdmissionLoad] = AdmissionLoad

    async def read(self) -> RuntimeGauges:
        totals, tasks = await self.read_totals(), len(asyncio.all_tasks())
        return RuntimeGauges(totals, self.queues(), self.is_draining(), self.measure_load(), tasks)

    async def read_totals(self) -> JournalTotals | None:
        """Return None if the disk fails or is slow, so that the other gauges are still shown."""
        with anyio.move_on_after(READ_SECONDS_MAX):
            try:
                return await self.ledger.read_totals()
            except Unavailable:
                return None
        return None

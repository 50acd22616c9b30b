"""Reads the current values that no event reports, such as the fill level of the queues."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import anyio
from msgspec.structs import replace

from atlas.core.errors import AtlasError, Unavailable
from atlas.core.ports import Ledger
from atlas.core.status import AdmissionLoad, JournalTotals, RuntimeGauges, StreamLag
from atlas.edge.health import Checks
from atlas.runtime import QueueLoad

READ_SECONDS_MAX = 2.0
CHECK_SECONDS_MAX = 6.0  # longer than a fetch of Auth0's keys, which must not be cut off
SILENT = "It does not respond."


@dataclass(frozen=True, slots=True)
class GaugeReader:
    """Reads the journal, the queues, the shutdown, the edge, the event loop, and the stream.

    `checks` are those of readiness.
    """

    ledger: Ledger
    queues: Callable[[], Mapping[str, QueueLoad]]
    is_draining: Callable[[], bool]
    measure_load: Callable[[], AdmissionLoad] = AdmissionLoad
    checks: Checks = field(default_factory=dict)
    measure_lag: Callable[[], StreamLag | None] | None = None

    async def read(self) -> RuntimeGauges:
        totals, tasks = await self.read_totals(), len(asyncio.all_tasks())
        lag = None if self.measure_lag is None else self.measure_lag()
        load = self.measure_load()
        return RuntimeGauges(totals, self.queues(), self.is_draining(), load, tasks, stream=lag)

    async def read_totals(self) -> JournalTotals | None:
        """Return None if the disk fails or is slow, so that the other gauges are still shown."""
        with anyio.move_on_after(READ_SECONDS_MAX):
            try:
                return await self.ledger.read_totals()
            except Unavailable:
                return None
        return None

    async def read_with_readiness(self) -> RuntimeGauges:
        """Read the gauges, and run the readiness checks, which write to the journal."""
        gauges = await self.read()
        not_ready = {}
        for name, check in self.checks.items():
            is_silent = name == "journal" and gauges.totals is None
            reason = SILENT if is_silent else await find_reason(check)
            if reason is not None:
                not_ready[name] = reason
        return replace(gauges, not_ready=not_ready)


async def find_reason(check: Callable[[], Awaitable[None]]) -> str | None:
    """Return the reason why a check fails, or None."""
    with anyio.move_on_after(CHECK_SECONDS_MAX):
        try:
            await check()
        except AtlasError as error:
            return str(error)
        return None
    return SILENT

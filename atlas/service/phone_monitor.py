"""Counts the phones by state every minute, and deletes old records of them."""

from contextlib import suppress
from dataclasses import dataclass

import anyio

from atlas.core.errors import Unavailable
from atlas.core.events import EventSink, PhonesCounted
from atlas.core.phones import sum_ages
from atlas.core.ports import Clock, PhoneBook

COUNT_SECONDS = 60.0  # counting 100,000 phones takes some milliseconds


@dataclass(frozen=True, slots=True)
class PhoneMonitor:
    """Counts the phones each minute, so that a scrape of the metrics costs nothing."""

    phones: PhoneBook
    clock: Clock
    quiet_days: int
    phones_max: int
    emit: EventSink

    async def run(self) -> None:
        while True:
            with suppress(Unavailable):  # the metrics keep the last counts
                await self.count()
            await anyio.sleep(COUNT_SECONDS)

    async def count(self) -> None:
        """Delete old records, and count the others. Raises Unavailable."""
        await self.phones.prune(self.clock(), self.phones_max)
        totals = sum_ages(await self.phones.count_ages(self.clock()), self.quiet_days)
        self.emit(PhonesCounted(totals.active, totals.quiet, totals.stuck))

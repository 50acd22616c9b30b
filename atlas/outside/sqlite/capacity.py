"""How much the journal keeps, so that there is always room to complete what it has accepted."""

import shutil
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atlas.core.errors import JournalFull

MIB = 1024 * 1024
STORED = """
    SELECT sum(exports), sum(bytes) FROM total
    WHERE status IN ('accepted', 'claimed', 'set_aside')
"""
SMALL_BYTES = MIB  # of a file: a day of a phone has less
SMALL_SHARE = 0.75  # of a group is for what is small, and of the room for what is not
MEASURED_SECONDS = 60.0
FREE_SECONDS = 1.0  # in which the disk does not lose what there is to be free of it
RETRY_SECONDS, RETRY_SECONDS_MAX = 5.0, 300.0
RETRY_FREE_SHARE = 100  # of the bound becomes free before whoever was turned away comes again


@dataclass(frozen=True, slots=True)
class CapacityLimits:
    """Of all exports that are not committed; `bytes` before compression, `free_bytes` on disk."""

    bytes: int = 4096 * MIB
    exports: int = 1_000_000
    free_bytes: int = 256 * MIB


class CapacityLimit:
    """Says whether there is room, and if not, when there will be."""

    def __init__(
        self, limits: CapacityLimits, folder: Path | None, monotonic: Callable[[], float]
    ) -> None:
        self._limits = limits
        self._folder = folder
        self._monotonic = monotonic
        self._last_totals = 0, 0  # exports, and bytes of them
        self._stored: tuple[int, int] | None = None
        self._free: tuple[float, int | None] | None = None
        self._drained: deque[tuple[float, int]] = deque()

    def check(self, db: sqlite3.Connection, more_bytes: int = 0) -> None:
        """Raises JournalFull when there is no room for another export of so many bytes.

        Those who send years have to wait first: the last of the room is for what is small.
        """
        exports, stored = self._last_totals = self._stored or db.execute(STORED).fetchone()
        share = 1.0 if more_bytes < SMALL_BYTES else SMALL_SHARE
        over = max(stored + more_bytes - int(self._limits.bytes * share), 0)
        if over or exports >= self._limits.exports:
            raise JournalFull("", self.estimate_retry_after(over))
        free = self._free_lately()
        if free is not None and free < self._limits.free_bytes:
            raise JournalFull("There is too little room on the disk of the journal.")

    def begin(self) -> None:
        """A transaction begins: what is kept is asked once in it, and counted on from there."""
        self._stored = None

    def take(self, size: int) -> None:
        """Keep what was checked last."""
        exports, stored = self._last_totals
        self._stored = exports + 1, stored + size

    def _free_lately(self) -> int | None:
        """As it was within the last second: to ask costs a tenth of what an export does."""
        now = self._monotonic()
        if self._free is None or now - self._free[0] >= FREE_SECONDS:
            self._free = now, self.free_bytes()
        return self._free[1]

    def free_bytes(self) -> int | None:
        """On the disk of the journal; None if it is in memory."""
        return shutil.disk_usage(self._folder).free if self._folder else None

    def record_committed(self, size: int) -> None:
        """So many bytes were committed just now."""
        self._stored = None
        if size:  # nothing at all would be a rate of nothing
            self._drained.append((self._monotonic(), size))
        self._reset()

    def estimate_retry_after(self, over: int) -> float | None:
        """At the rate of the last minute; None when nothing was committed in it."""
        self._reset()
        if not self._drained:
            return None
        rate = sum(size for _, size in self._drained) / MEASURED_SECONDS
        seconds = max(over, self._limits.bytes // RETRY_FREE_SHARE) / rate
        return min(max(seconds, RETRY_SECONDS), RETRY_SECONDS_MAX)

    def _reset(self) -> None:
        while self._drained and self._monotonic() - self._drained[0][0] > MEASURED_SECONDS:
            self._drained.popleft()

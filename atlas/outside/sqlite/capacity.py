"""Limits what the journal accepts, so that it can always complete what it has accepted."""

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
SMALL_BYTES = MIB  # a phone sends less than this per day
# small exports may fill this share of a group, and large ones this share of the journal
SMALL_SHARE = 0.75
MEASURED_SECONDS = 60.0
FREE_SECONDS = 1.0  # between measurements of the free disk space
RETRY_SECONDS, RETRY_SECONDS_MAX = 5.0, 300.0
RETRY_FREE_SHARE = 100  # a rejected sender retries when a hundredth of the limit is free again


@dataclass(frozen=True, slots=True)
class CapacityLimits:
    """Limits for uncommitted exports: `bytes` before compression, `free_bytes` on the disk."""

    bytes: int = 4096 * MIB
    exports: int = 1_000_000
    free_bytes: int = 256 * MIB


class CapacityLimit:
    """Rejects exports that do not fit, and estimates when they will."""

    def __init__(
        self, limits: CapacityLimits, folder: Path | None, monotonic: Callable[[], float]
    ) -> None:
        self._limits = limits
        self._folder = folder
        self._monotonic = monotonic
        self._last_totals = 0, 0  # exports, bytes
        self._stored: tuple[int, int] | None = None
        self._free: tuple[float, int | None] | None = None
        self._committed: deque[tuple[float, int]] = deque()

    def check(self, db: sqlite3.Connection, more_bytes: int = 0) -> None:
        """Check that another export of this size fits. Raises JournalFull.

        The last quarter of the journal is reserved for small exports: a phone that sends years of
        data waits first.
        """
        exports, stored = self._last_totals = self._stored or db.execute(STORED).fetchone()
        share = 1.0 if more_bytes < SMALL_BYTES else SMALL_SHARE
        excess = max(stored + more_bytes - int(self._limits.bytes * share), 0)
        if excess or exports >= self._limits.exports:
            raise JournalFull("", self.estimate_retry_after(excess))
        free = self._measure_free()
        if free is not None and free < self._limits.free_bytes:
            raise JournalFull("The disk of the journal has too little free space.")

    def begin(self) -> None:
        """Forget the totals at the start of a transaction: they are read once in each."""
        self._stored = None

    def take(self, size: int) -> None:
        """Add the export that was checked last to the totals."""
        exports, stored = self._last_totals
        self._stored = exports + 1, stored + size

    def _measure_free(self) -> int | None:
        """Return the free space as of the last second: measuring takes a tenth of an append."""
        now = self._monotonic()
        if self._free is None or now - self._free[0] >= FREE_SECONDS:
            self._free = now, self.free_bytes()
        return self._free[1]

    def free_bytes(self) -> int | None:
        """Return the free space on the disk; None if the journal is in memory."""
        return shutil.disk_usage(self._folder).free if self._folder else None

    def record_committed(self, size: int) -> None:
        """Record that exports of this total size were committed just now."""
        self._stored = None
        if size:  # or the rate may be zero
            self._committed.append((self._monotonic(), size))
        self._drop_old()

    def estimate_retry_after(self, excess: int) -> float | None:
        """Estimate the seconds until there is space, from the commits of the last minute.

        None if there were none.
        """
        self._drop_old()
        if not self._committed:
            return None
        rate = sum(size for _, size in self._committed) / MEASURED_SECONDS
        seconds = max(excess, self._limits.bytes // RETRY_FREE_SHARE) / rate
        return min(max(seconds, RETRY_SECONDS), RETRY_SECONDS_MAX)

    def _drop_old(self) -> None:
        while self._committed and self._monotonic() - self._committed[0][0] > MEASURED_SECONDS:
            self._committed.popleft()

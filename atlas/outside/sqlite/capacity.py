"""Limits what the journal accepts, by its totals and by the free space on its disk."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from atlas.core.errors import JournalFull
from atlas.outside.journal.capacity import (
    CapacityLimits,
    CommitRate,
    build_full_error,
    count_excess,
)

STORED = """
    SELECT sum(exports), sum(bytes) FROM total
    WHERE status IN ('accepted', 'claimed', 'set_aside')
"""
FREE_SECONDS = 1.0  # between measurements of the free disk space


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
        self._rate = CommitRate(monotonic)

    def check(self, db: sqlite3.Connection, more_bytes: int = 0) -> None:
        """Check that another export of this size fits. Raises JournalFull."""
        exports, stored = self._last_totals = self._stored or db.execute(STORED).fetchone()
        excess = count_excess(self._limits, exports, stored, more_bytes)
        if excess is not None:
            raise build_full_error(self._limits, excess, self._rate.measure())
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
        self._rate.record(size)

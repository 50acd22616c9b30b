"""Retention of receipts.

An expired receipt is reduced to its id, by which a repeated export is still recognized. Each commit
reduces a few of the oldest, so that no operation ever waits for many.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

PRUNE_MAX = 200
DAYS_MIN = 8  # a phone that was offline for a week still gets its receipt
OLDEST = """
    SELECT number FROM (
        SELECT number, at FROM export INDEXED BY done WHERE status = 'committed'
        ORDER BY number LIMIT :limit  -- exports are numbered in the order of `at`
    ) WHERE at < :before
"""
EXCESS = "SELECT max(0, exports - ?) FROM total WHERE status = 'committed'"
REDUCE = """
    INSERT OR IGNORE INTO digest SELECT id, user, rid FROM export
    WHERE number IN (SELECT value FROM json_each(?))
"""
DELETE = "DELETE FROM export WHERE number IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class ReceiptRetention:
    """Receipts of committed exports are kept for `days`, and at most `exports_max` of them."""

    clock: Callable[[], datetime]
    days: int = 30
    exports_max: int = 2_000_000

    def prune(self, db: sqlite3.Connection, committed: int = 0) -> None:
        """Reduce the oldest receipts; more than were `committed` just now, so as to catch up."""
        (excess,) = db.execute(EXCESS, [self.exports_max]).fetchone()
        limit = PRUNE_MAX + committed
        expired = self.select_expired(db, self.days, limit)
        expired = expired or self.select_expired(db, DAYS_MIN, min(excess, limit))
        if expired:
            numbers = str(expired)  # a list of integers is valid JSON
            db.execute(REDUCE, [numbers])
            db.execute(DELETE, [numbers])

    def select_expired(self, db: sqlite3.Connection, days: int, limit: int) -> list[int]:
        """Return the numbers of receipts older than this; the first row shows if there are any."""
        params = {"before": (self.clock() - timedelta(days=days)).isoformat(), "limit": limit}
        if not db.execute(OLDEST, params | {"limit": min(1, limit)}).fetchone():
            return []
        return [number for (number,) in db.execute(OLDEST, params).fetchall()]

"""How long receipts are kept. Of what is left of one its export is still known when it comes again.

At each commit a few of the oldest are shrunk, so that nobody ever waits for many.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

PRUNE_MAX = 200
DAYS_MIN = 8  # a phone that was away for a week still gets its receipt
OLDEST = """
    SELECT number FROM (
        SELECT number, at FROM export INDEXED BY done WHERE status = 'committed'
        ORDER BY number LIMIT :limit  -- they come in the order of their moments: look at no others
    ) WHERE at < :before
"""
TOO_MANY = "SELECT max(0, exports - ?) FROM total WHERE status = 'committed'"
SHRINK = """
    INSERT OR IGNORE INTO digest SELECT id, user, rid FROM export
    WHERE number IN (SELECT value FROM json_each(?))
"""
DROP = "DELETE FROM export WHERE number IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class ReceiptRetention:
    """Receipts of committed exports: so many days, and so many of them."""

    clock: Callable[[], datetime]
    days: int = 30
    exports_max: int = 2_000_000

    def prune(self, db: sqlite3.Connection, committed: int = 0) -> None:
        """Shrink the oldest: a few more than have just been committed, or it would fall behind."""
        (too_many,) = db.execute(TOO_MANY, [self.exports_max]).fetchone()
        at_once = PRUNE_MAX + committed
        due = self.select_expired(db, self.days, at_once)
        due = due or self.select_expired(db, DAYS_MIN, min(too_many, at_once))
        if due:
            numbers = str(due)  # a list of numbers is JSON as it stands
            db.execute(SHRINK, [numbers])
            db.execute(DROP, [numbers])

    def select_expired(self, db: sqlite3.Connection, days: int, limit: int) -> list[int]:
        """Those older than so many days. Mostly there are none, and the first row tells."""
        given = {"before": (self.clock() - timedelta(days=days)).isoformat(), "limit": limit}
        if not db.execute(OLDEST, given | {"limit": min(1, limit)}).fetchone():
            return []
        return [number for (number,) in db.execute(OLDEST, given).fetchall()]

"""Deletes old receipts and digests: see atlas/outside/journal/retention.py."""

import sqlite3
from datetime import datetime, timedelta

from atlas.outside.journal.retention import (
    DAY_SECONDS,
    DAYS_MIN,
    PRUNE_MAX,
    ReceiptRetention,
    count_days,
)

OLDEST = """
    SELECT number FROM (
        SELECT number, at FROM export INDEXED BY done WHERE status = 'committed'
        ORDER BY number LIMIT :limit  -- exports are numbered in the order of `at`
    ) WHERE at < :before
"""
EXCESS = "SELECT max(0, exports - ?) FROM total WHERE status = 'committed'"
REDUCE = f"""
    INSERT OR IGNORE INTO digest (id, user, rid, day)
    SELECT id, user, rid,
        -- NULL if `at` is corrupt; a replayed export may be older than any digest
        max(coalesce(strftime('%s', at) / {DAY_SECONDS}, :today), :oldest)
    FROM export WHERE number IN (SELECT value FROM json_each(:numbers))
"""
DELETE = "DELETE FROM export WHERE number IN (SELECT value FROM json_each(:numbers))"
DELETE_DIGESTS = """
    DELETE FROM digest WHERE id IN (
        SELECT id FROM digest INDEXED BY aged WHERE day < :before ORDER BY day LIMIT :limit
    )
"""
STORE_HORIZON = "INSERT OR REPLACE INTO secret VALUES ('horizon', CAST(? AS BLOB))"
READ_HORIZON = "SELECT CAST(value AS INTEGER) FROM secret WHERE name = 'horizon'"


def prune(db: sqlite3.Connection, retention: ReceiptRetention, committed: int = 0) -> None:
    """Reduce the oldest receipts, and delete the oldest digests.

    These are more receipts than were `committed` just now, and more digests than were added,
    so as to catch up.
    """
    (excess,) = db.execute(EXCESS, [retention.exports_max]).fetchone()
    limit, now = PRUNE_MAX + committed, retention.clock()
    expired = select_expired(db, now - timedelta(days=retention.days), limit)
    expired = expired or select_expired(db, now - timedelta(days=DAYS_MIN), min(excess, limit))
    today = count_days(now)
    oldest = today - retention.digests_days if retention.digests_days else 0
    if expired:
        numbers = str(expired)  # a list of integers is valid JSON
        db.execute(REDUCE, {"numbers": numbers, "today": today, "oldest": oldest})
        db.execute(DELETE, {"numbers": numbers})
    delete_digests(db, oldest, PRUNE_MAX + len(expired))


def select_expired(db: sqlite3.Connection, before: datetime, limit: int) -> list[int]:
    """Return the numbers of receipts older than this; the first row shows if there are any."""
    params = {"before": before.isoformat(), "limit": limit}
    if not db.execute(OLDEST, params | {"limit": min(1, limit)}).fetchone():
        return []
    return [number for (number,) in db.execute(OLDEST, params).fetchall()]


def delete_digests(db: sqlite3.Connection, before: int, limit: int) -> None:
    """Delete the oldest digests, and record up to which day some are missing."""
    if db.execute(DELETE_DIGESTS, {"before": before, "limit": limit}).rowcount:
        db.execute(STORE_HORIZON, [max(before, read_horizon(db) or 0)])


def read_horizon(db: sqlite3.Connection) -> int | None:
    """Return the day before which digests were deleted; None if all were kept."""
    row = db.execute(READ_HORIZON).fetchone()
    return None if row is None else int(row[0])

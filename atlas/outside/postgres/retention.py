"""Retention of receipts and digests: see atlas/outside/journal/retention.py.

Numbers are not exactly in the order of acceptance, because several replicas assign them.
"""

from dataclasses import dataclass
from datetime import timedelta

from atlas.outside.journal.retention import DAYS_MIN, PRUNE_MAX, ReceiptRetention, count_days
from atlas.outside.postgres.database import Database

OLDEST = """
    SELECT number FROM (
        SELECT number, at FROM @.export WHERE status = 'committed' ORDER BY number LIMIT $1
    ) oldest WHERE at < $2
"""
EXCESS = """
    SELECT greatest(0, sum(exports) - $1)::bigint FROM @.total WHERE status = 'committed'
"""
REDUCE = """
    INSERT INTO @.digest (id, sender, rid, day)
    SELECT id, sender, rid, greatest(extract(epoch FROM at)::bigint / 86400, $2)
    FROM @.export WHERE number = ANY($1) ON CONFLICT DO NOTHING
"""
DELETE = "DELETE FROM @.export WHERE number = ANY($1)"
# An array, because a join with so many rows might read the whole table
DELETE_DIGESTS = """
    DELETE FROM @.digest WHERE id = ANY(ARRAY(
        SELECT id FROM @.digest WHERE day < $1 ORDER BY day LIMIT $2
    ))
"""
STORE_HORIZON = """
    INSERT INTO @.secret (name, value) VALUES ('horizon', convert_to($1::text, 'UTF8'))
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
READ_HORIZON = "SELECT convert_from(value, 'UTF8')::int FROM @.secret WHERE name = 'horizon'"


@dataclass(frozen=True, slots=True)
class ReceiptPruner:
    """Reduces and deletes a few of the oldest receipts and digests at each commit."""

    retention: ReceiptRetention

    async def prune(self, database: Database, committed: int) -> None:
        retention = self.retention
        excess = await database.fetch_value(EXCESS, retention.exports_max)
        limit = PRUNE_MAX + committed
        expired = await self._select_expired(database, retention.days, limit)
        expired = expired or await self._select_expired(database, DAYS_MIN, min(excess, limit))
        today = count_days(retention.clock())
        oldest = today - retention.digests_days if retention.digests_days else 0
        if expired:
            await database.execute(REDUCE, expired, oldest)
            await database.execute(DELETE, expired)
        if await database.execute(DELETE_DIGESTS, oldest, PRUNE_MAX + len(expired)):
            horizon = max(oldest, await read_horizon(database) or 0)
            await database.execute(STORE_HORIZON, str(horizon))

    async def _select_expired(self, database: Database, days: int, limit: int) -> list[int]:
        """Return the numbers of receipts older than this; the first row shows if there are any."""
        before = self.retention.clock() - timedelta(days=days)
        if not await database.fetch(OLDEST, min(1, limit), before):
            return []
        return [row["number"] for row in await database.fetch(OLDEST, limit, before)]


async def read_horizon(database: Database) -> int | None:
    """Return the day before which digests were deleted; None if all were kept."""
    horizon: int | None = await database.fetch_value(READ_HORIZON)
    return horizon

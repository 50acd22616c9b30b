"""Observes the database and the replicas that share it, for operators and metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import asyncpg

from atlas.core.errors import Unavailable
from atlas.core.inspection import CLOCK_SKEW_SECONDS_MAX
from atlas.core.ports import Clock
from atlas.core.status import DatabaseState, Replica
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.schema import IS_LIVE

SIZES_SECONDS = 15.0  # between two looks at the sizes
REPLICAS = f"""
    SELECT name, version, seen_at,
        (SELECT epoch FROM @.lease WHERE holder = name AND until > clock_timestamp()) AS epoch,
        name = $1 AS is_this, clock_skew
    FROM @.replica WHERE {IS_LIVE} ORDER BY name
"""
EPOCH = "SELECT epoch FROM @.lease"
SIZE = """
    SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relkind = 'r'
"""
DEAD_ROWS = """
    SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = $1
"""
# A role without pg_read_all_stats sees only its own transactions, prepared ones, and slots. When a
# standby began its query is not known, so its age is estimated by the transactions since. An old
# catalog_xmin keeps no rows of ours.
TRANSACTIONS_PER_SECOND = 200
OLDEST_TRANSACTION = f"""
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(began_at)), 0)::double precision
    FROM (
        SELECT xact_start AS began_at FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'
            AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)
        UNION ALL
        SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()
        UNION ALL
        SELECT clock_timestamp() - age(xmin) * interval '1 s' / {TRANSACTIONS_PER_SECOND} FROM (
            SELECT backend_xmin AS xmin FROM pg_stat_replication
            UNION ALL SELECT xmin FROM pg_replication_slots
        ) standbys WHERE xmin IS NOT NULL
    ) transactions
"""
# Of the standby that is farthest behind. A role without pg_read_all_stats sees no position.
REPLICATION_LAG = """
    SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn))::bigint FROM pg_stat_replication
"""
READ_CLOCK = "SELECT clock_timestamp()"

utc_now = partial(datetime.now, UTC)


class DatabaseSizes(NamedTuple):
    """The numbers that take a moment to read; None if our role may not."""

    bytes: int | None
    dead_rows: int | None
    oldest_transaction_seconds: float | None
    replication_lag_bytes: int | None


@dataclass(slots=True)
class DatabaseObserver:
    """Reads the state of the database, as the replica `name` sees it."""

    name: str
    clock: Clock
    monotonic: Callable[[], float]
    are_notifications_delayed: Callable[[], bool]
    _sizes: tuple[float, DatabaseSizes] | None = None

    async def read_state(self, database: Database) -> DatabaseState:
        """Return the state, with sizes that are 15 s old at most. Not within a transaction."""
        now = self.monotonic()
        if self._sizes is None or now - self._sizes[0] >= SIZES_SECONDS:
            self._sizes = now, await read_sizes(database)
        return DatabaseState(
            await database.fetch_value(EPOCH),
            await read_replicas(database, self.name),
            self.are_notifications_delayed(),
            *self._sizes[1],
        )

    async def require_clock(self, database: Database) -> None:
        """Raise Unavailable if our clock is not the database's: `ingested_at` would be wrong."""
        skew = await self.measure_skew(database)
        if abs(skew) > CLOCK_SKEW_SECONDS_MAX:
            side = "ahead of" if skew > 0 else "behind"
            raise Unavailable(
                f"Our clock is {abs(skew):,.0f} s {side} the database's: synchronize both clocks."
            )

    async def measure_skew(self, database: Database) -> float:
        """Return by how many seconds our clock is certainly ahead of the database's."""
        before = self.clock()
        theirs = await database.fetch_value(READ_CLOCK)
        after = self.clock()
        nearest: datetime = min(max(theirs, before), after)
        seconds: float = (nearest - theirs).total_seconds()
        return seconds


async def read_replicas(database: Database, name: str) -> tuple[Replica, ...]:
    """Return the replicas that run now; `name` is that of this one."""
    return tuple(Replica(*row) for row in await database.fetch(REPLICAS, name))


async def read_sizes(database: Database) -> DatabaseSizes:
    return DatabaseSizes(
        await read_if_allowed(database, SIZE, database.schema),
        await read_if_allowed(database, DEAD_ROWS, database.schema),
        await read_if_allowed(database, OLDEST_TRANSACTION),
        await read_if_allowed(database, REPLICATION_LAG),
    )


async def read_if_allowed(database: Database, statement: str, *args: object) -> Any:
    """Return a number, or None if our role may not read it."""
    try:
        return await database.fetch_value(statement, *args)
    except asyncpg.InsufficientPrivilegeError:
        return None

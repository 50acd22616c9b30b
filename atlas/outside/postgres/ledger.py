"""Entries, totals and readiness of the journal, for operators and metrics."""

import asyncio
from collections.abc import Callable

from atlas.core.errors import JournalAway
from atlas.core.messages import JournalEntry, JournalPage, ListedStatus, Status
from atlas.core.status import JournalTotals
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.entries import build_entry
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.journal.search import PREFIX_END, SearchQuery, SearchResult
from atlas.outside.postgres.connections import Session
from atlas.outside.postgres.database import COMMIT_MESSAGE, Database
from atlas.outside.postgres.insertion import read_totals
from atlas.outside.postgres.observation import DatabaseObserver
from atlas.outside.postgres.rows import COLUMNS, build_ledger_row
from atlas.outside.postgres.search import PostgresSearch

SELECT = f"SELECT number, tries, reason, isolation, {COLUMNS} FROM @.export"
PAGE = f"{SELECT} WHERE {{}} AND number < $1 ORDER BY number DESC LIMIT $2"
BY_NUMBERS = f"{SELECT} WHERE number = ANY($1) ORDER BY number DESC"
BY_PREFIX = f"{SELECT} WHERE id >= $1 AND id < $2 ORDER BY id LIMIT 2"
FAILED = "status = 'accepted' AND isolation > 0"
COUNTS = """
    SELECT status, sum(exports)::bigint AS exports, sum(bytes)::bigint AS bytes FROM @.total
    GROUP BY status ORDER BY status
"""
# With the conditions of the indexes `mailbox` and `failed`, so that no receipts are read
OLDEST = f"""
    SELECT min(at) FROM (
        (SELECT at FROM @.export WHERE status = 'accepted' AND isolation = 0
            ORDER BY number LIMIT 1)
        UNION ALL (SELECT at FROM @.export WHERE {FAILED} ORDER BY at LIMIT 1)
    ) oldest
"""
FAILED_COUNT = f"SELECT count(*) FROM @.export WHERE {FAILED}"
FAILED_LAST = f"SELECT reason FROM @.export WHERE {FAILED} ORDER BY turn DESC LIMIT 1"
# In one statement, so in one snapshot
COMPARE = f"""
    SELECT status, sum(stored) AS stored, sum(stored_bytes)::bigint AS stored_bytes,
        sum(counted) AS counted, sum(counted_bytes)::bigint AS counted_bytes
    FROM (
        SELECT status, exports AS stored, bytes AS stored_bytes, 0 AS counted, 0 AS counted_bytes
        FROM @.total WHERE status IN ('accepted', 'set_aside')
        UNION ALL
        SELECT 'accepted', 0, 0, count(*), coalesce(sum(bytes), 0) FROM @.export
        WHERE status = 'accepted' AND isolation = 0
        UNION ALL
        SELECT 'accepted', 0, 0, count(*), coalesce(sum(bytes), 0) FROM @.export
        WHERE {FAILED}
        UNION ALL
        SELECT 'set_aside', 0, 0, count(*), coalesce(sum(bytes), 0) FROM @.export
        WHERE status = 'set_aside'
    ) totals GROUP BY status ORDER BY status
"""
RECOUNT_SECONDS = 60.0
READY_SECONDS = 2.0  # a load balancer waits for a few seconds


class PostgresLedger:
    """Implements `ports.Ledger`."""

    def __init__(
        self,
        session: Session,
        codec: RowCodec,
        limits: CapacityLimits,
        monotonic: Callable[[], float],
        observer: DatabaseObserver,
    ) -> None:
        self._session = session
        self._codec = codec
        self._limits = limits
        self._monotonic = monotonic
        self._observer = observer
        self._search = PostgresSearch(session, codec)
        self._difference: tuple[float, int] | None = None

    async def list_entries(
        self,
        status: ListedStatus | None,
        limit: int,
        before: int | None,
        find: str | None = None,
    ) -> JournalPage:
        before = 2**62 if before is None else before
        if find is None:
            return await self._session.run(
                lambda database: self._list_page(database, status, limit, before),
                is_repeatable=True,
            )
        found = await self._search.find(SearchQuery(find, status, before, limit))
        return await self._session.run(
            lambda database: self._list_found(database, found), is_repeatable=True
        )

    async def _list_page(
        self, database: Database, status: ListedStatus | None, limit: int, before: int
    ) -> JournalPage:
        condition = "TRUE" if status is None else FAILED if status == "failed" else ""
        rows = await database.fetch(
            PAGE.format(condition or f"status = '{status}'"), before, limit + 1
        )
        page = rows[:limit]
        return JournalPage(
            totals=await read_counts(database),
            entries=tuple(build_entry(build_ledger_row(row), self._codec) for row in page),
            before=page[-1]["number"] if len(rows) > limit else None,
        )

    async def _list_found(self, database: Database, found: SearchResult) -> JournalPage:
        rows = await database.fetch(BY_NUMBERS, found.numbers)
        return JournalPage(
            totals=await read_counts(database),
            entries=tuple(build_entry(build_ledger_row(row), self._codec) for row in rows),
            before=found.before,
            looked_at=found.looked_at,
        )

    async def find_entry(self, id: str) -> JournalEntry | None:
        rows = await self._session.fetch(BY_PREFIX, id, id + PREFIX_END)
        return build_entry(build_ledger_row(rows[0]), self._codec) if len(rows) == 1 else None

    async def read_totals(self) -> JournalTotals:
        async def work(database: Database) -> JournalTotals:
            totals = await database.fetch(COUNTS)
            return JournalTotals(
                exports={row["status"]: row["exports"] for row in totals},
                bytes={row["status"]: row["bytes"] for row in totals},
                oldest=await database.fetch_value(OLDEST),
                free_bytes=None,
                imbalance=await self._count_difference(database),
                failed=await database.fetch_value(FAILED_COUNT),
                failed_reason=await database.fetch_value(FAILED_LAST),
                database=await self._observer.read_state(database),
            )

        return await self._session.run(work, is_repeatable=True)

    async def _count_difference(self, database: Database) -> int:
        """Return the number of exports by which the stored totals are wrong."""
        now = self._monotonic()
        if self._difference is None or now - self._difference[0] >= RECOUNT_SECONDS:
            rows = await database.fetch(COMPARE)
            self._difference = now, int(sum(abs(row["stored"] - row["counted"]) for row in rows))
        return self._difference[1]

    async def check_ready(self) -> None:
        """Also raise Unavailable if our clock is wrong."""

        async def work(database: Database) -> None:
            await database.fetch_value(COMMIT_MESSAGE)
            (await read_totals(database)).take(self._limits, 1)
            await self._observer.require_clock(database)

        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._session.transact(work, is_repeatable=True)
        except TimeoutError as error:
            raise JournalAway("The journal's database does not answer.") from error


async def read_counts(database: Database) -> dict[Status, int]:
    """Return the number of exports by status; abandoned ones only if there are any."""
    rows = await database.fetch(COUNTS)
    return {
        row["status"]: row["exports"]
        for row in rows
        if row["status"] != "abandoned" or row["exports"]
    }

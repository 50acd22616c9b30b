"""Entries, totals and readiness of the journal, for operators and metrics."""

import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Any

from atlas.core.messages import JournalEntry, JournalPage, ListedStatus
from atlas.core.status import JournalTotals
from atlas.outside.journal.entries import LedgerRow, build_entry
from atlas.outside.journal.row_codec import ExportRow, RowCodec
from atlas.outside.journal.search import PREFIX_END, SearchQuery, SearchResult
from atlas.outside.journal.texts import make_storable
from atlas.outside.sqlite import schema
from atlas.outside.sqlite.capacity import CapacityLimit
from atlas.outside.sqlite.columns import COLUMNS
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.search import PUBLIC_STATUS, Search

SELECT = f"SELECT number, tries, reason, isolation, {COLUMNS} FROM export"
PAGE = f"{SELECT} WHERE {{}} AND number < ? ORDER BY number DESC LIMIT ?"
WRITE_TEST = "INSERT INTO secret VALUES ('touch', x'')", "DELETE FROM secret WHERE name = 'touch'"
COUNTS = f"""
    SELECT {PUBLIC_STATUS}, sum(exports) FROM total WHERE status <> 'abandoned' OR exports > 0
    GROUP BY 1
"""
TOTALS = f"SELECT {PUBLIC_STATUS}, sum(exports), sum(bytes) FROM total GROUP BY 1"
# One query for each status: with a literal status it uses the partial index.
WAITING = "accepted", "claimed"
OLDEST = "SELECT at FROM export WHERE status = '{}' ORDER BY number LIMIT 1"
FAILED = "status = '{}' AND isolation > 0"
FAILED_COUNT = f"SELECT count(*) FROM export WHERE {FAILED}"
FAILED_LAST = f"SELECT reason FROM export WHERE {FAILED} ORDER BY turn DESC LIMIT 1"
RECOUNT_SECONDS = 60.0  # counting a million exports takes a tenth of a second


class SqliteLedger:
    """Implements `ports.Ledger`."""

    def __init__(
        self,
        commits: GroupCommit,
        codec: RowCodec,
        capacity: CapacityLimit,
        monotonic: Callable[[], float],
    ) -> None:
        self._commits = commits
        self._codec = codec
        self._capacity = capacity
        self._monotonic = monotonic
        self._search = Search(commits, codec)
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
            return await self._list_page(status, limit, before)
        return await self._list_found(
            await self._search.find(SearchQuery(find, status, before, limit))
        )

    @run_in_commit
    def _list_page(
        self, db: sqlite3.Connection, status: ListedStatus | None, limit: int, before: int
    ) -> JournalPage:
        rows = select_by_status(db, status, before, limit + 1)
        page = rows[:limit]
        return JournalPage(
            totals=dict(db.execute(COUNTS).fetchall()),
            entries=tuple(build_entry(split_row(row), self._codec) for row in page),
            before=page[-1][0] if len(rows) > limit else None,
        )

    @run_in_commit
    def _list_found(self, db: sqlite3.Connection, result: SearchResult) -> JournalPage:
        select = f"{SELECT} WHERE number = ?"
        rows = [row for each in result.numbers for row in db.execute(select, [each])]
        return JournalPage(
            totals=dict(db.execute(COUNTS).fetchall()),
            entries=tuple(build_entry(split_row(row), self._codec) for row in rows),
            before=result.before,
            looked_at=result.looked_at,
        )

    @run_in_commit
    def find_entry(self, db: sqlite3.Connection, id: str) -> JournalEntry | None:
        select = f"{SELECT} WHERE id >= ? AND id < ? ORDER BY id LIMIT 2"
        prefix = make_storable(id)
        rows = db.execute(select, [prefix, prefix + PREFIX_END]).fetchall()
        return build_entry(split_row(rows[0]), self._codec) if len(rows) == 1 else None

    @run_in_commit
    def read_totals(self, db: sqlite3.Connection) -> JournalTotals:
        totals = db.execute(TOTALS).fetchall()
        return JournalTotals(
            exports={status: exports for status, exports, _ in totals},
            bytes={status: size for status, _, size in totals},
            oldest=find_oldest(db),
            free_bytes=self._capacity.free_bytes(),
            imbalance=self._count_difference(db),
            failed=count_failed(db),
            failed_reason=read_last_failure(db),
        )

    def _count_difference(self, db: sqlite3.Connection) -> int:
        now = self._monotonic()
        if self._difference is None or now - self._difference[0] >= RECOUNT_SECONDS:
            self._difference = now, schema.count_difference(db)
        return self._difference[1]

    @run_in_commit
    def check_ready(self, db: sqlite3.Connection) -> None:
        for statement in WRITE_TEST:  # a read would succeed on a full disk
            db.execute(statement)
        self._capacity.check(db, 1)


def select_by_status(
    db: sqlite3.Connection, status: ListedStatus | None, before: int, limit: int
) -> list[tuple[Any, ...]]:
    """Select the newest entries with a public status, through the indexes of stored statuses."""
    if status is None:
        return db.execute(PAGE.format("TRUE"), [before, limit]).fetchall()
    condition = FAILED if status == "failed" else "status = '{}'"
    stored_statuses = WAITING if status in {"accepted", "failed"} else (status,)
    rows = [
        row
        for each in stored_statuses
        for row in db.execute(PAGE.format(condition.format(each)), [before, limit])
    ]
    return sorted(rows, reverse=True)[:limit]


def split_row(row: tuple[Any, ...]) -> LedgerRow:
    """Split the columns of SELECT."""
    number, tries, reason, isolation, *columns = row
    return LedgerRow(number, tries, reason, isolation, ExportRow(*columns))


def count_failed(db: sqlite3.Connection) -> int:
    """Count the waiting exports that have failed, including those being tried again."""
    return sum(db.execute(FAILED_COUNT.format(each)).fetchone()[0] for each in WAITING)


def read_last_failure(db: sqlite3.Connection) -> str | None:
    """Return the reason of the latest failure among the waiting exports."""
    for status in WAITING:
        row: tuple[str | None] | None = db.execute(FAILED_LAST.format(status)).fetchone()
        if row is not None:
            return row[0]
    return None


def find_oldest(db: sqlite3.Connection) -> datetime | None:
    """Return the time of acceptance of the oldest waiting export; None if corrupt."""
    times = [text for each in WAITING for (text,) in db.execute(OLDEST.format(each)).fetchall()]
    try:
        return min(map(datetime.fromisoformat, times), default=None)
    except (ValueError, TypeError):
        return None

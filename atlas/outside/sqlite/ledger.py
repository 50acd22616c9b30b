"""What an operator sees of the journal: where everything stands, and whether there is room."""

import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from atlas.core import identifiers
from atlas.core.messages import Isolation, JournalEntry, JournalPage, ListedStatus
from atlas.core.status import JournalTotals
from atlas.outside.sqlite import schema
from atlas.outside.sqlite.capacity import CapacityLimit
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.row_codec import COLUMNS, ExportRow, RowCodec, build_receipt
from atlas.outside.sqlite.search import PUBLIC_STATUS, Search, SearchQuery

SELECT = f"SELECT number, tries, reason, isolation, {COLUMNS} FROM export"
PAGE = f"{SELECT} WHERE {{}} AND number < ? ORDER BY number DESC LIMIT ?"
WRITE_TEST = "INSERT INTO secret VALUES ('touch', x'')", "DELETE FROM secret WHERE name = 'touch'"
TOTALS = f"""
    SELECT {PUBLIC_STATUS}, sum(exports) FROM total WHERE status <> 'abandoned' OR exports > 0 GROUP BY 1
"""
DEPTH = f"SELECT {PUBLIC_STATUS}, sum(exports), sum(bytes) FROM total GROUP BY 1"
OLDEST = "SELECT at FROM export WHERE status = '{}' ORDER BY number LIMIT 1"  # by an index of each
OLDEST_OF_EACH = OLDEST.format("accepted"), OLDEST.format("claimed")
WAITING = "accepted", "claimed"  # of which the last is on its way just now
FAILED = "status = '{}' AND isolation > 0"
FAILED_COUNT = f"SELECT count(*) FROM export WHERE {FAILED}"
FAILED_LAST = f"SELECT reason FROM export WHERE {FAILED} ORDER BY turn DESC LIMIT 1"
ISOLATIONS: tuple[Isolation, ...] = "none", "own_file", "small_group", "small_group", "alone"
COUNTED_SECONDS = 60.0  # to count a million takes a tenth of a second


class SqliteLedger:
    """Answers `ports.Ledger`."""

    def __init__(
        self,
        commits: GroupCommit,
        entries: RowCodec,
        capacity: CapacityLimit,
        monotonic: Callable[[], float],
    ) -> None:
        self._commits = commits
        self._entries = entries
        self._capacity = capacity
        self._monotonic = monotonic
        self._search = Search(commits, entries)
        self._counted: tuple[float, int] | None = None

    async def list_entries(
        self,
        status: ListedStatus | None,
        limit: int,
        before: int | None,
        find: str | None = None,
    ) -> JournalPage:
        before = 2**62 if before is None else before
        if find is not None:
            return await self._search_page(SearchQuery(find, status, before, limit))

        def work(db: sqlite3.Connection) -> JournalPage:
            rows = select_by_status(db, status, before, limit + 1)
            shown = rows[:limit]
            return JournalPage(
                totals=dict(db.execute(TOTALS).fetchall()),
                entries=tuple(build_entry(row, self._entries) for row in shown),
                before=shown[-1][0] if len(rows) > limit else None,
            )

        return await self._commits.run(work)

    async def _search_page(self, sought: SearchQuery) -> JournalPage:
        result = await self._search.find(sought)

        def work(db: sqlite3.Connection) -> JournalPage:
            rows = [db.execute(f"{SELECT} WHERE number = ?", [each]) for each in result.numbers]
            return JournalPage(
                totals=dict(db.execute(TOTALS).fetchall()),
                entries=tuple(build_entry(row, self._entries) for each in rows for row in each),
                before=result.before,
                looked_at=result.looked_at,
            )

        return await self._commits.run(work)

    @run_in_commit
    def find_entry(self, db: sqlite3.Connection, id: str) -> JournalEntry | None:
        # GLOB would let a caller's * stand for anything; a range of the index does not
        select = f"{SELECT} WHERE id >= ? AND id < ? ORDER BY id LIMIT 2"
        rows = db.execute(select, [id, id + "\U0010ffff"]).fetchall()
        return build_entry(rows[0], self._entries) if len(rows) == 1 else None

    @run_in_commit
    def read_totals(self, db: sqlite3.Connection) -> JournalTotals:
        totals = db.execute(DEPTH).fetchall()
        return JournalTotals(
            exports={status: exports for status, exports, _ in totals},
            bytes={status: size for status, _, size in totals},
            oldest=find_oldest(db),
            free_bytes=self._capacity.free_bytes(),
            imbalance=self._imbalance(db),
            failed=count_failed(db),
            failed_reason=read_last_failure(db),
        )

    def _imbalance(self, db: sqlite3.Connection) -> int:
        now = self._monotonic()
        if self._counted is None or now - self._counted[0] >= COUNTED_SECONDS:
            self._counted = now, schema.count_difference(db)
        return self._counted[1]

    @run_in_commit
    def check_ready(self, db: sqlite3.Connection) -> None:
        def work(db: sqlite3.Connection) -> None:
            for statement in WRITE_TEST:  # reading alone goes well on a disk that is full, too
                db.execute(statement)
            self._capacity.check(db, 1)

        work(db)


def select_by_status(
    db: sqlite3.Connection, status: ListedStatus | None, before: int, limit: int
) -> list[tuple[Any, ...]]:
    """Those that stand so. Each status has an index, which only its own name in a query reaches."""
    if status is None:
        return db.execute(PAGE.format("TRUE"), [before, limit]).fetchall()
    condition = FAILED if status == "failed" else "status = '{}'"
    stand = WAITING if status in {"accepted", "failed"} else (status,)
    rows = [
        row
        for each in stand
        for row in db.execute(PAGE.format(condition.format(each)), [before, limit])
    ]
    return sorted(rows, reverse=True)[:limit]


def build_entry(row: tuple[Any, ...], entries: RowCodec) -> JournalEntry:
    """What SELECT finds, without a name in it."""
    _, tries, reason, isolation, *columns = row
    export_row = ExportRow(*columns)
    label, at = entries.fields_or_default(export_row)
    user, found = (
        export_row.user[: identifiers.PSEUDONYM_CHARACTERS],
        build_receipt(export_row, label, at),
    )
    path = identifiers.pseudonymize_path(found.path, user) if found.path else ""
    receipt = msgspec.structs.replace(found, path=path)
    waits = receipt.status == "accepted"
    how: Isolation = ISOLATIONS[min(isolation, len(ISOLATIONS) - 1)] if waits else "none"
    return JournalEntry(receipt, user, export_row.size, tries, reason, label.correlation_id, how)


def count_failed(db: sqlite3.Connection) -> int:
    """Count what has failed and waits, also while it is being tried."""
    return sum(db.execute(FAILED_COUNT.format(each)).fetchone()[0] for each in WAITING)


def read_last_failure(db: sqlite3.Connection) -> str | None:
    """Return the reason of the newest failure of what waits."""
    for status in WAITING:
        row: tuple[str | None] | None = db.execute(FAILED_LAST.format(status)).fetchone()
        if row is not None:
            return row[0]
    return None


def find_oldest(db: sqlite3.Connection) -> datetime | None:
    """When that came which has waited for Foundry for longest; None also if a bit of it flipped."""
    times = [text for select in OLDEST_OF_EACH for (text,) in db.execute(select).fetchall()]
    try:
        return min(map(datetime.fromisoformat, times), default=None)
    except (ValueError, TypeError):
        return None

"""What an operator sees of the journal: where everything stands, and whether there is room."""

import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from atlas.core import names
from atlas.core.messages import Entry, Isolation, ListedStatus, Listing
from atlas.core.picture import Depth
from atlas.outside.sqlite import schema
from atlas.outside.sqlite.commits import Commits, run_in_commit
from atlas.outside.sqlite.entries import COLUMNS, Entries, Row, receipt_of
from atlas.outside.sqlite.room import Room
from atlas.outside.sqlite.search import STANDS, Search, Sought

SELECT = f"SELECT number, tries, reason, isolation, {COLUMNS} FROM export"
PAGE = f"{SELECT} WHERE {{}} AND number < ? ORDER BY number DESC LIMIT ?"
TOUCH = "INSERT INTO secret VALUES ('touch', x'')", "DELETE FROM secret WHERE name = 'touch'"
TOTALS = f"""
    SELECT {STANDS}, sum(exports) FROM total WHERE status <> 'abandoned' OR exports > 0 GROUP BY 1
"""
DEPTH = f"SELECT {STANDS}, sum(exports), sum(bytes) FROM total GROUP BY 1"
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
        self, commits: Commits, entries: Entries, room: Room, elapsed: Callable[[], float]
    ) -> None:
        self._commits = commits
        self._entries = entries
        self._room = room
        self._elapsed = elapsed
        self._search = Search(commits, entries)
        self._counted: tuple[float, int] | None = None

    async def listing(
        self,
        status: ListedStatus | None,
        limit: int,
        before: int | None,
        find: str | None = None,
    ) -> Listing:
        before = 2**62 if before is None else before
        if find is not None:
            return await self._those(Sought(find, status, before, limit))

        def work(db: sqlite3.Connection) -> Listing:
            rows = newest(db, status, before, limit + 1)
            shown = rows[:limit]
            return Listing(
                totals=dict(db.execute(TOTALS).fetchall()),
                entries=tuple(entry_of(row, self._entries) for row in shown),
                before=shown[-1][0] if len(rows) > limit else None,
            )

        return await self._commits.run(work)

    async def _those(self, sought: Sought) -> Listing:
        found = await self._search.found(sought)

        def work(db: sqlite3.Connection) -> Listing:
            rows = [db.execute(f"{SELECT} WHERE number = ?", [each]) for each in found.numbers]
            return Listing(
                totals=dict(db.execute(TOTALS).fetchall()),
                entries=tuple(entry_of(row, self._entries) for each in rows for row in each),
                before=found.before,
                looked_at=found.looked_at,
            )

        return await self._commits.run(work)

    @run_in_commit
    def entry(self, db: sqlite3.Connection, id: str) -> Entry | None:
        # GLOB would let a caller's * stand for anything; a range of the index does not
        select = f"{SELECT} WHERE id >= ? AND id < ? ORDER BY id LIMIT 2"
        rows = db.execute(select, [id, id + "\U0010ffff"]).fetchall()
        return entry_of(rows[0], self._entries) if len(rows) == 1 else None

    @run_in_commit
    def depth(self, db: sqlite3.Connection) -> Depth:
        totals = db.execute(DEPTH).fetchall()
        return Depth(
            exports={status: exports for status, exports, _ in totals},
            bytes={status: size for status, _, size in totals},
            oldest=oldest(db),
            free_bytes=self._room.free_bytes(),
            imbalance=self._imbalance(db),
            failed=count_failed(db),
            failed_reason=last_failure(db),
        )

    def _imbalance(self, db: sqlite3.Connection) -> int:
        now = self._elapsed()
        if self._counted is None or now - self._counted[0] >= COUNTED_SECONDS:
            self._counted = now, schema.imbalance(db)
        return self._counted[1]

    @run_in_commit
    def ready(self, db: sqlite3.Connection) -> None:
        def work(db: sqlite3.Connection) -> None:
            for statement in TOUCH:  # reading alone goes well on a disk that is full, too
                db.execute(statement)
            self._room.check(db, 1)

        work(db)


def newest(
    db: sqlite3.Connection, status: ListedStatus | None, before: int, limit: int
) -> list[tuple[Any, ...]]:
    """Those that stand so. Each status has an index, which only its own name in a query reaches."""
    if status is None:
        return db.execute(PAGE.format("TRUE"), [before, limit]).fetchall()
    condition = FAILED if status == "failed" else "status = '{}'"
    stand = WAITING if status in {"accepted", "failed"} else (status,)
    found = [
        row
        for each in stand
        for row in db.execute(PAGE.format(condition.format(each)), [before, limit])
    ]
    return sorted(found, reverse=True)[:limit]


def entry_of(row: tuple[Any, ...], entries: Entries) -> Entry:
    """What SELECT finds, without a name in it."""
    _, tries, reason, isolation, *columns = row
    kept = Row(*columns)
    label, at = entries.told(kept)
    user, found = kept.user[: names.PSEUDONYM_CHARACTERS], receipt_of(kept, label, at)
    path = names.nameless(found.path, user) if found.path else ""
    receipt = msgspec.structs.replace(found, path=path)
    waits = receipt.status == "accepted"
    how: Isolation = ISOLATIONS[min(isolation, len(ISOLATIONS) - 1)] if waits else "none"
    return Entry(receipt, user, kept.size, tries, reason, label.correlation_id, how)


def count_failed(db: sqlite3.Connection) -> int:
    """Count what has failed and waits, also while it is being tried."""
    return sum(db.execute(FAILED_COUNT.format(each)).fetchone()[0] for each in WAITING)


def last_failure(db: sqlite3.Connection) -> str | None:
    """Return the reason of the newest failure of what waits."""
    for status in WAITING:
        found: tuple[str | None] | None = db.execute(FAILED_LAST.format(status)).fetchone()
        if found is not None:
            return found[0]
    return None


def oldest(db: sqlite3.Connection) -> datetime | None:
    """When that came which has waited for Foundry for longest; None also if a bit of it flipped."""
    found = [text for select in OLDEST_OF_EACH for (text,) in db.execute(select).fetchall()]
    try:
        return min(map(datetime.fromisoformat, found), default=None)
    except (ValueError, TypeError):
        return None

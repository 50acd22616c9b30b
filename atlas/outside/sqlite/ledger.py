"""What an operator sees of the journal: where everything stands, and whether there is room."""

import sqlite3
from typing import Any

import msgspec

from atlas.core import names
from atlas.core.errors import JournalFull
from atlas.core.messages import Entry, Listing, Status
from atlas.outside.sqlite.commits import Commits
from atlas.outside.sqlite.intake import KEPT
from atlas.outside.sqlite.receipts import COLUMNS, receipt

SELECT = f"SELECT number, user, bytes, tries, {COLUMNS} FROM export"
STANDS = "CASE status WHEN 'claimed' THEN 'accepted' ELSE status END"
PAGE = f"""
    {SELECT} WHERE number < :before AND (:status IS NULL OR {STANDS} = :status)
    ORDER BY number DESC LIMIT :limit
"""
TOUCH = "INSERT INTO secret VALUES ('touch', x'')", "DELETE FROM secret WHERE name = 'touch'"
TOTALS = f"SELECT {STANDS}, sum(exports) FROM total GROUP BY 1"


class SqliteLedger:
    """Answers `ports.Ledger`. `log_key` hashes the users."""

    def __init__(self, commits: Commits, bytes_max: int, log_key: bytes) -> None:
        self._commits = commits
        self._bytes_max = bytes_max
        self._log_key = log_key

    async def listing(self, status: Status | None, limit: int, before: int | None) -> Listing:
        before = 2**62 if before is None else before
        given = {"status": status, "before": before, "limit": limit + 1}

        def work(db: sqlite3.Connection) -> Listing:
            rows = db.execute(PAGE, given).fetchall()
            shown = rows[:limit]
            return Listing(
                totals=dict(db.execute(TOTALS).fetchall()),
                entries=tuple(map(self._entry, shown)),
                before=shown[-1][0] if len(rows) > limit else None,
            )

        return await self._commits.run(work)

    async def entry(self, id: str) -> Entry | None:
        # GLOB would let a caller's * stand for anything; a range of the index does not
        select = f"{SELECT} WHERE id >= ? AND id < ? ORDER BY id LIMIT 2"

        def work(db: sqlite3.Connection) -> Entry | None:
            rows = db.execute(select, [id, id + "\U0010ffff"]).fetchall()
            return self._entry(rows[0]) if len(rows) == 1 else None

        return await self._commits.run(work)

    async def ready(self) -> None:
        def work(db: sqlite3.Connection) -> int:
            for statement in TOUCH:  # reading alone goes well on a disk that is full, too
                db.execute(statement)
            return int(db.execute(KEPT).fetchone()[0])

        if await self._commits.run(work) >= self._bytes_max:
            raise JournalFull

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        _, user, size, tries, *columns = row
        pseudonym, found = names.pseudonym(self._log_key, user), receipt(tuple(columns))
        path = names.nameless(found.path, pseudonym)
        return Entry(msgspec.structs.replace(found, path=path), pseudonym, size, tries)

"""What a sender may ask of the journal: his own receipts."""

import sqlite3
from datetime import datetime
from typing import Any

import msgspec

from atlas.core.errors import Rejected
from atlas.core.messages import Page, Receipt, Reject, Status, User
from atlas.outside.sqlite.commits import Commits

COLUMNS = "id, status, at, path, ingested, rejected, rejects, rid"

_rejects = msgspec.json.Decoder(tuple[Reject, ...])


class SqliteReceipts:
    """Answers `ports.Receipts`."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    async def find(self, user: User, id: str) -> Receipt | None:
        select = f"SELECT {COLUMNS} FROM export WHERE user = ? AND id = ?"

        def work(db: sqlite3.Connection) -> Receipt | None:
            row = db.execute(select, [user.sub, id]).fetchone()
            return receipt(row) if row else None

        return await self._commits.run(work)

    async def page(self, user: User, key: str | None, limit: int, cursor: str | None) -> Page:
        before = number_of(cursor)
        bound = "SELECT export FROM binding WHERE user = :user AND key = :key"
        named = "" if key is None else f"AND id IN ({bound})"
        select = f"""
            SELECT number, {COLUMNS} FROM export
            WHERE user = :user AND number < :before {named} ORDER BY number DESC LIMIT :limit
        """
        given = {"user": user.sub, "key": key, "before": before, "limit": limit + 1}

        def work(db: sqlite3.Connection) -> Page:
            rows = db.execute(select, given).fetchall()
            shown = rows[:limit]
            cursor = str(shown[-1][0]) if len(rows) > limit else None
            return Page(tuple(receipt(row[1:]) for row in shown), cursor)

        return await self._commits.run(work)


def number_of(cursor: str | None) -> int:
    """Where a page begins. Raises Rejected for what no page has given."""
    if cursor is None:
        return 2**62
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise Rejected("cursor is not one that a page of receipts gave.")
    return int(cursor)


def receipt(row: tuple[Any, ...]) -> Receipt:
    """A row of COLUMNS. Claimed is a word between the journal and the uploader only."""
    id, status, at, path, ingested, rejected, rejects, rid = row
    shown: Status = "accepted" if status == "claimed" else status
    return Receipt(
        id=id,
        status=shown,
        at=datetime.fromisoformat(at),
        path=path,
        ingested=ingested,
        rejected=rejected,
        rejects=_rejects.decode(rejects),
        transaction=rid if shown == "committed" else None,
    )

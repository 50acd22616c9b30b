"""What a sender may ask of the journal: his own receipts."""

import sqlite3
from collections.abc import Sequence

from atlas.core import identifiers
from atlas.core.errors import Rejected
from atlas.core.messages import Receipt, ReceiptPage, User
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.row_codec import COLUMNS, ExportRow, RowCodec


class SqliteReceipts:
    """Answers `ports.Receipts`."""

    def __init__(self, commits: GroupCommit, entries: RowCodec) -> None:
        self._commits = commits
        self._entries = entries

    @run_in_commit
    def find(self, db: sqlite3.Connection, user: User, id: str) -> Receipt | None:
        select = f"SELECT {COLUMNS} FROM export WHERE user = ? AND id = ?"
        row = db.execute(select, [self._entries.seal.hash_user(user.sub), id]).fetchone()
        return self._entries.build_receipt(ExportRow(*row)) if row else None

    @run_in_commit
    def list_page(
        self, db: sqlite3.Connection, user: User, key: str | None, limit: int, cursor: str | None
    ) -> ReceiptPage:
        before = decode_cursor(cursor)
        bound = "SELECT export FROM binding WHERE user = :user AND key IN (:key, :whole)"
        named = "" if key is None else f"AND id IN ({bound})"
        select = f"""
            SELECT moment, {COLUMNS} FROM export
            WHERE user = :user AND moment < :before {named} ORDER BY moment DESC LIMIT :limit
        """
        seal = self._entries.seal
        given = {
            "user": seal.hash_user(user.sub),
            "key": None if key is None else seal.hash_text(key),
            "whole": None
            if key is None
            else seal.hash_text(identifiers.derive_stream_id(user, key)),
            "before": before,
            "limit": limit + 1,
        }
        rows = db.execute(select, given).fetchall()
        shown = rows[:limit]
        cursor = str(shown[-1][0]) if len(rows) > limit else None
        return ReceiptPage(
            tuple(self._entries.build_receipt(ExportRow(*row[1:])) for row in shown), cursor
        )

    @run_in_commit
    def list_parts(self, db: sqlite3.Connection, user: User, stream_id: str) -> Sequence[Receipt]:
        select = f"""
            SELECT {COLUMNS} FROM export JOIN (
                SELECT position, export AS bound FROM binding WHERE user = ? AND key = ?
            ) ON id = bound ORDER BY position
        """
        seal = self._entries.seal
        given = [seal.hash_user(user.sub), seal.hash_text(stream_id)]
        return [self._entries.build_receipt(ExportRow(*row)) for row in db.execute(select, given)]


def decode_cursor(cursor: str | None) -> int:
    """Where a page begins. Raises Rejected for what no page has given."""
    if cursor is None:
        return 2**62
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise Rejected("cursor is not one that a page of receipts gave.")
    return int(cursor)

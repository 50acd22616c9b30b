"""Receipts for senders."""

import sqlite3
from collections.abc import Sequence

from atlas.core import identifiers
from atlas.core.messages import Receipt, ReceiptPage, User
from atlas.outside.journal.entries import decode_cursor
from atlas.outside.journal.row_codec import ExportRow, RowCodec
from atlas.outside.journal.texts import make_storable
from atlas.outside.sqlite.columns import COLUMNS
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit

PAGE = f"""
    SELECT moment, {COLUMNS} FROM export
    WHERE user = :user AND moment < :before {{}} ORDER BY moment DESC LIMIT :limit
"""
WITH_KEY = "AND id IN (SELECT export FROM binding WHERE user = :user AND key IN (:key, :stream))"
PARTS = f"""
    SELECT {COLUMNS} FROM export JOIN (
        SELECT position, export AS bound FROM binding WHERE user = ? AND key = ?
    ) ON id = bound ORDER BY position
"""


class SqliteReceipts:
    """Implements `ports.ReceiptQueries`."""

    def __init__(self, commits: GroupCommit, codec: RowCodec) -> None:
        self._commits = commits
        self._codec = codec

    @run_in_commit
    def find(self, db: sqlite3.Connection, user: User, id: str) -> Receipt | None:
        select = f"SELECT {COLUMNS} FROM export WHERE user = ? AND id = ?"
        row = db.execute(
            select, [self._codec.cipher.hash_user(user.sub), make_storable(id)]
        ).fetchone()
        return self._codec.build_receipt(ExportRow(*row)) if row else None

    @run_in_commit
    def list_page(
        self, db: sqlite3.Connection, user: User, key: str | None, limit: int, cursor: str | None
    ) -> ReceiptPage:
        cipher = self._codec.cipher
        params = {
            "user": cipher.hash_user(user.sub),
            "before": decode_cursor(cursor),
            "limit": limit + 1,
        }
        if key is not None:
            params["key"] = cipher.hash_text(key)
            params["stream"] = cipher.hash_text(identifiers.derive_stream_id(user, key))
        rows = db.execute(PAGE.format("" if key is None else WITH_KEY), params).fetchall()
        page = rows[:limit]
        next_cursor = str(page[-1][0]) if len(rows) > limit else None
        return ReceiptPage(
            tuple(self._codec.build_receipt(ExportRow(*row[1:])) for row in page), next_cursor
        )

    @run_in_commit
    def list_parts(self, db: sqlite3.Connection, user: User, stream_id: str) -> Sequence[Receipt]:
        cipher = self._codec.cipher
        params = [cipher.hash_user(user.sub), cipher.hash_text(stream_id)]
        return [self._codec.build_receipt(ExportRow(*row)) for row in db.execute(PARTS, params)]

"""The rows that are not in the stream yet: see `ports.StreamQueue`.

An export that is committed first leaves its payload to `unpublished_payload`. It does not stay in
`payload`, so that a payload there always means that its rows are not in the dataset.
"""

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime

from atlas.core.errors import CorruptEntry
from atlas.core.stream import StreamBacklog, UnpublishedExport
from atlas.outside.journal.row_codec import ExportRow, RowCodec
from atlas.outside.sqlite.columns import COLUMNS, SELECT_PAYLOAD
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit

DROPPED_MAX = 1_000  # exports at once
ENQUEUE = "INSERT OR IGNORE INTO unpublished (number, rows, bytes) VALUES (?, ?, ?)"
KEPT = "(SELECT sealed FROM unpublished_payload kept WHERE kept.number = export.number)"
QUALIFIED = ", ".join(f"export.{each}" for each in COLUMNS.split(", "))
READ = f"""
    SELECT unpublished.number, rows, {QUALIFIED}, coalesce({SELECT_PAYLOAD}, {KEPT})
    FROM unpublished CROSS JOIN export ON export.number = unpublished.number
    ORDER BY unpublished.number LIMIT ?
"""
TOTAL = "SELECT coalesce(sum(rows), 0), coalesce(sum(bytes), 0) FROM unpublished"
OLDEST = """
    SELECT at FROM export WHERE number = (SELECT min(number) FROM unpublished)
"""
# Only the first ones are read, so that this takes no longer with a million exports.
DROP = f"""
    DELETE FROM unpublished WHERE number IN (
        SELECT number FROM (
            SELECT number, at, sum(first.bytes) OVER (ORDER BY number) - first.bytes AS earlier
            FROM (SELECT * FROM unpublished ORDER BY number LIMIT {DROPPED_MAX}) first
            LEFT JOIN export USING (number)
        ) WHERE earlier < ? OR coalesce(at, '') < ?
    ) RETURNING rows, bytes
"""
PUBLISHED = "DELETE FROM unpublished WHERE number IN (SELECT value FROM json_each(?))"


class SqliteStreamQueue:
    """Implements `ports.StreamQueue`."""

    def __init__(self, commits: GroupCommit, codec: RowCodec) -> None:
        self._commits = commits
        self._codec = codec

    @run_in_commit
    def read_unpublished(
        self, db: sqlite3.Connection, exports_max: int, bytes_max: int
    ) -> Sequence[UnpublishedExport]:
        exports, size = list[UnpublishedExport](), 0
        for number, rows, *columns, sealed in db.execute(READ, [exports_max]):
            row = ExportRow(*columns)
            size += row.size
            if exports and size > bytes_max:
                break
            exports.append(self._build(number, rows, row, sealed))
        return exports

    @run_in_commit
    def record_published(self, db: sqlite3.Connection, numbers: Collection[int]) -> None:
        db.execute(PUBLISHED, [str(list(numbers))])  # a list of integers is valid JSON

    @run_in_commit
    def trim(self, db: sqlite3.Connection, bytes_max: int, before: datetime) -> StreamBacklog:
        backlog = read_backlog(db)
        if not backlog.rows:
            return backlog
        excess = backlog.bytes - bytes_max
        dropped = db.execute(DROP, [excess, before.isoformat()]).fetchall()
        if not dropped:
            return backlog
        rows, size = (sum(column) for column in zip(*dropped, strict=True))
        return StreamBacklog(backlog.rows - rows, backlog.bytes - size, read_oldest(db), rows)

    @run_in_commit
    def clear(self, db: sqlite3.Connection) -> int:
        return db.execute("DELETE FROM unpublished").rowcount

    def _build(
        self, number: int, rows: int, row: ExportRow, sealed: bytes | None
    ) -> UnpublishedExport:
        payload, at = None, self._codec.fields_or_default(row)[1]
        with suppress(CorruptEntry):
            payload = self._codec.decrypt_compressed(row, sealed)
        return UnpublishedExport(number, row.id, at, rows, row.size, payload)


def read_backlog(db: sqlite3.Connection) -> StreamBacklog:
    rows, size = db.execute(TOTAL).fetchone()
    return StreamBacklog(rows, size, read_oldest(db))


def read_oldest(db: sqlite3.Connection) -> datetime | None:
    """Return the time of the oldest export; None if there is none, or if it is corrupt."""
    row = db.execute(OLDEST).fetchone()
    with suppress(ValueError, TypeError):
        return None if row is None else datetime.fromisoformat(row[0])
    return None

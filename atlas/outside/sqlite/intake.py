"""What is accepted: each export once, whoever sends it again, and under whatever key."""

import sqlite3
from datetime import datetime

import msgspec
import zstandard

from atlas.core import names
from atlas.core.errors import JournalFull, KeyReused
from atlas.core.messages import Flattened, Head, Receipt, User
from atlas.outside.sqlite.commits import Commits
from atlas.outside.sqlite.receipts import COLUMNS, receipt

INSERT = f"""
    INSERT INTO export
        (id, user, at, path, ingested, rejected, rejects, bytes, payload, correlation_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING {COLUMNS}
"""
KEPT = "SELECT sum(bytes) FROM total WHERE status IN ('accepted', 'claimed', 'set_aside')"


class SqliteIntake:
    """Answers `ports.Intake`. `bytes_max` limits what is kept, counted before compression."""

    def __init__(self, commits: Commits, bytes_max: int) -> None:
        self._commits = commits
        self._bytes_max = bytes_max
        self._zstd = zstandard.ZstdCompressor(level=1)  # used in the one thread of the journal

    async def append(self, export: Flattened) -> Receipt:
        def work(db: sqlite3.Connection) -> Receipt:
            check_key(db, export.head, export.id)
            found = db.execute(f"SELECT {COLUMNS} FROM export WHERE id = ?", [export.id]).fetchone()
            if found:
                kept = msgspec.structs.replace(receipt(found), replayed=True)
            else:
                kept = self._insert(db, export)
            bind_key(db, export.head, export.id)
            return kept

        return await self._commits.run(work)

    def _insert(self, db: sqlite3.Connection, export: Flattened) -> Receipt:
        table, user = export.table, export.head.user
        kept = db.execute(KEPT).fetchone()[0]
        if kept + len(table.ndjson) > self._bytes_max:
            raise JournalFull
        row = [
            export.id,
            user.sub,
            export.at.isoformat(),
            free_path(db, user, export.at),
            table.ingested,
            table.rejected,
            msgspec.json.encode(table.rejects),
            len(table.ndjson),
            self._zstd.compress(table.ndjson),
            export.head.correlation_id,
        ]
        return receipt(db.execute(INSERT, row).fetchone())


def free_path(db: sqlite3.Connection, user: User, at: datetime) -> str:
    """The first path of this user, from this moment on, that no export has."""
    select = "SELECT 1 FROM export WHERE path = ?"
    return next(path for path in names.paths(user, at) if not db.execute(select, [path]).fetchone())


def check_key(db: sqlite3.Connection, head: Head, id: str) -> None:
    """Raises KeyReused when the key of this export names another sequence."""
    if head.binding is None:
        return
    select = "SELECT position, length, export FROM binding WHERE user = ? AND key = ?"
    for position, length, bound in db.execute(select, [head.user.sub, head.binding.key]):
        if length != head.binding.length or (position == head.binding.position and bound != id):
            raise KeyReused


def bind_key(db: sqlite3.Connection, head: Head, id: str) -> None:
    if head.binding is not None:
        key = head.binding
        row = [head.user.sub, key.key, key.position, key.length, id]
        db.execute("INSERT OR IGNORE INTO binding VALUES (?, ?, ?, ?, ?)", row)

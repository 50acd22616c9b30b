"""What the uploader takes: a group at a time, and what became of it."""

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec
import zstandard

from atlas.core.messages import File, Group, Limits, Receipt, Seen, User
from atlas.outside.sqlite.commits import Commits
from atlas.outside.sqlite.intake import free_path
from atlas.outside.sqlite.receipts import COLUMNS, receipt

CLAIM = """
    WITH group_now AS (
        SELECT exports, bytes FROM total WHERE status = 'claimed'
    ), oldest AS (
        SELECT number, bytes FROM export WHERE status = 'accepted'
        ORDER BY number LIMIT max(0, :exports_max - (SELECT exports FROM group_now))
    ), running AS (
        SELECT number, bytes,
            (SELECT bytes FROM group_now) + sum(bytes) OVER (ORDER BY number) AS so_far
        FROM oldest
    )
    UPDATE export SET status = 'claimed' WHERE number IN (
        SELECT number FROM running WHERE so_far <= :bytes_max OR so_far = bytes
    )
"""
CLAIMED = """
    SELECT rid, id, path, bytes, ingested, correlation_id FROM export
    WHERE status = 'claimed' ORDER BY number
"""
COMPLETE = f"""
    UPDATE export SET status = 'committed', rid = ?, payload = NULL
    WHERE status = 'claimed' AND id IN (SELECT value FROM json_each(?)) RETURNING {COLUMNS}
"""
REFUSED = f"""
    UPDATE export SET tries = tries + 1,
        status = CASE WHEN tries + 1 < ? THEN 'claimed' ELSE 'set_aside' END
    WHERE status = 'claimed' AND id = ? RETURNING {COLUMNS}
"""


class SqliteOutbox:
    """Answers `ports.Outbox`."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._zstd = zstandard.ZstdDecompressor()  # used in the one thread of the journal

    async def waiting(self) -> int:
        select = "SELECT sum(exports) FROM total WHERE status IN ('accepted', 'claimed')"
        return await self._commits.run(lambda db: int(db.execute(select).fetchone()[0]))

    async def claim(self, limits: Limits, seen: Seen) -> Group | None:
        def work(db: sqlite3.Connection) -> Group | None:
            db.execute(CLAIM, msgspec.structs.asdict(limits))
            group = claimed(db)
            if group is not None:
                row = [seen.head, seen.at.isoformat()]
                db.execute("INSERT OR REPLACE INTO attempt VALUES (?, ?)", row)
            return group

        return await self._commits.run(work)

    async def claimed(self) -> Group | None:
        return await self._commits.run(claimed)

    async def ndjson(self, id: str) -> bytes:
        def work(db: sqlite3.Connection) -> bytes:
            select = "SELECT payload FROM export WHERE id = ?"
            return self._zstd.decompress(db.execute(select, [id]).fetchone()[0])

        return await self._commits.run(work)

    async def note(self, transaction: str, limits: Limits) -> Group:
        def work(db: sqlite3.Connection) -> Group:
            db.execute(CLAIM, msgspec.structs.asdict(limits))
            db.execute("UPDATE export SET rid = ? WHERE status = 'claimed'", [transaction])
            db.execute("DELETE FROM attempt")
            return claimed(db) or Group(())

        return await self._commits.run(work)

    async def complete(self, ids: Collection[str], transaction: str) -> Sequence[Receipt]:
        given = [transaction, msgspec.json.encode(ids).decode()]
        return await self._commits.run(
            lambda db: [receipt(row) for row in db.execute(COMPLETE, given).fetchall()]
        )

    async def refused(self, id: str, tries_max: int) -> Receipt | None:
        def work(db: sqlite3.Connection) -> Receipt | None:
            row = db.execute(REFUSED, [tries_max, id]).fetchone()
            found = receipt(row) if row else None
            return found if found and found.status == "set_aside" else None

        return await self._commits.run(work)

    async def move(self, id: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            select = "SELECT user, at FROM export WHERE id = ?"
            sub, at = db.execute(select, [id]).fetchone()
            path = free_path(db, User(sub), datetime.fromisoformat(at))
            db.execute("UPDATE export SET path = ? WHERE id = ?", [path, id])

        await self._commits.run(work)

    async def release(self) -> None:
        update = "UPDATE export SET status = 'accepted', rid = NULL WHERE status = 'claimed'"
        await self._run(update)

    async def attempts(self) -> Sequence[Seen]:
        def work(db: sqlite3.Connection) -> Sequence[Seen]:
            rows = db.execute("SELECT head, at FROM attempt").fetchall()
            return [Seen(head, datetime.fromisoformat(at)) for head, at in rows]

        return await self._commits.run(work)

    async def resolve(self) -> None:
        await self._run("DELETE FROM attempt")

    async def _run(self, statement: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute(statement)

        await self._commits.run(work)


def claimed(db: sqlite3.Connection) -> Group | None:
    rows = db.execute(CLAIMED).fetchall()
    return Group(tuple(File(*file) for _, *file in rows), rows[0][0]) if rows else None

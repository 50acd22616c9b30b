"""What the uploader takes: a group at a time, and what became of it."""

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from atlas.core.errors import Damaged
from atlas.core.messages import File, Group, Limits, Receipt, Seen, User
from atlas.outside.sqlite.commits import Commits
from atlas.outside.sqlite.entries import COLUMNS, Entries, Row
from atlas.outside.sqlite.intake import free_path
from atlas.outside.sqlite.room import SMALL_BYTES, SMALL_SHARE, Room
from atlas.outside.sqlite.shelf import Shelf

CLAIM = """
    WITH group_now AS (
        SELECT exports, bytes FROM total WHERE status = 'claimed'
    ), oldest AS (
        SELECT number, bytes FROM export
        WHERE status = 'accepted' AND tries BETWEEN :low AND :high AND bytes < :bytes_end
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
CLAIMED = f"""
    SELECT {COLUMNS}, tries - (rid IS NOT NULL) FROM export
    WHERE status = 'claimed' ORDER BY number
"""
COMPLETE = f"""
    UPDATE export SET status = 'committed', rid = ?, payload = NULL
    WHERE status = 'claimed' AND id IN (SELECT value FROM json_each(?)) RETURNING {COLUMNS}
"""
SUSPECT = """
    SELECT tries FROM export WHERE status = 'accepted' AND tries >= 2 ORDER BY tries, number LIMIT 1
"""
FRESH = 0, 1  # tries
EVERY = 2**62  # bytes; no export has as many
SHARES = {2: 8, 3: 64}  # of the limit, by tries: one part in so many; with more tries, alone
NOTE = """
    UPDATE export SET rid = ?, tries = tries + (rid IS NULL) WHERE status = 'claimed'
"""
RELEASE = """
    UPDATE export SET status = 'accepted', tries = tries - (rid IS NOT NULL), rid = NULL
    WHERE status = 'claimed'
"""
FAIL = f"""
    UPDATE export SET
        rid = NULL,
        since = (SELECT exports FROM total WHERE status = 'committed'),
        reason = CASE WHEN id IN (SELECT value FROM json_each(:named))
            THEN 'refused by Foundry' ELSE 'its groups fail' END,
        status = CASE
            WHEN tries < :tries_max THEN 'accepted'
            WHEN id IN (SELECT value FROM json_each(:named)) THEN 'set_aside'
            WHEN (SELECT exports FROM total WHERE status = 'claimed') = 1
                AND (SELECT exports FROM total WHERE status = 'committed') > since THEN 'set_aside'
            ELSE 'accepted' END
    WHERE status = 'claimed' RETURNING {COLUMNS}
"""
DAMAGED = f"""
    UPDATE export SET status = 'set_aside', reason = 'damaged on the disk'
    WHERE number = ? RETURNING {COLUMNS}
"""


class SqliteOutbox:
    """Answers `ports.Outbox`."""

    def __init__(self, commits: Commits, entries: Entries, room: Room, shelf: Shelf) -> None:
        self._commits = commits
        self._entries = entries
        self._room = room
        self._shelf = shelf

    async def waiting(self) -> int:
        select = "SELECT sum(exports) FROM total WHERE status IN ('accepted', 'claimed')"
        return await self._commits.run(lambda db: int(db.execute(select).fetchone()[0]))

    async def claim(self, limits: Limits, seen: Seen, *, suspects: bool = False) -> Group | None:
        def work(db: sqlite3.Connection) -> Group | None:
            for some in (suspects, not suspects):
                (claim_suspects if some else claim_fresh)(db, limits)
                group = self._claimed(db)
                if group is not None:
                    break
            if group is not None:
                row = [seen.head, seen.at.isoformat()]
                db.execute("INSERT OR REPLACE INTO attempt VALUES (?, ?)", row)
            return group

        return await self._commits.run(work)

    async def claimed(self) -> Group | None:
        def work(db: sqlite3.Connection) -> Group | None:
            found = db.execute("SELECT rid FROM begun").fetchone()
            group = self._claimed(db)
            return group or (Group((), *found) if found else None)

        return await self._commits.run(work)

    async def ndjson(self, id: str) -> bytes:
        select = f"SELECT {COLUMNS}, payload FROM export WHERE id = ?"

        def work(db: sqlite3.Connection) -> bytes:
            found = db.execute(select, [id]).fetchone()
            if found is None:
                raise Damaged  # its id is not what it was
            *columns, payload = found
            row = Row(*columns)
            self._entries.label(row)  # or it has no path to go to
            return self._entries.payload(row, payload)

        return await self._commits.run(work)

    async def note(self, transaction: str, limits: Limits) -> Group:
        def work(db: sqlite3.Connection) -> Group:
            group = self._claimed(db)
            if group is not None and not group.is_suspect:
                claim_fresh(db, limits)
            db.execute(NOTE, [transaction])
            db.execute("DELETE FROM attempt")
            db.execute("INSERT OR IGNORE INTO begun VALUES (?)", [transaction])
            return self._claimed(db) or Group(())

        return await self._commits.run(work)

    async def complete(self, ids: Collection[str], transaction: str) -> Sequence[Receipt]:
        given = [transaction, msgspec.json.encode(ids).decode()]

        def work(db: sqlite3.Connection) -> Sequence[Receipt]:
            rows = [Row(*row) for row in db.execute(COMPLETE, given).fetchall()]
            self._room.drained(sum(row.size for row in rows))
            self._shelf.tidy(db)
            return [self._entries.receipt(row) for row in rows]

        return await self._commits.run(work)

    async def damaged(self, id: str) -> Receipt | None:
        def work(db: sqlite3.Connection) -> Receipt | None:
            claimed = db.execute("SELECT number, id FROM export WHERE status = 'claimed'")
            number = next((number for number, read in claimed.fetchall() if read == id), None)
            row = db.execute(DAMAGED, [number]).fetchone()
            return self._entries.receipt(Row(*row)) if row else None

        return await self._commits.run(work)

    async def move(self, id: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            row = Row(*db.execute(f"SELECT {COLUMNS} FROM export WHERE id = ?", [id]).fetchone())
            seal, label = self._entries.seal, self._entries.label(row)
            at = datetime.fromisoformat(row.at)
            path, _ = free_path(db, seal, User(label.sub), at, after=label.path)  # never back to it
            moved = self._entries.close_label(row, msgspec.structs.replace(label, path=path))
            update = "UPDATE export SET place = ?, label = ? WHERE id = ?"
            db.execute(update, [seal.name(path), moved, id])

        await self._commits.run(work)

    async def release(self) -> None:
        await self._run(RELEASE)

    async def fail(self, named: Collection[str], tries_max: int) -> Sequence[Receipt]:
        given = {"named": msgspec.json.encode(named).decode(), "tries_max": tries_max}

        def work(db: sqlite3.Connection) -> Sequence[Receipt]:
            rows = [Row(*row) for row in db.execute(FAIL, given).fetchall()]
            return [self._entries.receipt(row) for row in rows if row.status == "set_aside"]

        return await self._commits.run(work)

    async def ended(self) -> None:
        await self._run("DELETE FROM begun")

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

    def _claimed(self, db: sqlite3.Connection) -> Group | None:
        found = db.execute(CLAIMED).fetchall()
        if not found:
            return None
        rows, failures = [Row(*row[:-1]) for row in found], [row[-1] for row in found]
        return Group(tuple(map(self._file, rows)), rows[0].rid, max(failures) > FRESH[1])

    def _file(self, row: Row) -> File:
        """With a damaged label it has no path, and its bytes cannot be had either."""
        try:
            label = self._entries.label(row)
        except Damaged:
            return File(row.id, "", row.size, row.ingested)
        return File(row.id, label.path, row.size, row.ingested, label.correlation_id)


def claim_fresh(db: sqlite3.Connection, limits: Limits) -> None:
    """The oldest; but of what is small first, so that no daily sync waits behind somebody's years.

    A part of the group is left for those, or they would never go on their way.
    """
    low, high = FRESH
    given = {"exports_max": limits.exports_max, "low": low, "high": high}
    for share, bytes_end in ((SMALL_SHARE, SMALL_BYTES), (1.0, EVERY)):
        bytes_max = int(limits.bytes_max * share)
        db.execute(CLAIM, given | {"bytes_max": bytes_max, "bytes_end": bytes_end})


def claim_suspects(db: sqlite3.Connection, limits: Limits) -> None:
    """The oldest of those that have failed least: so most of them are cleared, and soon."""
    found = db.execute(SUSPECT).fetchone()
    if found is None:
        return
    (tries,) = found
    exports_max = max(1, limits.exports_max // SHARES[tries]) if tries in SHARES else 1
    given = {"exports_max": exports_max, "bytes_max": limits.bytes_max}
    db.execute(CLAIM, given | {"low": tries, "high": tries, "bytes_end": EVERY})

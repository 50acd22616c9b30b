"""What the uploader takes: a group at a time, and what became of it."""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import msgspec

from atlas.core import names
from atlas.core.errors import Damaged
from atlas.core.messages import (
    BranchSnapshot,
    ClaimedExport,
    CommitGroup,
    File,
    FileFormat,
    GroupLimits,
    Receipt,
    TransactionKind,
    User,
)
from atlas.core.people import Standing
from atlas.outside.sqlite import backlog
from atlas.outside.sqlite.attempts import ATTEMPTS, forget_attempts, note_attempt, note_begun
from atlas.outside.sqlite.claims import claim_fresh, claim_suspects, is_full
from atlas.outside.sqlite.commits import Commits
from atlas.outside.sqlite.entries import COLUMNS, Entries, Label, Row, path_of
from atlas.outside.sqlite.intake import free_path
from atlas.outside.sqlite.room import Room
from atlas.outside.sqlite.shelf import Shelf

CLAIMED = f"""
    SELECT {COLUMNS}, tries - (rid IS NOT NULL) FROM export
    WHERE status = 'claimed' ORDER BY number
"""
NAMED = f"""
    SELECT {COLUMNS} FROM export
    WHERE status = 'claimed' AND id IN (SELECT value FROM json_each(?)) ORDER BY number
"""
PACKED = NAMED.replace("FROM export", ", payload FROM export")
FILED = """
    UPDATE export SET file = ?, file_bytes = ?
    WHERE status = 'claimed' AND id IN (SELECT value FROM json_each(?))
"""
COMPLETE = f"""
    UPDATE export SET status = 'committed', rid = ?, payload = NULL
    WHERE status = 'claimed' AND id IN (SELECT value FROM json_each(?)) RETURNING {COLUMNS}
"""
NO_LABEL = Label("", "", (), "")
NOTE = """
    UPDATE export SET rid = ?, tries = tries + (rid IS NULL) WHERE status = 'claimed'
"""
RELEASE = """
    UPDATE export SET
        status = 'accepted', tries = tries - (rid IS NOT NULL), rid = NULL,
        file = NULL, file_bytes = NULL
    WHERE status = 'claimed'
"""
FAIL = f"""
    UPDATE export SET
        rid = NULL,
        file = NULL,
        file_bytes = NULL,
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
    UPDATE export SET
        status = 'set_aside', reason = 'damaged on the disk', file = NULL, file_bytes = NULL
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

    async def claim(
        self, limits: GroupLimits, seen: BranchSnapshot, *, suspects: bool = False
    ) -> CommitGroup | None:
        def work(db: sqlite3.Connection) -> CommitGroup | None:
            for some in (suspects, not suspects):
                (claim_suspects if some else claim_fresh)(db, limits)
                group = self._claimed(db)
                if group is not None:
                    break
            if group is not None:
                note_attempt(db, seen, "APPEND")
            return group

        return await self._commits.run(work)

    async def claimed(self) -> CommitGroup | None:
        def work(db: sqlite3.Connection) -> CommitGroup | None:
            found = db.execute("SELECT rid FROM begun").fetchone()
            group = self._claimed(db)
            return group or (CommitGroup((), *found) if found else None)

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

    async def packed(self, ids: Collection[str]) -> Mapping[str, bytes]:
        def work(db: sqlite3.Connection) -> Mapping[str, bytes]:
            found = {}
            for *columns, payload in db.execute(PACKED, [msgspec.json.encode(ids).decode()]):
                row = Row(*columns)
                with suppress(Damaged):
                    self._entries.label(row)
                    found[row.id] = self._entries.packed(row, payload)
            return found

        return await self._commits.run(work)

    async def filed(
        self, ids: Collection[str], format: FileFormat, size: int, *, is_shared: bool
    ) -> File:
        given = msgspec.json.encode(ids).decode()

        def work(db: sqlite3.Connection) -> File:
            rows = [Row(*row) for row in db.execute(NAMED, [given]).fetchall()]
            name: str = format
            if is_shared:
                first = self._entries.label(rows[0]).path
                name = free_group_path(db, first, format)
            db.execute(FILED, [name, size, given])
            (file,) = self._files([row._replace(file=name, file_bytes=size) for row in rows])
            return file

        return await self._commits.run(work)

    async def is_full(self, limits: GroupLimits) -> bool:
        return await self._commits.run(lambda db: is_full(db, limits))

    async def note(self, transaction: str, limits: GroupLimits) -> CommitGroup:
        def work(db: sqlite3.Connection) -> CommitGroup:
            group = self._claimed(db)
            if group is not None and not group.is_suspect:
                claim_fresh(db, limits, is_late=True)
            db.execute(NOTE, [transaction])
            note_begun(db, transaction)
            return self._claimed(db) or CommitGroup(())

        return await self._commits.run(work)

    async def complete(self, ids: Collection[str], transaction: str) -> Sequence[Receipt]:
        given = [transaction, msgspec.json.encode(list(ids)).decode()]

        def work(db: sqlite3.Connection) -> Sequence[Receipt]:
            return self._completed(
                db, [Row(*row) for row in db.execute(COMPLETE, given).fetchall()]
            )

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

    async def attempt(self, seen: BranchSnapshot, kind: TransactionKind) -> None:
        await self._commits.run(lambda db: note_attempt(db, seen, kind))

    async def begun(self, transaction: str) -> None:
        await self._commits.run(lambda db: note_begun(db, transaction))

    async def attempts(self, kind: TransactionKind = "APPEND") -> Sequence[BranchSnapshot]:
        def work(db: sqlite3.Connection) -> Sequence[BranchSnapshot]:
            rows = db.execute(f"SELECT head, at FROM {ATTEMPTS[kind]}").fetchall()
            return [BranchSnapshot(head, datetime.fromisoformat(at)) for head, at in rows]

        return await self._commits.run(work)

    async def resolve(self) -> None:
        await self._commits.run(forget_attempts)

    async def known(self, transactions: Collection[str]) -> frozenset[str]:
        return await self._commits.run(lambda db: backlog.known(db, transactions))

    async def unsent(self, after: str) -> Sequence[File]:
        return await self._commits.run(lambda db: self._files(backlog.unsent(db, after)))

    async def found(self, stood: Sequence[tuple[Standing, Collection[str]]]) -> Sequence[Receipt]:
        def work(db: sqlite3.Connection) -> Sequence[Receipt]:
            rows = [row for there, ids in stood for row in backlog.complete(db, ids, there)]
            return self._completed(db, rows)

        return await self._commits.run(work)

    async def _run(self, statement: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute(statement)

        await self._commits.run(work)

    def _completed(self, db: sqlite3.Connection, rows: Sequence[Row]) -> Sequence[Receipt]:
        self._room.drained(sum(row.size for row in rows))
        self._shelf.tidy(db)
        return [self._entries.receipt(row) for row in rows]

    def _claimed(self, db: sqlite3.Connection) -> CommitGroup | None:
        found = db.execute(CLAIMED).fetchall()
        if not found:
            return None
        rows, failures = [Row(*row[:-1]) for row in found], [row[-1] for row in found]
        return CommitGroup(self._files(rows), rows[0].rid, max(failures))

    def _files(self, rows: Iterable[Row]) -> tuple[File, ...]:
        """The files of these exports, as far as it is settled what goes into which.

        With a damaged label an export has no path, and its rows cannot be had either.
        """
        in_file: dict[str, tuple[str, int, list[ClaimedExport]]] = {}
        for row in rows:
            try:
                label = self._entries.label(row)
            except Damaged:
                label = NO_LABEL
            export = ClaimedExport(
                row.id, row.size, row.ingested, label.correlation_id, label.trace
            )
            size = row.size if row.file_bytes is None else row.file_bytes
            path = path_of(row, label)
            in_file.setdefault(path or row.id, (path, size, []))[2].append(export)
        return tuple(File(path, size, tuple(exports)) for path, size, exports in in_file.values())


def free_group_path(db: sqlite3.Connection, first: str, format: FileFormat) -> str:
    """The first for a group that begins with the export at this path, which no other group has."""
    select = "SELECT 1 FROM export WHERE file = ?"
    return next(
        path
        for path in names.group_paths(first, format)
        if not db.execute(select, [path]).fetchone()
    )

"""What is accepted: each export once, whoever sends it again, and under whatever key."""

import sqlite3
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any

import msgspec

from atlas.core import names
from atlas.core.messages import Flattened, Head, Receipt, User
from atlas.outside.sqlite.aside import ORIGINAL
from atlas.outside.sqlite.bindings import bind_names, check_names
from atlas.outside.sqlite.commits import Commits
from atlas.outside.sqlite.entries import BOUND, COLUMNS, Entries, Fixed, Label, Row, receipt_of
from atlas.outside.sqlite.room import Room
from atlas.outside.sqlite.seal import Seal

INSERT = f"""
    INSERT INTO export ({BOUND}, place, label, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
FIND = f"SELECT {COLUMNS} FROM export WHERE id = ?"

# What came through the stage that it crashed, or was given up, stands here as any other now.
GONE = f"({ORIGINAL}) OR status = 'abandoned'"
FORGET = f"DELETE FROM export WHERE id = ? AND ({GONE})"

MILLISECOND, CROWD = timedelta(milliseconds=1), timedelta(minutes=1)
USERS_REMEMBERED = 10_000
SHRUNK = "SELECT rid FROM digest WHERE id = ?"


class SqliteIntake:
    """Answers `ports.Intake`."""

    def __init__(self, commits: Commits, entries: Entries, room: Room) -> None:
        self._commits = commits
        self._entries = entries
        self._room = room
        self._latest: OrderedDict[str, datetime] = OrderedDict()  # of the paths of each user

    async def append(self, export: Flattened) -> Receipt:
        def work(db: sqlite3.Connection) -> Receipt:
            check_names(db, self._entries.seal, export.head, export.id)
            found = db.execute(FIND, [export.id]).fetchone()
            if found and not db.execute(FORGET, [export.id]).rowcount:
                kept = self._replayed(found)
            elif shrunk := db.execute(SHRUNK, [export.id]).fetchone():
                return remembered(export, *shrunk)
            else:
                kept = self._insert(db, export)
            bind_names(db, self._entries.seal, export.head, export.id)
            return kept

        return await self._commits.run(work)

    async def recall(self, head: Head, id: str) -> Receipt | None:
        def work(db: sqlite3.Connection) -> Receipt | None:
            check_names(db, self._entries.seal, head, id)
            found = db.execute(f"{FIND} AND NOT ({GONE})", [id]).fetchone()
            if found is None:
                return None
            bind_names(db, self._entries.seal, head, id)
            return self._replayed(found)

        return await self._commits.run(work)

    def _replayed(self, found: tuple[Any, ...]) -> Receipt:
        return msgspec.structs.replace(self._entries.receipt(Row(*found)), replayed=True)

    def _insert(self, db: sqlite3.Connection, export: Flattened) -> Receipt:
        entries, table, head = self._entries, export.table, export.head
        self._room.check(db, table.bytes)
        fixed = Fixed(
            export.id,
            entries.seal.user(head.user.sub),
            export.at.isoformat(),
            table.ingested,
            table.rejected,
            table.bytes,
        )
        path = self._path(db, head.user, export.at)
        label = Label(head.user.sub, path, table.rejects, head.correlation_id, head.trace)
        row = Row(*fixed, entries.close_label(fixed, label), "accepted", None)
        payload = entries.close_payload(fixed, table.file)
        db.execute(INSERT, [*fixed, entries.seal.name(path), row.label, payload])
        return receipt_of(row, label, export.at)

    def _path(self, db: sqlite3.Connection, user: User, at: datetime) -> str:
        """The search begins behind the last one found, or thousands of exports that one user sends
        at once would each walk past all that came before.
        """
        latest = self._latest.pop(user.sub, None)
        if latest is not None and at <= latest <= at + CROWD:
            at = latest + MILLISECOND
        path, self._latest[user.sub] = free_path(db, self._entries.seal, user, at)
        if len(self._latest) > USERS_REMEMBERED:
            self._latest.popitem(last=False)
        return path


def remembered(export: Flattened, rid: str) -> Receipt:
    """Of an export whose receipt was shrunk: its counts are those that it would have again."""
    table = export.table
    return Receipt(
        id=export.id,
        status="committed",
        at=export.at,
        path="",
        ingested=table.ingested,
        rejected=table.rejected,
        rejects=table.rejects,
        transaction=rid,
        replayed=True,
    )


def free_path(
    db: sqlite3.Connection, seal: Seal, user: User, at: datetime, after: str = ""
) -> tuple[str, datetime]:
    """The first path of this user, from this moment on and behind this path, that no export has.

    And its moment.
    """
    select = "SELECT 1 FROM export WHERE place = ?"
    for path in names.paths(user, at):
        if path > after and not db.execute(select, [seal.name(path)]).fetchone():
            break
        at += MILLISECOND
    return path, at

"""What is accepted: each export once, whoever sends it again, and under whatever key."""

import sqlite3
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any

import msgspec

from atlas.core import names
from atlas.core.errors import KeyReused
from atlas.core.messages import Flattened, Head, Place, Receipt, User
from atlas.outside.sqlite.aside import CRASHED
from atlas.outside.sqlite.commits import Commits, run_in_commit
from atlas.outside.sqlite.entries import (
    BOUND,
    COLUMNS,
    KEEP_PAYLOAD,
    Entries,
    Fixed,
    Label,
    Row,
    bound,
    receipt_of,
)
from atlas.outside.sqlite.room import Room
from atlas.outside.sqlite.seal import Seal

SHRUNK = "its receipt was shrunk"  # stands where a reason would
INSERT = f"""
    INSERT INTO export ({BOUND}, moment, label) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (user, moment) DO NOTHING
"""
FIND = f"SELECT {COLUMNS}, reason FROM export WHERE id = ?"
FIND_ANY = f"""
    {FIND}1 UNION ALL
    SELECT id, user, '', 0, 0, 0, x'', 'committed', rid, NULL, NULL, '{SHRUNK}' FROM digest
    WHERE id = ?1
"""
FORGET = "DELETE FROM export WHERE id = ?"

# what an Idempotency-Key names, and the parts of a streamed body under the id of the whole
OPEN_END = 0  # the length of a stream
SEQUENCE = "SELECT position, length, export FROM binding WHERE user = ? AND key = ?"
BIND = "INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?, ?)"

CROWD = timedelta(minutes=1)
USERS_REMEMBERED = 10_000


class SqliteIntake:
    """Answers `ports.Intake`."""

    def __init__(self, commits: Commits, entries: Entries, room: Room) -> None:
        self._commits = commits
        self._entries = entries
        self._room = room
        self._latest: OrderedDict[str, datetime] = OrderedDict()  # of the paths of each user

    @run_in_commit
    def append(self, db: sqlite3.Connection, export: Flattened) -> Receipt:
        check_names(db, self._entries.seal, export.head, export.id)
        row, reason = found_in(db.execute(FIND_ANY, [export.id]).fetchone())
        if row is not None and reason == SHRUNK:
            return remembered(export, row.rid)
        if row is not None and not is_gone(row, reason):
            kept = self._replayed(row)
        else:
            if row is not None:
                db.execute(FORGET, [export.id])
            kept = self._insert(db, export)
        bind_names(db, self._entries.seal, export.head, export.id)
        return kept

    @run_in_commit
    def recall(self, db: sqlite3.Connection, head: Head, id: str) -> Receipt | None:
        check_names(db, self._entries.seal, head, id)
        row, reason = found_in(db.execute(FIND, [id]).fetchone())
        if row is None or is_gone(row, reason):
            return None
        bind_names(db, self._entries.seal, head, id)
        return self._replayed(row)

    def _replayed(self, row: Row) -> Receipt:
        return msgspec.structs.replace(self._entries.receipt(row), replayed=True)

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
        at = self._first_moment(head.user, export.at)
        while True:
            path = names.path_at(head.user, at)
            label = Label(head.user.sub, path, table.rejects, head.correlation_id, head.trace)
            row = Row(*fixed, entries.close_label(fixed, label), "accepted", None)
            inserted = db.execute(INSERT, [*fixed, names.milliseconds(at), row.label])
            if inserted.rowcount:
                break
            at += names.MILLISECOND
        self._remember(head.user, at)
        self._room.take(table.bytes)
        payload = entries.close_payload(fixed, table.file)
        db.execute(KEEP_PAYLOAD, [inserted.lastrowid, bound(fixed), row.label, payload])
        return receipt_of(row, label, export.at)

    def _first_moment(self, user: User, at: datetime) -> datetime:
        """The first that may be free. It lies behind the last one found, or thousands of exports
        that one user sends at once would each walk past all that came before.
        """
        latest = self._latest.get(user.sub)
        if latest is not None and at <= latest <= at + CROWD:
            return latest + names.MILLISECOND
        return at

    def _remember(self, user: User, at: datetime) -> None:
        self._latest.pop(user.sub, None)
        self._latest[user.sub] = at
        if len(self._latest) > USERS_REMEMBERED:
            self._latest.popitem(last=False)


def remembered(export: Flattened, rid: str | None) -> Receipt:
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


def found_in(columns: tuple[Any, ...] | None) -> tuple[Row | None, str | None]:
    """The row, and its reason."""
    return (None, None) if columns is None else (Row(*columns[:-1]), columns[-1])


def is_gone(row: Row, reason: str | None) -> bool:
    """Whether what came through the stage that it crashed, or was given up, comes as a new one."""
    return row.status == "abandoned" or (row.status == "set_aside" and reason == CRASHED)


def later_path(db: sqlite3.Connection, hashed: str, label: Label) -> tuple[str, int]:
    """The first path of this user behind that of the label that no export has, and its moment."""
    select = "SELECT 1 FROM export WHERE user = ? AND moment = ?"
    at = names.moment_in(label.path) + names.MILLISECOND
    while db.execute(select, [hashed, names.milliseconds(at)]).fetchone():
        at += names.MILLISECOND
    return names.path_at(User(label.sub), at), names.milliseconds(at)


def check_names(db: sqlite3.Connection, seal: Seal, head: Head, id: str) -> None:
    """Raises KeyReused when the key of this export names another sequence."""
    user, binding, place = seal.user(head.user.sub), head.binding, head.place
    if binding is not None:
        for position, length, bound in db.execute(SEQUENCE, [user, seal.name(binding.key)]):
            if length != binding.length or (position == binding.position and bound != id):
                raise KeyReused
        stream = seal.name(names.whole_id(head.user, binding.key))
        if db.execute(SEQUENCE, [user, stream]).fetchone():
            raise KeyReused
    if place is not None and place.key is not None:
        if db.execute(SEQUENCE, [user, seal.name(place.key)]).fetchone():
            raise KeyReused
        for position, _, bound in db.execute(SEQUENCE, [user, seal.name(place.whole)]):
            if position == place.position and bound != id:
                raise KeyReused


def bind_names(db: sqlite3.Connection, seal: Seal, head: Head, id: str) -> None:
    user = seal.user(head.user.sub)
    if head.binding is not None:
        key = head.binding
        db.execute(BIND, [user, seal.name(key.key), key.position, key.length, id])
    if head.place is not None:
        place: Place = head.place
        db.execute(BIND, [user, seal.name(place.whole), place.position, OPEN_END, id])

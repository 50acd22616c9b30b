"""What was set aside: as it came, if a stage could not bear it; as a file, if Foundry did not."""

import sqlite3
from collections.abc import Collection
from datetime import datetime
from itertools import count

import msgspec

from atlas.core import names
from atlas.core.messages import Original, Receipt
from atlas.outside.sqlite.commits import Commits, run_in_commit
from atlas.outside.sqlite.entries import (
    BOUND,
    COLUMNS,
    HAS_PAYLOAD,
    KEEP_PAYLOAD,
    Entries,
    Fixed,
    Label,
    Row,
    bound,
)
from atlas.outside.sqlite.packing import pack
from atlas.outside.sqlite.room import Room

CRASHED = "it crashes a stage"
ORIGINAL = f"status = 'set_aside' AND reason = '{CRASHED}'"
INSERT = f"""
    INSERT INTO export ({BOUND}, moment, label, status, reason)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'set_aside', '{CRASHED}')
    ON CONFLICT (user, moment) DO NOTHING RETURNING number, {COLUMNS}
"""
PAYLOAD = "(SELECT sealed FROM payload WHERE payload.number = export.number)"
FIND = f"SELECT {COLUMNS}, {PAYLOAD} FROM export WHERE id = ? AND {ORIGINAL}"
ACCEPT = f"""
    UPDATE export SET status = 'accepted', tries = 0, since = NULL, reason = NULL, rid = NULL
    WHERE status = 'set_aside' AND reason IS NOT '{CRASHED}' AND (:id IS NULL OR id = :id)
        AND {HAS_PAYLOAD}
"""  # version 1 gave no reason
ABANDON = """
    UPDATE export SET status = 'abandoned' WHERE status = 'set_aside' AND (:id IS NULL OR id = :id)
"""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Original)


class SqliteAside:
    """Answers `ports.Aside`."""

    def __init__(self, commits: Commits, entries: Entries, room: Room) -> None:
        self._commits = commits
        self._entries = entries
        self._room = room

    @run_in_commit
    def keep(self, db: sqlite3.Connection, original: Original, id: str, at: datetime) -> Receipt:
        entries, head = self._entries, original.head
        db.execute("DELETE FROM export WHERE id = ? AND status = 'abandoned'", [id])
        found = db.execute(f"SELECT {COLUMNS} FROM export WHERE id = ?", [id]).fetchone()
        if found:
            receipt = entries.receipt(Row(*found))
            return msgspec.structs.replace(receipt, replayed=True)
        text = _encoder.encode(original)
        self._room.check(db, len(text))
        fixed = Fixed(id, entries.seal.user(head.user.sub), at.isoformat(), 0, 0, len(text))
        label = Label(head.user.sub, "", (), head.correlation_id)
        sealed = entries.close_label(fixed, label)
        moments = count(names.milliseconds(at))  # of a path that it may have some day
        made = (db.execute(INSERT, [*fixed, each, sealed]).fetchone() for each in moments)
        number, *columns = next(row for row in made if row is not None)
        self._room.take(len(text))
        payload = entries.close_payload(fixed, pack(text))
        db.execute(KEEP_PAYLOAD, [number, bound(fixed), sealed, payload])
        return entries.receipt(Row(*columns))

    @run_in_commit
    def originals(self, db: sqlite3.Connection) -> Collection[str]:
        select = f"SELECT id FROM export WHERE {ORIGINAL}"
        return [id for (id,) in db.execute(select).fetchall()]

    @run_in_commit
    def original(self, db: sqlite3.Connection, id: str) -> Original | None:
        found = db.execute(FIND, [id]).fetchone()
        if found is None:
            return None
        *columns, payload = found
        kept: Original = _decoder.decode(self._entries.payload(Row(*columns), payload))
        return kept

    @run_in_commit
    def forget(self, db: sqlite3.Connection, id: str) -> None:
        delete = f"DELETE FROM export WHERE id = ? AND {ORIGINAL}"
        db.execute(delete, [id])

    @run_in_commit
    def accept(self, db: sqlite3.Connection, id: str | None) -> int:
        return db.execute(ACCEPT, {"id": id}).rowcount

    @run_in_commit
    def abandon(self, db: sqlite3.Connection, id: str | None) -> int:
        return db.execute(ABANDON, {"id": id}).rowcount

"""Exports that crashed a stage, stored unchanged, and exports that were set aside."""

import sqlite3
from collections.abc import Collection
from datetime import datetime
from itertools import count

import msgspec

from atlas.core import identifiers
from atlas.core.messages import Receipt, StageInput
from atlas.outside.journal.compression import compress
from atlas.outside.journal.entries import CRASH_REASON, build_replayed
from atlas.outside.journal.row_codec import (
    ExportRow,
    ImmutableColumns,
    PrivateFields,
    RowCodec,
    build_row_aad,
)
from atlas.outside.journal.texts import make_storable
from atlas.outside.sqlite.capacity import CapacityLimit
from atlas.outside.sqlite.columns import (
    COLUMNS,
    HAS_PAYLOAD,
    IMMUTABLE_COLUMNS,
    INSERT_PAYLOAD,
    SELECT_PAYLOAD,
)
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit

ORIGINAL = f"status = 'set_aside' AND reason = '{CRASH_REASON}'"
INSERT = f"""
    INSERT INTO export ({IMMUTABLE_COLUMNS}, moment, label, status, reason)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'set_aside', '{CRASH_REASON}')
    ON CONFLICT (user, moment) DO NOTHING RETURNING number, {COLUMNS}
"""
FIND = f"SELECT {COLUMNS} FROM export WHERE id = ?"
FIND_ORIGINAL = f"SELECT {COLUMNS}, {SELECT_PAYLOAD} FROM export WHERE id = ? AND {ORIGINAL}"
# IS NOT, because version 1 stored no reason
REQUEUED = f"""
    status = 'set_aside' AND reason IS NOT '{CRASH_REASON}' AND (:id IS NULL OR id = :id)
        AND {HAS_PAYLOAD}
"""
REQUEUE = f"""
    UPDATE export SET status = 'accepted', tries = 0, since = NULL, reason = NULL, rid = NULL
    WHERE {REQUEUED}
"""
ENQUEUE_FOR_STREAM = f"""
    INSERT OR IGNORE INTO unpublished (number, rows, bytes)
    SELECT number, ingested, bytes FROM export WHERE {REQUEUED}
"""
ABANDON = """
    UPDATE export SET status = 'abandoned' WHERE status = 'set_aside' AND (:id IS NULL OR id = :id)
"""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StageInput)


class SqliteDeadLetters:
    """Implements `ports.DeadLetters`."""

    def __init__(
        self,
        commits: GroupCommit,
        codec: RowCodec,
        capacity: CapacityLimit,
        *,
        is_streamed: bool = False,
    ) -> None:
        self._commits = commits
        self._codec = codec
        self._capacity = capacity
        self._is_streamed = is_streamed

    @run_in_commit
    def store(self, db: sqlite3.Connection, original: StageInput, id: str, at: datetime) -> Receipt:
        codec, head = self._codec, original.head
        db.execute("DELETE FROM export WHERE id = ? AND status = 'abandoned'", [id])
        existing = db.execute(FIND, [id]).fetchone()
        if existing:
            return build_replayed(codec, ExportRow(*existing))
        message = _encoder.encode(original)
        self._capacity.check(db, len(message))
        fixed = ImmutableColumns(
            id, codec.cipher.hash_user(head.user.sub), at.isoformat(), 0, 0, len(message)
        )
        label = codec.encrypt_fields(
            fixed, PrivateFields(head.user.sub, "", (), head.correlation_id)
        )
        moments = count(identifiers.count_milliseconds(at))  # no path, so only unique
        attempts = (db.execute(INSERT, [*fixed, each, label]).fetchone() for each in moments)
        number, *columns = next(row for row in attempts if row is not None)
        self._capacity.take(len(message))
        payload = codec.encrypt_payload(fixed, compress(message))
        db.execute(INSERT_PAYLOAD, [number, build_row_aad(fixed), label, payload])
        return codec.build_receipt(ExportRow(*columns))

    @run_in_commit
    def list_original_ids(self, db: sqlite3.Connection) -> Collection[str]:
        return [id for (id,) in db.execute(f"SELECT id FROM export WHERE {ORIGINAL}").fetchall()]

    @run_in_commit
    def read_original(self, db: sqlite3.Connection, id: str) -> StageInput | None:
        row = db.execute(FIND_ORIGINAL, [make_storable(id)]).fetchone()
        if row is None:
            return None
        *columns, payload = row
        original: StageInput = _decoder.decode(
            self._codec.decrypt_payload(ExportRow(*columns), payload)
        )
        return original

    @run_in_commit
    def delete(self, db: sqlite3.Connection, id: str) -> None:
        db.execute(f"DELETE FROM export WHERE id = ? AND {ORIGINAL}", [id])

    @run_in_commit
    def requeue(self, db: sqlite3.Connection, id: str | None) -> int:
        id = None if id is None else make_storable(id)
        if self._is_streamed:
            db.execute(ENQUEUE_FOR_STREAM, {"id": id})
        return db.execute(REQUEUE, {"id": id}).rowcount

    @run_in_commit
    def abandon(self, db: sqlite3.Connection, id: str | None) -> int:
        id = None if id is None else make_storable(id)
        return db.execute(ABANDON, {"id": id}).rowcount

"""Accepts exports: each one once, under any number of idempotency keys."""

import sqlite3

from atlas.core import identifiers
from atlas.core.messages import ExportMetadata, FlattenedExport, Receipt, User
from atlas.outside.journal import bindings
from atlas.outside.journal.bindings import Binding
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.entries import (
    build_reduced_receipt,
    build_replayed,
    is_replaceable,
)
from atlas.outside.journal.path_times import PathTimes
from atlas.outside.journal.row_codec import (
    ExportRow,
    ImmutableColumns,
    PrivateFields,
    RowCodec,
    build_receipt,
    build_row_aad,
)
from atlas.outside.sqlite.capacity import CapacityLimit
from atlas.outside.sqlite.columns import COLUMNS, IMMUTABLE_COLUMNS, INSERT_PAYLOAD
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.phones import SqlitePhoneWriter
from atlas.outside.sqlite.stream import ENQUEUE

REDUCED = "only the id is left"  # in place of a reason: see retention.py
INSERT = f"""
    INSERT INTO export ({IMMUTABLE_COLUMNS}, moment, label) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (user, moment) DO NOTHING
"""
FIND = f"SELECT {COLUMNS}, reason FROM export WHERE id = ?"
FIND_ANY = f"""
    {FIND}1 UNION ALL
    SELECT id, user, '', 0, 0, 0, x'', 'committed', rid, NULL, NULL, '{REDUCED}' FROM digest
    WHERE id = ?1
"""
DELETE = "DELETE FROM export WHERE id = ?"
BINDINGS = "SELECT key, position, length, export FROM binding WHERE user = ? AND key = ?"
BIND = "INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?, ?)"


class SqliteIntake:
    """Implements `ports.Intake`."""

    def __init__(
        self,
        commits: GroupCommit,
        codec: RowCodec,
        capacity: CapacityLimit,
        phones: SqlitePhoneWriter,
        *,
        is_streamed: bool = False,
    ) -> None:
        self._commits = commits
        self._codec = codec
        self._capacity = capacity
        self._is_streamed = is_streamed
        self._phones = phones
        self._path_times = PathTimes()

    @run_in_commit
    def append(self, db: sqlite3.Connection, export: FlattenedExport) -> Receipt:
        check_key(db, self._codec.cipher, export.head, export.id)
        row, reason = find_row(db, FIND_ANY, export.id)
        if row is not None and reason == REDUCED:
            return build_reduced_receipt(export, row.rid)
        if row is None:
            receipt = self._insert(db, export)
        elif is_replaceable(row, reason):
            db.execute(DELETE, [export.id])
            receipt = self._insert(db, export)
        else:
            receipt = build_replayed(self._codec, row)
            self._phones.add(export, is_replay=True)
        bind_key(db, self._codec.cipher, export.head, export.id)
        return receipt

    @run_in_commit
    def find_existing(
        self, db: sqlite3.Connection, head: ExportMetadata, id: str
    ) -> Receipt | None:
        check_key(db, self._codec.cipher, head, id)
        row, reason = find_row(db, FIND, id)
        if row is None or is_replaceable(row, reason):
            return None
        bind_key(db, self._codec.cipher, head, id)
        return build_replayed(self._codec, row)

    def _insert(self, db: sqlite3.Connection, export: FlattenedExport) -> Receipt:
        codec, table, head = self._codec, export.table, export.head
        self._capacity.check(db, table.size)
        fixed = ImmutableColumns(
            export.id,
            codec.cipher.hash_user(head.user.sub),
            export.at.isoformat(),
            table.ingested,
            table.rejected,
            table.size,
        )
        at = self._path_times.suggest(head.user.sub, export.at)
        while True:
            path = identifiers.build_path(head.user, at)
            fields = PrivateFields(
                head.user.sub, path, table.rejects, head.correlation_id, head.trace
            )
            row = ExportRow(*fixed, codec.encrypt_fields(fixed, fields), "accepted", None)
            inserted = db.execute(INSERT, [*fixed, identifiers.count_milliseconds(at), row.label])
            if inserted.rowcount:
                break
            at += identifiers.MILLISECOND
        self._path_times.remember(head.user.sub, at)
        self._capacity.take(table.size)
        payload = codec.encrypt_payload(fixed, table.data)
        number = inserted.lastrowid
        db.execute(INSERT_PAYLOAD, [number, build_row_aad(fixed), row.label, payload])
        if self._is_streamed:
            db.execute(ENQUEUE, [number, table.ingested, table.size])
        self._phones.add(export)
        return build_receipt(row, fields, export.at)


def find_row(db: sqlite3.Connection, select: str, id: str) -> tuple[ExportRow | None, str | None]:
    """Return the row and its reason."""
    columns = db.execute(select, [id]).fetchone()
    return (None, None) if columns is None else (ExportRow(*columns[:-1]), columns[-1])


def find_later_path(
    db: sqlite3.Connection, hashed_user: str, fields: PrivateFields
) -> tuple[str, int]:
    """Return the next free path of the user after the current one, and its time in ms."""
    select = "SELECT 1 FROM export WHERE user = ? AND moment = ?"
    at = identifiers.parse_path_time(fields.path) + identifiers.MILLISECOND
    while db.execute(select, [hashed_user, identifiers.count_milliseconds(at)]).fetchone():
        at += identifiers.MILLISECOND
    return identifiers.build_path(User(fields.sub), at), identifiers.count_milliseconds(at)


def check_key(db: sqlite3.Connection, cipher: Cipher, head: ExportMetadata, id: str) -> None:
    """Raise IdempotencyKeyReused if the key of this export is bound to other exports."""
    user = cipher.hash_user(head.user.sub)
    keys = bindings.list_keys(cipher, head)
    stored = [row for key in keys for row in db.execute(BINDINGS, [user, key])]
    bindings.require_unused(cipher, head, id, (Binding(*row) for row in stored))


def bind_key(db: sqlite3.Connection, cipher: Cipher, head: ExportMetadata, id: str) -> None:
    user = cipher.hash_user(head.user.sub)
    for each in bindings.build_bindings(cipher, head, id):
        db.execute(BIND, [user, *each])

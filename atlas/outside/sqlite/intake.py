"""Accepts exports: each one once, under any number of idempotency keys."""

import sqlite3
from collections import OrderedDict
from datetime import datetime, timedelta

import msgspec

from atlas.core import identifiers
from atlas.core.errors import IdempotencyKeyReused
from atlas.core.messages import ExportMetadata, FlattenedExport, Receipt, User
from atlas.outside.sqlite.capacity import CapacityLimit
from atlas.outside.sqlite.cipher import Cipher
from atlas.outside.sqlite.dead_letters import CRASH_REASON
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.row_codec import (
    COLUMNS,
    IMMUTABLE_COLUMNS,
    INSERT_PAYLOAD,
    ExportRow,
    ImmutableColumns,
    PrivateFields,
    RowCodec,
    build_receipt,
    build_row_aad,
)

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
STREAM_LENGTH = 0  # of the binding of a streamed body, because its end is not known
BINDINGS = "SELECT position, length, export FROM binding WHERE user = ? AND key = ?"
BIND = "INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?, ?)"

PATH_SEARCH_WINDOW = timedelta(minutes=1)
USERS_CACHED_MAX = 10_000


class SqliteIntake:
    """Implements `ports.Intake`."""

    def __init__(self, commits: GroupCommit, codec: RowCodec, capacity: CapacityLimit) -> None:
        self._commits = commits
        self._codec = codec
        self._capacity = capacity
        self._latest_times: OrderedDict[str, datetime] = OrderedDict()  # in paths, by user

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
            receipt = self._build_replayed(row)
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
        return self._build_replayed(row)

    def _build_replayed(self, row: ExportRow) -> Receipt:
        return msgspec.structs.replace(self._codec.build_receipt(row), replayed=True)

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
        at = self._find_path_time(head.user, export.at)
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
        self._remember_path_time(head.user, at)
        self._capacity.take(table.size)
        payload = codec.encrypt_payload(fixed, table.data)
        db.execute(INSERT_PAYLOAD, [inserted.lastrowid, build_row_aad(fixed), row.label, payload])
        return build_receipt(row, fields, export.at)

    def _find_path_time(self, user: User, at: datetime) -> datetime:
        """Return the first time whose path may be free.

        It follows the latest one of the user: otherwise each of thousands of exports sent at once
        would try all earlier paths.
        """
        latest = self._latest_times.get(user.sub)
        if latest is not None and at <= latest <= at + PATH_SEARCH_WINDOW:
            return latest + identifiers.MILLISECOND
        return at

    def _remember_path_time(self, user: User, at: datetime) -> None:
        self._latest_times.pop(user.sub, None)
        self._latest_times[user.sub] = at
        if len(self._latest_times) > USERS_CACHED_MAX:
            self._latest_times.popitem(last=False)


def build_reduced_receipt(export: FlattenedExport, rid: str | None) -> Receipt:
    """Build the receipt of a repeated export from its content, as only its id is stored."""
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


def find_row(db: sqlite3.Connection, select: str, id: str) -> tuple[ExportRow | None, str | None]:
    """Return the row and its reason."""
    columns = db.execute(select, [id]).fetchone()
    return (None, None) if columns is None else (ExportRow(*columns[:-1]), columns[-1])


def is_replaceable(row: ExportRow, reason: str | None) -> bool:
    """True if the same export is accepted as a new one: it was abandoned, or crashed a stage."""
    return row.status == "abandoned" or (row.status == "set_aside" and reason == CRASH_REASON)


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

    def list_bindings(key: str) -> list[tuple[int, int, str]]:
        return db.execute(BINDINGS, [user, cipher.hash_text(key)]).fetchall()

    if head.binding is not None:
        slot = head.binding
        for position, length, export in list_bindings(slot.key):
            if length != slot.length or (position == slot.position and export != id):
                raise IdempotencyKeyReused
        if list_bindings(identifiers.derive_stream_id(head.user, slot.key)):
            raise IdempotencyKeyReused
    stream = head.place
    if stream is not None and stream.key is not None:
        if list_bindings(stream.key):
            raise IdempotencyKeyReused
        for position, _, export in list_bindings(stream.whole):
            if position == stream.position and export != id:
                raise IdempotencyKeyReused


def bind_key(db: sqlite3.Connection, cipher: Cipher, head: ExportMetadata, id: str) -> None:
    user = cipher.hash_user(head.user.sub)
    if head.binding is not None:
        slot = head.binding
        db.execute(BIND, [user, cipher.hash_text(slot.key), slot.position, slot.length, id])
    if head.place is not None:
        stream = head.place
        db.execute(BIND, [user, cipher.hash_text(stream.whole), stream.position, STREAM_LENGTH, id])

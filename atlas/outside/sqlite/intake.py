"""What is accepted: each export once, whoever sends it again, and under whatever key."""

import sqlite3
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any

import msgspec

from atlas.core import identifiers
from atlas.core.errors import IdempotencyKeyReused
from atlas.core.messages import ExportMetadata, FlattenedExport, Receipt, StreamPosition, User
from atlas.outside.sqlite.capacity import CapacityLimit
from atlas.outside.sqlite.cipher import Cipher
from atlas.outside.sqlite.dead_letters import CRASH_REASON
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.row_codec import (
    COLUMNS,
    DESTINATION_AAD,
    KEEP_PAYLOAD,
    ExportRow,
    ImmutableColumns,
    PrivateFields,
    RowCodec,
    build_receipt,
    build_row_aad,
)

TOMBSTONE = "its receipt was shrunk"  # stands where a reason would
INSERT = f"""
    INSERT INTO export ({DESTINATION_AAD}, moment, label) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (user, moment) DO NOTHING
"""
FIND = f"SELECT {COLUMNS}, reason FROM export WHERE id = ?"
FIND_ANY = f"""
    {FIND}1 UNION ALL
    SELECT id, user, '', 0, 0, 0, x'', 'committed', rid, NULL, NULL, '{TOMBSTONE}' FROM digest
    WHERE id = ?1
"""
FORGET = "DELETE FROM export WHERE id = ?"

# what an Idempotency-Key names, and the parts of a streamed body under the id of the whole
OPEN_END = 0  # the length of a stream
SEQUENCE = "SELECT position, length, export FROM binding WHERE user = ? AND key = ?"
BIND = "INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?, ?)"

PATH_SEARCH_WINDOW = timedelta(minutes=1)
USERS_CACHED_MAX = 10_000


class SqliteIntake:
    """Answers `ports.Intake`."""

    def __init__(self, commits: GroupCommit, entries: RowCodec, capacity: CapacityLimit) -> None:
        self._commits = commits
        self._entries = entries
        self._capacity = capacity
        self._latest: OrderedDict[str, datetime] = OrderedDict()  # of the paths of each user

    @run_in_commit
    def append(self, db: sqlite3.Connection, export: FlattenedExport) -> Receipt:
        check_key(db, self._entries.seal, export.head, export.id)
        row, reason = split_columns(db.execute(FIND_ANY, [export.id]).fetchone())
        if row is not None and reason == TOMBSTONE:
            return build_tombstone_receipt(export, row.rid)
        if row is not None and not counts_as_new(row, reason):
            kept = self._mark_replayed(row)
        else:
            if row is not None:
                db.execute(FORGET, [export.id])
            kept = self._insert(db, export)
        bind_key(db, self._entries.seal, export.head, export.id)
        return kept

    @run_in_commit
    def find_existing(
        self, db: sqlite3.Connection, head: ExportMetadata, id: str
    ) -> Receipt | None:
        check_key(db, self._entries.seal, head, id)
        row, reason = split_columns(db.execute(FIND, [id]).fetchone())
        if row is None or counts_as_new(row, reason):
            return None
        bind_key(db, self._entries.seal, head, id)
        return self._mark_replayed(row)

    def _mark_replayed(self, row: ExportRow) -> Receipt:
        return msgspec.structs.replace(self._entries.build_receipt(row), replayed=True)

    def _insert(self, db: sqlite3.Connection, export: FlattenedExport) -> Receipt:
        entries, table, head = self._entries, export.table, export.head
        self._capacity.check(db, table.size)
        fixed = ImmutableColumns(
            export.id,
            entries.seal.hash_user(head.user.sub),
            export.at.isoformat(),
            table.ingested,
            table.rejected,
            table.size,
        )
        at = self._first_moment(head.user, export.at)
        while True:
            path = identifiers.build_path(head.user, at)
            label = PrivateFields(
                head.user.sub, path, table.rejects, head.correlation_id, head.trace
            )
            row = ExportRow(*fixed, entries.encrypt_fields(fixed, label), "accepted", None)
            inserted = db.execute(INSERT, [*fixed, identifiers.count_milliseconds(at), row.label])
            if inserted.rowcount:
                break
            at += identifiers.MILLISECOND
        self._remember(head.user, at)
        self._capacity.take(table.size)
        payload = entries.encrypt_payload(fixed, table.data)
        db.execute(KEEP_PAYLOAD, [inserted.lastrowid, build_row_aad(fixed), row.label, payload])
        return build_receipt(row, label, export.at)

    def _first_moment(self, user: User, at: datetime) -> datetime:
        """The first that may be free. It lies behind the last one found, or thousands of exports
        that one user sends at once would each walk past all that came before.
        """
        latest = self._latest.get(user.sub)
        if latest is not None and at <= latest <= at + PATH_SEARCH_WINDOW:
            return latest + identifiers.MILLISECOND
        return at

    def _remember(self, user: User, at: datetime) -> None:
        self._latest.pop(user.sub, None)
        self._latest[user.sub] = at
        if len(self._latest) > USERS_CACHED_MAX:
            self._latest.popitem(last=False)


def build_tombstone_receipt(export: FlattenedExport, rid: str | None) -> Receipt:
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


def split_columns(columns: tuple[Any, ...] | None) -> tuple[ExportRow | None, str | None]:
    """The row, and its reason."""
    return (None, None) if columns is None else (ExportRow(*columns[:-1]), columns[-1])


def counts_as_new(row: ExportRow, reason: str | None) -> bool:
    """Whether what came through the stage that it crashed, or was given up, comes as a new one."""
    return row.status == "abandoned" or (row.status == "set_aside" and reason == CRASH_REASON)


def find_later_path(db: sqlite3.Connection, hashed: str, label: PrivateFields) -> tuple[str, int]:
    """The first path of this user behind that of the label that no export has, and its moment."""
    select = "SELECT 1 FROM export WHERE user = ? AND moment = ?"
    at = identifiers.parse_path_time(label.path) + identifiers.MILLISECOND
    while db.execute(select, [hashed, identifiers.count_milliseconds(at)]).fetchone():
        at += identifiers.MILLISECOND
    return identifiers.build_path(User(label.sub), at), identifiers.count_milliseconds(at)


def check_key(db: sqlite3.Connection, seal: Cipher, head: ExportMetadata, id: str) -> None:
    """Raises IdempotencyKeyReused when the key of this export names another sequence."""
    user, binding, stream_position = seal.hash_user(head.user.sub), head.binding, head.place
    if binding is not None:
        for position, length, bound in db.execute(SEQUENCE, [user, seal.hash_text(binding.key)]):
            if length != binding.length or (position == binding.position and bound != id):
                raise IdempotencyKeyReused
        stream = seal.hash_text(identifiers.derive_stream_id(head.user, binding.key))
        if db.execute(SEQUENCE, [user, stream]).fetchone():
            raise IdempotencyKeyReused
    if stream_position is not None and stream_position.key is not None:
        if db.execute(SEQUENCE, [user, seal.hash_text(stream_position.key)]).fetchone():
            raise IdempotencyKeyReused
        for position, _, bound in db.execute(
            SEQUENCE, [user, seal.hash_text(stream_position.whole)]
        ):
            if position == stream_position.position and bound != id:
                raise IdempotencyKeyReused


def bind_key(db: sqlite3.Connection, seal: Cipher, head: ExportMetadata, id: str) -> None:
    user = seal.hash_user(head.user.sub)
    if head.binding is not None:
        key = head.binding
        db.execute(BIND, [user, seal.hash_text(key.key), key.position, key.length, id])
    if head.place is not None:
        stream_position: StreamPosition = head.place
        db.execute(
            BIND,
            [user, seal.hash_text(stream_position.whole), stream_position.position, OPEN_END, id],
        )

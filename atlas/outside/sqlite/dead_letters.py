"""What was set aside: as it came, if a stage could not bear it; as a file, if Foundry did not."""

import sqlite3
from collections.abc import Collection
from datetime import datetime
from itertools import count

import msgspec

from atlas.core import identifiers
from atlas.core.messages import Receipt, StageInput
from atlas.outside.sqlite.capacity import CapacityLimit
from atlas.outside.sqlite.compression import compress
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.row_codec import (
    COLUMNS,
    DESTINATION_AAD,
    HAS_PAYLOAD,
    KEEP_PAYLOAD,
    ExportRow,
    ImmutableColumns,
    PrivateFields,
    RowCodec,
    build_row_aad,
)

CRASH_REASON = "it crashes a stage"
ORIGINAL = f"status = 'set_aside' AND reason = '{CRASH_REASON}'"
INSERT = f"""
    INSERT INTO export ({DESTINATION_AAD}, moment, label, status, reason)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'set_aside', '{CRASH_REASON}')
    ON CONFLICT (user, moment) DO NOTHING RETURNING number, {COLUMNS}
"""
PAYLOAD = "(SELECT sealed FROM payload WHERE payload.number = export.number)"
FIND = f"SELECT {COLUMNS}, {PAYLOAD} FROM export WHERE id = ? AND {ORIGINAL}"
ACCEPT = f"""
    UPDATE export SET status = 'accepted', tries = 0, since = NULL, reason = NULL, rid = NULL
    WHERE status = 'set_aside' AND reason IS NOT '{CRASH_REASON}' AND (:id IS NULL OR id = :id)
        AND {HAS_PAYLOAD}
"""  # version 1 gave no reason
ABANDON = """
    UPDATE export SET status = 'abandoned' WHERE status = 'set_aside' AND (:id IS NULL OR id = :id)
"""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StageInput)


class SqliteDeadLetters:
    """Answers `ports.Aside`."""

    def __init__(self, commits: GroupCommit, entries: RowCodec, capacity: CapacityLimit) -> None:
        self._commits = commits
        self._entries = entries
        self._capacity = capacity

    @run_in_commit
    def store(self, db: sqlite3.Connection, original: StageInput, id: str, at: datetime) -> Receipt:
        entries, head = self._entries, original.head
        db.execute("DELETE FROM export WHERE id = ? AND status = 'abandoned'", [id])
        found = db.execute(f"SELECT {COLUMNS} FROM export WHERE id = ?", [id]).fetchone()
        if found:
            receipt = entries.build_receipt(ExportRow(*found))
            return msgspec.structs.replace(receipt, replayed=True)
        text = _encoder.encode(original)
        self._capacity.check(db, len(text))
        fixed = ImmutableColumns(
            id, entries.seal.hash_user(head.user.sub), at.isoformat(), 0, 0, len(text)
        )
        label = PrivateFields(head.user.sub, "", (), head.correlation_id)
        sealed = entries.encrypt_fields(fixed, label)
        moments = count(identifiers.count_milliseconds(at))  # of a path that it may have some day
        made = (db.execute(INSERT, [*fixed, each, sealed]).fetchone() for each in moments)
        number, *columns = next(row for row in made if row is not None)
        self._capacity.take(len(text))
        payload = entries.encrypt_payload(fixed, compress(text))
        db.execute(KEEP_PAYLOAD, [number, build_row_aad(fixed), sealed, payload])
        return entries.build_receipt(ExportRow(*columns))

    @run_in_commit
    def list_original_ids(self, db: sqlite3.Connection) -> Collection[str]:
        select = f"SELECT id FROM export WHERE {ORIGINAL}"
        return [id for (id,) in db.execute(select).fetchall()]

    @run_in_commit
    def read_original(self, db: sqlite3.Connection, id: str) -> StageInput | None:
        found = db.execute(FIND, [id]).fetchone()
        if found is None:
            return None
        *columns, payload = found
        kept: StageInput = _decoder.decode(
            self._entries.decrypt_payload(ExportRow(*columns), payload)
        )
        return kept

    @run_in_commit
    def delete(self, db: sqlite3.Connection, id: str) -> None:
        delete = f"DELETE FROM export WHERE id = ? AND {ORIGINAL}"
        db.execute(delete, [id])

    @run_in_commit
    def requeue(self, db: sqlite3.Connection, id: str | None) -> int:
        return db.execute(ACCEPT, {"id": id}).rowcount

    @run_in_commit
    def abandon(self, db: sqlite3.Connection, id: str | None) -> int:
        return db.execute(ABANDON, {"id": id}).rowcount

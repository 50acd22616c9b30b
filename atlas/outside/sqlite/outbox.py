"""Hands exports to the uploader; each step of the commit protocol is one transaction."""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from atlas.core import identifiers
from atlas.core.commits import Backlog, Conclusion, Intent, Lane, WorkInHand
from atlas.core.errors import CorruptEntry
from atlas.core.messages import (
    BranchSnapshot,
    CommitGroup,
    File,
    FileFormat,
    GroupLimits,
    Receipt,
    TransactionKind,
)
from atlas.core.personal_data import DatasetFile
from atlas.outside.journal import call_order
from atlas.outside.journal.entries import ClaimedRow, group_by_file
from atlas.outside.journal.retention import ReceiptRetention
from atlas.outside.journal.row_codec import ExportRow, RowCodec
from atlas.outside.sqlite import claims, reconciliation
from atlas.outside.sqlite.capacity import CapacityLimit
from atlas.outside.sqlite.columns import COLUMNS, SELECT_PAYLOAD
from atlas.outside.sqlite.conclusions import apply_conclusion
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.intake import find_later_path
from atlas.outside.sqlite.reconciliation import encode_ids
from atlas.outside.sqlite.retention import prune

SELECT_CLAIMED = f"SELECT {COLUMNS}, isolation, tries FROM export WHERE status = 'claimed'"
CLAIMED = f"{SELECT_CLAIMED} ORDER BY number"
CLAIMED_BY_ID = f"{SELECT_CLAIMED} AND id IN (SELECT value FROM json_each(?)) ORDER BY number"
READ = f"""
    SELECT {COLUMNS}, {SELECT_PAYLOAD} FROM export
    WHERE id IN (SELECT value FROM json_each(?)) ORDER BY number
"""
RECORD_FILE = """
    UPDATE export SET file = ?, file_bytes = ?
    WHERE status = 'claimed' AND id IN (SELECT value FROM json_each(?))
"""
CLEAR_INTENTS = "DELETE FROM intent"


class SqliteOutbox:
    """Implements `ports.Outbox`."""

    def __init__(
        self,
        commits: GroupCommit,
        codec: RowCodec,
        capacity: CapacityLimit,
        retention: ReceiptRetention,
    ) -> None:
        self._commits = commits
        self._codec = codec
        self._capacity = capacity
        self._retention = retention

    async def confirm_lead(self) -> None:
        """Do nothing: the process that has the file open leads."""

    @run_in_commit
    def read_backlog(self, db: sqlite3.Connection, limits: GroupLimits) -> Backlog:
        return claims.read_backlog(db, limits)

    @run_in_commit
    def read_in_hand(self, db: sqlite3.Connection) -> WorkInHand:
        return WorkInHand(self._read_claimed(db), read_open(db), read_intents(db))

    @run_in_commit
    def claim(
        self, db: sqlite3.Connection, limits: GroupLimits, snapshot: BranchSnapshot, lane: Lane
    ) -> CommitGroup | None:
        self._require_nothing_in_hand(db)
        claims.claim(db, limits, lane)
        group = self._read_claimed(db)
        if group is not None:
            record_intent(db, snapshot, "APPEND")
        return group

    @run_in_commit
    def record_intent(
        self, db: sqlite3.Connection, snapshot: BranchSnapshot, kind: TransactionKind
    ) -> None:
        self._require_nothing_in_hand(db)
        record_intent(db, snapshot, kind)

    @run_in_commit
    def record_open(
        self, db: sqlite3.Connection, transaction: str, limits: GroupLimits
    ) -> CommitGroup:
        recorded = read_open(db)
        if recorded != transaction:
            has_intent = bool(read_intents(db))
            call_order.require_intent(has_intent=has_intent, recorded=recorded)
            if claims.has_fresh(db):
                claims.claim_fresh(db, limits, is_late=True)
            db.execute(CLEAR_INTENTS)  # the transaction settles them
            db.execute("INSERT OR IGNORE INTO open_transaction VALUES (?)", [transaction])
        return self._read_claimed(db) or CommitGroup(())

    @run_in_commit
    def record_file(
        self,
        db: sqlite3.Connection,
        ids: Collection[str],
        format: FileFormat,
        size: int,
        *,
        is_shared: bool,
    ) -> File:
        encoded = encode_ids(ids)
        rows = split_rows(db.execute(CLAIMED_BY_ID, [encoded]).fetchall())
        call_order.require_claimed(len(rows), len(ids), is_shared=is_shared)
        name: str = format
        if is_shared:
            first_path = self._codec.decrypt_fields(rows[0].row).path
            name = find_free_group_path(db, first_path, format, encoded)
        db.execute(RECORD_FILE, [name, size, encoded])
        filed = [each._replace(row=each.row._replace(file=name, file_bytes=size)) for each in rows]
        (file,) = group_by_file(self._codec, filed)
        return file

    @run_in_commit
    def conclude(self, db: sqlite3.Connection, conclusion: Conclusion) -> Sequence[Receipt]:
        recorded = read_open(db)
        is_in_hand = recorded is not None or claims.has_claimed(db)
        call_order.require_recorded(
            conclusion.transaction, recorded=recorded, is_in_hand=is_in_hand
        )
        for id, verdict in conclusion.verdicts.items():
            if verdict.kind == "moved":
                self._move(db, id)
        rows = [ExportRow(*row) for row in apply_conclusion(db, conclusion)]
        db.execute("DELETE FROM open_transaction")
        return self._finish_rows(db, rows)

    @run_in_commit
    def clear_intents(self, db: sqlite3.Connection) -> None:
        db.execute(CLEAR_INTENTS)

    @run_in_commit
    def read(self, db: sqlite3.Connection, ids: Collection[str]) -> Mapping[str, bytes]:
        payloads = {}
        for *columns, payload in db.execute(READ, [encode_ids(ids)]):
            row = ExportRow(*columns)
            with suppress(CorruptEntry):
                self._codec.decrypt_fields(row)  # only to check: they hold the path
                payloads[row.id] = self._codec.decrypt_compressed(row, payload)
        return payloads

    @run_in_commit
    def filter_own_transactions(
        self, db: sqlite3.Connection, transactions: Collection[str]
    ) -> frozenset[str]:
        return reconciliation.filter_own_transactions(db, transactions)

    @run_in_commit
    def has_committed_lately(self, db: sqlite3.Connection, transaction: str) -> bool:
        return reconciliation.has_committed_lately(db, transaction)

    @run_in_commit
    def list_uncommitted(self, db: sqlite3.Connection, after: str) -> Sequence[File]:
        rows = reconciliation.read_uncommitted(db, after)
        own = [ClaimedRow(row._replace(file=None, file_bytes=None)) for row in rows]
        return group_by_file(self._codec, own)

    @run_in_commit
    def mark_found(
        self, db: sqlite3.Connection, matches: Sequence[tuple[DatasetFile, Collection[str]]]
    ) -> Sequence[Receipt]:
        rows = [row for file, ids in matches for row in reconciliation.mark_found(db, ids, file)]
        return self._finish_rows(db, rows)

    async def list_doubtful(self) -> Collection[str]:
        return ()

    async def clear_doubt(self, ids: Collection[str]) -> None:
        """Do nothing: a file on a disk does not lose its latest commits."""

    def _require_nothing_in_hand(self, db: sqlite3.Connection) -> None:
        is_in_hand = claims.has_claimed(db) or read_open(db) is not None
        call_order.require_nothing_in_hand(is_in_hand=is_in_hand)

    def _move(self, db: sqlite3.Connection, id: str) -> None:
        """Give a claimed export a later path; with an earlier one, two exports could swap paths."""
        select = f"SELECT {COLUMNS} FROM export WHERE id = ? AND status = 'claimed'"
        columns = db.execute(select, [id]).fetchone()
        if columns is None:
            return
        row = ExportRow(*columns)
        try:
            fields = self._codec.decrypt_fields(row)
        except CorruptEntry:
            return  # reported when it is claimed again
        path, moment = find_later_path(db, row.user, fields)
        label = self._codec.encrypt_fields(row, msgspec.structs.replace(fields, path=path))
        db.execute("UPDATE export SET moment = ?, label = ? WHERE id = ?", [moment, label, id])

    def _finish_rows(self, db: sqlite3.Connection, rows: Sequence[ExportRow]) -> Sequence[Receipt]:
        """Return the receipts of ended exports; count committed ones, and prune old receipts."""
        committed = [row.size for row in rows if row.status == "committed"]
        if committed:
            self._capacity.record_committed(sum(committed))
            prune(db, self._retention, len(committed))
        ended = [row for row in rows if row.status in {"committed", "set_aside"}]
        return [self._codec.build_receipt(row) for row in ended]

    def _read_claimed(self, db: sqlite3.Connection) -> CommitGroup | None:
        rows = db.execute(CLAIMED).fetchall()
        return CommitGroup(group_by_file(self._codec, split_rows(rows))) if rows else None


def split_rows(rows: Iterable[tuple[Any, ...]]) -> list[ClaimedRow]:
    return [
        ClaimedRow(ExportRow(*columns), isolation, tries) for *columns, isolation, tries in rows
    ]


def find_free_group_path(
    db: sqlite3.Connection, first_path: str, format: FileFormat, ids: str
) -> str:
    """Return the first free path for the shared file of a group.

    `first_path` is that of its first export. `ids` are the exports of the group, as JSON: their own
    shared path counts as free, so that recording the file can be repeated.
    """
    select = "SELECT 1 FROM export WHERE file = ? AND id NOT IN (SELECT value FROM json_each(?))"
    return next(
        path
        for path in identifiers.group_paths(first_path, format)
        if not db.execute(select, [path, ids]).fetchone()
    )


def record_intent(db: sqlite3.Connection, snapshot: BranchSnapshot, kind: TransactionKind) -> None:
    """Record an intent. It replaces an earlier one on the same head, which it covers."""
    row = [kind, snapshot.head, snapshot.at.isoformat()]
    db.execute("INSERT OR REPLACE INTO intent VALUES (?, ?, ?)", row)


def read_intents(db: sqlite3.Connection) -> tuple[Intent, ...]:
    rows = db.execute("SELECT kind, head, at FROM intent ORDER BY at").fetchall()
    return tuple(
        Intent(kind, BranchSnapshot(head, datetime.fromisoformat(at))) for kind, head, at in rows
    )


def read_open(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT rid FROM open_transaction").fetchone()
    return None if row is None else str(row[0])

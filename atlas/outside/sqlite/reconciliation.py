"""Compares the journal with the dataset, for example after a backup was restored."""

import sqlite3
from collections.abc import Collection

import msgspec

from atlas.core import identifiers
from atlas.core.personal_data import DatasetFile
from atlas.outside.journal.entries import CRASH_REASON
from atlas.outside.journal.row_codec import ExportRow
from atlas.outside.sqlite.columns import COLUMNS, HAS_PAYLOAD

PAGE = 1_000
NEWEST = f"SELECT rid FROM export WHERE status = 'committed' ORDER BY number DESC LIMIT {PAGE}"
KNOWN = """
    SELECT rid FROM export WHERE status = 'committed' AND rid IN (SELECT value FROM json_each(:all))
    UNION SELECT rid FROM digest WHERE rid IN (SELECT value FROM json_each(:all))
"""
HAS_COMMITTED = """
    SELECT (SELECT exports FROM total WHERE status = 'committed') > 0
        OR EXISTS (SELECT 1 FROM digest)
"""
UNCOMMITTED = " UNION ALL ".join(
    f"SELECT {COLUMNS}, number FROM export WHERE {condition} AND number > :after"
    for condition in (
        "status = 'accepted'",
        "status = 'claimed'",
        f"status = 'set_aside' AND reason IS NOT '{CRASH_REASON}' AND {HAS_PAYLOAD}",
    )
)
MARK_FOUND = f"""
    UPDATE export SET
        status = 'committed', rid = ?, file = ?, file_bytes = ?, reason = NULL
    WHERE status IN ('accepted', 'claimed', 'set_aside')
        AND id IN (SELECT value FROM json_each(?))
    RETURNING {COLUMNS}
"""


def filter_own_transactions(
    db: sqlite3.Connection, transactions: Collection[str]
) -> frozenset[str]:
    """Return the known transactions; recent ones are tried first, as there is no index."""
    requested = frozenset(transactions)
    known = requested.intersection(rid for (rid,) in db.execute(NEWEST))
    if known != requested:
        known = frozenset(rid for (rid,) in db.execute(KNOWN, {"all": encode_ids(requested)}))
    return known


def has_committed_lately(db: sqlite3.Connection, transaction: str) -> bool:
    return any(rid == transaction for (rid,) in db.execute(NEWEST))


def has_committed(db: sqlite3.Connection) -> bool:
    return bool(db.execute(HAS_COMMITTED).fetchone()[0])


def read_uncommitted(db: sqlite3.Connection, after: str) -> list[ExportRow]:
    """Return a page of exports after the one with this id, whatever its status is by now."""
    cursor_row = db.execute("SELECT number FROM export WHERE id = ?", [after]).fetchone()
    params = {"after": cursor_row[0] if cursor_row else 0}
    statement = f"{UNCOMMITTED} ORDER BY number LIMIT {PAGE}"
    return [ExportRow(*row[:-1]) for row in db.execute(statement, params).fetchall()]


def mark_found(
    db: sqlite3.Connection, ids: Collection[str], dataset_file: DatasetFile
) -> list[ExportRow]:
    """Mark the exports as committed in this file, and return their rows."""
    path = dataset_file.path
    file = identifiers.detect_format(path) if identifiers.is_single_export(path) else path
    params = [dataset_file.transaction, file, dataset_file.bytes, encode_ids(ids)]
    return [ExportRow(*row) for row in db.execute(MARK_FOUND, params).fetchall()]


def encode_ids(ids: Collection[str]) -> str:
    """Encode for `json_each`."""
    return msgspec.json.encode(list(ids)).decode()

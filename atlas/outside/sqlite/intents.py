"""Stores intents to begin a transaction, and the transaction that is open."""

import sqlite3
from datetime import datetime

from atlas.core.commits import Intent
from atlas.core.messages import BranchSnapshot, TransactionKind


def record_intent(db: sqlite3.Connection, snapshot: BranchSnapshot, kind: TransactionKind) -> None:
    """Store an intent. It replaces an earlier one on the same head, as the later one covers it."""
    row = [kind, snapshot.head, snapshot.at.isoformat()]
    db.execute("INSERT OR REPLACE INTO intent VALUES (?, ?, ?)", row)


def read_intents(db: sqlite3.Connection) -> tuple[Intent, ...]:
    rows = db.execute("SELECT kind, head, at FROM intent ORDER BY at").fetchall()
    return tuple(
        Intent(kind, BranchSnapshot(head, datetime.fromisoformat(at))) for kind, head, at in rows
    )


def clear_intents(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM intent")


def record_open(db: sqlite3.Connection, transaction: str) -> None:
    """Store the open transaction, and delete the intents, which it settles."""
    clear_intents(db)
    db.execute("INSERT OR IGNORE INTO open_transaction VALUES (?)", [transaction])


def read_open(db: sqlite3.Connection) -> str | None:
    found = db.execute("SELECT rid FROM open_transaction").fetchone()
    return None if found is None else str(found[0])


def clear_open(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM open_transaction")

"""What is noted of attempts to begin a transaction, until it is known what became of them."""

import sqlite3

from atlas.core.messages import BranchSnapshot, TransactionKind

ATTEMPTS: dict[TransactionKind, str] = {"APPEND": "attempt", "DELETE": "removal"}  # the tables


def note_attempt(db: sqlite3.Connection, seen: BranchSnapshot, kind: TransactionKind) -> None:
    row = [seen.head, seen.at.isoformat()]
    db.execute(f"INSERT OR REPLACE INTO {ATTEMPTS[kind]} VALUES (?, ?)", row)


def note_begun(db: sqlite3.Connection, transaction: str) -> None:
    forget_attempts(db)
    db.execute("INSERT OR IGNORE INTO begun VALUES (?)", [transaction])


def forget_attempts(db: sqlite3.Connection) -> None:
    for table in ATTEMPTS.values():
        db.execute(f"DELETE FROM {table}")

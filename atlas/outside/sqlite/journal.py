"""Opens the journal: its one owner, its schema, its parts."""

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from atlas.core.errors import CannotStart, JournalHeld
from atlas.outside.sqlite.commits import Commits
from atlas.outside.sqlite.folder import keep_names
from atlas.outside.sqlite.intake import SqliteIntake
from atlas.outside.sqlite.ledger import SqliteLedger
from atlas.outside.sqlite.outbox import SqliteOutbox
from atlas.outside.sqlite.receipts import SqliteReceipts

VERSION = 1
HELD_SECONDS = 15.0  # a predecessor that is draining is gone by then

PRAGMAS = """
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA wal_checkpoint(TRUNCATE);  -- the log may stand in memory only: write it again
"""
SCHEMA = """
    CREATE TABLE export (
        number         INTEGER PRIMARY KEY,  -- the order of acceptance
        id             TEXT NOT NULL UNIQUE,
        user           TEXT NOT NULL,
        at             TEXT NOT NULL,        -- the moment of acceptance
        path           TEXT NOT NULL UNIQUE,
        ingested       INTEGER NOT NULL,     -- rows; with `rejected`, all lines received
        rejected       INTEGER NOT NULL,
        rejects        BLOB NOT NULL,        -- the first few, as JSON
        bytes          INTEGER NOT NULL,     -- of the file in the dataset
        payload        BLOB,                 -- that file, compressed; gone once it is committed
        correlation_id TEXT NOT NULL,
        tries          INTEGER NOT NULL DEFAULT 0,
        status         TEXT NOT NULL DEFAULT 'accepted'
                       CHECK (status IN ('accepted', 'claimed', 'committed', 'set_aside')),
        rid            TEXT                  -- the transaction
    ) STRICT;

    CREATE INDEX mailbox ON export (number, bytes) WHERE status = 'accepted';
    CREATE INDEX claimed ON export (number) WHERE status = 'claimed';
    CREATE INDEX receipts ON export (user, number);

    CREATE TABLE binding (                   -- what an Idempotency-Key names
        user     TEXT NOT NULL,
        key      TEXT NOT NULL,
        position INTEGER NOT NULL,
        length   INTEGER NOT NULL,
        export   TEXT NOT NULL REFERENCES export (id) ON DELETE CASCADE,
        PRIMARY KEY (user, key, position)
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX bound ON binding (export);

    CREATE TABLE attempt (
        head TEXT PRIMARY KEY,  -- seen again, it has not moved: the later time is enough
        at   TEXT NOT NULL
    ) STRICT;

    CREATE TABLE total (        -- in the same commit as what it sums, so that it always balances
        status  TEXT PRIMARY KEY,
        exports INTEGER NOT NULL DEFAULT 0,
        bytes   INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    INSERT INTO total (status) VALUES ('accepted'), ('claimed'), ('committed'), ('set_aside');

    CREATE TRIGGER comes AFTER INSERT ON export BEGIN
        UPDATE total SET exports = exports + 1, bytes = bytes + new.bytes WHERE status = new.status;
    END;
    CREATE TRIGGER moves AFTER UPDATE OF status ON export WHEN old.status <> new.status BEGIN
        UPDATE total SET exports = exports - 1, bytes = bytes - old.bytes WHERE status = old.status;
        UPDATE total SET exports = exports + 1, bytes = bytes + new.bytes WHERE status = new.status;
    END;
    CREATE TRIGGER goes AFTER DELETE ON export BEGIN
        UPDATE total SET exports = exports - 1, bytes = bytes - old.bytes WHERE status = old.status;
    END;

    CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class SqliteJournal:
    """The parts of an open journal. `log_key` is its own, made with it: it hashes users in logs."""

    intake: SqliteIntake
    receipts: SqliteReceipts
    outbox: SqliteOutbox
    ledger: SqliteLedger
    log_key: bytes
    is_durable: bool


@contextmanager
def opened(
    path: Path | None, bytes_max: int, owner: str = "", wait_seconds: float = HELD_SECONDS
) -> Iterator[SqliteJournal]:
    """The journal in this file, which is ours until the end; in memory if None.

    `owner` is what others are told who find it held: where to ask. Raises JournalHeld, CannotStart.
    Blocks for as long as another process holds it, at most `wait_seconds`, and so is to be entered
    before the event loop has something to do.
    """
    with ownership(path, owner, wait_seconds), ThreadPoolExecutor(1, "journal") as thread:
        db = thread.submit(connect, path).result()
        commits = Commits(db, thread, partial(connect, path))
        try:
            log_key = thread.submit(secret, db, "log_key").result()
            yield SqliteJournal(
                intake=SqliteIntake(commits, bytes_max),
                receipts=SqliteReceipts(commits),
                outbox=SqliteOutbox(commits),
                ledger=SqliteLedger(commits, bytes_max, log_key),
                log_key=log_key,
                is_durable=path is not None,
            )
        finally:
            thread.submit(commits.close).result()


@contextmanager
def ownership(path: Path | None, owner: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lock beside the journal. It goes with the process, however that dies."""
    if path is None:
        yield
        return
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"The journal cannot be opened at {path}: {error.strerror}.") from error
    try:
        acquire(descriptor, path, wait_seconds)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {owner}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def acquire(descriptor: int, path: Path, wait_seconds: float) -> None:
    patience = time.monotonic() + wait_seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= patience:
                pid, _, owner = os.pread(descriptor, 256, 0).decode().partition(" ")
                raise JournalHeld(path, pid, owner) from None
            time.sleep(0.1)


def connect(path: Path | None) -> sqlite3.Connection:
    """The one connection. Raises CannotStart when the file is no journal that we can read."""
    try:
        with ExitStack() as otherwise:
            db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=True)
            otherwise.callback(db.close)
            db.executescript(PRAGMAS)
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise CannotStart(f"The journal {path} was written by a newer Atlas (v{version}).")
            if version == 0:
                db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            keep_names(path)
            otherwise.pop_all()
    except sqlite3.Error as error:
        raise CannotStart(f"{path} is no journal that can be read: {error}.") from error
    return db


def secret(db: sqlite3.Connection, name: str) -> bytes:
    """Made once, kept for good."""
    db.execute("INSERT OR IGNORE INTO secret VALUES (?, ?)", [name, secrets.token_bytes(32)])
    value: bytes = db.execute("SELECT value FROM secret WHERE name = ?", [name]).fetchone()[0]
    return value

"""The tables of the journal, and how those of earlier versions become them."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from atlas.core.errors import CannotStart
from atlas.core.events import LedgerUnbalanced
from atlas.core.messages import Reject
from atlas.outside.sqlite.entries import Entries, Fixed, Label

VERSION = 5

TABLES = """
    CREATE TABLE export (
        number   INTEGER PRIMARY KEY,   -- the order of acceptance
        id       TEXT NOT NULL UNIQUE,  -- the digest of what was sent
        user     TEXT NOT NULL,         -- a keyed hash of the sub
        at       TEXT NOT NULL,         -- the moment of acceptance
        ingested INTEGER NOT NULL,      -- rows; with `rejected`, all lines received
        rejected INTEGER NOT NULL,
        bytes    INTEGER NOT NULL,      -- of its rows, as NDJSON
        place    TEXT NOT NULL UNIQUE,  -- a keyed hash of its path, if it shares no file
        label    BLOB NOT NULL,         -- sealed: see entries.py
        payload  BLOB,                  -- sealed: its rows, compressed; gone once it is committed
        tries    INTEGER NOT NULL DEFAULT 0,  -- failures that count
        status   TEXT NOT NULL DEFAULT 'accepted'
                 CHECK (status IN ('accepted', 'claimed', 'committed', 'set_aside', 'abandoned')),
        since    INTEGER,               -- the newest export that was committed when it failed last
        reason   TEXT,                  -- why it failed last, or was set aside
        rid      TEXT,                  -- the transaction
        file     TEXT,                  -- its format, if it is put as another file than it came;
                                        -- or the path of a file that it shares with others
        file_bytes INTEGER,             -- of that file
        isolation INTEGER NOT NULL DEFAULT 0,  -- 0 fresh, 1 refused, 2 and more in ever smaller
                                               -- groups: see claims.py
        turn     INTEGER NOT NULL DEFAULT 0    -- its place in the line of those that failed
    ) STRICT;

    CREATE INDEX mailbox ON export (number, bytes, isolation) WHERE status = 'accepted';
    CREATE INDEX failed ON export (turn, number, isolation, bytes)
        WHERE status = 'accepted' AND isolation > 0;
    CREATE INDEX claimed ON export (number, bytes) WHERE status = 'claimed';
    CREATE INDEX aside ON export (number, bytes) WHERE status = 'set_aside';
    CREATE INDEX given_up ON export (number) WHERE status = 'abandoned';
    CREATE INDEX done ON export (number, at) WHERE status = 'committed';
    CREATE INDEX filed ON export (file) WHERE file IS NOT NULL;
    CREATE INDEX receipts ON export (user, number);

    CREATE TABLE binding (              -- what an Idempotency-Key names
        user     TEXT NOT NULL,
        key      TEXT NOT NULL,         -- a keyed hash of it
        position INTEGER NOT NULL,
        length   INTEGER NOT NULL,
        export   TEXT NOT NULL REFERENCES export (id) ON DELETE CASCADE,
        PRIMARY KEY (user, key, position)
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX bound ON binding (export);

    CREATE TABLE intent (       -- an attempt to begin a transaction, until it is settled
        kind TEXT NOT NULL,     -- of transaction
        head TEXT NOT NULL,     -- of the branch before it; if it has not moved, the later time is
        at   TEXT NOT NULL,     -- enough
        PRIMARY KEY (kind, head)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE open_transaction (  -- ours, until it is concluded
        rid TEXT PRIMARY KEY
    ) STRICT;

    CREATE TABLE total (        -- in the same commit as what it sums, so that it always balances
        status  TEXT PRIMARY KEY,
        exports INTEGER NOT NULL DEFAULT 0,
        bytes   INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    INSERT INTO total (status)
    VALUES ('accepted'), ('claimed'), ('committed'), ('set_aside'), ('abandoned');

    CREATE TRIGGER comes AFTER INSERT ON export BEGIN
        UPDATE total SET exports = exports + 1, bytes = bytes + new.bytes WHERE status = new.status;
    END;
    CREATE TRIGGER moves AFTER UPDATE OF status, bytes ON export
    WHEN old.status <> new.status OR old.bytes <> new.bytes BEGIN
        UPDATE total SET exports = exports - 1, bytes = bytes - old.bytes WHERE status = old.status;
        UPDATE total SET exports = exports + 1, bytes = bytes + new.bytes WHERE status = new.status;
    END;
    CREATE TRIGGER goes AFTER DELETE ON export BEGIN
        UPDATE total SET exports = exports - 1, bytes = bytes - old.bytes WHERE status = old.status;
    END;

    CREATE TABLE digest (       -- what is left of a receipt in the end
        id   TEXT PRIMARY KEY,
        user TEXT NOT NULL,
        rid  TEXT
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
"""
SINCE_2 = (
    "ALTER TABLE export ADD COLUMN file TEXT",
    "ALTER TABLE export ADD COLUMN file_bytes INTEGER",
    "CREATE INDEX filed ON export (file) WHERE file IS NOT NULL",
)
SINCE_3 = (
    "CREATE TABLE removal (head TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT",
    "CREATE INDEX given_up ON export (number) WHERE status = 'abandoned'",
)
BEFORE_5 = (  # tables of this version, and what stood in others
    ("intent", "SELECT 'APPEND', head, at FROM attempt"),
    ("intent", "SELECT 'DELETE', head, at FROM removal"),
    ("open_transaction", "SELECT rid FROM begun"),
)
SINCE_4 = (
    "ALTER TABLE export ADD COLUMN isolation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE export ADD COLUMN turn INTEGER NOT NULL DEFAULT 0",
    "DROP INDEX mailbox",
    "DROP INDEX suspect",
    "CREATE INDEX mailbox ON export (number, bytes, isolation) WHERE status = 'accepted'",
    """CREATE INDEX failed ON export (turn, number, isolation, bytes)
        WHERE status = 'accepted' AND isolation > 0""",
    """CREATE TABLE intent (
        kind TEXT NOT NULL, head TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (kind, head)
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE open_transaction (rid TEXT PRIMARY KEY) STRICT",
    *(f"INSERT INTO {table} {select}" for table, select in BEFORE_5),
    "DROP TABLE attempt",
    "DROP TABLE removal",
    "DROP TABLE begun",
)
TRIES_OF_FAILURES = (  # up to version 4 a try counted when it began, and was noted in its rows
    """INSERT OR IGNORE INTO open_transaction
        SELECT rid FROM export WHERE status = 'claimed' AND rid IS NOT NULL""",
    """UPDATE export SET tries = max(0, tries - 1), rid = NULL
        WHERE status = 'claimed' AND rid IS NOT NULL""",  # version 1 counted otherwise
    """UPDATE export SET isolation = min(tries, 4)
        WHERE tries >= 2 AND isolation = 0 AND status <> 'committed'""",
)
SINCE = {2: (*SINCE_2, *SINCE_3, *SINCE_4), 3: (*SINCE_3, *SINCE_4), 4: SINCE_4}
COLUMNS = "number, id, user, at, ingested, rejected, bytes, place, label, payload"
MOVED = f"INSERT INTO export ({COLUMNS}, tries, status, rid) VALUES (?{', ?' * 12})"

LIVE = """
    SELECT status, exports, bytes FROM total WHERE status IN ('accepted', 'claimed', 'set_aside')
"""

UNSAID = re.compile(rb"--[^\n]*|\s")

_rejects = msgspec.json.Decoder(tuple[Reject, ...])


def prepare(db: sqlite3.Connection, path: Path | None, entries: Entries) -> None:
    """Make the tables, or bring them up to this version. Raises CannotStart for a newer one."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise CannotStart(f"The journal {path} was written by a newer Atlas (v{version}).")
    if version == VERSION:
        return
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA secure_delete = ON")  # what was in clear stands in no free page, whenever
    db.execute("BEGIN IMMEDIATE")  # we end
    if version == 1:
        seal_what_was_in_clear(db, entries)
    elif version in SINCE:
        for statement in SINCE[version]:
            db.execute(statement)
    else:
        create(db)
    for statement in TRIES_OF_FAILURES if version else ():
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA secure_delete = OFF")
    if version == 1:
        db.execute("VACUUM")


def is_as_made(db: sqlite3.Connection) -> bool:
    """Whether its tables, indexes and triggers say what those of this version say.

    A flipped bit in their text breaks no page, and may stop or spoil every write from then on.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        create(fresh)
        return statements(db) == statements(fresh)


def statements(db: sqlite3.Connection) -> dict[bytes, bytes]:
    """What made each of them, without space and comments: an upgrade writes those otherwise.

    As bytes: a bit that flips may make text of them that is no UTF-8, or no text.
    """
    said = "SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema WHERE sql IS NOT NULL"
    return {name: UNSAID.sub(b"", sql) for name, sql in db.execute(said)}


def balance(db: sqlite3.Connection) -> list[LedgerUnbalanced]:
    """Count what is not committed, and set right what is noted of it; what had to be."""
    found = []
    for status, noted, counted in compared(db):
        if counted != noted:
            found.append(LedgerUnbalanced(status, noted[0], counted[0]))
            update = "UPDATE total SET exports = ?, bytes = ? WHERE status = ?"
            db.execute(update, [*counted, status])
    return found


def imbalance(db: sqlite3.Connection) -> int:
    """By how many exports it is wrong now; nothing is set right."""
    return sum(abs(noted[0] - counted[0]) for _, noted, counted in compared(db))


def compared(db: sqlite3.Connection) -> Iterator[tuple[str, list[int], list[int]]]:
    """Of what is not committed: the exports and bytes that are noted, and those that are there."""
    for status, *noted in db.execute(LIVE).fetchall():
        count = f"SELECT count(*), coalesce(sum(bytes), 0) FROM export WHERE status = '{status}'"
        yield status, noted, list(db.execute(count).fetchone())


def create(db: sqlite3.Connection) -> None:
    """Statement by statement: executescript would commit what was begun."""
    text = ""
    for line in TABLES.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            db.execute(text)
            text = ""


def seal_what_was_in_clear(db: sqlite3.Connection, entries: Entries) -> None:
    """Version 1 kept payloads, subs, paths and keys as they were."""
    old = ("export", "binding", "attempt", "total", "secret")
    for trigger in ("comes", "moves", "goes"):
        db.execute(f"DROP TRIGGER {trigger}")
    for index in ("mailbox", "claimed", "receipts", "bound"):
        db.execute(f"DROP INDEX {index}")
    for table in old:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    create(db)
    for row in db.execute(
        "SELECT number, id, user, at, ingested, rejected, bytes, path, rejects, correlation_id,"
        " payload, tries, status, rid FROM old_export ORDER BY number"
    ):
        db.execute(MOVED, sealed(row, entries))
    for sub, key, *place in db.execute(
        "SELECT user, key, position, length, export FROM old_binding"
    ):
        row = [entries.seal.user(sub), entries.seal.name(key), *place]
        db.execute("INSERT INTO binding VALUES (?, ?, ?, ?, ?)", row)
    db.execute("INSERT INTO intent SELECT 'APPEND', head, at FROM old_attempt")
    for table in ("binding", "export", "attempt", "total", "secret"):
        db.execute(f"DROP TABLE old_{table}")


def sealed(row: tuple[Any, ...], entries: Entries) -> list[object]:
    number, id, sub, at, ingested, rejected, size, path, rejects, correlation_id, *rest = row
    payload, tries, status, rid = rest
    fixed = Fixed(id, entries.seal.user(sub), at, ingested, rejected, size)
    label = Label(sub, path, _rejects.decode(rejects), correlation_id)
    kept = None
    if payload is not None:
        kept = entries.close_payload(fixed, payload)
    place = entries.seal.name(path)
    return [number, *fixed, place, entries.close_label(fixed, label), kept, tries, status, rid]

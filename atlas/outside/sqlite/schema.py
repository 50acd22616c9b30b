"""The tables of the journal, and whether they are what they are to be."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from atlas.core.events import TotalsMismatch

VERSION = 6

EXPORT_TABLES = """
    CREATE TABLE export (
        number   INTEGER PRIMARY KEY,   -- the order of acceptance
        id       TEXT NOT NULL,         -- the digest of what was sent
        user     TEXT NOT NULL,         -- a keyed hash of the sub
        at       TEXT NOT NULL,         -- the moment of acceptance
        ingested INTEGER NOT NULL,      -- rows; with `rejected`, all lines received
        rejected INTEGER NOT NULL,
        bytes    INTEGER NOT NULL,      -- of its rows, as NDJSON
        moment   INTEGER NOT NULL,      -- that of its path, if it shares no file: in milliseconds
        label    BLOB NOT NULL,         -- sealed: see entries.py
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

    CREATE TABLE payload (      -- apart, so that a change of status writes no page of it anew;
        number INTEGER PRIMARY KEY,  -- gone once the export is committed
        fixed  BLOB NOT NULL,   -- the columns of the export that never change, as its seals are
        label  BLOB NOT NULL,   -- bound to them, and its label: it goes on if its own page is lost
        sealed BLOB NOT NULL    -- its rows, compressed
    ) STRICT;
"""
TABLES = """
    CREATE TABLE binding (              -- what an Idempotency-Key names
        user     TEXT NOT NULL,
        key      TEXT NOT NULL,         -- a keyed hash of it
        position INTEGER NOT NULL,
        length   INTEGER NOT NULL,
        export   TEXT NOT NULL REFERENCES export (id) ON DELETE CASCADE,
        PRIMARY KEY (user, key, position)
    ) STRICT, WITHOUT ROWID;

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

    CREATE TABLE digest (       -- what is left of a receipt in the end
        id   TEXT PRIMARY KEY,
        user TEXT NOT NULL,
        rid  TEXT
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
"""
STATUSES = """
    INSERT INTO total (status)
    VALUES ('accepted'), ('claimed'), ('committed'), ('set_aside'), ('abandoned');
"""
INDEXES = """
    CREATE UNIQUE INDEX identity ON export (id);
    CREATE UNIQUE INDEX receipts ON export (user, moment);
    CREATE INDEX mailbox ON export (number, bytes, isolation) WHERE status = 'accepted';
    CREATE INDEX failed ON export (turn, number, isolation, bytes)
        WHERE status = 'accepted' AND isolation > 0;
    CREATE INDEX claimed ON export (number, bytes) WHERE status = 'claimed';
    CREATE INDEX aside ON export (number, bytes) WHERE status = 'set_aside';
    CREATE INDEX given_up ON export (number) WHERE status = 'abandoned';
    CREATE INDEX done ON export (number) WHERE status = 'committed';
    CREATE INDEX filed ON export (file) WHERE file IS NOT NULL;
    CREATE INDEX bound ON binding (export);
"""
TRIGGERS = """
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
        DELETE FROM payload WHERE number = old.number;
    END;
    CREATE TRIGGER ends AFTER UPDATE OF status ON export
    WHEN new.status IN ('committed', 'abandoned') BEGIN
        DELETE FROM payload WHERE number = new.number;
    END;
"""

LIVE = """
    SELECT status, exports, bytes FROM total WHERE status IN ('accepted', 'claimed', 'set_aside')
"""

SQL_NOISE = re.compile(rb"--[^\n]*|\s")


def schema_matches(db: sqlite3.Connection) -> bool:
    """Whether its tables, indexes and triggers say what those of this version say.

    A flipped bit in their text breaks no page, and may stop or spoil every write from then on.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        create_tables(fresh)
        return read_statements(db) == read_statements(fresh)


def read_statements(db: sqlite3.Connection) -> dict[bytes, bytes]:
    """What made each of them, without space and comments: an upgrade writes those otherwise.

    As bytes: a bit that flips may make text of them that is no UTF-8, or no text.
    """
    select = "SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema WHERE sql IS NOT NULL"
    return {name: SQL_NOISE.sub(b"", sql) for name, sql in db.execute(select)}


def reconcile_totals(db: sqlite3.Connection) -> list[TotalsMismatch]:
    """Count what is not committed, and set right what is noted of it; what had to be."""
    mismatches = []
    for status, noted, counted in compare_totals(db):
        if counted != noted:
            mismatches.append(TotalsMismatch(status, noted[0], counted[0]))
            update = "UPDATE total SET exports = ?, bytes = ? WHERE status = ?"
            db.execute(update, [*counted, status])
    return mismatches


def count_difference(db: sqlite3.Connection) -> int:
    """By how many exports it is wrong now; nothing is set right."""
    return sum(abs(noted[0] - counted[0]) for _, noted, counted in compare_totals(db))


def compare_totals(db: sqlite3.Connection) -> Iterator[tuple[str, list[int], list[int]]]:
    """Of what is not committed: the exports and bytes that are noted, and those that are there."""
    for status, *noted in db.execute(LIVE).fetchall():
        count = f"SELECT count(*), coalesce(sum(bytes), 0) FROM export WHERE status = '{status}'"
        yield status, noted, list(db.execute(count).fetchone())


def create_tables(db: sqlite3.Connection) -> None:
    execute_each(db, EXPORT_TABLES, TABLES, STATUSES, INDEXES, TRIGGERS)


def execute_each(db: sqlite3.Connection, *scripts: str) -> None:
    """Statement by statement: executescript would commit what was begun."""
    for script in scripts:
        text = ""
        for line in script.splitlines(keepends=True):
            text += line
            if sqlite3.complete_statement(text):
                db.execute(text)
                text = ""

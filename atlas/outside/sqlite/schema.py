"""The tables of the journal, and checks that they are intact."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from atlas.core.events import TotalsMismatch

VERSION = 8

EXPORT_TABLES = """
    CREATE TABLE export (
        number   INTEGER PRIMARY KEY,   -- in the order of acceptance
        id       TEXT NOT NULL,         -- digest of the content
        user     TEXT NOT NULL,         -- keyed hash of the sub
        at       TEXT NOT NULL,         -- time of acceptance
        ingested INTEGER NOT NULL,      -- rows; with `rejected`, all lines received
        rejected INTEGER NOT NULL,
        bytes    INTEGER NOT NULL,      -- size of the rows as NDJSON
        moment   INTEGER NOT NULL,      -- time in the path of its own file, in milliseconds
        label    BLOB NOT NULL,         -- encrypted: PrivateFields in row_codec.py
        tries    INTEGER NOT NULL DEFAULT 0,  -- failures that count
        status   TEXT NOT NULL DEFAULT 'accepted'
                 CHECK (status IN ('accepted', 'claimed', 'committed', 'set_aside', 'abandoned')),
        since    INTEGER,               -- newest committed export at the last failure
        reason   TEXT,                  -- of the last failure, or of being set aside
        rid      TEXT,                  -- the transaction
        file     TEXT,                  -- the format, if it differs from the one in the path of the
                                        -- export; or the path of a file shared with other exports
        file_bytes INTEGER,             -- size of that file
        isolation INTEGER NOT NULL DEFAULT 0,  -- 0 fresh, 1 refused, from 2 on in smaller and
                                               -- smaller groups: see claims.py
        turn     INTEGER NOT NULL DEFAULT 0    -- position in the queue of failed exports
    ) STRICT;

    CREATE TABLE payload (      -- separate, so that a change of status does not rewrite its pages;
        number INTEGER PRIMARY KEY,  -- deleted when the export is committed
        fixed  BLOB NOT NULL,   -- the immutable columns of the export and its label: the export can
        label  BLOB NOT NULL,   -- be restored from them if its own page is lost
        sealed BLOB NOT NULL    -- the rows, compressed and encrypted
    ) STRICT;
"""
TABLES = """
    CREATE TABLE binding (              -- exports sent under an Idempotency-Key
        user     TEXT NOT NULL,
        key      TEXT NOT NULL,         -- keyed hash of the key
        position INTEGER NOT NULL,
        length   INTEGER NOT NULL,
        export   TEXT NOT NULL REFERENCES export (id) ON DELETE CASCADE,
        PRIMARY KEY (user, key, position)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE intent (       -- attempts to begin a transaction, until their outcome is known
        kind TEXT NOT NULL,     -- of the transaction
        head TEXT NOT NULL,     -- of the branch before the attempt; attempts on the same head share
        at   TEXT NOT NULL,     -- a row, with the time of the latest
        PRIMARY KEY (kind, head)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE open_transaction (  -- ours, until it is concluded
        rid TEXT PRIMARY KEY
    ) STRICT;

    CREATE TABLE total (        -- kept by triggers, in the commit that changes an export
        status  TEXT PRIMARY KEY,
        exports INTEGER NOT NULL DEFAULT 0,
        bytes   INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    CREATE TABLE digest (       -- old receipts, reduced to the id and transaction
        id   TEXT PRIMARY KEY,
        user TEXT NOT NULL,
        rid  TEXT,
        day  INTEGER NOT NULL DEFAULT 0  -- of acceptance, since 1970-01-01
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
"""
PHONE_TABLES = """
    CREATE TABLE phone (        -- a user's device; kept up to date by the commit that accepts
        number INTEGER PRIMARY KEY,
        user   TEXT NOT NULL,   -- keyed hash of the sub
        device TEXT NOT NULL,   -- keyed hash of the device
        at     INTEGER NOT NULL,  -- last acceptance, in milliseconds
        stuck  INTEGER NOT NULL,  -- 1 if it keeps sending the same export
        sealed BLOB NOT NULL    -- encrypted: PhoneFields in journal/phones.py
    ) STRICT;

    CREATE TABLE report (       -- of what a phone saw of its own synchronization
        number INTEGER PRIMARY KEY,
        user   TEXT NOT NULL,
        device TEXT NOT NULL,
        at     INTEGER NOT NULL,  -- arrival, in milliseconds
        sealed BLOB NOT NULL    -- encrypted: ReportFields in journal/reports.py
    ) STRICT;
"""
PHONE_INDEXES = """
    CREATE UNIQUE INDEX phones ON phone (user, device);
    CREATE INDEX recent ON phone (at, stuck);
    CREATE INDEX reported ON report (user, device, number);
    CREATE INDEX arrived ON report (at);
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
    CREATE INDEX aged ON digest (day);
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

STREAM_TABLES = """
    CREATE TABLE unpublished (  -- exports whose rows are not all in the stream: see stream.py
        number INTEGER PRIMARY KEY,
        rows   INTEGER NOT NULL,
        bytes  INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE unpublished_payload (  -- of those that were committed meanwhile
        number INTEGER PRIMARY KEY,
        sealed BLOB NOT NULL
    ) STRICT;
"""
STREAM_TRIGGERS = """
    CREATE TRIGGER keeps BEFORE DELETE ON payload
    WHEN EXISTS (SELECT 1 FROM unpublished WHERE number = old.number) BEGIN
        INSERT OR REPLACE INTO unpublished_payload VALUES (old.number, old.sealed);
    END;
    CREATE TRIGGER published AFTER DELETE ON unpublished BEGIN
        DELETE FROM unpublished_payload WHERE number = old.number;
    END;
    CREATE TRIGGER withholds BEFORE UPDATE OF status ON export
    WHEN new.status IN ('set_aside', 'abandoned') BEGIN
        DELETE FROM unpublished WHERE number = new.number;
    END;
    CREATE TRIGGER forgets BEFORE DELETE ON export BEGIN
        DELETE FROM unpublished WHERE number = old.number;
    END;
"""

LIVE = """
    SELECT status, exports, bytes FROM total WHERE status IN ('accepted', 'claimed', 'set_aside')
"""
SQL_NOISE = re.compile(rb"--[^\n]*|\s")


def schema_matches(db: sqlite3.Connection) -> bool:
    """True if the tables, indexes and triggers are defined as in this version.

    A flipped bit in a definition does not break a page, but may block or corrupt every later write.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as reference:
        create_tables(reference)
        return read_definitions(db) == read_definitions(reference)


def read_definitions(db: sqlite3.Connection) -> dict[bytes, bytes]:
    """Return the SQL of tables, indexes and triggers by name.

    White space and comments are removed, because they differ after an upgrade. The SQL is returned
    as bytes, because a flipped bit may make it invalid UTF-8, or not text at all.
    """
    select = "SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema WHERE sql IS NOT NULL"
    return {name: SQL_NOISE.sub(b"", sql) for name, sql in db.execute(select)}


def reconcile_totals(db: sqlite3.Connection) -> list[TotalsMismatch]:
    """Recount uncommitted exports, correct the stored totals, and return the corrections."""
    mismatches = []
    for status, stored, counted in compare_totals(db):
        if counted != stored:
            mismatches.append(TotalsMismatch(status, stored[0], counted[0]))
            update = "UPDATE total SET exports = ?, bytes = ? WHERE status = ?"
            db.execute(update, [*counted, status])
    return mismatches


def count_difference(db: sqlite3.Connection) -> int:
    """Return the number of exports by which the stored totals are wrong."""
    return sum(abs(stored[0] - counted[0]) for _, stored, counted in compare_totals(db))


def compare_totals(db: sqlite3.Connection) -> Iterator[tuple[str, list[int], list[int]]]:
    """Yield (status, stored, counted) of uncommitted exports; totals are [exports, bytes]."""
    for status, *stored in db.execute(LIVE).fetchall():
        # a literal status: a parameter would not use the partial index
        count = f"SELECT count(*), coalesce(sum(bytes), 0) FROM export WHERE status = '{status}'"
        yield status, stored, list(db.execute(count).fetchone())


def create_tables(db: sqlite3.Connection) -> None:
    execute_each(db, EXPORT_TABLES, TABLES, STREAM_TABLES, PHONE_TABLES, STATUSES)
    execute_each(db, INDEXES, PHONE_INDEXES, TRIGGERS, STREAM_TRIGGERS)


def execute_each(db: sqlite3.Connection, *scripts: str) -> None:
    """Execute scripts statement by statement; `executescript` would commit the transaction."""
    for script in scripts:
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                db.execute(statement)
                statement = ""

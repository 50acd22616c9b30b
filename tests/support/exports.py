"""Exports identified by number, and the moment at which they arrive."""

import hashlib
from datetime import UTC, datetime, timedelta

from atlas.core.messages import CompressedRows, ExportMetadata, FlattenedExport, Reject, User
from atlas.outside.journal.compression import compress, decompress
from atlas.outside.journal.retention import ReceiptRetention

ADA = User("auth0|ada")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SHELF = ReceiptRetention(lambda: NOON)
TO_VERSION_7 = """
    DROP TRIGGER keeps;
    DROP TRIGGER published;
    DROP TRIGGER withholds;
    DROP TRIGGER forgets;
    DROP TABLE unpublished;
    DROP TABLE unpublished_payload;
    DROP TABLE phone;
    DROP TABLE report;
    PRAGMA user_version = 7;
"""  # before there were a stream and phones
TO_VERSION_6 = f"""
    {TO_VERSION_7}
    DROP INDEX aged;
    ALTER TABLE digest DROP COLUMN day;
    PRAGMA user_version = 6;
"""  # before digests had a date
TO_VERSION_5 = f"""
    {TO_VERSION_6}
    PRAGMA legacy_alter_table = ON;
    DROP TRIGGER comes;
    DROP TRIGGER moves;
    DROP TRIGGER goes;
    DROP TRIGGER ends;
    ALTER TABLE export RENAME TO later;
    DROP INDEX mailbox;
    DROP INDEX failed;
    DROP INDEX claimed;
    DROP INDEX aside;
    DROP INDEX given_up;
    DROP INDEX done;
    DROP INDEX filed;
    DROP INDEX receipts;
    CREATE TABLE export (
        number   INTEGER PRIMARY KEY,
        id       TEXT NOT NULL UNIQUE,
        user     TEXT NOT NULL,
        at       TEXT NOT NULL,
        ingested INTEGER NOT NULL,
        rejected INTEGER NOT NULL,
        bytes    INTEGER NOT NULL,
        place    TEXT NOT NULL UNIQUE,
        label    BLOB NOT NULL,
        payload  BLOB,
        tries    INTEGER NOT NULL DEFAULT 0,
        status   TEXT NOT NULL DEFAULT 'accepted'
                 CHECK (status IN ('accepted', 'claimed', 'committed', 'set_aside', 'abandoned')),
        since    INTEGER,
        reason   TEXT,
        rid      TEXT,
        file     TEXT,
        file_bytes INTEGER,
        isolation INTEGER NOT NULL DEFAULT 0,
        turn     INTEGER NOT NULL DEFAULT 0
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
    INSERT INTO export
        SELECT number, id, user, at, ingested, rejected, bytes, number, label,
            (SELECT sealed FROM payload WHERE payload.number = later.number), tries, status, since,
            reason, rid, file, file_bytes, isolation, turn
        FROM later;
    DROP TABLE later;
    DROP TABLE payload;
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
    PRAGMA user_version = 5;
"""  # before payloads had a table of their own
TO_VERSION_4 = f"""
    {TO_VERSION_5}
    CREATE TABLE attempt (head TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT;
    CREATE TABLE removal (head TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT;
    CREATE TABLE begun (rid TEXT PRIMARY KEY) STRICT;
    INSERT INTO attempt SELECT head, at FROM intent WHERE kind = 'APPEND';
    INSERT INTO removal SELECT head, at FROM intent WHERE kind = 'DELETE';
    INSERT INTO begun SELECT rid FROM open_transaction;
    UPDATE export SET tries = tries + 1, rid = (SELECT rid FROM begun)
    WHERE status = 'claimed' AND EXISTS (SELECT 1 FROM begun);
    DROP TABLE intent;
    DROP TABLE open_transaction;
    DROP INDEX mailbox;
    DROP INDEX failed;
    ALTER TABLE export DROP COLUMN isolation;
    ALTER TABLE export DROP COLUMN turn;
    CREATE INDEX mailbox ON export (number, bytes, tries) WHERE status = 'accepted';
    CREATE INDEX suspect ON export (tries, number) WHERE status = 'accepted' AND tries >= 2;
    PRAGMA user_version = 4;
"""  # before a commit had its present steps
TO_VERSION_3 = f"""
    {TO_VERSION_4}
    DROP TABLE removal;
    DROP INDEX given_up;
    PRAGMA user_version = 3;
"""  # before anything was removed from the dataset
TO_VERSION_2 = f"""
    {TO_VERSION_3}
    DROP INDEX filed;
    ALTER TABLE export DROP COLUMN file;
    ALTER TABLE export DROP COLUMN file_bytes;
    PRAGMA user_version = 2;
"""  # before exports could share a file


def export(number: int) -> FlattenedExport:
    """Return the export of this number, always the same."""
    id = hashlib.sha256(str(number).encode()).hexdigest()
    at = NOON + timedelta(seconds=number)
    return FlattenedExport(id, ExportMetadata(ADA, "", "", ""), at, packed(content(id), 1))


def packed(ndjson: bytes, ingested: int, *rejects: Reject) -> CompressedRows:
    return CompressedRows(compress(ndjson), len(ndjson), ingested, len(rejects), rejects)


def rows_of(export: FlattenedExport) -> bytes:
    return decompress(export.table.data)


def content(id: str) -> bytes:
    """Return incompressible content for this id, of up to four pages."""
    return hashlib.shake_128(id.encode()).digest(int(id[:4], 16) % 16_000) + b"\n"

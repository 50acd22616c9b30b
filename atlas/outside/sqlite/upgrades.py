"""Migrates the tables of earlier versions to this one, in one transaction.

Versions 2 to 4 are altered to version 5 first. Exports of version 5, and those of version 1, are
then copied into new tables row by row. Version 6 is altered: its digests have no date. Version 7
has no tables for a stream and for phones, so it gets them.
"""

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from atlas.core import identifiers
from atlas.core.errors import CommandError, CorruptEntry
from atlas.core.messages import Reject
from atlas.outside.journal.row_codec import (
    ExportRow,
    ImmutableColumns,
    PrivateFields,
    RowCodec,
    build_row_aad,
)
from atlas.outside.sqlite.columns import COLUMNS, INSERT_PAYLOAD
from atlas.outside.sqlite.disk.damage import primary_code
from atlas.outside.sqlite.group_commit import vacuum
from atlas.outside.sqlite.schema import (
    EXPORT_TABLES,
    INDEXES,
    PHONE_INDEXES,
    PHONE_TABLES,
    STATUSES,
    STREAM_TABLES,
    STREAM_TRIGGERS,
    TABLES,
    TRIGGERS,
    VERSION,
    create_tables,
    execute_each,
)

FROM_2 = (
    "ALTER TABLE export ADD COLUMN file TEXT",
    "ALTER TABLE export ADD COLUMN file_bytes INTEGER",
)
FROM_3 = ("CREATE TABLE removal (head TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT",)
OLD_TRANSACTIONS = (  # tables of version 5, and the queries that fill them from version 4
    ("intent", "SELECT 'APPEND', head, at FROM attempt"),
    ("intent", "SELECT 'DELETE', head, at FROM removal"),
    ("open_transaction", "SELECT rid FROM begun"),
)
FROM_4 = (
    "ALTER TABLE export ADD COLUMN isolation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE export ADD COLUMN turn INTEGER NOT NULL DEFAULT 0",
    """CREATE TABLE intent (
        kind TEXT NOT NULL, head TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (kind, head)
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE open_transaction (rid TEXT PRIMARY KEY) STRICT",
    *(f"INSERT INTO {table} {select}" for table, select in OLD_TRANSACTIONS),
    "DROP TABLE attempt",
    "DROP TABLE removal",
    "DROP TABLE begun",
)
DATE_DIGESTS = "UPDATE digest SET day = strftime('%s', 'now') / 86400 WHERE day = 0"
FROM_6 = ("ALTER TABLE digest ADD COLUMN day INTEGER NOT NULL DEFAULT 0", DATE_DIGESTS)
OLD_DIGESTS = "SELECT id, user, rid, 0 FROM digest"  # up to version 6
CONVERT_TRIES = (  # up to version 4, a try counted from its beginning, and claimed rows had the rid
    """INSERT OR IGNORE INTO open_transaction
        SELECT rid FROM export WHERE status = 'claimed' AND rid IS NOT NULL""",
    """UPDATE export SET tries = max(0, tries - 1), rid = NULL
        WHERE status = 'claimed' AND rid IS NOT NULL""",  # max: version 1 counted differently
    """UPDATE export SET isolation = min(tries, 4)
        WHERE tries >= 2 AND isolation = 0 AND status <> 'committed'""",
)
MIGRATIONS = {
    2: (*FROM_2, *FROM_3, *FROM_4, *CONVERT_TRIES, *FROM_6),
    3: (*FROM_3, *FROM_4, *CONVERT_TRIES, *FROM_6),
    4: (*FROM_4, *CONVERT_TRIES, *FROM_6),
    5: FROM_6,
    6: FROM_6,
    7: (),
}
DEFINED = (
    "SELECT type, name FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
)
TABLES_1 = "binding", "export", "attempt", "total", "secret"
PROGRESS = "number, tries, since, reason, isolation, turn"
PROGRESS_COUNT = len(PROGRESS.split())
SELECT_5 = f"SELECT payload IS NOT NULL, {PROGRESS}, {COLUMNS} FROM old_export ORDER BY number"
INSERT_5 = f"""
    INSERT INTO export ({PROGRESS}, {COLUMNS}, moment)
    VALUES (?{", ?" * (PROGRESS_COUNT + len(ExportRow._fields))})
"""
COPY_PAYLOAD = (
    "INSERT INTO payload SELECT number, ?, label, payload FROM old_export WHERE number = ?"
)
WITHOUT_MOMENT = "SELECT number, user, at FROM export WHERE moment < 0"
FILL_MOMENT = """
    UPDATE export SET moment = (
        WITH RECURSIVE later AS (
            SELECT ? AS moment UNION ALL SELECT moment + 1 FROM later
        )
        SELECT moment FROM later
        WHERE NOT EXISTS (SELECT 1 FROM export WHERE user = ? AND moment = later.moment) LIMIT 1
    ) WHERE number = ?
"""
SELECT_1 = """
    SELECT number, id, user, at, ingested, rejected, bytes, path, rejects, correlation_id, payload,
        tries, status, rid
    FROM old_export ORDER BY number
"""
INSERT_1 = f"""
    INSERT INTO export (number, tries, {COLUMNS}, moment)
    VALUES (?{", ?" * (len(ExportRow._fields) + 2)})
"""
BINDINGS_1 = "SELECT user, key, position, length, export FROM old_binding"
RECOUNT = """
    UPDATE total SET
        exports = (SELECT count(*) FROM export WHERE export.status = total.status),
        bytes = (SELECT coalesce(sum(bytes), 0) FROM export WHERE export.status = total.status)
"""
_rejects_decoder = msgspec.json.Decoder(tuple[Reject, ...])


def is_due(db: sqlite3.Connection) -> bool:
    """True for an earlier version that can be salvaged as well; version 1 cannot."""
    return db.execute("PRAGMA user_version").fetchone()[0] in MIGRATIONS


def prepare(db: sqlite3.Connection, path: Path | None, codec: RowCodec) -> None:
    """Create the tables, or migrate them to this version. Raises CommandError for a newer one."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise CommandError(f"The journal {path} was written by a newer Atlas (v{version}).")
    if version == VERSION:
        return
    db.execute("PRAGMA foreign_keys = OFF")
    if version:
        db.execute("PRAGMA temp_store = FILE")  # to sort a million rows for an index
    db.execute("PRAGMA legacy_alter_table = ON")  # keeps references to the name `export`
    if version == 1:
        db.execute("PRAGMA secure_delete = ON")  # overwrites plaintext, also if we are killed
    db.execute("BEGIN IMMEDIATE")
    if version == 1:
        migrate_1(db, codec)
    elif version in MIGRATIONS:
        migrate(db, version, codec)
    else:
        create_tables(db)
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA legacy_alter_table = OFF")
    db.execute("PRAGMA secure_delete = OFF")
    if version:
        free_space(db)


def free_space(db: sqlite3.Connection) -> None:
    """Free the space of the old tables. On a full disk, new exports reuse it later."""
    try:
        vacuum(db)
    except sqlite3.Error as error:
        if primary_code(error) != sqlite3.SQLITE_FULL:
            raise


def migrate(db: sqlite3.Connection, version: int, codec: RowCodec) -> None:
    drop_definitions(db)
    for statement in MIGRATIONS[version]:
        db.execute(statement)
    if version < 6:
        copy_exports(db, codec)
    execute_each(db, STREAM_TABLES, PHONE_TABLES)
    restore_definitions(db)


def copy_exports(db: sqlite3.Connection, codec: RowCodec) -> None:
    """Copy exports of version 5 into new tables, with their payloads in a table of their own."""
    db.execute("ALTER TABLE export RENAME TO old_export")
    execute_each(db, EXPORT_TABLES)
    for has_payload, number, *columns in db.execute(SELECT_5):
        row = ExportRow(*columns[PROGRESS_COUNT - 1 :])
        db.execute(INSERT_5, [number, *columns, parse_moment(read_path(row, codec), number)])
        if has_payload:
            db.execute(COPY_PAYLOAD, [build_row_aad(row), number])
    db.execute("DROP TABLE old_export")


def migrate_1(db: sqlite3.Connection, codec: RowCodec) -> None:
    """Migrate version 1, which stored payloads, users, paths and keys in plaintext."""
    drop_definitions(db)
    for table in TABLES_1:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    execute_each(db, EXPORT_TABLES, TABLES, STREAM_TABLES, PHONE_TABLES, STATUSES)
    for row in db.execute(SELECT_1):
        encrypt_plaintext_row(db, row, codec)
    for sub, key, *columns in db.execute(BINDINGS_1):
        binding = [codec.cipher.hash_user(sub), codec.cipher.hash_text(key), *columns]
        db.execute("INSERT INTO binding VALUES (?, ?, ?, ?, ?)", binding)
    db.execute("INSERT INTO intent SELECT 'APPEND', head, at FROM old_attempt")
    for table in TABLES_1:
        db.execute(f"DROP TABLE old_{table}")
    for statement in (*CONVERT_TRIES, RECOUNT):
        db.execute(statement)
    restore_definitions(db)


def drop_definitions(db: sqlite3.Connection) -> None:
    """Drop all indexes and triggers."""
    for kind, name in db.execute(DEFINED).fetchall():
        db.execute(f"DROP {kind} {name}")


def restore_definitions(db: sqlite3.Connection) -> None:
    """Create the indexes and triggers of this version, and fill missing moments in between."""
    execute_each(db, INDEXES, PHONE_INDEXES)
    fill_missing_moments(db)
    execute_each(db, TRIGGERS, STREAM_TRIGGERS)


def encrypt_plaintext_row(db: sqlite3.Connection, row: tuple[Any, ...], codec: RowCodec) -> None:
    number, id, sub, at, ingested, rejected, size, path, rejects, correlation_id, *rest = row
    payload, tries, status, rid = rest
    fixed = ImmutableColumns(id, codec.cipher.hash_user(sub), at, ingested, rejected, size)
    fields = PrivateFields(sub, path, _rejects_decoder.decode(rejects), correlation_id)
    label = codec.encrypt_fields(fixed, fields)
    columns = ExportRow(*fixed, label, status, rid)
    db.execute(INSERT_1, [number, tries, *columns, parse_moment(path, number)])
    if payload is not None:
        encrypted = codec.encrypt_payload(fixed, payload)
        db.execute(INSERT_PAYLOAD, [number, build_row_aad(fixed), label, encrypted])


def read_path(row: ExportRow, codec: RowCodec) -> str:
    """Return the path of the export's own file; "" if the private fields are corrupt."""
    try:
        return codec.decrypt_fields(row).path
    except CorruptEntry:
        return ""


def parse_moment(path: str, number: int) -> int:
    """Return the time in the path in milliseconds.

    Without one, return a negative placeholder: see `fill_missing_moments`.
    """
    try:
        return identifiers.count_milliseconds(identifiers.parse_path_time(path))
    except ValueError:
        return -number


def fill_missing_moments(db: sqlite3.Connection) -> None:
    """Replace placeholders with the time of acceptance, or the next one free for the user."""
    for number, user, at in db.execute(WITHOUT_MOMENT).fetchall():
        try:
            moment = identifiers.count_milliseconds(datetime.fromisoformat(at))
        except ValueError:
            moment = 0
        db.execute(FILL_MOMENT, [moment, user, number])

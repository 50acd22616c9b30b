"""Upgrades the tables of earlier versions to those of this one, in one transaction.

Versions 2 to 4 become version 5 first, statement by statement. Its exports, and those of version 1,
are then copied into new tables row by row.
"""

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from atlas.core import identifiers
from atlas.core.errors import CommandError, CorruptEntry
from atlas.core.messages import Reject
from atlas.outside.sqlite.disk.damage import primary_code
from atlas.outside.sqlite.group_commit import vacuum
from atlas.outside.sqlite.row_codec import (
    COLUMNS,
    KEEP_PAYLOAD,
    ExportRow,
    ImmutableColumns,
    PrivateFields,
    RowCodec,
    build_row_aad,
)
from atlas.outside.sqlite.schema import (
    EXPORT_TABLES,
    INDEXES,
    STATUSES,
    TABLES,
    TRIGGERS,
    VERSION,
    create_tables,
    execute_each,
)

SINCE_2 = (
    "ALTER TABLE export ADD COLUMN file TEXT",
    "ALTER TABLE export ADD COLUMN file_bytes INTEGER",
)
SINCE_3 = ("CREATE TABLE removal (head TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT",)
BEFORE_5 = (  # tables of that version, and what stood in others
    ("intent", "SELECT 'APPEND', head, at FROM attempt"),
    ("intent", "SELECT 'DELETE', head, at FROM removal"),
    ("open_transaction", "SELECT rid FROM begun"),
)
SINCE_4 = (
    "ALTER TABLE export ADD COLUMN isolation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE export ADD COLUMN turn INTEGER NOT NULL DEFAULT 0",
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
MIGRATIONS = {
    2: (*SINCE_2, *SINCE_3, *SINCE_4, *TRIES_OF_FAILURES),
    3: (*SINCE_3, *SINCE_4, *TRIES_OF_FAILURES),
    4: (*SINCE_4, *TRIES_OF_FAILURES),
    5: (),
}
OURS = "SELECT type, name FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
OLD_TABLES_1 = "binding", "export", "attempt", "total", "secret"
KEPT = "number, tries, since, reason, isolation, turn"
OLD = f"SELECT payload IS NOT NULL, {KEPT}, {COLUMNS} FROM old_export ORDER BY number"
MOVED = f"""
    INSERT INTO export ({KEPT}, {COLUMNS}, moment) VALUES (?{", ?" * (len(ExportRow._fields) + 6)})
"""
PAYLOAD = "INSERT INTO payload SELECT number, ?, label, payload FROM old_export WHERE number = ?"
WITHOUT_PATH = "SELECT number, user, at FROM export WHERE moment < 0"
GIVE_MOMENT = """
    UPDATE export SET moment = (
        WITH RECURSIVE later AS (
            SELECT ? AS moment UNION ALL SELECT moment + 1 FROM later
        )
        SELECT moment FROM later
        WHERE NOT EXISTS (SELECT 1 FROM export WHERE user = ? AND moment = later.moment) LIMIT 1
    ) WHERE number = ?
"""
OLD_1 = """
    SELECT number, id, user, at, ingested, rejected, bytes, path, rejects, correlation_id, payload,
        tries, status, rid
    FROM old_export ORDER BY number
"""
MOVED_1 = f"""
    INSERT INTO export (number, tries, {COLUMNS}, moment)
    VALUES (?{", ?" * (len(ExportRow._fields) + 2)})
"""
RECOUNTED = """
    UPDATE total SET
        exports = (SELECT count(*) FROM export WHERE export.status = total.status),
        bytes = (SELECT coalesce(sum(bytes), 0) FROM export WHERE export.status = total.status)
"""
_rejects = msgspec.json.Decoder(tuple[Reject, ...])


def is_due(db: sqlite3.Connection) -> bool:
    """Whether its version is an earlier one that can be rescued, too: version 1 cannot."""
    return db.execute("PRAGMA user_version").fetchone()[0] in MIGRATIONS


def prepare(db: sqlite3.Connection, path: Path | None, entries: RowCodec) -> None:
    """Make the tables, or bring them up to this version. Raises CommandError for a newer one."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise CommandError(f"The journal {path} was written by a newer Atlas (v{version}).")
    if version == VERSION:
        return
    db.execute("PRAGMA foreign_keys = OFF")
    if version:
        db.execute("PRAGMA temp_store = FILE")  # a million rows are sorted for an index
    db.execute("PRAGMA legacy_alter_table = ON")  # what refers to `export` goes on to do so
    if version == 1:
        db.execute("PRAGMA secure_delete = ON")  # what was in clear stands in no free page,
    db.execute("BEGIN IMMEDIATE")  # whenever we end
    if version == 1:
        upgrade_from_1(db, entries)
    elif version in MIGRATIONS:
        upgrade(db, version, entries)
    else:
        create_tables(db)
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA legacy_alter_table = OFF")
    db.execute("PRAGMA secure_delete = OFF")
    if version:
        give_back_space(db)


def give_back_space(db: sqlite3.Connection) -> None:
    """Of what was copied. Where there is no room for that, new exports take it by and by."""
    try:
        vacuum(db)
    except sqlite3.Error as error:
        if primary_code(error) != sqlite3.SQLITE_FULL:
            raise


def upgrade(db: sqlite3.Connection, version: int, entries: RowCodec) -> None:
    for kind, name in db.execute(OURS).fetchall():
        db.execute(f"DROP {kind} {name}")
    for statement in MIGRATIONS[version]:
        db.execute(statement)
    db.execute("ALTER TABLE export RENAME TO old_export")
    execute_each(db, EXPORT_TABLES)
    for has_payload, number, *columns in db.execute(OLD):
        row = ExportRow(*columns[len(KEPT.split()) - 1 :])
        db.execute(MOVED, [number, *columns, parse_moment(read_path(row, entries), number)])
        if has_payload:
            db.execute(PAYLOAD, [build_row_aad(row), number])
    db.execute("DROP TABLE old_export")
    execute_each(db, INDEXES)
    give_moments(db)
    execute_each(db, TRIGGERS)


def upgrade_from_1(db: sqlite3.Connection, entries: RowCodec) -> None:
    """Version 1 kept payloads, subs, paths and keys as they were."""
    for kind, name in db.execute(OURS).fetchall():
        db.execute(f"DROP {kind} {name}")
    for table in OLD_TABLES_1:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    execute_each(db, EXPORT_TABLES, TABLES, STATUSES)
    for row in db.execute(OLD_1):
        encrypt_plaintext_row(db, row, entries)
    for sub, key, *position_columns in db.execute(
        "SELECT user, key, position, length, export FROM old_binding"
    ):
        row = [entries.seal.hash_user(sub), entries.seal.hash_text(key), *position_columns]
        db.execute("INSERT INTO binding VALUES (?, ?, ?, ?, ?)", row)
    db.execute("INSERT INTO intent SELECT 'APPEND', head, at FROM old_attempt")
    for table in OLD_TABLES_1:
        db.execute(f"DROP TABLE old_{table}")
    for statement in (*TRIES_OF_FAILURES, RECOUNTED):
        db.execute(statement)
    execute_each(db, INDEXES)
    give_moments(db)
    execute_each(db, TRIGGERS)


def encrypt_plaintext_row(db: sqlite3.Connection, row: tuple[Any, ...], entries: RowCodec) -> None:
    number, id, sub, at, ingested, rejected, size, path, rejects, correlation_id, *rest = row
    payload, tries, status, rid = rest
    fixed = ImmutableColumns(id, entries.seal.hash_user(sub), at, ingested, rejected, size)
    label = entries.encrypt_fields(
        fixed, PrivateFields(sub, path, _rejects.decode(rejects), correlation_id)
    )
    sealed = ExportRow(*fixed, label, status, rid)
    db.execute(MOVED_1, [number, tries, *sealed, parse_moment(path, number)])
    if payload is not None:
        encrypted = entries.encrypt_payload(fixed, payload)
        db.execute(KEEP_PAYLOAD, [number, build_row_aad(fixed), label, encrypted])


def read_path(row: ExportRow, entries: RowCodec) -> str:
    """That of the export itself; "" if its label is damaged."""
    try:
        return entries.decrypt_fields(row).path
    except CorruptEntry:
        return ""


def parse_moment(path: str, number: int) -> int:
    """That of the path, in milliseconds; one below zero, until it is given another, if none is."""
    try:
        return identifiers.count_milliseconds(identifiers.parse_path_time(path))
    except ValueError:
        return -number


def give_moments(db: sqlite3.Connection) -> None:
    """Give what has no path the first moment since its acceptance that none of its user's has."""
    for number, user, at in db.execute(WITHOUT_PATH).fetchall():
        try:
            moment = identifiers.count_milliseconds(datetime.fromisoformat(at))
        except ValueError:
            moment = 0
        db.execute(GIVE_MOMENT, [moment, user, number])

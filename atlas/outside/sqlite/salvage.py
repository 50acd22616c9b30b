"""Rebuilds a corrupt journal: copies every readable row into a new one.

Rows in unreadable pages are lost. A row that is readable but altered fails decryption, which the
uploader reports: see actors/upload/verdicts.py.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas.core.errors import CommandError, CorruptEntry
from atlas.core.events import JournalDamaged
from atlas.outside.journal.row_codec import (
    ExportRow,
    RowCodec,
    build_row_aad,
    parse_row_aad,
)
from atlas.outside.sqlite import upgrades
from atlas.outside.sqlite.columns import COLUMNS, HAS_PAYLOAD, IMMUTABLE_COLUMNS
from atlas.outside.sqlite.disk import damage, pages, wal
from atlas.outside.sqlite.disk.folder import build_sibling_path, replace

GAP_MAX = 10_000  # numbers to try after the last readable row
OTHER_TABLES = ("binding", "intent", "open_transaction", "digest", "secret", "phone", "report")
STREAM_TABLES = ("unpublished", "unpublished_payload")
PAYLOAD_COLUMNS = ["number", "fixed", "label", "sealed"]
COLUMNS_BEFORE_6 = [
    *("number", "id", "user", "at", "ingested", "rejected", "bytes", "place", "label", "payload"),
    *("tries", "status", "since", "reason", "rid", "file", "file_bytes", "isolation", "turn"),
]
PAYLOAD_INDEX = COLUMNS_BEFORE_6.index("payload")
DEFAULTS = dict.fromkeys({*COLUMNS_BEFORE_6, "moment"} - {"place", "payload"})
DEFAULTS |= {"isolation": 0, "turn": 0}
UNKNOWN_STATUS = {"status": "claimed", "tries": 1, "isolation": 0, "turn": 0}
HAS_EXPORT = "SELECT 1 FROM export WHERE number = ?"
WITHOUT_PAYLOAD = f"SELECT {COLUMNS} FROM export WHERE number = ? AND NOT {HAS_PAYLOAD}"
DELETE_WITHOUT_PAYLOAD = f"DELETE FROM export WHERE number = ? AND NOT {HAS_PAYLOAD}"
DELETE_ENDED_PAYLOADS = """
    DELETE FROM payload WHERE number NOT IN (
        SELECT number FROM export WHERE status NOT IN ('committed', 'abandoned')
    )
"""
DELETE_UNPUBLISHED = (  # of lost exports, and payloads of published ones
    "DELETE FROM unpublished WHERE number NOT IN (SELECT number FROM export)",
    "DELETE FROM unpublished_payload WHERE number NOT IN (SELECT number FROM unpublished)",
)
DELETE_UNBOUND = "DELETE FROM binding WHERE export NOT IN (SELECT id FROM export)"

OpenJournal = Callable[[Path, RowCodec], sqlite3.Connection]


def rebuild(
    path: Path,
    open_new: OpenJournal,
    codec: RowCodec,
    exports_before: int,
    cause: Exception | None = None,
) -> JournalDamaged:
    """Replace a corrupt journal with a rebuilt one, and keep a copy of it.

    Raises `cause` if no export can be read, CommandError, OSError.
    """
    copy, new_path = damage.backup(path), build_sibling_path(path, ".new")
    wal.apply_wal(path)
    new_path.unlink(missing_ok=True)
    with closing(open_new(new_path, codec)) as db:
        exports = salvage(path, SalvagedJournal(db, codec))
        # closing would checkpoint the WAL as well, but ignore errors
        db.execute("PRAGMA locking_mode = NORMAL")
        db.execute("PRAGMA journal_mode = DELETE").fetchall()
    if cause is not None and not exports:
        new_path.unlink()
        damage.discard(copy)
        raise cause
    if build_sibling_path(new_path, "-wal").exists():
        raise CommandError(f"The journal {path} is corrupt and cannot be rebuilt.")
    replace(path, new_path)
    lost = exports_before - exports
    return JournalDamaged(
        f"its pages, and {lost} exports in them" if lost > 0 else "its pages", copy=str(copy)
    )


def salvage(journal: Path, new: "SalvagedJournal") -> int:
    """Copy readable rows: by number through the trees, then from unreachable leaves.

    Returns the number of exports. Raises OSError.
    """
    new.db.execute("PRAGMA foreign_keys = OFF")  # bindings of lost exports are deleted at the end
    new.db.execute("BEGIN")
    with closing(sqlite3.connect(journal, isolation_level=None)) as corrupt:
        copy_trees(corrupt, new)
        copy_leaves(journal, new)
        for table in (*OTHER_TABLES, *STREAM_TABLES):
            columns = ", ".join(list_columns(new.db, table))
            copy_rows(corrupt, new, table, f"SELECT {columns} FROM {table}")
        for table, select in upgrades.OLD_TRANSACTIONS:
            copy_rows(corrupt, new, table, select)
        copy_rows(corrupt, new, "digest", upgrades.OLD_DIGESTS)
    for statement in (DELETE_ENDED_PAYLOADS, *DELETE_UNPUBLISHED, DELETE_UNBOUND):
        new.db.execute(statement)
    # these change nothing in rows of later versions
    for statement in (*upgrades.CONVERT_TRIES, upgrades.DATE_DIGESTS):
        new.db.execute(statement)
    upgrades.fill_missing_moments(new.db)
    new.db.execute("COMMIT")
    return count_exports(new.db)


def copy_trees(corrupt: sqlite3.Connection, new: "SalvagedJournal") -> None:
    columns = list_columns(corrupt, "export") or list_columns(new.db, "export")
    for row in read_by_number(corrupt, "export", columns):
        new.store_export(dict(zip(columns, row, strict=True)))
    for row in read_by_number(corrupt, "payload", PAYLOAD_COLUMNS):
        new.store_payload(*row)
    new.db.executemany(DELETE_WITHOUT_PAYLOAD, [[number] for number in new.unknown_status])


def copy_leaves(journal: Path, new: "SalvagedJournal") -> None:
    """Copy rows from leaf pages that no tree reaches. Raises OSError."""
    columns = list_columns(new.db, "export")
    scratch = build_sibling_path(journal, ".leaves")
    with pages.leaves(journal, len(COLUMNS_BEFORE_6), scratch) as rows:
        for row in rows():
            export = parse_export(row, columns)
            if new.is_authentic(export):
                new.store_export(export)
        for row in rows():
            new.store_orphan_payload(*row[: len(PAYLOAD_COLUMNS)])


def copy_rows(corrupt: sqlite3.Connection, new: "SalvagedJournal", table: str, select: str) -> None:
    """Copy a table without the rows that break one of its rules: they belong to another table."""
    columns = list_columns(new.db, table)
    for row in read_until_error(corrupt, select):
        with suppress(sqlite3.IntegrityError):
            new.insert(table, dict(zip(columns, row, strict=True)))


def parse_export(row: pages.Row, columns: list[str]) -> dict[str, Any]:
    """Name the columns of a leaf row, as if it were an export of this version, of 6, or of 2 to 5.

    Versions 2 to 5 have the payload after the label, where later ones have an integer.
    """
    is_old = not isinstance(row[PAYLOAD_INDEX], int)
    named = zip(COLUMNS_BEFORE_6 if is_old else columns, row, strict=False)
    return {name: value for name, value in named if value is not None}


@dataclass(frozen=True, slots=True)
class SalvagedJournal:
    """The new journal while it is filled.

    `unknown_status` has the numbers of exports whose status is unreadable. They may be part of the
    open transaction, so they become claimed: the uploader looks for claimed exports there, and
    accepts those that it does not find again.
    """

    db: sqlite3.Connection
    codec: RowCodec
    unknown_status: set[int] = field(default_factory=set)

    def is_authentic(self, export: dict[str, Any]) -> bool:
        """True if its private fields can be decrypted."""
        try:
            self.codec.decrypt_fields(build_row(export))
        except (CorruptEntry, TypeError):
            return False
        return True

    def store_export(self, export: dict[str, Any]) -> None:
        """Store an export if it is not stored yet, with its payload if that is in its row.

        A row without a label is not an export, or one of version 1, which cannot be salvaged.
        """
        if export.get("label") is None:
            return
        number, columns = export["number"], build_row(export)
        row = DEFAULTS | {name: value for name, value in export.items() if name in DEFAULTS}
        path = upgrades.read_path(columns, self.codec)
        if path or row["moment"] is None:
            row["moment"] = upgrades.parse_moment(path, number)
        try:
            self.insert("export", row)
        except sqlite3.IntegrityError:
            with suppress(sqlite3.IntegrityError):
                if self.insert("export", row | UNKNOWN_STATUS):
                    self.unknown_status.add(number)
        if export.get("payload") is not None:
            self.store_payload(number, build_row_aad(columns), export["label"], export["payload"])

    def store_payload(self, number: int, fixed: bytes, label: bytes, sealed: bytes) -> None:
        """Store a payload, and restore its export from it if the page of the export is lost."""
        with suppress(sqlite3.IntegrityError):
            row = dict(zip(PAYLOAD_COLUMNS, (number, fixed, label, sealed), strict=True))
            self.insert("payload", row)
            if not self.db.execute(HAS_EXPORT, [number]).fetchone():
                columns = dict(
                    zip(IMMUTABLE_COLUMNS.split(", "), parse_row_aad(fixed), strict=True)
                )
                self.store_export({"number": number, "label": label} | UNKNOWN_STATUS | columns)

    def store_orphan_payload(self, number: int, *columns: Any) -> None:
        """Store a payload from an unreachable leaf if it decrypts as the payload of its export."""
        for row in self.db.execute(WITHOUT_PAYLOAD, [number]).fetchall():
            with suppress(CorruptEntry, TypeError):
                self.codec.decrypt_compressed(ExportRow(*row), columns[-1])
                self.store_payload(number, *columns)

    def insert(self, table: str, row: dict[str, Any]) -> bool:
        """Return True if the row is new. OR IGNORE would also ignore a failed CHECK."""
        values = ", ".join("?" * len(row))
        insert = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values}) ON CONFLICT DO NOTHING"
        return self.db.execute(insert, list(row.values())).rowcount > 0


def build_row(export: dict[str, Any]) -> ExportRow:
    columns: list[Any] = [export.get(name) for name in COLUMNS.split(", ")]
    return ExportRow(*columns)


def list_columns(db: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns that the table has in this journal; [] if that is unreadable."""
    with suppress(*damage.UNREADABLE):
        return [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    return []


def read_by_number(db: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[list[Any]]:
    """Yield each row, read on its own, until GAP_MAX numbers in a row yield nothing."""
    select = f"SELECT {', '.join(columns)} FROM {table} WHERE number = ?"
    number = find_first_number(db)
    end = number + GAP_MAX
    while number < end:
        with suppress(*damage.UNREADABLE):
            row = db.execute(select, [number]).fetchone()
            if row is not None:
                end = number + GAP_MAX
                yield list(row)
        number += 1


def find_first_number(db: sqlite3.Connection) -> int:
    """Return the lowest number of an export, from the table or else from an index."""
    for source in ("export", "export INDEXED BY receipts"):
        with suppress(*damage.UNREADABLE):
            minimum = db.execute(f"SELECT min(number) FROM {source}").fetchone()[0]
            return int(minimum or 1)
    return 1


def read_until_error(db: sqlite3.Connection, select: str) -> Iterator[tuple[Any, ...]]:
    """Yield rows up to the first unreadable page; none if the table does not exist."""
    with suppress(*damage.UNREADABLE):
        yield from db.execute(select)


def count_exports(db: sqlite3.Connection) -> int:
    """Return the stored total; 0 if it is unreadable."""
    try:
        return int(db.execute("SELECT sum(exports) FROM total").fetchone()[0])
    except damage.UNREADABLE:
        return 0

"""A journal whose structure is broken, read row by row into a new one.

What stands in a page that cannot be read is lost, the rest goes on. A row that can be read and is
not what was accepted breaks its seal, and is seen when its turn comes: see
actors/upload/outcomes.py.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas.core.errors import CommandError, CorruptEntry
from atlas.core.events import JournalDamaged
from atlas.outside.sqlite import upgrades
from atlas.outside.sqlite.disk import damage, pages, wal
from atlas.outside.sqlite.disk.folder import build_sibling_path, replace
from atlas.outside.sqlite.row_codec import (
    COLUMNS,
    DESTINATION_AAD,
    HAS_PAYLOAD,
    ExportRow,
    RowCodec,
    build_row_aad,
    parse_row_aad,
)

GAP_MAX = 10_000  # numbers that are tried behind the last row that can be read
OTHERS = ("binding", "intent", "open_transaction", "digest", "secret")
PAYLOAD = ["number", "fixed", "label", "sealed"]
BEFORE_6 = [
    *("number", "id", "user", "at", "ingested", "rejected", "bytes", "place", "label", "payload"),
    *("tries", "status", "since", "reason", "rid", "file", "file_bytes", "isolation", "turn"),
]
PAYLOAD_AT = BEFORE_6.index("payload")
ABSENT = dict.fromkeys({*BEFORE_6, "moment"} - {"place", "payload"}) | {"isolation": 0, "turn": 0}
DOUBTFUL = {"status": "claimed", "tries": 1, "isolation": 0, "turn": 0}
IS_KEPT = "SELECT 1 FROM export WHERE number = ?"
WITHOUT = f"SELECT {COLUMNS} FROM export WHERE number = ? AND NOT {HAS_PAYLOAD}"
WITHOUT_PAYLOAD = f"DELETE FROM export WHERE number = ? AND NOT {HAS_PAYLOAD}"
ENDED = """
    DELETE FROM payload WHERE number NOT IN (
        SELECT number FROM export WHERE status NOT IN ('committed', 'abandoned')
    )
"""
UNBOUND = "DELETE FROM binding WHERE export NOT IN (SELECT id FROM export)"

Open = Callable[[Path, RowCodec], sqlite3.Connection]


def rebuild(
    path: Path, opened: Open, entries: RowCodec, before: int, error: Exception | None = None
) -> JournalDamaged:
    """A new journal in the place of the broken one; `before` is how many exports that had.

    Raises the error if nothing of it is ours, CommandError, OSError.
    """
    copy, fresh = damage.backup(path), build_sibling_path(path, ".new")
    wal.apply_wal(path)
    fresh.unlink(missing_ok=True)
    with closing(opened(fresh, entries)) as db:
        exports = salvage(path, SalvagedJournal(db, entries))
        # closing would write its log into it, too, and say nothing when that fails
        db.execute("PRAGMA locking_mode = NORMAL")
        db.execute("PRAGMA journal_mode = DELETE").fetchall()
    if error is not None and not exports:
        fresh.unlink()
        damage.discard(copy)
        raise error
    if build_sibling_path(fresh, "-wal").exists():
        raise CommandError(f"The journal {path} is damaged, and cannot be written anew.")
    replace(path, fresh)
    what = f"its pages, and {before - exports} exports in them" if before > exports else "its pages"
    return JournalDamaged(what, copy=str(copy))


def salvage(journal: Path, fresh: "SalvagedJournal") -> int:
    """All that can be read of it: first what its trees reach, then what else stands in leaves.

    The number of exports. Raises OSError.
    """
    fresh.db.execute("PRAGMA foreign_keys = OFF")  # a key of a lost export goes in the end
    fresh.db.execute("BEGIN")
    with closing(sqlite3.connect(journal, isolation_level=None)) as broken:
        read_trees(broken, fresh)
        read_leaves(journal, fresh)
        for table, select in (*((each, None) for each in OTHERS), *upgrades.BEFORE_5):
            columns = fresh.list_columns(table)
            for row in read_until_error(
                broken, select or f"SELECT {', '.join(columns)} FROM {table}"
            ):
                fresh.store(table, dict(zip(columns, row, strict=True)))
    fresh.db.execute(ENDED)
    fresh.db.execute(UNBOUND)
    for statement in upgrades.TRIES_OF_FAILURES:  # they change nothing in what came later
        fresh.db.execute(statement)
    upgrades.give_moments(fresh.db)
    fresh.db.execute("COMMIT")
    return count_exports(fresh.db)


def read_trees(broken: sqlite3.Connection, fresh: "SalvagedJournal") -> None:
    columns = list_columns(broken, "export") or fresh.list_columns("export")
    for row in read_by_number(broken, "export", columns):
        fresh.store_export(dict(zip(columns, row, strict=True)))
    for row in read_by_number(broken, "payload", PAYLOAD):
        fresh.store_payload(*row)
    fresh.db.executemany(WITHOUT_PAYLOAD, [[number] for number in fresh.doubtful])


def read_leaves(journal: Path, fresh: "SalvagedJournal") -> None:
    """Raises OSError."""
    columns = fresh.list_columns("export")
    with pages.leaves(journal, len(BEFORE_6), build_sibling_path(journal, ".leaves")) as rows:
        for row in rows():
            export = parse_export(row, columns)
            if fresh.is_sealed(export):
                fresh.store_export(export)
        for row in rows():
            fresh.store_orphan_payload(*row[: len(PAYLOAD)])


def parse_export(row: pages.Row, columns: list[str]) -> dict[str, Any]:
    """The columns in a leaf, if it is a row of that table, of this version or one from 2 on.

    Those had the payload behind the label, where now there is a number.
    """
    is_old = not isinstance(row[PAYLOAD_AT], int)
    read = zip(BEFORE_6 if is_old else columns, row, strict=False)
    return {name: value for name, value in read if value is not None}


@dataclass(frozen=True, slots=True)
class SalvagedJournal:
    """The new journal, as far as it is filled.

    `doubtful` are the numbers of exports whose status cannot be read. Such a one may be in the open
    transaction: claimed exports are looked for there, and accepted again if they are not found.
    """

    db: sqlite3.Connection
    entries: RowCodec
    doubtful: set[int] = field(default_factory=set)

    def list_columns(self, table: str) -> list[str]:
        return list_columns(self.db, table)

    def is_sealed(self, row: dict[str, Any]) -> bool:
        try:
            self.entries.decrypt_fields(build_row(row))
        except (CorruptEntry, TypeError):
            return False
        return True

    def store_export(self, export: dict[str, Any]) -> None:
        """Unless it is here. Up to version 5 its payload stands in its row.

        One without a label is none of ours, or of version 1, which is not rescued.
        """
        if export.get("label") is None:
            return
        number = export["number"]
        row = ABSENT | {name: value for name, value in export.items() if name in ABSENT}
        path = upgrades.read_path(build_row(row), self.entries)
        if path or row["moment"] is None:
            row["moment"] = upgrades.parse_moment(path, number)
        try:
            self.store("export", row)
        except sqlite3.IntegrityError:
            with suppress(sqlite3.IntegrityError):
                if self.store("export", row | DOUBTFUL):
                    self.doubtful.add(number)
        if export.get("payload") is not None:
            self.store_payload(
                number, build_row_aad(build_row(row)), export["label"], export["payload"]
            )

    def store_payload(self, number: int, fixed: bytes, label: bytes, sealed: bytes) -> None:
        """With its export, if the page of that is lost."""
        with suppress(sqlite3.IntegrityError):
            row = dict(zip(PAYLOAD, (number, fixed, label, sealed), strict=True))
            self.store("payload", row)
            if not self.db.execute(IS_KEPT, [number]).fetchone():
                columns = dict(zip(DESTINATION_AAD.split(", "), parse_row_aad(fixed), strict=True))
                self.store_export({"number": number, "label": label} | DOUBTFUL | columns)

    def store_orphan_payload(self, number: int, *columns: Any) -> None:
        """One that nothing leads to, if it is that of an export which has none: its seal tells."""
        for row in self.db.execute(WITHOUT, [number]).fetchall():
            with suppress(CorruptEntry, TypeError):
                self.entries.decrypt_packed(ExportRow(*row), columns[-1])
                self.store_payload(number, *columns)

    def store(self, table: str, row: dict[str, Any]) -> bool:
        """Whether it was not here before.

        OR IGNORE would pass over what a CHECK refuses, too, and say nothing.
        """
        values = ", ".join("?" * len(row))
        insert = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values}) ON CONFLICT DO NOTHING"
        return self.db.execute(insert, list(row.values())).rowcount > 0


def build_row(export: dict[str, Any]) -> ExportRow:
    columns: list[Any] = [export.get(name) for name in COLUMNS.split(", ")]
    return ExportRow(*columns)


def list_columns(db: sqlite3.Connection, table: str) -> list[str]:
    """A journal of an earlier version has fewer; none, if that cannot be read."""
    with suppress(*damage.UNREADABLE):
        return [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    return []


def read_by_number(db: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[list[Any]]:
    """Each row by itself, as far behind the last one as makes sense."""
    select = f"SELECT {', '.join(columns)} FROM {table} WHERE number = ?"
    number = find_min_rowid(db)
    end = number + GAP_MAX
    while number < end:
        with suppress(*damage.UNREADABLE):
            row = db.execute(select, [number]).fetchone()
            if row is not None:
                end = number + GAP_MAX
                yield list(row)
        number += 1


def find_min_rowid(db: sqlite3.Connection) -> int:
    """By the table, or else by an index."""
    for where in ("", "INDEXED BY receipts"):
        with suppress(*damage.UNREADABLE):
            minimum = db.execute(f"SELECT min(number) FROM export {where}").fetchone()[0]
            return int(minimum or 1)
    return 1


def read_until_error(db: sqlite3.Connection, select: str) -> Iterator[list[Any]]:
    """Up to the first page that cannot be read; nothing from a table that is not there."""
    with suppress(*damage.UNREADABLE):
        yield from map(list, db.execute(select))


def count_exports(db: sqlite3.Connection) -> int:
    try:
        return int(db.execute("SELECT sum(exports) FROM total").fetchone()[0])
    except damage.UNREADABLE:
        return 0

"""A journal whose structure is broken, read row by row into a new one.

What stands in a page that cannot be read is lost, the rest goes on. A row that can be read and is
not what was accepted breaks its seal, and is seen when its turn comes: see
actors/upload/outcomes.py.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from atlas.core.errors import CannotStart, Damaged
from atlas.core.events import JournalDamaged
from atlas.outside.sqlite import schema
from atlas.outside.sqlite.disk import damage, pages
from atlas.outside.sqlite.disk.folder import beside, sync
from atlas.outside.sqlite.entries import COLUMNS, Entries, Row

GAP_MAX = 10_000  # numbers that are tried behind the last row that can be read
OTHERS = ("binding", "intent", "open_transaction", "digest", "secret")

Open = Callable[[Path, Entries], sqlite3.Connection]


def rebuilt(
    path: Path, opened: Open, entries: Entries, before: int, error: Exception | None = None
) -> JournalDamaged:
    """A new journal in the place of the broken one; `before` is how many exports that had.

    Raises the error if nothing of it is ours, CannotStart, OSError.
    """
    copy, fresh = damage.copied(path), beside(path, ".new")
    damage.fold(path)
    fresh.unlink(missing_ok=True)
    with closing(opened(fresh, entries)) as db:
        exports = rescue(path, Fresh(db, entries))
        # closing would write its log into it, too, and say nothing when that fails
        db.execute("PRAGMA locking_mode = NORMAL")
        db.execute("PRAGMA journal_mode = DELETE").fetchall()
    if error is not None and not exports:
        fresh.unlink()
        damage.discard(copy)
        raise error
    if beside(fresh, "-wal").exists():
        raise CannotStart(f"The journal {path} is damaged, and cannot be written anew.")
    fresh.replace(path)
    sync(path.parent)
    what = f"its pages, and {before - exports} exports in them" if before > exports else "its pages"
    return JournalDamaged(what, copy=str(copy))


def rescue(journal: Path, fresh: "Fresh") -> int:
    """All that can be read of it: first what its trees reach, then what else stands in leaves.

    The number of exports. Raises OSError.
    """
    fresh.db.execute("BEGIN")
    with closing(sqlite3.connect(journal, isolation_level=None)) as broken:
        columns = fresh.columns_of("export")
        absent = dict.fromkeys(columns) | {"isolation": 0, "turn": 0}  # before version 5
        known = columns_in(broken, "export") or columns
        for row in by_number(broken, known):
            fresh.keep("export", absent | dict(zip(known, row, strict=True)))
        with journal.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as raw:
            for row in pages.rows(raw, len(columns)):
                read = zip(columns, row, strict=True)
                found = absent | {name: value for name, value in read if value is not None}
                if fresh.is_sealed(found):
                    fresh.keep("export", found)
        for table in OTHERS:
            columns = fresh.columns_of(table)
            for row in as_far(broken, f"SELECT {', '.join(columns)} FROM {table}"):
                fresh.keep(table, dict(zip(columns, row, strict=True)))
        for table, select in schema.BEFORE_5:
            for row in as_far(broken, select):
                fresh.keep(table, dict(zip(fresh.columns_of(table), row, strict=True)))
    for statement in schema.TRIES_OF_FAILURES:  # they change nothing in what version 5 wrote
        fresh.db.execute(statement)
    fresh.db.execute("COMMIT")
    return exports_in(fresh.db)


@dataclass(frozen=True, slots=True)
class Fresh:
    """The new journal, as far as it is filled."""

    db: sqlite3.Connection
    entries: Entries

    def columns_of(self, table: str) -> list[str]:
        return columns_in(self.db, table)

    def is_sealed(self, row: dict[str, Any]) -> bool:
        try:
            self.entries.label(Row(*(row[name] for name in COLUMNS.split(", "))))
        except (Damaged, TypeError):
            return False
        return True

    def keep(self, table: str, row: dict[str, Any]) -> None:
        """Unless it is here."""
        try:
            self._insert(table, row)
        except sqlite3.IntegrityError:
            if row.get("payload") is not None:
                # Its status cannot be read. It may be in the open transaction: claimed exports are
                # looked for there, and accepted again if they are not found.
                known = {"status": "claimed", "tries": 1, "isolation": 0, "turn": 0}
                with suppress(sqlite3.IntegrityError):
                    self._insert(table, row | known)

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        """OR IGNORE would pass over what a CHECK refuses, too, and say nothing."""
        values = ", ".join("?" * len(row))
        insert = f"INSERT INTO {table} VALUES ({values}) ON CONFLICT DO NOTHING"
        self.db.execute(insert, list(row.values()))


def columns_in(db: sqlite3.Connection, table: str) -> list[str]:
    """A journal of an earlier version has fewer; none, if that cannot be read."""
    with suppress(*damage.UNREADABLE):
        return [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    return []


def by_number(db: sqlite3.Connection, columns: list[str]) -> Iterator[list[Any]]:
    """Each row by itself, as far behind the last one as makes sense."""
    select = f"SELECT {', '.join(columns)} FROM export WHERE number = ?"
    number = first_number(db)
    end = number + GAP_MAX
    while number < end:
        with suppress(*damage.UNREADABLE):
            row = db.execute(select, [number]).fetchone()
            if row is not None:
                end = number + GAP_MAX
                yield list(row)
        number += 1


def first_number(db: sqlite3.Connection) -> int:
    """By the table, or else by an index."""
    for where in ("", "INDEXED BY receipts"):
        with suppress(*damage.UNREADABLE):
            found = db.execute(f"SELECT min(number) FROM export {where}").fetchone()[0]
            return int(found or 1)
    return 1


def as_far(db: sqlite3.Connection, select: str) -> Iterator[list[Any]]:
    """Up to the first page that cannot be read; nothing from a table that is not there."""
    with suppress(*damage.UNREADABLE):
        yield from map(list, db.execute(select))


def exports_in(db: sqlite3.Connection) -> int:
    try:
        return int(db.execute("SELECT sum(exports) FROM total").fetchone()[0])
    except damage.UNREADABLE:
        return 0

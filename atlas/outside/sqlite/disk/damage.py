"""What a disk has done to the journal while nobody looked, found and mended before it is used.

Whatever was found, a copy of the journal as it was is kept beside it. A structure that is broken is
read row by row into a new journal: what stands in a page that cannot be read is lost, the rest goes
on. A row that can be read and is not what was accepted breaks its seal, and is seen when its turn
comes: see actors/upload/outcomes.py.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from atlas.core.errors import Damaged
from atlas.core.events import JournalDamaged
from atlas.outside.sqlite.commits import primary_code
from atlas.outside.sqlite.disk import pages, wal
from atlas.outside.sqlite.disk.folder import beside, sync
from atlas.outside.sqlite.entries import COLUMNS, Entries, Row

WHOLE_CHECK_BYTES_MAX = 64 * 1024 * 1024  # of a larger one the indexes are taken on trust
GAP_MAX = 10_000  # numbers that are tried behind the last row that can be read
OTHERS = ("binding", "attempt", "begun", "digest", "secret")


def in_the_log(journal: Path) -> list[JournalDamaged]:
    """Before SQLite opens it, which would forget what stands behind the damage. Raises OSError."""
    log = beside(journal, "-wal")
    found = wal.damage(log)
    if found is None:
        return []
    copy = copied(journal)
    if found.is_one_bit:
        wal.mend(log)
        return [JournalDamaged(f"a bit of frame {found.frame} of its log", copy=str(copy))]
    what = f"its log from frame {found.frame} on, and {found.transactions} commits behind that"
    return [JournalDamaged(what, copy=str(copy))]


def is_broken(db: sqlite3.Connection, journal: Path) -> bool:
    """Whether its pages are, or what the schema asks of columns. Raises sqlite3.Error."""
    is_small = journal.stat().st_size <= WHOLE_CHECK_BYTES_MAX
    check = "integrity_check" if is_small else "quick_check"
    return bool(db.execute(f"PRAGMA {check}(1)").fetchone()[0] != "ok")


def is_of_pages(error: sqlite3.DatabaseError) -> bool:
    """Whether it is what the pages say, and not that they cannot be had just now."""
    return primary_code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def copied(journal: Path) -> Path:
    """Beside it, with the day in its name, and its log with it. Raises OSError."""
    day = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = beside(journal, f".damaged-{day}")
    for ending in ("", "-wal"):
        source = beside(journal, ending)
        if source.exists():
            shutil.copy2(source, beside(copy, ending))
    return copy


def fold(journal: Path) -> None:
    """Put the log into the journal, as SQLite does not do it where it cannot read the schema.

    The log is there for as long as it is needed: applied once more, it changes nothing.
    """
    log = beside(journal, "-wal")
    if not log.exists():
        return
    whole = beside(journal, ".new")
    shutil.copyfile(journal, whole)  # which may be larger than memory
    with whole.open("r+b") as file:
        wal.apply(log.read_bytes(), file)
        file.flush()
        os.fsync(file.fileno())
    whole.replace(journal)
    sync(journal.parent)
    log.unlink()


def rescue(journal: Path, fresh: "Fresh") -> int:
    """All that can be read of it: first what its trees reach, then what else stands in leaves.

    The number of exports. Raises OSError.
    """
    fresh.db.execute("BEGIN")
    with closing(sqlite3.connect(journal, isolation_level=None)) as broken:
        columns = fresh.columns_of("export")
        for row in by_number(broken, columns):
            fresh.keep("export", dict(zip(columns, row, strict=True)))
        with journal.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as raw:
            for row in pages.rows(raw, len(columns)):
                found = dict(zip(columns, row, strict=True))
                if fresh.is_sealed(found):
                    fresh.keep("export", found)
        for table in OTHERS:
            columns = fresh.columns_of(table)
            for row in as_far(broken, table, columns):
                fresh.keep(table, dict(zip(columns, row, strict=True)))
    fresh.db.execute("COMMIT")
    return exports_in(fresh.db)


@dataclass(frozen=True, slots=True)
class Fresh:
    """The new journal, as far as it is filled."""

    db: sqlite3.Connection
    entries: Entries

    def columns_of(self, table: str) -> list[str]:
        return [name for _, name, *_ in self.db.execute(f"PRAGMA table_info({table})")]

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
                # Where it stood cannot be read. If it is in the dataset, its path is found taken.
                with suppress(sqlite3.IntegrityError):
                    self._insert(table, row | {"status": "accepted", "rid": None, "tries": 0})

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})"
        self.db.execute(insert, list(row.values()))


def by_number(db: sqlite3.Connection, columns: list[str]) -> Iterator[list[Any]]:
    """Each row by itself, as far behind the last one as makes sense."""
    select = f"SELECT {', '.join(columns)} FROM export WHERE number = ?"
    number = first_number(db)
    end = number + GAP_MAX
    while number < end:
        with suppress(sqlite3.DatabaseError):
            row = db.execute(select, [number]).fetchone()
            if row is not None:
                end = number + GAP_MAX
                yield list(row)
        number += 1


def first_number(db: sqlite3.Connection) -> int:
    """By the table, or else by an index."""
    for where in ("", "INDEXED BY receipts"):
        with suppress(sqlite3.DatabaseError):
            found = db.execute(f"SELECT min(number) FROM export {where}").fetchone()[0]
            return int(found or 1)
    return 1


def as_far(db: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[list[Any]]:
    """Up to the first page that cannot be read."""
    with suppress(sqlite3.DatabaseError):
        yield from map(list, db.execute(f"SELECT {', '.join(columns)} FROM {table}"))


def exports_in(db: sqlite3.Connection) -> int:
    try:
        return int(db.execute("SELECT sum(exports) FROM total").fetchone()[0])
    except sqlite3.DatabaseError:
        return 0

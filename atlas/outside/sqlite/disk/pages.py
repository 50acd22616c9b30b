"""Reads the leaf pages of a table whose tree is corrupt: SQLite reads each as a table of its own.

This includes old leaves that belong to no tree any more and are not overwritten. So a row counts
only if it decrypts.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

PAGE_SIZE = 4096  # the default of SQLite, which the journal uses
TABLE_LEAF = 0x0D
SIZE, UNKNOWN = slice(28, 32), bytes(4)  # in the header; SQLite then uses the size of the file
PRAGMAS = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF"
SET_ROOT = "UPDATE sqlite_schema SET rootpage = ?"

Row = tuple[Any, ...]


@contextmanager
def leaves(journal: Path, columns: int, scratch: Path) -> Iterator[Callable[[], Iterator[Row]]]:
    """Yield a function that reads the rows of all leaves; missing trailing columns are None.

    The first column is the rowid. `scratch` is the path of a temporary copy of the journal, whose
    first page is replaced by that of a database with one table. Raises OSError.
    """
    names = ", ".join(f"c{each}" for each in range(1, columns))
    scratch.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(scratch)) as db:
            db.execute(f"CREATE TABLE leaf (number INTEGER PRIMARY KEY, {names})")
            db.commit()
        first = bytearray(scratch.read_bytes()[:PAGE_SIZE])
        first[SIZE] = UNKNOWN
        shutil.copyfile(journal, scratch)
        with scratch.open("r+b", buffering=0) as file:
            file.write(first)
            with closing(sqlite3.connect(scratch, isolation_level=None)) as db:
                db.executescript(PRAGMAS)
                db.text_factory = partial(str, encoding="utf-8", errors="replace")
                yield partial(read_rows, db, file)
    finally:
        scratch.unlink(missing_ok=True)


def read_rows(db: sqlite3.Connection, file: FileIO) -> Iterator[Row]:
    for offset in range(PAGE_SIZE, os.fstat(file.fileno()).st_size, PAGE_SIZE):
        if os.pread(file.fileno(), 1, offset)[0] != TABLE_LEAF:
            continue
        db.execute("PRAGMA writable_schema = ON")
        db.execute(SET_ROOT, [offset // PAGE_SIZE + 1])
        db.execute("PRAGMA writable_schema = RESET")
        yield from read_leaf(db)


def read_leaf(db: sqlite3.Connection) -> Iterator[Row]:
    """Yield the rows of one leaf without its corrupt cells: forwards, then backwards from its end.

    After an error, the next row is read alone, because the cursor of Python fetches a row in
    advance. If SQLite cannot read its number, the rows from the end of the leaf up to it follow.
    """
    last = 0
    while True:
        with suppress(sqlite3.DatabaseError):
            for row in db.execute("SELECT * FROM leaf WHERE number > ?", [last]):
                last = row[0]
                yield row
            return
        number = find_next_number(db, last)
        if number is None:
            break
        with suppress(sqlite3.DatabaseError):
            yield from db.execute("SELECT * FROM leaf WHERE number = ?", [number])
        last = number
    with suppress(sqlite3.DatabaseError):
        yield from db.execute("SELECT * FROM leaf WHERE number > ? ORDER BY number DESC", [last])


def find_next_number(db: sqlite3.Connection, number: int) -> int | None:
    """Return the next number on the leaf, or None if it cannot be read."""
    with suppress(sqlite3.DatabaseError):
        row = db.execute("SELECT number FROM leaf WHERE number > ? LIMIT 1", [number]).fetchone()
        return None if row is None else row[0]
    return None

"""Reads the leaves of a table whose tree is broken, through SQLite: each as if it were a table.

Leaves that no tree reaches any more are read, too, unless their page is in use again. So a row
counts only if its seal is whole.
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

PAGE_SIZE = 4096  # SQLite's default, and ours
TABLE_LEAF = 0x0D
SIZE, UNKNOWN = slice(28, 32), bytes(4)  # in the header of the file; then that of the file counts
PRAGMAS = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF"
ROOT = "UPDATE sqlite_schema SET rootpage = ?"

Row = tuple[Any, ...]


@contextmanager
def leaves(journal: Path, columns: int, scratch: Path) -> Iterator[Callable[[], Iterator[Row]]]:
    """Yield a function that reads the rows of all leaves; missing columns at the end are None.

    The first column is the number of the row. `scratch` is a copy of the journal meanwhile, whose
    first page says that it has one table. Raises OSError.
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
                yield partial(read_rows, db, file)
    finally:
        scratch.unlink(missing_ok=True)


def read_rows(db: sqlite3.Connection, file: FileIO) -> Iterator[Row]:
    for at in range(PAGE_SIZE, os.fstat(file.fileno()).st_size, PAGE_SIZE):
        if os.pread(file.fileno(), 1, at)[0] != TABLE_LEAF:
            continue
        db.execute("PRAGMA writable_schema = ON")
        db.execute(ROOT, [at // PAGE_SIZE + 1])
        db.execute("PRAGMA writable_schema = RESET")
        with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
            yield from db.execute("SELECT * FROM leaf")

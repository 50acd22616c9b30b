"""What a disk has done to the journal while nobody looked, found and mended before it is used.

Whatever was found, a copy of the journal as it was is kept beside it. A structure that is broken is
read row by row into a new journal: what stands in a page that cannot be read is lost, the rest goes
on. A row that can be read and is not what was accepted breaks its seal, and is seen when its turn
comes: see actors/upload/outcomes.py.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atlas.core.events import JournalDamaged
from atlas.outside.sqlite import wal
from atlas.outside.sqlite.folder import beside

WHOLE_CHECK_BYTES_MAX = 64 * 1024 * 1024  # of a larger one the indexes are taken on trust
GAP_MAX = 100_000  # numbers that are tried behind the last row that can be read
TABLES = ("export", "binding", "attempt", "digest", "secret")


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
    """Whether its structure is: pages, and what the schema asks of columns."""
    is_small = journal.stat().st_size <= WHOLE_CHECK_BYTES_MAX
    check = "integrity_check" if is_small else "quick_check"
    try:
        return bool(db.execute(f"PRAGMA {check}(1)").fetchone()[0] != "ok")
    except sqlite3.DatabaseError:
        return True


def copied(journal: Path) -> Path:
    """Beside it, with the day in its name, and its log with it. Raises OSError."""
    day = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = beside(journal, f".damaged-{day}")
    for ending in ("", "-wal"):
        source = beside(journal, ending)
        if source.exists():
            shutil.copy2(source, beside(copy, ending))
    return copy


def rescue(broken: sqlite3.Connection, fresh: sqlite3.Connection) -> None:
    """All that can be read of it, into new tables of the same shape."""
    fresh.execute("BEGIN")
    for table in TABLES:
        columns = [name for _, name, *_ in fresh.execute(f"PRAGMA table_info({table})")]
        insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(columns))})"
        found = by_number(broken, columns) if table == "export" else as_far(broken, table, columns)
        for row in found:
            keep(fresh, insert, dict(zip(columns, row, strict=True)))
    fresh.execute("COMMIT")


def exports_in(db: sqlite3.Connection) -> int:
    try:
        return int(db.execute("SELECT sum(exports) FROM total").fetchone()[0])
    except sqlite3.DatabaseError:
        return 0


def keep(db: sqlite3.Connection, insert: str, row: dict[str, Any]) -> None:
    try:
        db.execute(insert, list(row.values()))
    except sqlite3.IntegrityError:
        if row.get("payload") is None:
            return
        # Where it stood cannot be read. Is it in the dataset already, its path is found taken.
        stands = row | {"status": "accepted", "rid": None, "tries": 0}
        with suppress(sqlite3.IntegrityError):
            db.execute(insert, list(stands.values()))


def by_number(db: sqlite3.Connection, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Each row by itself, as far behind the last one as makes sense."""
    select = f"SELECT {', '.join(columns)} FROM export WHERE number = ?"
    last = number = first_number(db) - 1
    while number - last < GAP_MAX:
        number += 1
        with suppress(sqlite3.DatabaseError):
            row = db.execute(select, [number]).fetchone()
            if row is not None:
                last = number
                yield row


def first_number(db: sqlite3.Connection) -> int:
    """By the table, or else by an index."""
    for where in ("", "INDEXED BY receipts"):
        with suppress(sqlite3.DatabaseError):
            return db.execute(f"SELECT min(number) FROM export {where}").fetchone()[0] or 1
    return 1


def as_far(db: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Up to the first page that cannot be read."""
    with suppress(sqlite3.DatabaseError):
        yield from db.execute(f"SELECT {', '.join(columns)} FROM {table}")

"""What a disk has done to the journal while nobody looked, found before it is used.

Whatever was found, a copy of the journal as it was is kept beside it.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

from atlas.core.events import JournalDamaged
from atlas.outside.sqlite.disk import wal
from atlas.outside.sqlite.disk.folder import build_sibling_path, fsync_path, read_only_uri

WHOLE_CHECK_BYTES_MAX = 64 * 1024 * 1024  # of a larger one the indexes are taken on trust
LIVE = "payload", "intent", "open_transaction", "total", "secret"
# by the index of each status, and in the rows themselves, of which none has less than no tries
WAITING = " UNION ALL ".join(
    f"SELECT 1 FROM export WHERE status = '{status}' AND tries < 0"
    for status in ("accepted", "claimed", "set_aside")
)
SUFFIXES = "", "-wal"
STEPS = 100_000  # of SQLite, between two looks at whether the check is over
# SQLite quotes what it cannot parse of a schema, and Python makes no text of what is no UTF-8
UNREADABLE = sqlite3.DatabaseError, UnicodeDecodeError


def check_wal(journal: Path) -> list[JournalDamaged]:
    """Before SQLite opens it, which would forget what stands behind the damage. Raises OSError."""
    log = build_sibling_path(journal, "-wal")
    wal_damage = wal.find_damage(log)
    if wal_damage is None:
        return []
    copy = backup(journal)
    wal.apply_wal(journal)
    what = f"its log from frame {wal_damage.frame} on, and {wal_damage.transactions} commits behind that"
    if wal_damage.is_one_bit:
        what = f"a bit of frame {wal_damage.frame} of its log"
    elif wal_damage.frame == 0:
        what = "the header of its log"
    return [JournalDamaged(what, copy=str(copy))]


def is_large(journal: Path) -> bool:
    return journal.stat().st_size > WHOLE_CHECK_BYTES_MAX


def is_corrupt(db: sqlite3.Connection, journal: Path) -> bool:
    """Whether its pages are, or what the schema asks of columns. Raises sqlite3.Error."""
    check = "quick_check" if is_large(journal) else "integrity_check"
    return bool(db.execute(f"PRAGMA {check}(1)").fetchone()[0] != "ok")


def is_backlog_corrupt(db: sqlite3.Connection) -> bool:
    """Whether that is so of what is on its way to Foundry. Raises sqlite3.Error."""
    db.execute(WAITING).fetchone()
    checks = [db.execute(f"PRAGMA quick_check({table})").fetchone()[0] for table in LIVE]
    return checks != ["ok"] * len(LIVE)


@contextmanager
def check_while(path: Path, report: Callable[[bool], None]) -> Iterator[None]:
    """Check the pages of a large journal in a thread of its own while exports are accepted.

    `report` is called in the end with whether it is broken; if we end before, it is not, and the next
    start checks it again. Meanwhile only the log is written. So SQLite can read the file as one
    that never changes, beside the one connection that writes.
    """
    is_over = Event()
    with (
        closing(sqlite3.connect(read_only_uri(path), uri=True, check_same_thread=False)) as db,
        ThreadPoolExecutor(1, "check") as thread,
    ):
        db.set_progress_handler(is_over.is_set, STEPS)
        thread.submit(check, db, path, report)
        try:
            yield
        finally:
            is_over.set()
            db.interrupt()


def check(db: sqlite3.Connection, path: Path, report: Callable[[bool], None]) -> None:
    with suppress(sqlite3.OperationalError):  # interrupted, or the disk fails: others see that
        try:
            report(is_corrupt(db, path))
        except UNREADABLE as error:
            if not is_corruption(error):
                raise
            report(True)


def is_corruption(error: Exception) -> bool:
    """Whether it is what the pages say, and not that they cannot be had just now.

    An upgrade puts rows into new tables, and those refuse what a flipped bit has made of one.
    """
    of_pages = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT}
    return isinstance(error, UnicodeDecodeError) or primary_code(error) in of_pages


def backup(journal: Path) -> Path:
    """Beside it, with the day in its name, and its log with it, and synced. Raises OSError."""
    day = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = build_sibling_path(journal, f".damaged-{day}")
    try:
        for ending in SUFFIXES:
            if build_sibling_path(journal, ending).exists():
                shutil.copy2(build_sibling_path(journal, ending), build_sibling_path(copy, ending))
                fsync_path(build_sibling_path(copy, ending))
    except OSError:
        discard(copy)  # or each attempt would leave a part of one, until the disk is full
        raise
    fsync_path(journal.parent)
    return copy


def discard(copy: Path) -> None:
    for ending in SUFFIXES:
        build_sibling_path(copy, ending).unlink(missing_ok=True)


def primary_code(error: Exception) -> int | None:
    """SQLITE_IOERR for each of its kinds. None for what is Python's and not SQLite's."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF

"""Detects corruption of the journal before it is used, and keeps a copy of the damaged files."""

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

WHOLE_CHECK_BYTES_MAX = 64 * 1024 * 1024  # the indexes of a larger journal are not checked
LIVE_TABLES = "payload", "intent", "open_transaction", "total", "secret"
# reads the index of each status, and the rows themselves, as `tries` is in no index
READ_UNCOMMITTED = " UNION ALL ".join(
    f"SELECT 1 FROM export WHERE status = '{status}' AND tries < 0"
    for status in ("accepted", "claimed", "set_aside")
)
ENDINGS = "", "-wal"
STEPS = 100_000  # SQLite instructions between two tests for cancellation
CORRUPTION = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT}
# UnicodeDecodeError: SQLite quotes a corrupt schema in its message, which may be invalid UTF-8
UNREADABLE = sqlite3.DatabaseError, UnicodeDecodeError


def check_wal(journal: Path) -> list[JournalDamaged]:
    """Check the write-ahead log, and apply it if it is damaged, so that SQLite does not read it.

    SQLite would drop all commits after the damage. Raises OSError.
    """
    wal_damage = wal.find_damage(build_sibling_path(journal, "-wal"))
    if wal_damage is None:
        return []
    copy = backup(journal)
    wal.apply_wal(journal)
    frame = wal_damage.frame
    damage = f"its log from frame {frame} on, and {wal_damage.transactions} commits after that"
    if wal_damage.is_one_bit:
        damage = f"a bit of frame {frame} of its log"
    elif frame == 0:
        damage = "the header of its log"
    return [JournalDamaged(damage, copy=str(copy))]


def is_large(journal: Path) -> bool:
    return journal.stat().st_size > WHOLE_CHECK_BYTES_MAX


def is_corrupt(db: sqlite3.Connection, journal: Path) -> bool:
    """True if a page is corrupt or a constraint is violated. Raises sqlite3.Error."""
    check = "quick_check" if is_large(journal) else "integrity_check"
    return bool(db.execute(f"PRAGMA {check}(1)").fetchone()[0] != "ok")


def is_backlog_corrupt(db: sqlite3.Connection) -> bool:
    """True if uncommitted exports or the commit state are corrupt. Raises sqlite3.Error."""
    db.execute(READ_UNCOMMITTED).fetchone()
    checks = [db.execute(f"PRAGMA quick_check({table})").fetchone()[0] for table in LIVE_TABLES]
    return checks != ["ok"] * len(LIVE_TABLES)


@contextmanager
def check_while(path: Path, report: Callable[[bool], None]) -> Iterator[None]:
    """Check a large journal in its own thread while exports are accepted.

    `report` is called with True if it is corrupt, but not if the context ends before the check. The
    caller must write to the WAL only: SQLite then reads the main file as immutable, while the one
    other connection writes.
    """
    is_cancelled = Event()
    with (
        closing(sqlite3.connect(read_only_uri(path), uri=True, check_same_thread=False)) as db,
        ThreadPoolExecutor(1, "check") as thread,
    ):
        db.set_progress_handler(is_cancelled.is_set, STEPS)
        thread.submit(check, db, path, report)
        try:
            yield
        finally:
            is_cancelled.set()
            db.interrupt()


def check(db: sqlite3.Connection, path: Path, report: Callable[[bool], None]) -> None:
    with suppress(sqlite3.OperationalError):  # interrupted, or the disk fails for others as well
        try:
            report(is_corrupt(db, path))
        except UNREADABLE as error:
            if not is_corruption(error):
                raise
            report(True)


def is_corruption(error: Exception) -> bool:
    """True if the pages are corrupt; False if they cannot be read at the moment.

    A constraint error counts: a migration copies rows into new tables, which reject altered ones.
    """
    return isinstance(error, UnicodeDecodeError) or primary_code(error) in CORRUPTION


def backup(journal: Path) -> Path:
    """Copy the journal and its WAL, and sync the copies. Raises OSError."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = build_sibling_path(journal, f".damaged-{time}")
    try:
        for ending in ENDINGS:
            if build_sibling_path(journal, ending).exists():
                shutil.copy2(build_sibling_path(journal, ending), build_sibling_path(copy, ending))
                fsync_path(build_sibling_path(copy, ending))
    except OSError:
        discard(copy)  # partial copies of repeated attempts would fill the disk
        raise
    fsync_path(journal.parent)
    return copy


def discard(copy: Path) -> None:
    for ending in ENDINGS:
        build_sibling_path(copy, ending).unlink(missing_ok=True)


def primary_code(error: Exception) -> int | None:
    """Return the primary result code: SQLITE_IOERR, say, for each of its extended codes.

    None for an error that is not SQLite's.
    """
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF

"""Copies a journal into a file of its own, and verifies the copy."""

import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from atlas.core.errors import CommandError
from atlas.outside.sqlite import keys
from atlas.outside.sqlite.disk.damage import primary_code
from atlas.outside.sqlite.disk.folder import build_sibling_path, read_only_uri, replace
from atlas.outside.sqlite.journal import resolve_path
from atlas.outside.sqlite.transfer import SqliteTables

SIBLINGS = "", "-journal", "-wal", "-shm"
SIZE = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
QUICK = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"  # it is synced at the end


@contextmanager
def create_file(target: Path, *, replaces: bool) -> Iterator[Path]:
    """Yield a temporary file in the folder of the target, which gets its name at the end.

    Only its owner may read it. Raises CommandError.
    """
    require_free(target, replaces=replaces)
    with map_write_errors(target):
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        require_free(target, replaces=replaces)
        with map_write_errors(target):
            replace(target, partial)
    finally:
        for ending in SIBLINGS:
            build_sibling_path(partial, ending).unlink(missing_ok=True)


@contextmanager
def map_write_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"Cannot write {target}: {error.strerror}.") from error
    except sqlite3.OperationalError as error:
        is_full = primary_code(error) == sqlite3.SQLITE_FULL
        reason = os.strerror(errno.ENOSPC) if is_full else str(error)
        raise CommandError(f"Cannot write {target}: {reason}.") from error


def require_free(target: Path, *, replaces: bool) -> None:
    if target.is_dir():
        raise CommandError(f"{target} is a folder: name a file in it.")
    if target.exists() and not target.is_file():  # /dev/stdout: it would lose its name to the copy
        raise CommandError(f"{target} is a device or a pipe: name a file.")
    if os.path.lexists(target) and not replaces:
        raise CommandError(f"{target} already exists: name a new file, or pass --force.")


def require_elsewhere(journal: Path, target: Path) -> None:
    """Raise CommandError if the target is a file of the journal itself."""
    path = resolve_path(journal) or journal
    resolved = target.resolve()
    if resolved.parent == path.resolve().parent and resolved.name.startswith(path.name):
        endings = ("", "-wal", "-shm", ".lock", ".seal", ".key")
        if resolved.name.removeprefix(path.name) in endings:
            raise CommandError(f"{target} belongs to the journal itself: name another file.")


async def copy(
    tables: SqliteTables,
    partial: Path,
    journal_keys: Sequence[bytes],
    report: Callable[[int, int], object],
) -> int:
    """Copy the journal by SQLite's backup API, and verify the copy. Return its size.

    Raises CommandError.
    """
    with closing(sqlite3.connect(partial, isolation_level=None)) as db:
        db.executescript(QUICK)
        tables.copy_to(db, report)
        db.execute("PRAGMA journal_mode = DELETE").fetchall()  # it is one file, without a WAL
    with closing(sqlite3.connect(read_only_uri(partial), uri=True)) as db:
        (size,) = db.execute(SIZE).fetchone()
        if db.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
            raise CommandError("The copy is damaged: check both disks.")
        if await SqliteTables(db, partial, tables.data_key).count() != await tables.count():
            raise CommandError("The copy differs from the journal: check both disks.")
    if tables.data_key not in keys.unwrap_data_keys(partial, journal_keys):
        raise CommandError("The copy cannot be decrypted with the key of the journal.")
    return int(size)


def find_keys(journal: Path, configured: Sequence[bytes]) -> Sequence[bytes]:
    """Return the configured keys, or else that of the key file. Raises ConfigurationError."""
    path = resolve_path(journal) or journal
    return configured or [keys.read_key_file(path, is_new=False)]


def describe_key(journal: Path, configured: Sequence[bytes]) -> str:
    """Return the name of what must be kept, apart from the backup, to decrypt it."""
    return "ATLAS_JOURNAL_KEY" if configured else str(keys.default_key_path(journal))

"""Inspects a journal that no process has open, without changing it.

SQLite cannot read a write-ahead log (WAL) without writing, so a journal with one is copied first.
"""

import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from atlas.core import identifiers
from atlas.core.diagnosis import CheckFailed
from atlas.core.errors import CommandError, ConfigurationError, JournalLocked
from atlas.core.inspection import JournalHealth
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.sqlite import keys, schema, upgrades
from atlas.outside.sqlite.disk import damage, lock, wal
from atlas.outside.sqlite.disk.filesystem_type import require_local
from atlas.outside.sqlite.disk.folder import build_sibling_path, read_only_uri
from atlas.outside.sqlite.inspector import read_condition
from atlas.outside.sqlite.journal import decode_lossy, resolve_path

RESTART_REMEDY = (
    "Start Atlas: it keeps a copy, delivers everything readable, and reports what was lost."
)


def find_lock_owner(path: Path | None, owner: str) -> JournalLocked | None:
    """Return the current owner of the journal, if any; `owner` if the lock is not readable."""
    path = resolve_path(path)
    try:
        if path is not None:
            with lock.hold_shared(path):
                return None
    except JournalLocked as locked:
        return locked
    except PermissionError:
        return JournalLocked(path, "", owner)
    except OSError:
        return None  # reported when the journal is opened
    return None


class ReadOnlyInspector:
    """Implements `ports.JournalInspector` for a file; a journal in memory (None) is gone."""

    def __init__(
        self, path: Path | None, limits: CapacityLimits, journal_keys: Sequence[bytes]
    ) -> None:
        self._path = resolve_path(path)
        self._limits = limits
        self._keys = journal_keys
        self._user_key = secrets.token_bytes(32)  # until the journal is open

    async def inspect(self) -> JournalHealth | None:
        path = self._path
        if path is None or not path.exists():
            return None
        try:
            require_local(path.parent)
            with lock.hold_shared(path):
                return self._inspect_file(path)
        except JournalLocked as locked:
            raise CheckFailed(
                f"{locked} Its operator listener does not answer.",
                "The process may hang. Check its log and "
                f"{locked.owner or 'its operator listener'}, then restart it.",
            ) from locked
        except ConfigurationError as error:
            raise CheckFailed("The key does not open the journal.", str(error)) from error
        except CommandError as error:
            raise CheckFailed(
                str(error),
                "Set ATLAS_JOURNAL to a journal on a local disk that this version can open.",
            ) from error
        except damage.UNREADABLE as error:
            raise CheckFailed(
                "The journal is damaged, or the file is not a journal.", RESTART_REMEDY
            ) from error
        except OSError as error:
            raise CheckFailed(
                f"The journal cannot be read: {error.strerror}.",
                "Run this as the user that Atlas runs as, or repair the disk.",
            ) from error

    def pseudonym(self, sub: str) -> str:
        return identifiers.pseudonymize(self._user_key, sub)

    def _inspect_file(self, path: Path) -> JournalHealth:
        codec = RowCodec(keys.open_readonly(path, self._keys))
        self._user_key = codec.cipher.user_key
        with open_intact(path, codec) as (db, version):
            notes = (
                ()
                if version == schema.VERSION
                else (f"written by an earlier version (v{version})",)
            )
            return read_condition(db, codec, self._limits, path, notes)


@contextmanager
def open_intact(path: Path, codec: RowCodec) -> Iterator[tuple[sqlite3.Connection, int]]:
    """Open a journal whose lock is held, and yield its version. Raises CheckFailed if damaged."""
    if wal.find_damage(build_sibling_path(path, "-wal")) is not None:
        raise CheckFailed("The write-ahead log of the journal is damaged.", RESTART_REMEDY)
    with open_or_copy(path) as (db, opened_path):
        version = db.execute("PRAGMA user_version").fetchone()[0]
        upgrades.prepare(db, path, codec)
        if damage.is_corrupt(db, opened_path) or not schema.schema_matches(db):
            raise CheckFailed("The journal is damaged.", RESTART_REMEDY)
        yield db, version


@contextmanager
def open_or_copy(path: Path) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """Open the journal read-only, or a temporary copy if it has a WAL or needs migration."""
    log = build_sibling_path(path, "-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if not has_log and read_version(path) >= schema.VERSION:
        with closing(sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None)) as db:
            db.text_factory = decode_lossy
            yield db, path
        return
    with tempfile.TemporaryDirectory(prefix="atlas-look-") as folder:
        copy = Path(folder) / "journal"
        shutil.copyfile(path, copy)
        if has_log:
            shutil.copyfile(log, build_sibling_path(copy, "-wal"))
        with closing(sqlite3.connect(copy, isolation_level=None)) as db:
            db.text_factory = decode_lossy
            yield db, copy


def read_version(path: Path) -> int:
    """Return the schema version in the main file."""
    with closing(sqlite3.connect(read_only_uri(path), uri=True)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])

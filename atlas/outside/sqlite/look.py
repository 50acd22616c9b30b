"""A journal that nobody serves, looked at: nothing is made, mended, moved or written.

What its log holds is seen in a copy of both, because SQLite cannot read a log without writing.
"""

import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from atlas.core import names
from atlas.core.diagnosis import Amiss
from atlas.core.errors import BadSetting, CannotStart, JournalHeld
from atlas.core.sights import Condition
from atlas.outside.sqlite import keys, schema, upgrades
from atlas.outside.sqlite.checkup import condition
from atlas.outside.sqlite.disk import damage, lock, wal
from atlas.outside.sqlite.disk.folder import beside, read_only_uri
from atlas.outside.sqlite.disk.kind import refuse_networks
from atlas.outside.sqlite.entries import Entries
from atlas.outside.sqlite.journal import found_at, readable
from atlas.outside.sqlite.room import Bounds

IS_MENDED = "Start Atlas: it keeps a copy, delivers all that can be read, and says what was lost."


def holder(path: Path | None, owner: str) -> JournalHeld | None:
    """Who owns the journal at this path just now; `owner`, if we may not know."""
    path = found_at(path)
    try:
        if path is not None:
            with lock.looked(path):
                return None
    except JournalHeld as held:
        return held
    except PermissionError:
        return JournalHeld(path, "", owner)
    except OSError:
        return None  # what is wrong with it is found again where it is told
    return None


class JournalLook:
    """Answers `ports.Checkup`; None is a journal in memory, of which nothing is left."""

    def __init__(self, path: Path | None, bounds: Bounds, sealed_with: Sequence[bytes]) -> None:
        self._path = found_at(path)
        self._bounds = bounds
        self._sealed_with = sealed_with
        self._user_key = secrets.token_bytes(32)  # until that of the journal is known

    async def condition(self) -> Condition | None:
        path = self._path
        if path is None or not path.exists():
            return None
        try:
            refuse_networks(path.parent)
            with lock.looked(path):
                return self._condition(path)
        except JournalHeld as held:
            raise Amiss(
                f"{held} Its operator listener does not answer.",
                f"Does it hang? Look at its log, at {held.owner or 'its operator listener'}, and "
                "restart it.",
            ) from held
        except BadSetting as error:
            raise Amiss("The key does not open the journal.", str(error)) from error
        except CannotStart as error:
            raise Amiss(
                str(error),
                "Set ATLAS_JOURNAL to a journal on a local disk that this version can open.",
            ) from error
        except damage.UNREADABLE as error:
            raise Amiss("The journal is damaged, or is none.", IS_MENDED) from error
        except OSError as error:
            raise Amiss(
                f"The journal cannot be looked at: {error.strerror}.",
                "Run this as the user that Atlas runs as, or mend the disk.",
            ) from error

    def pseudonym(self, sub: str) -> str:
        return names.pseudonym(self._user_key, sub)

    def _condition(self, path: Path) -> Condition:
        if wal.damage(beside(path, "-wal")) is not None:
            raise Amiss("The log of the journal is damaged.", IS_MENDED)
        entries = Entries(keys.looked(path, self._sealed_with))
        self._user_key = entries.seal.user_key
        with readable_copy(path) as (db, place):
            version = db.execute("PRAGMA user_version").fetchone()[0]
            notes = () if version == schema.VERSION else (f"an older one (v{version})",)
            upgrades.prepare(db, path, entries)
            if damage.is_broken(db, place) or not schema.is_as_made(db):
                raise Amiss("The journal is damaged.", IS_MENDED)
            return condition(db, entries, self._bounds, path, notes)


@contextmanager
def readable_copy(path: Path) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """The journal itself where that tells all, else a copy that is gone afterwards."""
    log = beside(path, "-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if not has_log and version_of(path) >= schema.VERSION:
        with closing(sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None)) as db:
            db.text_factory = readable
            yield db, path
        return
    with tempfile.TemporaryDirectory(prefix="atlas-look-") as folder:
        copy = Path(folder) / "journal"
        shutil.copyfile(path, copy)
        if has_log:
            shutil.copyfile(log, beside(copy, "-wal"))
        with closing(sqlite3.connect(copy, isolation_level=None)) as db:
            db.text_factory = readable
            yield db, copy


def version_of(path: Path) -> int:
    """As the main file says it."""
    with closing(sqlite3.connect(read_only_uri(path), uri=True)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])

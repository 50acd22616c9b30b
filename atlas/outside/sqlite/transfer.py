"""Reads all tables of a journal, and writes them into a new file, to check or move a journal."""

import base64
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from atlas.core.diagnosis import CheckFailed
from atlas.core.errors import CommandError, ConfigurationError
from atlas.core.events import EventBuffer
from atlas.core.inspection import ExportTotals
from atlas.outside.journal import cipher
from atlas.outside.journal.row_codec import RowCodec, build_row_aad
from atlas.outside.journal.statistics import JournalStatistics
from atlas.outside.journal.transfer import (
    Counts,
    JournalContents,
    MovedExport,
    MovedIntent,
    Row,
    Table,
    WorkInHandRecord,
    fold_claimed,
    is_secret_moved,
)
from atlas.outside.sqlite import keys, readonly, schema
from atlas.outside.sqlite.columns import INSERT_PAYLOAD, SELECT_PAYLOAD
from atlas.outside.sqlite.disk import lock
from atlas.outside.sqlite.disk.folder import build_sibling_path, fsync_path, replace, write
from atlas.outside.sqlite.journal import MOVED, map_open_errors, open_checked, resolve_path
from atlas.outside.sqlite.ledger import find_oldest

EXPORT = """
    number, id, user, at, ingested, rejected, bytes, moment, label, tries, status, since, reason,
    rid, file, file_bytes, isolation, turn
"""
READ = EXPORT.replace("tries", "min(tries, 32767)")  # PostgreSQL has a smallint for them
SELECT: dict[Table, str] = {
    "export": f"SELECT {READ} FROM export ORDER BY number",
    "payload": "SELECT number, sealed FROM payload ORDER BY number",
    "unpublished": "SELECT number, rows, bytes FROM unpublished ORDER BY number",
    "unpublished_payload": "SELECT number, sealed FROM unpublished_payload ORDER BY number",
    "binding": "SELECT user, key, position, length, export FROM binding",
    "digest": "SELECT id, user, rid, day FROM digest",
    "phone": "SELECT user, device, at, stuck, sealed FROM phone ORDER BY number",
    "report": "SELECT user, device, at, sealed FROM report ORDER BY number",
}
INSERT: dict[Table, str] = {
    "export": f"INSERT INTO export ({EXPORT}) VALUES (?{', ?' * 17})",
    "payload": INSERT_PAYLOAD,
    "unpublished": "INSERT INTO unpublished (number, rows, bytes) VALUES (?, ?, ?)",
    "unpublished_payload": "INSERT INTO unpublished_payload (number, sealed) VALUES (?, ?)",
    "binding": "INSERT INTO binding (user, key, position, length, export) VALUES (?, ?, ?, ?, ?)",
    "digest": "INSERT INTO digest (id, user, rid, day) VALUES (?, ?, ?, ?)",
    "phone": "INSERT INTO phone (user, device, at, stuck, sealed) VALUES (?, ?, ?, ?, ?)",
    "report": "INSERT INTO report (user, device, at, sealed) VALUES (?, ?, ?, ?)",
}
FIND = f"SELECT {READ} FROM export WHERE number = ?"
FIND_WITH_PAYLOAD = f"SELECT {READ}, {SELECT_PAYLOAD} FROM export WHERE number = ?"
COUNT = "SELECT status, count(*), sum(bytes) FROM export GROUP BY status"
TOTALS = "SELECT status, exports, bytes FROM total"
COUNT_PAYLOADS = "SELECT count(*), coalesce(sum(length(sealed)), 0) FROM payload"
RANDOM = f"""
    SELECT {READ}, {SELECT_PAYLOAD} FROM export WHERE number IN (
        SELECT number FROM (SELECT number FROM export ORDER BY random() LIMIT ?1)
        UNION SELECT number FROM (SELECT number FROM payload ORDER BY random() LIMIT ?1)
    ) ORDER BY number
"""
WAITING = f"""
    SELECT {READ}, {SELECT_PAYLOAD} FROM export
    WHERE status IN ('accepted', 'claimed', 'set_aside') ORDER BY number
"""
ORPHANS = """
    SELECT count(*) FROM payload WHERE number NOT IN (
        SELECT number FROM export WHERE status IN ('accepted', 'claimed', 'set_aside')
    )
"""
USERS = "SELECT count(*) FROM (SELECT user FROM export UNION SELECT user FROM digest)"
UNFINISHED = ".moving"
PAGES_AT_ONCE = 1_024
QUICK = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -64000;"


class SqliteTables:
    """Implements `JournalTables`, `MoveSource` and `MoveTarget`.

    A new journal is written to a file of its own, which gets its name at the end.
    """

    def __init__(
        self, db: sqlite3.Connection, path: Path, data_key: bytes, *, is_new: bool = False
    ) -> None:
        self._db = db
        self._path = path
        self.shown = str(path)
        self.data_key = data_key
        self.is_new = is_new

    async def count(self) -> JournalContents:
        exports = self._count_by_status(COUNT)
        return JournalContents(
            newest=self._fetch_number("SELECT coalesce(max(number), 0) FROM export"),
            exports=fold_claimed(exports),
            totals=fold_claimed(self._count_by_status(TOTALS)),
            claimed=exports.get("claimed", (0, 0))[0],
            payloads=self._db.execute(COUNT_PAYLOADS).fetchone(),
            unpublished=(self._count("unpublished"), self._count("unpublished_payload")),
            bindings=self._count("binding"),
            digests=self._count("digest"),
            phones=self._count("phone"),
            reports=self._count("report"),
        )

    async def read(self, table: Table) -> AsyncIterator[Row]:
        for row in self._db.execute(SELECT[table]):
            yield MovedExport(*row) if table == "export" else row

    async def read_rest(self) -> WorkInHandRecord:
        db = self._db
        secrets = dict(db.execute("SELECT name, value FROM secret").fetchall())
        open_transaction = db.execute("SELECT rid FROM open_transaction").fetchone()
        intents = db.execute("SELECT kind, head, at FROM intent ORDER BY kind, head").fetchall()
        return WorkInHandRecord(
            {name: value for name, value in secrets.items() if is_secret_moved(name)},
            [MovedIntent(*row) for row in intents],
            open_transaction[0] if open_transaction else None,
        )

    async def sample(self, limit: int) -> Sequence[tuple[MovedExport, bytes | None]]:
        return [(MovedExport(*row[:-1]), row[-1]) for row in self._db.execute(RANDOM, [limit])]

    async def find(self, numbers: Sequence[int]) -> Sequence[tuple[MovedExport, bytes | None]]:
        rows = [self._db.execute(FIND_WITH_PAYLOAD, [number]).fetchone() for number in numbers]
        return [(MovedExport(*row[:-1]), row[-1]) for row in rows if row is not None]

    async def read_waiting(self) -> AsyncIterator[tuple[MovedExport, bytes | None]]:
        for row in self._db.execute(WAITING):
            yield MovedExport(*row[:-1]), row[-1]

    def copy_to(self, target: sqlite3.Connection, report: Callable[[int, int], object]) -> None:
        """Copy all pages, and report the copied and the total number."""
        self._db.backup(
            target,
            pages=PAGES_AT_ONCE,
            progress=lambda _status, left, total: report(total - left, total),
        )

    def read_statistics(self) -> JournalStatistics:
        totals = fold_claimed(self._count_by_status(TOTALS))
        free, size = map(self._fetch_number, ("PRAGMA freelist_count", "PRAGMA page_size"))
        log = build_sibling_path(self._path, "-wal")
        return JournalStatistics(
            journal=self.shown,
            version=readonly.read_version(self._path),
            exports={status: ExportTotals(*each) for status, each in totals.items()},
            users=self._fetch_number(USERS),
            digests=self._count("digest"),
            oldest=find_oldest(self._db),
            bytes=self._path.stat().st_size,
            free_bytes=free * size,
            wal_bytes=log.stat().st_size if log.exists() else 0,
        )

    async def count_orphans(self) -> int:
        return self._fetch_number(ORPHANS)

    async def write(self, table: Table, rows: Sequence[Row]) -> None:
        if table == "payload":
            rows = [self._build_payload(*row) for row in rows]
        self._db.executemany(INSERT[table], rows)

    async def write_rest(self, rest: WorkInHandRecord) -> None:
        db = self._db
        db.executemany("INSERT INTO secret (name, value) VALUES (?, ?)", rest.secrets.items())
        db.executemany("INSERT INTO intent (kind, head, at) VALUES (?, ?, ?)", rest.intents)
        if rest.transaction is not None:
            db.execute("INSERT INTO open_transaction (rid) VALUES (?)", [rest.transaction])
        schema.execute_each(db, schema.INDEXES, schema.PHONE_INDEXES)

    async def commit(self) -> None:
        self._db.execute("COMMIT")
        self._db.close()
        replace(self._path, build_sibling_path(self._path, UNFINISHED))

    async def retire(self, target: str) -> str:  # noqa: ARG002
        """Rename the file. Closing the connection has written the WAL into it."""
        self._db.close()
        remains = build_sibling_path(self._path, MOVED)
        self._path.rename(remains)
        fsync_path(self._path.parent)
        return str(remains)

    def _build_payload(self, number: object, sealed: object) -> Row:
        export = MovedExport(*self._db.execute(FIND, [number]).fetchone())
        return number, build_row_aad(export.build_row()), export.label, sealed

    def _count(self, table: Table) -> int:
        return self._fetch_number(f"SELECT count(*) FROM {table}")

    def _fetch_number(self, select: str) -> int:
        return int(self._db.execute(select).fetchone()[0])

    def _count_by_status(self, select: str) -> dict[str, Counts]:
        return {status: (count, size) for status, count, size in self._db.execute(select)}


@contextmanager
def open_snapshot(path: Path, journal_keys: Sequence[bytes]) -> Iterator[SqliteTables]:
    """Open a journal that no process serves, without changing it.

    Raises JournalLocked, ConfigurationError, and CommandError if the file is damaged.
    """
    path = require_file(path)
    try:
        with map_open_errors(path), lock.hold_shared(path):
            codec = RowCodec(keys.open_readonly(path, journal_keys))
            with readonly.open_intact(path, codec) as (db, _):
                yield SqliteTables(db, path, codec.cipher.data_key)
    except CheckFailed as error:
        raise CommandError(f"{error} {error.outcome.to_do}") from error


@contextmanager
def open_source(path: Path, journal_keys: Sequence[bytes]) -> Iterator[SqliteTables]:
    """Open a journal that is to be moved. Raises JournalLocked, CommandError."""
    path = require_file(path)
    remains = build_sibling_path(path, MOVED)
    if remains.exists():
        raise CommandError(f"{remains} exists, from an earlier move: move it elsewhere.")
    with map_open_errors(path), lock.hold_exclusive(path, owner="", wait_seconds=0):
        codec = RowCodec(keys.open_cipher(path, journal_keys))
        with closing(open_checked(path, codec, EventBuffer())) as db:
            yield SqliteTables(db, path, codec.cipher.data_key)


@contextmanager
def open_target(
    path: Path, journal_keys: Sequence[bytes], data_key: bytes
) -> Iterator[SqliteTables]:
    """Create a journal, or open the existing one to compare it. Raises JournalLocked."""
    target = resolve_path(path) or path
    unfinished = build_sibling_path(target, UNFINISHED)
    with map_open_errors(target), lock.hold_exclusive(target, owner="", wait_seconds=0):
        if target.exists():
            codec = RowCodec(keys.open_cipher(target, journal_keys))
            with closing(open_checked(target, codec, EventBuffer())) as db:
                yield SqliteTables(db, target, codec.cipher.data_key)
            return
        store_wrapped_key(target, journal_keys, data_key)
        try:
            with closing(create(unfinished)) as db:
                keys.store_key(db, target, cipher.Cipher(data_key))
                db.execute("BEGIN")
                yield SqliteTables(db, target, data_key, is_new=True)
        finally:
            unfinished.unlink(missing_ok=True)


def create(unfinished: Path) -> sqlite3.Connection:
    """Create an empty journal in place of what an earlier attempt has left.

    Nothing is synced until the file is complete. Its indexes are created last.
    """
    unfinished.unlink(missing_ok=True)
    db = sqlite3.connect(unfinished, isolation_level=None)
    db.executescript(QUICK)
    tables = schema.EXPORT_TABLES, schema.TABLES, schema.STREAM_TABLES, schema.PHONE_TABLES
    schema.execute_each(db, *tables, schema.STATUSES, schema.TRIGGERS, schema.STREAM_TRIGGERS)
    db.execute(f"PRAGMA user_version = {schema.VERSION}")
    return db


def store_wrapped_key(path: Path, journal_keys: Sequence[bytes], data_key: bytes) -> None:
    """Write the wrapped data key, unless one is there. Raises ConfigurationError."""
    existing = keys.read_wrapped_key(path)
    if existing is not None and all(
        cipher.unwrap_key(existing, key) != data_key for key in journal_keys
    ):
        raise ConfigurationError(
            f"{build_sibling_path(path, '.seal')} belongs to another journal: name another file."
        )
    wrapped = base64.b64encode(cipher.wrap_key(data_key, journal_keys[0]))
    write(build_sibling_path(path, ".seal"), wrapped, keys.OWNER_ONLY)


def require_file(path: Path) -> Path:
    path = resolve_path(path) or path
    if not path.is_file() or path.stat().st_size == 0:
        raise CommandError(f"There is no journal at {path}.")
    return path


def read_copies(path: Path) -> dict[str, bytes]:
    """Return the wrapped copies of the data key by the place where they are."""
    path = require_file(path)
    stored = keys.read_stored_secrets(path).get("root"), keys.read_wrapped_key(path)
    places = os.fspath(path), os.fspath(build_sibling_path(path, ".seal"))
    return {place: copy for place, copy in zip(places, stored, strict=True) if copy is not None}

"""Opens the journal: locks it, finds its key, checks and migrates it, and assembles its parts."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from atlas.core.errors import CommandError, ConfigurationError
from atlas.core.events import EventBuffer, UnprotectedKeyFile
from atlas.core.ports import JournalPorts
from atlas.outside.journal import cipher
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.phones import PhoneCodec
from atlas.outside.journal.retention import ReceiptRetention
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.sqlite import keys, salvage, schema, upgrades
from atlas.outside.sqlite.capacity import CapacityLimit
from atlas.outside.sqlite.dead_letters import SqliteDeadLetters
from atlas.outside.sqlite.disk import damage, lock
from atlas.outside.sqlite.disk.folder import build_sibling_path, fsync_parents
from atlas.outside.sqlite.group_commit import CHECKPOINT_PAGES, GroupCommit
from atlas.outside.sqlite.held_file import HeldFile
from atlas.outside.sqlite.inspector import SqliteInspector
from atlas.outside.sqlite.intake import SqliteIntake
from atlas.outside.sqlite.ledger import SqliteLedger
from atlas.outside.sqlite.outbox import SqliteOutbox
from atlas.outside.sqlite.personal_data import SqlitePersonalData
from atlas.outside.sqlite.phones import SqlitePhones, SqlitePhoneWriter
from atlas.outside.sqlite.receipts import SqliteReceipts
from atlas.outside.sqlite.single_process import NoPeers, SoleLeader
from atlas.outside.sqlite.stream import SqliteStreamQueue

DEFAULT_RETENTION = ReceiptRetention(clock=partial(datetime.now, UTC))
MOVED = ".moved"  # ends the name of what `atlas journal move` leaves
LOCK_WAIT_SECONDS = 15.0  # longer than a predecessor takes to drain

# While the file must not change, the WAL may grow to 64 MiB. A checkpoint would change the file.
FREEZE_FILE = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint = 16384;"
UNFREEZE_FILE = f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};"
PRAGMAS = f"""
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA temp_store = MEMORY;  -- otherwise each statement journal is written to a file
    {UNFREEZE_FILE}
    PRAGMA journal_size_limit = 16777216;
    PRAGMA cache_size = -8000;  -- KiB
    PRAGMA wal_checkpoint(TRUNCATE);  -- the existing WAL may be in the page cache only
"""
IS_KEPT = "status IN ('accepted', 'claimed', 'set_aside')"
ABANDON_ALL = f"UPDATE export SET status = 'abandoned' WHERE {IS_KEPT}"
COUNT_ALL = f"SELECT count(*) FROM export WHERE {IS_KEPT}"


@contextmanager
def open_journal(
    path: Path | None,
    limits: CapacityLimits,
    journal_keys: Sequence[bytes] = (),
    owner: str = "",
    wait_seconds: float = LOCK_WAIT_SECONDS,
    retention: ReceiptRetention = DEFAULT_RETENTION,
    destination_name: str = "",
    *,
    is_streamed: bool = False,
) -> Iterator[JournalPorts]:
    """Open the journal at this path, or a new one in memory.

    Waits up to `wait_seconds` for another process to release the lock, so enter it before the event
    loop has work. `journal_keys` are the keys, newest first; without any, the key file is used.
    `owner` is the address of this process, shown to others that find the journal locked.
    `destination_name` names the dataset and branch; `is_streamed`: rows go to a stream, too. Raises
    JournalLocked, CommandError, and ConfigurationError if the key or the destination does not fit.
    """
    path = resolve_path(path)
    with ExitStack() as exit_stack:
        with map_open_errors(path):
            if path is not None:
                exit_stack.enter_context(hold_usable(path, owner, wait_seconds))
            codec = open_codec(path, journal_keys)
            thread = exit_stack.enter_context(ThreadPoolExecutor(1, "journal"))
            events = EventBuffer()
            db = thread.submit(open_checked, path, codec, events, is_start=True).result()
            if path is not None and not journal_keys:
                events.append(UnprotectedKeyFile(str(keys.default_key_path(path))))
        capacity = CapacityLimit(limits, path.parent if path else None, time.monotonic)
        phones = SqlitePhoneWriter(PhoneCodec(codec.cipher), time.monotonic)
        connect_again = partial(open_checked, path, codec, events)
        begin = partial(begin_commit, capacity, phones)
        commits = GroupCommit(db, thread, connect_again, begin, phones.store_pending)
        exit_stack.callback(lambda: thread.submit(commits.finish, phones.finish).result())
        if path is not None and destination_name:
            with map_open_errors(path):
                store = partial(keys.store_destination, db, path, codec.cipher, destination_name)
                thread.submit(store).result()
        file = HeldFile(commits)
        if path is not None and damage.is_large(path):
            exit_stack.enter_context(check_in_background(path, db, thread, commits, file))
        yield JournalPorts(
            intake=SqliteIntake(commits, codec, capacity, phones, is_streamed=is_streamed),
            receipts=SqliteReceipts(commits, codec),
            outbox=SqliteOutbox(commits, codec, capacity, retention),
            stream=SqliteStreamQueue(commits, codec),
            dead_letters=SqliteDeadLetters(commits, codec, capacity, is_streamed=is_streamed),
            ledger=SqliteLedger(commits, codec, capacity, time.monotonic),
            personal_data=SqlitePersonalData(commits, codec, phones),
            phones=SqlitePhones(commits, codec.cipher, capacity, phones),
            inspector=SqliteInspector(commits, codec, limits, path),
            file=None if path is None else file,
            leadership=SoleLeader(),
            peers=NoPeers(),
            log_key=codec.cipher.user_key,
            events=events,
            is_durable=path is not None,
        )


def open_codec(path: Path | None, journal_keys: Sequence[bytes]) -> RowCodec:
    if path is None:
        return RowCodec(Cipher(cipher.generate_data_key()))
    return RowCodec(keys.open_cipher(path, journal_keys))


def begin_commit(capacity: CapacityLimit, phones: SqlitePhoneWriter) -> None:
    """Forget what the last transaction has read and counted: it may have been rolled back."""
    capacity.begin()
    phones.begin()


def abandon(path: Path | None, journal_keys: Sequence[bytes], *, is_dry_run: bool = False) -> int:
    """Abandon all exports of a journal whose key is lost, and return their number.

    With `is_dry_run`, only count them. The receipts stay. Raises CommandError if a key fits,
    JournalLocked.
    """
    path = resolve_path(path)
    if path is None:
        raise CommandError("The journal is in memory: it ended with its process.")
    with map_open_errors(path), lock.hold_exclusive(path, owner="", wait_seconds=0):
        with suppress(ConfigurationError):
            keys.open_cipher(path, journal_keys)
            raise CommandError(f"The journal {path} opens with this key: nothing is lost.")
        if is_dry_run and path.exists():
            with closing(connect(path)) as db:
                return int(db.execute(COUNT_ALL).fetchone()[0])
        if not path.exists():
            keys.forget(path)
            return 0
        damage.backup(path)  # in case the key is found again
        with closing(connect(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            abandoned = db.execute(ABANDON_ALL).rowcount
            db.execute("DELETE FROM secret WHERE name IN ('root', 'check')")
            with suppress(sqlite3.OperationalError):  # earlier versions have no phones
                db.execute("DELETE FROM phone")
                db.execute("DELETE FROM report")
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        keys.forget(path)
        return abandoned


@contextmanager
def hold_usable(path: Path, owner: str, wait_seconds: float) -> Iterator[None]:
    """Hold a journal that was not moved, and that this process may write."""
    with lock.hold_exclusive(path, owner, wait_seconds):
        require_not_moved(path)
        lock.require_access(path)
        yield


def require_not_moved(path: Path) -> None:
    """Raise ConfigurationError if `atlas journal move` has moved the journal elsewhere."""
    remains = build_sibling_path(path, MOVED)
    if remains.exists() and not path.exists():
        raise ConfigurationError(
            f"The journal {path} was moved to another database: set ATLAS_JOURNAL to that. "
            f"To begin a new journal here, move {remains} elsewhere."
        )


def resolve_path(path: Path | None) -> Path | None:
    """Follow a symbolic link, as SQLite does: the files next to the journal are at its target."""
    return path.resolve() if path is not None and path.is_symlink() else path


@contextmanager
def map_open_errors(path: Path | None) -> Iterator[None]:
    """Convert errors of the disk and SQLite into a CommandError that names the journal."""
    try:
        yield
    except OSError as error:
        reason = lock.explain_no_access(path, error) if path is not None else f"{error.strerror}."
        raise CommandError(f"The journal cannot be opened at {path}: {reason}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not a readable journal.") from error
    except sqlite3.Error as error:
        raise CommandError(f"{path} is not a readable journal: {error}.") from error


@contextmanager
def check_in_background(
    path: Path,
    db: sqlite3.Connection,
    thread: ThreadPoolExecutor,
    commits: GroupCommit,
    file: HeldFile,
) -> Iterator[None]:
    """Check a large journal while it is in use; until that is done, only the WAL is written.

    If it is corrupt, the connection is closed: the next operation opens the journal again, and
    repairs it.
    """
    thread.submit(db.executescript, FREEZE_FILE).result()
    file.is_checked = False

    def finish(is_corrupt: bool) -> None:
        thread.submit(commits.close if is_corrupt else partial(db.executescript, UNFREEZE_FILE))
        file.is_checked = True

    with damage.check_while(path, finish):
        yield


def open_checked(
    path: Path | None, codec: RowCodec, events: EventBuffer, *, is_start: bool = False
) -> sqlite3.Connection:
    """Open a connection to an intact journal of this version, and report what was repaired.

    Runs at the start, and again after the disk has failed. A journal of an earlier version is
    checked before it is migrated: the migration drops its tables, and with them the evidence of
    damage; and since 3.46, SQLite reports damage found by ALTER TABLE as an error of the statement.
    """
    if path is None:
        return open_migrated(path, codec)
    events.add(damage.check_wal(path))
    with ExitStack() as on_error:
        exports = 0
        cause: Exception | None = None
        try:
            db = on_error.enter_context(closing(connect(path)))
            exports = salvage.count_exports(db)
            is_corrupt = upgrades.is_due(db) and damage.is_corrupt(db, path)
            if not is_corrupt:
                upgrades.prepare(db, path, codec)
                is_corrupt = needs_repair(db, path, is_start=is_start)
        except damage.UNREADABLE as error:
            if not damage.is_corruption(error):
                raise
            is_corrupt, cause = True, error
        if is_corrupt:
            on_error.close()  # the connection holds a lock on the file
            events.add([salvage.rebuild(path, open_migrated, codec, exports, cause)])
            db = on_error.enter_context(closing(connect(path)))
        events.add(schema.reconcile_totals(db))
        keys.store_key(db, path, codec.cipher)
        on_error.pop_all()
    return db


def needs_repair(db: sqlite3.Connection, path: Path, *, is_start: bool) -> bool:
    """True if corrupt. At the start, most of a large journal is left to the background check."""
    if is_start and damage.is_large(path):
        is_corrupt = damage.is_backlog_corrupt(db)
    else:
        is_corrupt = damage.is_corrupt(db, path)
    return is_corrupt or not schema.schema_matches(db)


def open_migrated(path: Path | None, codec: RowCodec) -> sqlite3.Connection:
    with ExitStack() as on_error:
        db = on_error.enter_context(closing(connect(path)))
        upgrades.prepare(db, path, codec)
        on_error.pop_all()
    return db


def connect(path: Path | None) -> sqlite3.Connection:
    """Open a connection. Raises sqlite3.Error; CommandError if the folder cannot be synced."""
    with ExitStack() as on_error:
        db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=True)
        on_error.callback(db.close)
        db.text_factory = decode_lossy
        db.executescript(PRAGMAS)
        fsync_parents(path)
        on_error.pop_all()
    return db


# A text with a flipped bit must fail decryption of its row, not the query.
decode_lossy = partial(str, encoding="utf-8", errors="replace")

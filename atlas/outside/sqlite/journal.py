"""Opens the journal: its one owner, its keys, its tables, its parts."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from atlas.core.errors import CommandError, ConfigurationError
from atlas.core.events import Event, EventSink, UnprotectedKeyFile
from atlas.outside.sqlite import cipher, keys, salvage, schema, upgrades
from atlas.outside.sqlite.capacity import CapacityLimit, CapacityLimits
from atlas.outside.sqlite.cipher import Cipher
from atlas.outside.sqlite.dead_letters import SqliteDeadLetters
from atlas.outside.sqlite.disk import damage, lock
from atlas.outside.sqlite.disk.folder import fsync_parents
from atlas.outside.sqlite.group_commit import GroupCommit
from atlas.outside.sqlite.inspector import SqliteInspector
from atlas.outside.sqlite.intake import SqliteIntake
from atlas.outside.sqlite.ledger import SqliteLedger
from atlas.outside.sqlite.outbox import SqliteOutbox
from atlas.outside.sqlite.personal_data import SqlitePersonalData
from atlas.outside.sqlite.receipts import SqliteReceipts
from atlas.outside.sqlite.retention import ReceiptRetention
from atlas.outside.sqlite.row_codec import RowCodec

SHELF = ReceiptRetention(clock=partial(datetime.now, UTC))
LOCK_WAIT_SECONDS = 15.0  # a predecessor that is draining is gone by then

# the log may grow to 64 MiB meanwhile; more would change the file, and it might be checked again
FILE_STAYS = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint = 16384;"
FILE_CHANGES = "PRAGMA wal_autocheckpoint = 4096;"
PRAGMAS = f"""
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA temp_store = MEMORY;  -- or what a statement may have to undo is written, too, to a file
    {FILE_CHANGES}  -- pages of 4 KiB: what is written twice until then goes into the journal once
    PRAGMA journal_size_limit = 16777216;
    PRAGMA cache_size = -8000;              -- KiB
    PRAGMA wal_checkpoint(TRUNCATE);  -- the log may stand in memory only: write it again
"""
ABANDON_ALL = """
    UPDATE export SET status = 'abandoned'
    WHERE status IN ('accepted', 'claimed', 'set_aside')
"""


class EventBuffer(list[Event]):
    """What was brought to light, until somebody listens; from then on he is told at once."""

    def __init__(self) -> None:
        super().__init__()
        self._emit: EventSink = self.append

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            self._emit(event)

    def subscribe(self, emit: EventSink) -> None:
        self._emit = emit
        self.add(self)


@dataclass(frozen=True, slots=True)
class SqliteJournal:
    """The parts of an open journal.

    `log_key` is to hash users with; `events` is what opening it brought to light.
    """

    intake: SqliteIntake
    receipts: SqliteReceipts
    outbox: SqliteOutbox
    dead_letters: SqliteDeadLetters
    ledger: SqliteLedger
    people: SqlitePersonalData
    inspector: SqliteInspector
    log_key: bytes = field(repr=False)
    events: "EventBuffer"
    is_durable: bool


@contextmanager
def open_journal(
    path: Path | None,
    limits: CapacityLimits,
    journal_keys: Sequence[bytes] = (),
    owner: str = "",
    wait_seconds: float = LOCK_WAIT_SECONDS,
    shelf: ReceiptRetention = SHELF,
    destination_name: str = "",
) -> Iterator[SqliteJournal]:
    """The journal in this file, which is ours until the end; in memory if None.

    `journal_keys` are the keys, newest first; without any, the one in a file beside the journal.
    `owner` is what others are told who find it held: where to ask. `destination_name` names the dataset and
    branch that it is for. Raises JournalHeld, CommandError, ConfigurationError when no key opens it or it is
    of another dataset. Blocks for as long as another process holds it, at most `wait_seconds`, and
    so is to be entered before the event loop has something to do.
    """
    path = resolve_path(path)
    with ExitStack() as exit_stack:
        with map_open_errors(path):
            if path is not None:
                exit_stack.enter_context(lock.hold_exclusive(path, owner, wait_seconds))
                lock.require_access(path)
            entries = RowCodec(
                keys.open_cipher(path, journal_keys) if path else Cipher(cipher.generate_data_key())
            )
            thread = exit_stack.enter_context(ThreadPoolExecutor(1, "journal"))
            news = EventBuffer()
            db = thread.submit(open_checked, path, entries, news, is_start=True).result()
            if path is not None and not journal_keys:
                news.append(UnprotectedKeyFile(str(keys.default_key_path(path))))
        capacity = CapacityLimit(limits, path.parent if path else None, time.monotonic)
        commits = GroupCommit(
            db, thread, partial(open_checked, path, entries, news), capacity.begin
        )
        exit_stack.callback(lambda: thread.submit(commits.close).result())
        if path is not None and destination_name:
            with map_open_errors(path):
                thread.submit(
                    keys.keep_destination, db, path, entries.seal, destination_name
                ).result()
        if path is not None and damage.is_large(path):
            exit_stack.enter_context(check_in_background(path, db, thread, commits))
        yield SqliteJournal(
            intake=SqliteIntake(commits, entries, capacity),
            receipts=SqliteReceipts(commits, entries),
            outbox=SqliteOutbox(commits, entries, capacity, shelf),
            dead_letters=SqliteDeadLetters(commits, entries, capacity),
            ledger=SqliteLedger(commits, entries, capacity, time.monotonic),
            people=SqlitePersonalData(commits, entries),
            inspector=SqliteInspector(commits, entries, limits, path),
            log_key=entries.seal.user_key,
            events=news,
            is_durable=path is not None,
        )


def abandon(path: Path | None, journal_keys: Sequence[bytes]) -> int:
    """Give up what no key opens, and leave the ledger; how many exports that is.

    Raises CommandError when a key opens it, JournalHeld.
    """
    path = resolve_path(path)
    if path is None:
        raise CommandError("A journal in memory is gone with its process.")
    with map_open_errors(path), lock.hold_exclusive(path, owner="", wait_seconds=0):
        with suppress(ConfigurationError):
            keys.open_cipher(path, journal_keys)
            raise CommandError(f"The journal {path} opens with this key: nothing is lost.")
        if not path.exists():
            keys.forget(path)
            return 0
        damage.backup(path)  # the key may turn up
        with closing(connect(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            given_up = db.execute(ABANDON_ALL).rowcount
            db.execute("DELETE FROM secret WHERE name IN ('root', 'check')")
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        keys.forget(path)
        return given_up


def resolve_path(path: Path | None) -> Path | None:
    """SQLite keeps its log beside the file that a link leads to; so do we what is ours."""
    return path.resolve() if path is not None and path.is_symlink() else path


@contextmanager
def map_open_errors(path: Path | None) -> Iterator[None]:
    """What the disk says, or SQLite, in one line that names the journal."""
    try:
        yield
    except OSError as error:
        why = lock.explain_no_access(path, error) if path is not None else f"{error.strerror}."
        raise CommandError(f"The journal cannot be opened at {path}: {why}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no journal that can be read.") from error
    except sqlite3.Error as error:
        raise CommandError(f"{path} is no journal that can be read: {error}.") from error


@contextmanager
def check_in_background(
    path: Path, db: sqlite3.Connection, thread: ThreadPoolExecutor, commits: GroupCommit
) -> Iterator[None]:
    """While a large journal is served, all of it is checked; until then only its log is written.

    If it is broken, whoever comes next connects again, and finds that.
    """
    thread.submit(db.executescript, FILE_STAYS).result()

    def tell(is_broken: bool) -> None:
        thread.submit(commits.close if is_broken else partial(db.executescript, FILE_CHANGES))

    with damage.check_while(path, tell):
        yield


def open_checked(
    path: Path | None, entries: RowCodec, news: EventBuffer, *, is_start: bool = False
) -> sqlite3.Connection:
    """A connection behind which all is as this version wants it; the news is what was not.

    At the start, and again when the disk has failed: what it has done then is mended at once.
    A journal of an earlier version is checked before it is upgraded: its tables are dropped then,
    and with them what tells of damage; and from 3.46 on SQLite calls damage that it meets in an
    ALTER TABLE an error of the statement.
    """
    if path is None:
        return open_migrated(path, entries)
    news.add(damage.check_wal(path))
    with ExitStack() as otherwise:
        try:
            db = otherwise.enter_context(closing(connect(path)))
            before = salvage.count_exports(db)
            is_broken = upgrades.is_due(db) and damage.is_corrupt(db, path)
            if not is_broken:
                upgrades.prepare(db, path, entries)
                is_broken = needs_repair(db, path, is_start=is_start)
        except damage.UNREADABLE as error:
            if not damage.is_corruption(error):
                raise
            otherwise.close()  # it holds the lock on what is to be read now
            news.add([salvage.rebuild(path, open_migrated, entries, 0, error)])
            db = otherwise.enter_context(closing(connect(path)))
        else:
            if is_broken:
                db.close()
                news.add([salvage.rebuild(path, open_migrated, entries, before)])
                db = otherwise.enter_context(closing(connect(path)))
        news.add(schema.reconcile_totals(db))
        keys.store_key(db, path, entries.seal)
        otherwise.pop_all()
    return db


def needs_repair(db: sqlite3.Connection, path: Path, *, is_start: bool) -> bool:
    """Whether it is broken. At the start, most of a large journal is checked later."""
    if is_start and damage.is_large(path):
        is_broken = damage.is_backlog_corrupt(db)
    else:
        is_broken = damage.is_corrupt(db, path)
    return is_broken or not schema.schema_matches(db)


def open_migrated(path: Path | None, entries: RowCodec) -> sqlite3.Connection:
    with ExitStack() as otherwise:
        db = otherwise.enter_context(closing(connect(path)))
        upgrades.prepare(db, path, entries)
        otherwise.pop_all()
    return db


def connect(path: Path | None) -> sqlite3.Connection:
    """The one connection. Raises sqlite3.Error, CommandError when its name cannot be kept."""
    with ExitStack() as otherwise:
        db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=True)
        otherwise.callback(db.close)
        db.text_factory = decode_lossy
        db.executescript(PRAGMAS)
        fsync_parents(path)
        otherwise.pop_all()
    return db


# What a flipped bit has made of a text breaks the seal of its row, and not the query.
decode_lossy = partial(str, encoding="utf-8", errors="replace")

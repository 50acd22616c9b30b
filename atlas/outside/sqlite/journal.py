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

from atlas.core.errors import BadSetting, CannotStart
from atlas.core.events import Event, KeyBesideJournal, Watch
from atlas.outside.sqlite import keys, rescue, schema, seal, upgrades
from atlas.outside.sqlite.aside import SqliteAside
from atlas.outside.sqlite.checkup import SqliteCheckup
from atlas.outside.sqlite.commits import Commits
from atlas.outside.sqlite.disk import damage, lock
from atlas.outside.sqlite.disk.folder import keep_names
from atlas.outside.sqlite.entries import Entries
from atlas.outside.sqlite.intake import SqliteIntake
from atlas.outside.sqlite.ledger import SqliteLedger
from atlas.outside.sqlite.outbox import SqliteOutbox
from atlas.outside.sqlite.people import SqlitePeople
from atlas.outside.sqlite.receipts import SqliteReceipts
from atlas.outside.sqlite.room import Bounds, Room
from atlas.outside.sqlite.seal import Seal
from atlas.outside.sqlite.shelf import Shelf

SHELF = Shelf(now=partial(datetime.now, UTC))
HELD_SECONDS = 15.0  # a predecessor that is draining is gone by then

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
GIVE_UP = """
    UPDATE export SET status = 'abandoned'
    WHERE status IN ('accepted', 'claimed', 'set_aside')
"""


class News(list[Event]):
    """What was brought to light, until somebody listens; from then on he is told at once."""

    def __init__(self) -> None:
        super().__init__()
        self._watch: Watch = self.append

    def tell(self, events: Sequence[Event]) -> None:
        for event in events:
            self._watch(event)

    def listen(self, watch: Watch) -> None:
        self._watch = watch
        self.tell(self)


@dataclass(frozen=True, slots=True)
class SqliteJournal:
    """The parts of an open journal.

    `log_key` is to hash users with; `news` is what opening it brought to light.
    """

    intake: SqliteIntake
    receipts: SqliteReceipts
    outbox: SqliteOutbox
    aside: SqliteAside
    ledger: SqliteLedger
    people: SqlitePeople
    checkup: SqliteCheckup
    log_key: bytes = field(repr=False)
    news: "News"
    is_durable: bool


@contextmanager
def opened(
    path: Path | None,
    bounds: Bounds,
    sealed_with: Sequence[bytes] = (),
    owner: str = "",
    wait_seconds: float = HELD_SECONDS,
    shelf: Shelf = SHELF,
    to: str = "",
) -> Iterator[SqliteJournal]:
    """The journal in this file, which is ours until the end; in memory if None.

    `sealed_with` are the keys, newest first; without any, the one in a file beside the journal.
    `owner` is what others are told who find it held: where to ask. `to` names the dataset and
    branch that it is for. Raises JournalHeld, CannotStart, BadSetting when no key opens it or it is
    of another dataset. Blocks for as long as another process holds it, at most `wait_seconds`, and
    so is to be entered before the event loop has something to do.
    """
    path = found_at(path)
    with ExitStack() as ours:
        with or_cannot_start(path):
            if path is not None:
                ours.enter_context(lock.held(path, owner, wait_seconds))
                lock.require_access(path)
            entries = Entries(keys.opened(path, sealed_with) if path else Seal(seal.new_root()))
            thread = ours.enter_context(ThreadPoolExecutor(1, "journal"))
            news = News()
            db = thread.submit(prepared, path, entries, news, is_start=True).result()
            if path is not None and not sealed_with:
                news.append(KeyBesideJournal(str(keys.file_of(path))))
        room = Room(bounds, path.parent if path else None, time.monotonic)
        commits = Commits(db, thread, partial(prepared, path, entries, news), room.begin)
        ours.callback(lambda: thread.submit(commits.close).result())
        if path is not None and to:
            with or_cannot_start(path):
                thread.submit(keys.keep_destination, db, path, entries.seal, to).result()
        if path is not None and damage.is_large(path):
            ours.enter_context(checked_meanwhile(path, db, thread, commits))
        yield SqliteJournal(
            intake=SqliteIntake(commits, entries, room),
            receipts=SqliteReceipts(commits, entries),
            outbox=SqliteOutbox(commits, entries, room, shelf),
            aside=SqliteAside(commits, entries, room),
            ledger=SqliteLedger(commits, entries, room, time.monotonic),
            people=SqlitePeople(commits, entries),
            checkup=SqliteCheckup(commits, entries, bounds, path),
            log_key=entries.seal.user_key,
            news=news,
            is_durable=path is not None,
        )


def abandon(path: Path | None, sealed_with: Sequence[bytes]) -> int:
    """Give up what no key opens, and leave the ledger; how many exports that is.

    Raises CannotStart when a key opens it, JournalHeld.
    """
    path = found_at(path)
    if path is None:
        raise CannotStart("A journal in memory is gone with its process.")
    with or_cannot_start(path), lock.held(path, owner="", wait_seconds=0):
        with suppress(BadSetting):
            keys.opened(path, sealed_with)
            raise CannotStart(f"The journal {path} opens with this key: nothing is lost.")
        if not path.exists():
            keys.forget(path)
            return 0
        damage.copied(path)  # the key may turn up
        with closing(connect(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            given_up = db.execute(GIVE_UP).rowcount
            db.execute("DELETE FROM secret WHERE name IN ('root', 'check')")
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        keys.forget(path)
        return given_up


def found_at(path: Path | None) -> Path | None:
    """SQLite keeps its log beside the file that a link leads to; so do we what is ours."""
    return path.resolve() if path is not None and path.is_symlink() else path


@contextmanager
def or_cannot_start(path: Path | None) -> Iterator[None]:
    """What the disk says, or SQLite, in one line that names the journal."""
    try:
        yield
    except OSError as error:
        why = lock.explain_no_access(path, error) if path is not None else f"{error.strerror}."
        raise CannotStart(f"The journal cannot be opened at {path}: {why}") from error
    except UnicodeDecodeError as error:
        raise CannotStart(f"{path} is no journal that can be read.") from error
    except sqlite3.Error as error:
        raise CannotStart(f"{path} is no journal that can be read: {error}.") from error


@contextmanager
def checked_meanwhile(
    path: Path, db: sqlite3.Connection, thread: ThreadPoolExecutor, commits: Commits
) -> Iterator[None]:
    """While a large journal is served, all of it is checked; until then only its log is written.

    If it is broken, whoever comes next connects again, and finds that.
    """
    thread.submit(db.executescript, FILE_STAYS).result()

    def tell(is_broken: bool) -> None:
        thread.submit(commits.close if is_broken else partial(db.executescript, FILE_CHANGES))

    with damage.checked(path, tell):
        yield


def prepared(
    path: Path | None, entries: Entries, news: News, *, is_start: bool = False
) -> sqlite3.Connection:
    """A connection behind which all is as this version wants it; the news is what was not.

    At the start, and again when the disk has failed: what it has done then is mended at once.
    A journal of an earlier version is checked before it is upgraded: its tables are dropped then,
    and with them what tells of damage; and from 3.46 on SQLite calls damage that it meets in an
    ALTER TABLE an error of the statement.
    """
    if path is None:
        return at_this_version(path, entries)
    news.tell(damage.in_the_log(path))
    with ExitStack() as otherwise:
        try:
            db = otherwise.enter_context(closing(connect(path)))
            before = rescue.exports_in(db)
            is_broken = upgrades.is_due(db) and damage.is_broken(db, path)
            if not is_broken:
                upgrades.prepare(db, path, entries)
                is_broken = is_to_be_mended(db, path, is_start=is_start)
        except damage.UNREADABLE as error:
            if not damage.is_of_pages(error):
                raise
            otherwise.close()  # it holds the lock on what is to be read now
            news.tell([rescue.rebuilt(path, at_this_version, entries, 0, error)])
            db = otherwise.enter_context(closing(connect(path)))
        else:
            if is_broken:
                db.close()
                news.tell([rescue.rebuilt(path, at_this_version, entries, before)])
                db = otherwise.enter_context(closing(connect(path)))
        news.tell(schema.balance(db))
        keys.keep(db, path, entries.seal)
        otherwise.pop_all()
    return db


def is_to_be_mended(db: sqlite3.Connection, path: Path, *, is_start: bool) -> bool:
    """Whether it is broken. At the start, most of a large journal is checked later."""
    if is_start and damage.is_large(path):
        is_broken = damage.is_broken_where_it_waits(db)
    else:
        is_broken = damage.is_broken(db, path)
    return is_broken or not schema.is_as_made(db)


def at_this_version(path: Path | None, entries: Entries) -> sqlite3.Connection:
    with ExitStack() as otherwise:
        db = otherwise.enter_context(closing(connect(path)))
        upgrades.prepare(db, path, entries)
        otherwise.pop_all()
    return db


def connect(path: Path | None) -> sqlite3.Connection:
    """The one connection. Raises sqlite3.Error, CannotStart when its name cannot be kept."""
    with ExitStack() as otherwise:
        db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=True)
        otherwise.callback(db.close)
        db.text_factory = readable
        db.executescript(PRAGMAS)
        keep_names(path)
        otherwise.pop_all()
    return db


# What a flipped bit has made of a text breaks the seal of its row, and not the query.
readable = partial(str, encoding="utf-8", errors="replace")

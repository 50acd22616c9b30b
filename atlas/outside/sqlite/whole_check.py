"""The check of a large journal, which goes on in a thread of its own while exports are accepted.

All of a journal with a million receipts is read in seconds, and nobody has to wait for that: what
waits for Foundry was checked before, and what a receipt says is no export. Meanwhile the journal's
file is not written, only its log is. So SQLite can read it as one that never changes, without a
lock and without the log, beside the one connection that writes.
"""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event

from atlas.outside.sqlite import keys
from atlas.outside.sqlite.disk import damage

MIB = 1024 * 1024
STEPS = 100_000  # of SQLite, between two looks at whether it is over


@contextmanager
def checked(path: Path, tell: Callable[[bool], None]) -> Iterator[None]:
    """Check the pages of the journal meanwhile; `tell` is told in the end whether it is broken.

    If we end before, nobody is told: the next start checks it again.
    """
    is_over = Event()
    with (
        closing(sqlite3.connect(keys.uri(path), uri=True, check_same_thread=False)) as db,
        ThreadPoolExecutor(2, "check") as threads,
    ):
        db.set_progress_handler(is_over.is_set, STEPS)
        threads.submit(read_through, path, is_over)
        threads.submit(check, db, path, tell)
        try:
            yield
        finally:
            is_over.set()
            db.interrupt()


def check(db: sqlite3.Connection, path: Path, tell: Callable[[bool], None]) -> None:
    with suppress(sqlite3.OperationalError):  # interrupted, or the disk fails: others see that
        try:
            tell(damage.is_broken(db, path))
        except damage.UNREADABLE as error:
            if not damage.is_of_pages(error):
                raise
            tell(True)


def read_through(path: Path, is_over: Event) -> None:
    """So that the check, which goes to and fro in the file, finds it in memory."""
    block = bytearray(MIB)
    with suppress(OSError), path.open("rb", buffering=0) as file:
        while not is_over.is_set() and file.readinto(block):
            pass

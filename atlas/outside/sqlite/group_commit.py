"""One connection in one thread, and one commit for all that was asked while the last one synced.

A sync to disk costs as much as inserting dozens of exports. So whoever comes while a commit is
under way lines up, and the next commit is for everybody in the line: nobody waits for more than
two syncs, and their number does not grow with the number of exports.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from atlas.core.errors import AtlasError, JournalFull, Unavailable
from atlas.outside.sqlite.disk.damage import primary_code

T = TypeVar("T")
P = ParamSpec("P")

JOBS_MAX = 256
DISK_ERRORS = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

BUG_ERRORS = sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError  # bugs

Connect = Callable[[], sqlite3.Connection]


class Job(Generic[T]):
    """What somebody asked for, and what came of it. Until it is committed, nothing did."""

    def __init__(
        self, work: Callable[[sqlite3.Connection], T], is_done: "asyncio.Future[None]"
    ) -> None:
        self.work = work
        self.is_done = is_done
        self.outcome: T | None = None
        self.error: BaseException | None = None
        self.is_begun = False

    def attempt(self, db: sqlite3.Connection) -> bool:
        """Whether it is done, or has left no trace: an answer such as JournalFull must not."""
        self.is_begun = True
        before = db.total_changes
        try:
            self.outcome = self.work(db)
        except AtlasError as answer:
            self.error = answer
            return db.total_changes == before
        return True

    def attempt_apart(self, db: sqlite3.Connection) -> None:
        """Do it, or undo it."""
        self.error = None
        db.execute("SAVEPOINT job")
        if not self.attempt(db):
            db.execute("ROLLBACK TO job")
        db.execute("RELEASE job")

    def fail(self, error: BaseException) -> None:
        self.outcome, self.error = None, error

    def answer(self) -> T:
        if self.error is not None:
            raise self.error
        return self.outcome  # type: ignore[return-value]  # done, and not by an error


class GroupCommit:
    """Runs work on the connection, each piece whole or not at all, many to a commit.

    `connect` makes another connection, in the thread, when the disk has failed this one. `begin` is
    told of each transaction, in the thread.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        thread: ThreadPoolExecutor,
        connect: Connect,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._db: sqlite3.Connection | None = db
        self._thread = thread
        self._connect = connect
        self._begin = begin
        self._is_committing = False
        # It has no size of its own, because those who line up have one: as many jobs hold an export
        # as stages have workers and the uploader uploads at once; a connection has one small one.
        self._queue: deque[Job[object]] = deque()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The outcome, after it is durable. Raises what the work raises, JournalFull when the disk
        is full, Unavailable when it fails. Who is cancelled does not know: it happens anyway.
        """
        job = Job(work, asyncio.get_running_loop().create_future())
        self._queue.append(job)  # type: ignore[arg-type]  # each job keeps its own type
        if not self._is_committing:
            self._commit_queue()
        await job.is_done
        return job.answer()

    async def vacuum(self) -> None:
        """Write the whole file anew, without what was deleted. Everybody waits until it is done.

        Raises JournalFull when the disk has no room for that, Unavailable when it fails.
        """
        loop = asyncio.get_running_loop()
        error = await loop.run_in_executor(self._thread, self._vacuum)
        if error is not None:
            raise error

    def _commit_queue(self) -> None:
        """Nobody's task does this: whoever waits wakes up when his own job is done, and once."""
        jobs = [self._queue.popleft() for _ in range(min(len(self._queue), JOBS_MAX))]
        self._is_committing = True
        loop = asyncio.get_running_loop()
        self._thread.submit(self._commit, jobs).add_done_callback(
            lambda ended: loop.call_soon_threadsafe(self._finish, jobs, ended.exception())
        )

    def _finish(self, jobs: list[Job[object]], bug: BaseException | None) -> None:
        if bug is not None:  # nothing is committed; it is the bug of the last job that was begun
            culprit = next((job for job in reversed(jobs) if job.is_begun), None)
            for job in jobs:
                job.fail(bug if job is culprit else Unavailable("The journal failed."))
        for job in jobs:
            if not job.is_done.done():  # whoever is cancelled has cancelled that
                job.is_done.set_result(None)
        self._is_committing = False
        if self._queue:
            self._commit_queue()

    def _commit(self, jobs: list[Job[object]]) -> None:
        self._db = db = self._db or self._connect()  # if that fails, nobody's job was begun
        try:
            db.execute("BEGIN IMMEDIATE")
            self._begin()
            if not all(job.attempt(db) for job in jobs):
                self._attempt_apart(db, jobs)
            db.execute("COMMIT")
        except BUG_ERRORS:
            raise
        except sqlite3.Error as error:
            for job in jobs:
                job.fail(build_error(error))
            if primary_code(error) in DISK_ERRORS:
                self.close()
        finally:
            self._undo()

    def _attempt_apart(self, db: sqlite3.Connection, jobs: list[Job[object]]) -> None:
        """From the beginning, each by itself. For every job this would cost what the job does:
        SQLite keeps the pages that a savepoint changes.
        """
        db.execute("ROLLBACK")
        for job in jobs:
            job.is_begun = False
        db.execute("BEGIN IMMEDIATE")
        self._begin()
        for job in jobs:
            job.attempt_apart(db)

    def _vacuum(self) -> AtlasError | None:
        """In the thread, where nothing else is under way."""
        try:
            self._db = db = self._db or self._connect()
            vacuum(db)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # the log holds old pages
        except sqlite3.Error as error:
            if primary_code(error) in DISK_ERRORS:
                self.close()
            return build_error(error)
        return None

    def _undo(self) -> None:
        if self._db is not None and self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """In the thread. Work that comes later opens the journal again.

        After a sync that failed the kernel may call pages clean that never reached the disk: the
        next sync succeeds and says nothing of them. So nothing may be written behind them: whoever
        connects next reads what is there, and starts a new log.
        """
        db, self._db = self._db, None
        if db is not None:
            db.close()


class HasCommits(Protocol):
    """A part of the journal."""

    _commits: GroupCommit


S = TypeVar("S", bound=HasCommits)


def run_in_commit(
    work: Callable[Concatenate[S, sqlite3.Connection, P], T],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Run a method of a part on the connection, in its thread: see `Commits.run`."""

    @wraps(work)
    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._commits.run(lambda db: work(self, db, *args, **kwargs))

    return run


def vacuum(db: sqlite3.Connection) -> None:
    """Raises sqlite3.Error. All that is kept goes through a file: memory may not hold it."""
    db.execute("PRAGMA temp_store = FILE")
    try:
        db.execute("VACUUM")
    finally:
        db.execute("PRAGMA temp_store = MEMORY")


def build_error(error: sqlite3.Error) -> AtlasError:
    """What a sender is told of it: nothing of SQLite's own words, which may quote a value."""
    if primary_code(error) == sqlite3.SQLITE_FULL:
        return JournalFull("There is no room on the disk of the journal.")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return Unavailable(f"The journal cannot be written ({name}).")

"""Group commit: one connection in one thread, and one commit for all operations that are waiting.

A sync costs as much as inserting dozens of exports. So operations that arrive during a commit are
queued, and the next commit covers all of them: an operation waits for two syncs at most, and their
number does not grow with the number of exports.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from atlas.core.errors import AtlasError, JournalFull, Unavailable
from atlas.outside.sqlite.disk.damage import primary_code

T = TypeVar("T")
P = ParamSpec("P")

JOBS_MAX = 256
CHECKPOINT_PAGES, HELD_PAGES = 4_096, 262_144  # of 4 KiB: 16 MiB and 1 GiB
DISK_ERRORS = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
BUG_ERRORS = sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError

Connect = Callable[[], sqlite3.Connection]


class Job(Generic[T]):
    """An operation on the connection and its outcome, which is valid after the commit only."""

    def __init__(
        self, work: Callable[[sqlite3.Connection], T], is_done: "asyncio.Future[None]"
    ) -> None:
        self.work = work
        self.is_done = is_done
        self.outcome: T | None = None
        self.error: BaseException | None = None
        self.is_begun = False

    def attempt(self, db: sqlite3.Connection) -> bool:
        """Run the work. Return False if it raised an AtlasError after it had written something."""
        self.is_begun = True
        before = db.total_changes
        try:
            self.outcome = self.work(db)
        except AtlasError as error:
            self.error = error
            return db.total_changes == before
        return True

    def attempt_in_savepoint(self, db: sqlite3.Connection) -> None:
        """Run the work, and undo its changes if it raises an AtlasError."""
        self.error = None
        db.execute("SAVEPOINT job")
        if not self.attempt(db):
            db.execute("ROLLBACK TO job")
        db.execute("RELEASE job")

    def fail(self, error: BaseException) -> None:
        self.outcome, self.error = None, error

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.outcome  # type: ignore[return-value]  # set, because there is no error


class GroupCommit:
    """Runs operations on the connection, each atomically, many to a commit.

    `connect` opens another connection after the disk has failed; `begin` is called at the start of
    each transaction, `end` before its commit. All run in the thread.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        thread: ThreadPoolExecutor,
        connect: Connect,
        begin: Callable[[], None] = lambda: None,
        end: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> None:
        self._db: sqlite3.Connection | None = db
        self._thread = thread
        self._connect = connect
        self._begin = begin
        self._end = end
        self._is_committing = False
        # Unbounded, because its users are bounded: a job with an export belongs to a worker of a
        # stage or to an upload, and each request has one small job at a time.
        self._queue: deque[Job[object]] = deque()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return the outcome of the work once it is durable.

        Raises whatever the work raises, JournalFull if the disk is full, Unavailable if it fails.
        Cancelling the caller does not cancel the work.
        """
        job = Job(work, asyncio.get_running_loop().create_future())
        self._queue.append(job)  # type: ignore[arg-type]  # each job keeps its own type
        if not self._is_committing:
            self._commit_queue()
        await job.is_done
        return job.result()

    async def vacuum(self) -> None:
        """Rewrite the file without deleted data. All other operations wait until it is done.

        Raises JournalFull if the disk has no space for it, Unavailable if the disk fails.
        """
        loop = asyncio.get_running_loop()
        error = await loop.run_in_executor(self._thread, self._vacuum)
        if error is not None:
            raise error

    async def freeze(self) -> None:
        """Write the WAL into the main file, which stays unchanged until `unfreeze`.

        After HELD_PAGES it changes all the same, so that the WAL does not fill the disk. Raises
        Unavailable.
        """
        loop = asyncio.get_running_loop()
        error = await loop.run_in_executor(self._thread, self._freeze)
        if error is not None:
            raise error

    async def unfreeze(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._set_checkpoint, CHECKPOINT_PAGES)

    def _commit_queue(self) -> None:
        """Start a commit, outside any task: each caller wakes up once, when its own job is done."""
        jobs = [self._queue.popleft() for _ in range(min(len(self._queue), JOBS_MAX))]
        self._is_committing = True
        loop = asyncio.get_running_loop()
        self._thread.submit(self._commit, jobs).add_done_callback(
            lambda future: loop.call_soon_threadsafe(self._finish, jobs, future.exception())
        )

    def _finish(self, jobs: list[Job[object]], bug: BaseException | None) -> None:
        if bug is not None:  # nothing is committed; the last job that was begun has the bug
            culprit = next((job for job in reversed(jobs) if job.is_begun), None)
            for job in jobs:
                job.fail(bug if job is culprit else Unavailable("The journal failed."))
        for job in jobs:
            if not job.is_done.done():  # it is if the caller was cancelled
                job.is_done.set_result(None)
        self._is_committing = False
        if self._queue:
            self._commit_queue()

    def _commit(self, jobs: list[Job[object]]) -> None:
        self._db = db = self._db or self._connect()
        try:
            db.execute("BEGIN IMMEDIATE")
            self._begin()
            if not all(job.attempt(db) for job in jobs):
                self._repeat_in_savepoints(db, jobs)
            self._end(db)
            db.execute("COMMIT")
        except BUG_ERRORS:
            raise
        except sqlite3.Error as error:
            for job in jobs:
                job.fail(build_error(error))
            self._close_if_disk_failed(error)
        finally:
            self._rollback()

    def _rollback(self) -> None:
        if self._db is not None and self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _repeat_in_savepoints(self, db: sqlite3.Connection, jobs: list[Job[object]]) -> None:
        """Start again, each job in a savepoint.

        This is the exception because it doubles the cost of a job: SQLite copies the pages that
        change within a savepoint.
        """
        db.execute("ROLLBACK")
        for job in jobs:
            job.is_begun = False
        db.execute("BEGIN IMMEDIATE")
        self._begin()
        for job in jobs:
            job.attempt_in_savepoint(db)

    def _vacuum(self) -> AtlasError | None:
        try:
            self._db = db = self._db or self._connect()
            vacuum(db)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # the WAL has old pages
        except sqlite3.Error as error:
            self._close_if_disk_failed(error)
            return build_error(error)
        return None

    def _freeze(self) -> AtlasError | None:
        try:
            self._db = db = self._db or self._connect()
            is_busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            self._close_if_disk_failed(error)
            return build_error(error)
        self._set_checkpoint(HELD_PAGES)
        return Unavailable("The journal is in use. Try again.") if is_busy else None

    def _set_checkpoint(self, pages: int) -> None:
        """Set the length of the WAL from which on it is written into the main file."""
        if self._db is not None:  # another connection starts with the default
            self._db.execute(f"PRAGMA wal_autocheckpoint = {pages}")

    def _close_if_disk_failed(self, error: sqlite3.Error) -> None:
        if primary_code(error) in DISK_ERRORS:
            self.close()

    def finish(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do the last work in a commit of its own, and close the connection, in the thread."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute("BEGIN IMMEDIATE")
                work(self._db)
                self._db.execute("COMMIT")
        self.close()

    def close(self) -> None:
        """Close the connection, in the thread. The next operation opens the journal again.

        After a failed sync the kernel may mark pages as clean that never reached the disk; the next
        sync then succeeds without them. So nothing may be appended to this WAL: the next connection
        reads what is on disk, and starts a new one.
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
    """Decorate a method to run in the thread, with the connection: see `GroupCommit.run`."""

    @wraps(work)
    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._commits.run(lambda db: work(self, db, *args, **kwargs))

    return run


def vacuum(db: sqlite3.Connection) -> None:
    """Rewrite the file, through a temporary file because memory may not hold it.

    Raises sqlite3.Error.
    """
    db.execute("PRAGMA temp_store = FILE")
    try:
        db.execute("VACUUM")
    finally:
        db.execute("PRAGMA temp_store = MEMORY")


def build_error(error: sqlite3.Error) -> AtlasError:
    """Return the error for a sender. It omits the text of SQLite, which may quote a value."""
    if primary_code(error) == sqlite3.SQLITE_FULL:
        return JournalFull("The disk of the journal is full.")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return Unavailable(f"The journal cannot be written ({name}).")

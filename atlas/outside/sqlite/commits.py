"""One connection in one thread, and one commit for all that was asked while the last one synced.

A sync to disk costs as much as inserting dozens of exports. So whoever comes while a commit is
under way lines up, and the next commit is for everybody in the line: nobody waits for more than
two syncs, and their number does not grow with the number of exports.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import anyio

from atlas.core.errors import AtlasError, JournalFull, Unavailable

T = TypeVar("T")

JOBS_MAX = 256


class Job(Generic[T]):
    """What somebody asked for, and what came of it. Until it is committed, nothing did."""

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.outcome: T | None = None
        self.error: AtlasError | None = Unavailable("The journal failed.")
        self.is_done = False

    def attempt(self, db: sqlite3.Connection) -> None:
        """Do it, or undo it: an answer such as JournalFull leaves no trace."""
        db.execute("SAVEPOINT job")
        try:
            self.outcome = self.work(db)
            self.error = None
        except AtlasError as answer:
            self.error = answer
            db.execute("ROLLBACK TO job")
        db.execute("RELEASE job")

    def fail(self, error: AtlasError) -> None:
        self.outcome, self.error = None, error

    def answer(self) -> T:
        if self.error is not None:
            raise self.error
        return self.outcome  # type: ignore[return-value]  # done, and not by an error


class Commits:
    """Runs work on the connection, each piece whole or not at all, many to a commit."""

    def __init__(self, db: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._db = db
        self._thread = thread
        self._turn = anyio.Lock(fast_acquire=True)
        self._line: deque[Job[object]] = deque()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The outcome, after it is durable. Raises what the work raises, JournalFull when the disk
        is full, Unavailable when it fails.
        """
        job = Job(work)
        self._line.append(job)  # type: ignore[arg-type]  # each job keeps its own type
        async with self._turn:
            while not job.is_done:
                await self._commit_the_line()
        return job.answer()

    async def _commit_the_line(self) -> None:
        jobs = [self._line.popleft() for _ in range(min(len(self._line), JOBS_MAX))]
        try:
            with anyio.CancelScope(shield=True):  # others wait for it; and it happens anyway
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._commit, jobs)
        finally:
            for job in jobs:
                job.is_done = True

    def _commit(self, jobs: list[Job[object]]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for job in jobs:
                job.attempt(self._db)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            for job in jobs:
                job.fail(refusal(error))


def refusal(error: sqlite3.Error) -> AtlasError:
    """What a sender is told of it: nothing of SQLite's own words, which may quote a value."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return JournalFull("There is no room on the disk of the journal.")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return Unavailable(f"The journal cannot be written ({name}).")

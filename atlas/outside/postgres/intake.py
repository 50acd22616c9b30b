"""Accepts exports, many to a statement, and each one once.

Exports that arrive while a statement is under way are queued, and the next statement has all of
them: an export waits for two commits at most. A statement whose answer is lost is sent again: it
changes nothing the second time.
"""

import asyncio
import copy
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from atlas.core.errors import AtlasError, JournalAway, Unavailable
from atlas.core.events import EventBuffer, ExportsOfferedAgain, ExportsStored
from atlas.core.messages import ExportMetadata, FlattenedExport, Receipt
from atlas.outside.journal.capacity import CapacityLimits, count_excess
from atlas.outside.postgres.connections import CLOSE_SECONDS, RETRY_SECONDS, Session
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.insertion import (
    Appended,
    IntakeOutcome,
    IntakeRequest,
    IntakeWriter,
    append,
)
from atlas.outside.postgres.offering import store_again
from atlas.outside.postgres.phones import PostgresPhoneWriter
from atlas.outside.postgres.recent import RecentExport, RecentExports
from atlas.outside.postgres.sealing import Sealer

EXPORTS_MAX, BYTES_MAX = 256, 4 * 1024 * 1024  # of a statement


@dataclass(slots=True)
class IntakeJob:
    """A request to the journal, and its outcome."""

    request: IntakeRequest
    is_done: "asyncio.Future[Receipt | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def size(self) -> int:
        sealed = self.request.sealed
        return 0 if sealed is None else sealed.size

    def resolve(self, outcome: Receipt | BaseException | None) -> None:
        if self.is_done.done():  # the caller was cancelled
            return
        if isinstance(outcome, BaseException):
            self.is_done.set_exception(copy.copy(outcome))  # each caller has its own traceback
        else:
            self.is_done.set_result(outcome)


class PostgresIntake:
    """Implements `ports.Intake`. `on_stored` is called when exports were stored."""

    def __init__(
        self,
        session: Session,
        sealer: Sealer,
        limits: CapacityLimits,
        recent: RecentExports,
        events: EventBuffer,
        phones: PostgresPhoneWriter,
        on_stored: Callable[[], None],
        *,
        is_streamed: bool = False,
    ) -> None:
        self._session = session
        self._sealer = sealer
        self._limits = limits
        self._writer = IntakeWriter(sealer, limits, is_streamed)
        self._recent = recent
        self._events = events
        self._phones = phones
        self._on_stored = on_stored
        self._totals = 0, 0  # as of the last statement
        # Unbounded, because its users are bounded: see sqlite/group_commit.py
        self._queue: deque[IntakeJob] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_offering = False

    async def append(self, export: FlattenedExport) -> Receipt:
        sealed = self._sealer.seal(export)
        request = IntakeRequest(export.head, export.id, sealed.fixed.user, sealed)
        receipt = await self._enqueue(request)
        if receipt is None:
            raise Unavailable
        return receipt

    async def find_existing(self, head: ExportMetadata, id: str) -> Receipt | None:
        sender = self._sealer.codec.cipher.hash_user(head.user.sub)
        return await self._enqueue(IntakeRequest(head, id, sender))

    def offer_again(self) -> None:
        """Store again what was accepted lately, because a failover may have lost it."""
        self._recent.hold()
        self._is_offering = True
        self._start()

    async def close(self) -> None:
        """Wait until everything that is queued is stored."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            self._task.cancel()

    async def _enqueue(self, request: IntakeRequest) -> Receipt | None:
        job = IntakeJob(request)
        self._queue.append(job)
        self._start()
        return await job.is_done

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        """Run statements until nothing is queued. A task of its own: callers may be cancelled."""
        while self._queue or self._is_offering:
            if self._is_offering:
                await self._offer()
            jobs = self._take_jobs()
            error = await self._attempt(jobs)
            if isinstance(error, JournalAway):  # the others have waited as long as these
                jobs += self._queue
                self._queue.clear()
            if isinstance(error, AtlasError):
                for job in jobs:
                    job.resolve(error)
            elif error is not None:
                await self._isolate(jobs)

    async def _attempt(self, jobs: Sequence[IntakeJob]) -> BaseException | None:
        """Store the jobs, and return the error, also that of a bug."""
        task = asyncio.create_task(self._store(jobs))
        await asyncio.wait([task])
        return None if task.cancelled() else task.exception()

    def _take_jobs(self) -> list[IntakeJob]:
        """Take the jobs of the next statement. No two of them have the same id."""
        jobs, ids, size = list[IntakeJob](), set[str](), 0
        while self._queue and len(jobs) < EXPORTS_MAX and (size < BYTES_MAX or not jobs):
            if self._queue[0].request.id in ids:
                break
            job = self._queue.popleft()
            jobs.append(job)
            ids.add(job.request.id)
            size += job.size
        return jobs

    async def _store(self, jobs: Sequence[IntakeJob]) -> None:
        quick = {job.request.id: job for job in jobs if self._is_quick(job.request)}
        if quick:
            appended = await self._append(list(quick.values()))
            stored = list[RecentExport]()
            for id in appended.ids:
                job = quick[id]
                sealed = job.request.sealed
                if sealed is not None:
                    stored.append(RecentExport(sealed.list_columns()))
                    self._phones.pending.add(sealed.export)
                    job.resolve(sealed.build_receipt())
            size = sum(each.size for each in stored)
            self._totals = appended.exports + len(stored), appended.bytes + size
            self._finish(stored)
        rest = [job for job in jobs if not job.is_done.done()]
        if rest:
            outcome = await self._write([job.request for job in rest])
            self._finish(outcome.stored)
            for job in rest:
                result = outcome.results[job.request.id]
                self._count(job.request, result)
                job.resolve(result)
        self._phones.start()

    def _count(self, request: IntakeRequest, result: Receipt | AtlasError | None) -> None:
        """Count the export of a phone, or note that it is stuck."""
        if request.sealed is None or not isinstance(result, Receipt):
            return
        if result.replayed:
            self._phones.pending.add_replay(request.sealed.export)
        else:
            self._phones.pending.add(request.sealed.export)

    def _is_quick(self, request: IntakeRequest) -> bool:
        """True if one statement stores the export: it has no key, and probably fits."""
        head, sealed = request.head, request.sealed
        if sealed is None or head.binding is not None or head.place is not None:
            return False
        return count_excess(self._limits, *self._totals, sealed.fixed.size) is None

    async def _append(self, jobs: Sequence[IntakeJob]) -> Appended:
        sealed = [job.request.sealed for job in jobs if job.request.sealed is not None]
        rows = [each.list_columns() for each in sealed]
        attempts = 0

        async def work(database: Database) -> Appended:
            nonlocal attempts
            attempts += 1
            for job in jobs:
                job.request.has_been_sent = attempts > 1
            return await append(database, rows, is_streamed=self._writer.is_streamed)

        with self._measure(len(jobs)):
            return await self._session.run(work, is_repeatable=True)

    async def _write(self, requests: Sequence[IntakeRequest]) -> IntakeOutcome:
        attempts = 0

        async def work(database: Database) -> IntakeOutcome:
            nonlocal attempts
            attempts += 1
            for request in requests:
                request.has_been_sent |= attempts > 1
            return await self._writer.write(database, requests)

        with self._measure(len(requests)):
            return await self._session.transact(work, is_repeatable=True)

    @contextmanager
    def _measure(self, exports: int) -> Iterator[None]:
        """Report how long a statement took, unless it fails."""
        began_at = time.monotonic()
        yield
        self._events.add([ExportsStored(exports, time.monotonic() - began_at)])

    async def _isolate(self, jobs: Sequence[IntakeJob]) -> None:
        """Find the export that a bug concerns: the others are stored."""
        for job in jobs:
            if not job.is_done.done():
                error = await self._attempt([job])
                if error is not None:
                    job.resolve(error)

    def _finish(self, stored: Sequence[RecentExport]) -> None:
        if stored:
            self._recent.add(stored)
            self._on_stored()

    async def _offer(self) -> None:
        self._is_offering = False
        exports = self._recent.list()
        lost = set[str]()  # also by an attempt whose answer was lost

        async def work(database: Database) -> None:
            is_streamed = self._writer.is_streamed
            lost.update(await store_again(database, exports, self._sealer, is_streamed=is_streamed))

        try:
            await self._session.transact(work, is_repeatable=True)
        except AtlasError:
            self._is_offering = True
            await asyncio.sleep(RETRY_SECONDS)
            return
        if not self._is_offering:  # there was no other failover meanwhile
            self._recent.release()
        self._events.add([ExportsOfferedAgain(len(exports), len(lost))])  # also if it held none
        self._on_stored()

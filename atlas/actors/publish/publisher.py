"""Publishes the rows of accepted exports, the oldest first."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import anyio
from anyio.lowlevel import checkpoint

from atlas.actors.publish.window import PublishWindow
from atlas.core import events
from atlas.core.errors import (
    JSON_ERRORS,
    FoundryError,
    RecordsRefused,
    RecordTooLarge,
    RequestTooLarge,
    Unavailable,
)
from atlas.core.events import EventSink
from atlas.core.ports import Clock, CpuExecutor, Stream, StreamQueue
from atlas.core.status import StreamLag
from atlas.core.stream import StreamBacklog, StreamLimits, UnpublishedExport, build_records
from atlas.runtime import for_each_concurrently

EXPORTS_MAX = 200  # read from the journal at once
WINDOW_BYTES = 4 * 1024 * 1024
REQUEST_BYTES_MIN = 10_000
INTERVAL_SECONDS = 0.25  # between two readings, each of which costs a commit of the journal
IDLE_SECONDS = 0.5
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.5, 60.0
JOURNAL_SECONDS = 1.0  # while the journal fails


@dataclass(frozen=True, slots=True)
class PublishPolicy:
    """The limits of a request and of the backlog.

    `unpack` decompresses a payload, in parts of whole rows not much larger than a size.
    `window_bytes` is the size, as NDJSON, of the rows that are read and published at once. Beyond
    `backlog_bytes_max` or `backlog_age`, the oldest rows are dropped from the stream.
    """

    unpack: Callable[[bytes, int], Iterator[bytes]]
    limits: StreamLimits
    calls_at_once: int = 2
    backlog_bytes_max: int = 1024**3
    backlog_age: timedelta = timedelta(hours=24)
    watch_seconds: float = 15.0
    window_bytes: int = WINDOW_BYTES


@dataclass(frozen=True, slots=True)
class PublishTiming:
    """Clocks and randomness. `rng` returns a number from 0 to 1, which spreads retries."""

    clock: Clock
    monotonic: Callable[[], float]
    rng: Callable[[], float]


@dataclass(slots=True)
class PublisherState:
    """The state of a publisher. `backlog` is as of a few seconds ago.

    `limits` are those of the policy, or smaller ones once Foundry has refused a request for its
    size. `paused_reason` is that of the last failure, None since the last success.
    """

    limits: StreamLimits
    backlog: StreamBacklog | None = None
    failures: int = 0
    paused_reason: str | None = None


class UnreadableRows(Exception):
    """The journal has lost the rows of an export, or they are not rows of Atlas."""


class StreamPublisher:
    """Publishes while this replica leads. Errors of Foundry and of the journal are waited out."""

    def __init__(
        self,
        queue: StreamQueue,
        stream: Stream,
        policy: PublishPolicy,
        compute: CpuExecutor,
        timing: PublishTiming,
        emit: EventSink,
        is_leading: Callable[[], bool] = lambda: True,
    ) -> None:
        self._queue = queue
        self._stream = stream
        self._policy = policy
        self._compute = compute
        self._timing = timing
        self._emit = emit
        self._is_leading = is_leading
        self.state = PublisherState(policy.limits)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            seconds = await self.take_turn()
            await anyio.sleep(seconds)

    async def take_turn(self) -> float:
        """Publish the oldest rows, and return the seconds until the next turn."""
        if not self._is_leading():
            return IDLE_SECONDS
        began_at = self._timing.monotonic()
        try:
            exports = await self._queue.read_unpublished(EXPORTS_MAX, self._policy.window_bytes)
            if not exports:
                return IDLE_SECONDS
            if exports[0].size > self._policy.window_bytes:  # then it is the only one
                await self._publish_large(exports[0])
            else:
                await self._publish(exports)
        except FoundryError as error:
            return self._pause(error)
        except Unavailable:
            return JOURNAL_SECONDS
        self._resume()
        if len(exports) == EXPORTS_MAX:
            return 0.0
        return max(0.0, INTERVAL_SECONDS - (self._timing.monotonic() - began_at))

    async def watch_backlog(self) -> None:
        """Measure the backlog, and keep it within its bounds, until cancelled.

        It is independent of `run`: the backlog keeps its bounds even if the publisher has crashed.
        """
        while True:
            try:
                await self.measure_backlog()
            except Unavailable:
                self.state.backlog = None
            await anyio.sleep(self._policy.watch_seconds)

    async def measure_backlog(self) -> None:
        """Measure the backlog, and drop what is beyond its bounds.

        Every replica with a stream does so, because the leader may have none by mistake.
        """
        before, dropped = self._timing.clock() - self._policy.backlog_age, 0
        while True:
            backlog = await self._queue.trim(self._policy.backlog_bytes_max, before)
            self.state.backlog = backlog if self._is_leading() else None
            if not backlog.dropped:
                break
            dropped += backlog.dropped
        if dropped:
            self._emit(events.StreamRowsDropped(dropped))

    def measure_lag(self) -> StreamLag | None:
        """Return how far the stream is behind; None while another replica publishes."""
        backlog = self.state.backlog
        if backlog is None:
            return None
        seconds = 0.0
        if backlog.oldest is not None:
            seconds = max((self._timing.clock() - backlog.oldest).total_seconds(), 0.0)
        return StreamLag(backlog.rows, seconds, self.state.paused_reason is not None)

    async def _publish(self, exports: Sequence[UnpublishedExport]) -> None:
        """Publish all rows of these exports. Raises FoundryError; then only some are published."""
        readable = list[UnpublishedExport]()
        records = list[Sequence[bytes]]()
        for export in exports:
            try:
                parts = [part async for part in self._build_parts(export)]
            except UnreadableRows:
                await self._skip_unreadable(export)
                continue
            readable.append(export)
            records.append([record for part in parts for record in part])
        window = PublishWindow(records, self.state.limits)
        try:
            await self._send(window)
        finally:
            await self._record_finished(
                [(readable[position], skipped) for position, skipped in window.list_finished()]
            )

    async def _publish_large(self, export: UnpublishedExport) -> None:
        """Publish an export part by part, because all of its records would take much memory."""
        skipped, has_accepted = 0, False
        try:
            async for records in self._build_parts(export):
                window = PublishWindow([records], self.state.limits, has_accepted=has_accepted)
                await self._send(window)
                has_accepted = window.has_accepted
                skipped += sum(refused for _, refused in window.list_finished())
        except UnreadableRows:
            await self._skip_unreadable(export)
        else:
            await self._record_finished([(export, skipped)])

    async def _send(self, window: PublishWindow) -> None:
        """Publish the requests; then the halves of those refused, down to the records at fault.

        All requests of one size are tried before smaller ones, so that what Foundry accepts is
        known before the first record is found to be at fault.
        """
        pending: Sequence[range] = window.requests
        while pending:
            halves = list[range]()

            async def send(request: range, halves: list[range] = halves) -> None:
                halves += await self._publish_request(window, request)

            await for_each_concurrently(send, pending, self._policy.calls_at_once)
            pending = halves
        if window.too_large_bytes is not None and window.has_accepted:
            self._lower_limit(window.too_large_bytes)

    async def _build_parts(self, export: UnpublishedExport) -> AsyncIterator[list[bytes]]:
        """Yield the records of an export. Raises UnreadableRows."""
        if export.payload is None:
            raise UnreadableRows
        try:
            for ndjson in self._policy.unpack(export.payload, self._policy.window_bytes):
                yield await self._compute(len(ndjson), build_records, ndjson)
                await checkpoint()  # the work itself may have no pause
        except JSON_ERRORS as error:
            raise UnreadableRows from error

    async def _skip_unreadable(self, export: UnpublishedExport) -> None:
        await self._queue.record_published([export.number])
        self._emit(events.StreamRowsSkipped(export.id, export.rows, "unreadable"))

    async def _publish_request(self, window: PublishWindow, request: range) -> Sequence[range]:
        """Publish a request. If it is refused, return the requests to make instead."""
        try:
            await self._stream.publish(window.get(request))
        except RecordsRefused as error:
            if isinstance(error, RequestTooLarge):
                window.record_too_large(request)
            halves = window.refuse(request, is_oversized=isinstance(error, RecordTooLarge))
            if window.is_hopeless:
                raise
            self._emit(events.StreamRequestFailed(str(error)))
            return halves
        window.accept(request)
        return ()

    def _lower_limit(self, size: int) -> None:
        """Make the next requests half as large as one that was refused for its size."""
        limits = self.state.limits
        lower = max(min(limits.bytes_max, size // 2), REQUEST_BYTES_MIN)
        self.state.limits = StreamLimits(limits.records_max, lower)

    async def _record_finished(self, finished: Sequence[tuple[UnpublishedExport, int]]) -> None:
        """Record exports all of whose records are published, but for a number of skipped ones."""
        if not finished:
            return
        await self._queue.record_published([export.number for export, _ in finished])
        now = self._timing.clock()
        for export, skipped in finished:
            if skipped:
                self._emit(events.StreamRowsSkipped(export.id, skipped, "refused"))
        self._emit(
            events.RowsPublished(
                exports=len(finished),
                rows=sum(export.rows - skipped for export, skipped in finished),
                delays=tuple((now - export.at).total_seconds() for export, _ in finished),
            )
        )

    def _pause(self, error: FoundryError) -> float:
        """Return the seconds to wait. Report a reason once, however often it repeats."""
        state, reason = self.state, describe_failure(error)
        limit = min(PAUSE_SECONDS * 2.0**state.failures, PAUSE_SECONDS_MAX)
        seconds = limit * (0.5 + self._timing.rng() / 2)
        if error.retry_seconds is not None:
            seconds = max(seconds, error.retry_seconds)
        state.failures = min(state.failures + 1, 10)
        self._emit(events.StreamRequestFailed(str(error)))
        if reason != state.paused_reason:
            self._emit(events.StreamPaused(f"{error} {error.remedy}", seconds))
        state.paused_reason = reason
        return seconds

    def _resume(self) -> None:
        if self.state.paused_reason is not None:
            self._emit(events.StreamResumed())
        self.state.failures, self.state.paused_reason = 0, None


def describe_failure(error: FoundryError) -> str:
    """Return the error without its instance id, which differs each time."""
    return str(error).partition(" (errorInstanceId")[0]

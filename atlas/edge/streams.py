"""The route of streamed bodies: each part is stored as soon as it is complete.

If the connection drops, the client sends the same body again, and parts that are already stored
are skipped. Memory holds only the parts that are being processed.
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
import msgspec
from anyio.abc import TaskGroup
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from atlas.core import identifiers, ndjson
from atlas.core.errors import (
    AtlasError,
    Draining,
    FlowFull,
    IdempotencyKeyReused,
    JournalFull,
    Rejected,
)
from atlas.core.events import EventSink, RecordCountMismatch, RequestRead
from atlas.core.messages import ExportMetadata, Receipt, StreamPart, StreamPosition, User
from atlas.core.ports import Clock
from atlas.core.stream_splitter import PART_BYTES, SplitPart, StreamSplitter
from atlas.edge.api_types import Outcome, ReplyContext, compare_counts
from atlas.edge.body_reader import BodyReader
from atlas.edge.context import RequestContext
from atlas.edge.error_responses import ErrorResponses
from atlas.edge.flow_client import FlowClient
from atlas.edge.mistaken_bodies import is_json_export
from atlas.edge.responses import build_response, build_stream_reply, find_batch_error
from atlas.runtime import Acknowledgement, Reservation

PARTS_AT_ONCE = 2  # of one stream, while the next part is read
RETRY_SECONDS = 1.0
JSON_AS_LINES = "The body is a JSON export, not lines of samples: send it as application/json."

FindExisting = Callable[[ExportMetadata, str], Awaitable[Acknowledgement[Receipt] | None]]


@dataclass(slots=True)
class StreamState:
    """The progress of one stream. `failure` is the error of a part that ends it early."""

    metadata: ExportMetadata
    key: str | None
    reservation: Reservation
    part_slots: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(PARTS_AT_ONCE))
    stream_id: str | None = None
    bytes: int = 0
    ends: list[int] = field(default_factory=list)  # offsets at which the parts end
    parts: dict[int, Acknowledgement[Receipt] | AtlasError] = field(default_factory=dict)
    failure: AtlasError | None = None
    is_first_done: anyio.Event = field(default_factory=anyio.Event)
    progress_at: float = field(default_factory=anyio.current_time)

    def count_safe_bytes(self) -> int:
        """Count the bytes from the start that need not be sent again: stored, or rejected."""
        safe = 0
        for index, end in enumerate(self.ends):
            part = self.parts.get(index)
            if part is None or (isinstance(part, AtlasError) and is_fatal(part)):
                break
            safe = end
        return safe


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """The route of streams. `find_existing` finds the receipt of a part that is stored already."""

    flow: FlowClient
    bodies: BodyReader
    find_existing: FindExisting
    dataset_rid: str
    errors: ErrorResponses
    clock: Clock
    emit: EventSink
    is_draining: Callable[[], bool]
    part_bytes: int = PART_BYTES

    async def post(self, context: RequestContext, user: User, receive: Receive) -> Response:
        id, declared = context.correlation_id, context.parse_record_count()
        device, timestamp = context.parse_device(), context.parse_timestamp()
        metadata = ExportMetadata(user, device, timestamp, id, trace=context.trace)
        with self.bodies.reserve_stream(user) as reservation:
            stream = StreamState(metadata, context.parse_idempotency_key(), reservation)
            read_error = await self.read(context, stream, receive)
        self.emit(RequestRead(id, user.sub, len(stream.ends), stream.bytes, False))
        outcomes = await self.wait_for_parts(context, stream)
        if not outcomes:
            raise read_error or Rejected("The body is empty.")
        error = stream.failure or read_error or find_batch_error(outcomes)
        reply_context = ReplyContext(id, self.dataset_rid, self.clock())
        warnings = () if error else self.check_counts(stream, declared, outcomes)
        stream_id, safe_bytes = stream.stream_id, stream.count_safe_bytes()
        reply = build_stream_reply(outcomes, reply_context, stream_id, warnings, safe_bytes)
        if error:
            return self.errors.respond(context, error, user, reply)
        for outcome in outcomes:
            if isinstance(outcome, AtlasError):
                self.errors.emit_refusal(context, outcome, user)
        return build_response(reply, outcomes, self.errors, stream_id)

    async def read(
        self, context: RequestContext, stream: StreamState, receive: Receive
    ) -> AtlasError | None:
        """Read the body to its end or to an error, and wait until all parts are processed.

        Returns the error, if any. Raises ClientDisconnect.
        """
        splitter = StreamSplitter(self.part_bytes)
        read_error: AtlasError | ClientDisconnect | None = None
        async with anyio.create_task_group() as tasks:
            try:
                chunks = self.bodies.read_stream(context, receive, stream.reservation)
                async with aclosing(chunks):
                    async for chunk in chunks:
                        stream.bytes += len(chunk)
                        for split_part in splitter.feed(chunk):
                            await self.start_part(tasks, stream, split_part)
                last = splitter.flush()
                if last is not None:
                    await self.start_part(tasks, stream, last)
            except AtlasError as error:
                read_error = error.detach()
            except ClientDisconnect as error:
                read_error = error.with_traceback(None)
        if isinstance(read_error, ClientDisconnect):
            raise ClientDisconnect  # a new one: `read_error` would be in a cycle with this frame
        return read_error

    async def start_part(
        self, tasks: TaskGroup, stream: StreamState, split_part: SplitPart
    ) -> None:
        """Start to process a part as soon as a slot is free. Raises `stream.failure`."""
        if self.is_draining():
            raise Draining
        await stream.part_slots.acquire()
        size = split_part.end - split_part.offset
        if stream.key is not None and stream.ends:
            await stream.is_first_done.wait()  # or two streams with one key could refuse each other
        if stream.failure is not None:
            raise stream.failure
        if ndjson.is_blank(split_part.text, split_part.first):
            self.release(stream, size)
            return
        if not stream.ends and is_json_export(split_part.text):
            raise Rejected(JSON_AS_LINES)
        id = await anyio.to_thread.run_sync(
            identifiers.derive_part_id, stream.metadata, split_part.offset, split_part.text
        )
        if stream.stream_id is None:
            if stream.key is None:
                stream.stream_id = identifiers.STREAM_ID_PREFIX + id
            else:
                stream.stream_id = identifiers.derive_stream_id(stream.metadata.user, stream.key)
        index = len(stream.ends)
        stream.ends.append(split_part.end)
        position = StreamPosition(stream.stream_id, index, stream.key)
        metadata = msgspec.structs.replace(stream.metadata, place=position)
        part = StreamPart(id, metadata, split_part.text, split_part.first)
        tasks.start_soon(self.process_part, stream, part, index, size)

    async def process_part(
        self, stream: StreamState, part: StreamPart, index: int, size: int
    ) -> None:
        try:
            stream.parts[index] = await self.submit(stream, part)
            stream.progress_at = anyio.current_time()
        except AtlasError as error:
            stream.parts[index] = error.detach()
            if is_fatal(error):
                stream.failure = stream.failure or error
        finally:
            self.release(stream, size)
            stream.is_first_done.set()

    def release(self, stream: StreamState, size: int) -> None:
        """Release the memory and the slot of a part."""
        stream.reservation.release(size)
        stream.part_slots.release()

    async def submit(self, stream: StreamState, part: StreamPart) -> Acknowledgement[Receipt]:
        """Submit a part as soon as the journal has capacity.

        Raises JournalFull if no part of the stream was stored for `reply_seconds`.
        """
        while True:
            try:
                existing = await self.find_existing_in_time(part)
                return existing or await self.flow.submit(part)
            except JournalFull:
                if anyio.current_time() - stream.progress_at > self.flow.reply_seconds:
                    raise
            await anyio.sleep(RETRY_SECONDS)

    async def find_existing_in_time(self, part: StreamPart) -> Acknowledgement[Receipt] | None:
        with anyio.move_on_after(self.flow.reply_seconds):
            return await self.find_existing(part.head, part.id)
        raise FlowFull

    async def wait_for_parts(self, context: RequestContext, stream: StreamState) -> list[Outcome]:
        """Return the outcomes of the parts when all are committed, or at the deadline."""
        until = 0.0 if stream.failure else self.flow.compute_deadline(context)
        parts = sorted(stream.parts.items())
        return [await self.flow.wait_for_outcome(part, until) for _, part in parts]

    def check_counts(
        self, stream: StreamState, declared: int | None, outcomes: list[Outcome]
    ) -> tuple[str, ...]:
        """Warn if the declared count differs from the lines received.

        There is no warning if a part failed, because the number of lines is then unknown.
        """
        received = 0
        for outcome in outcomes:
            if isinstance(outcome, AtlasError):
                return ()
            received += outcome.received
        warnings = () if declared is None else compare_counts(declared, received)
        if warnings and stream.stream_id is not None:
            correlation_id = stream.metadata.correlation_id
            self.emit(RecordCountMismatch(stream.stream_id, correlation_id, received))
        return warnings


def is_fatal(error: AtlasError) -> bool:
    """True if the error ends the stream: it is not about the lines of the part."""
    return isinstance(error, IdempotencyKeyReused) or not isinstance(error, Rejected)

"""The route of streamed bodies: each full part is made safe before the rest has arrived.

If the connection drops, the client sends the same body again, and parts that are already safe are
skipped. Memory holds only the parts that are being processed.
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

from atlas.core import names, ndjson
from atlas.core.errors import AtlasError, Draining, JournalFull, KeyReused, NoRoom, Rejected
from atlas.core.events import CountsDiffer, RequestRead, Watch
from atlas.core.messages import Head, Part, Place, Receipt, User
from atlas.core.parts import PART_BYTES, Cutter, Piece
from atlas.core.ports import Clock
from atlas.edge import wire
from atlas.edge.body_reader import BodyReader
from atlas.edge.context import RequestContext
from atlas.edge.error_responses import ErrorResponses
from atlas.edge.flow_client import FlowClient
from atlas.edge.responses import batch_error, respond, stream_reply
from atlas.runtime import Acknowledgement, Reservation

PARTS_AT_ONCE = 2  # of one stream; the next one is read meanwhile
RETRY_SECONDS = 1.0

Recall = Callable[[Head, str], Awaitable[Acknowledgement[Receipt] | None]]


@dataclass(slots=True)
class StreamState:
    """The state of one stream. `failure` is the error that ends it early."""

    head: Head
    key: str | None
    reservation: Reservation
    part_slots: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(PARTS_AT_ONCE))
    whole: str | None = None
    bytes: int = 0
    ends: list[int] = field(default_factory=list)  # of the parts, in bytes of the body
    parts: dict[int, Acknowledgement[Receipt] | AtlasError] = field(default_factory=dict)
    failure: AtlasError | None = None
    first: anyio.Event = field(default_factory=anyio.Event)  # the first part is safe or refused
    progress: float = field(default_factory=anyio.current_time)

    def safe_bytes(self) -> int:
        """The bytes, from the start, that need not be sent again: they are safe or rejected."""
        safe = 0
        for index, end in enumerate(self.ends):
            part = self.parts.get(index)
            if part is None or (isinstance(part, AtlasError) and is_fatal(part)):
                break
            safe = end
        return safe


@dataclass(frozen=True, slots=True)
class Streams:
    """The route. `recall` finds the receipt of a part that is already stored."""

    flow: FlowClient
    bodies: BodyReader
    recall: Recall
    dataset_rid: str
    errors: ErrorResponses
    now: Clock
    watch: Watch
    is_draining: Callable[[], bool]
    part_bytes: int = PART_BYTES

    async def post(self, context: RequestContext, user: User, receive: Receive) -> Response:
        device, timestamp = context.stream_device(), context.stream_timestamp()
        head = Head(user, device, timestamp, context.correlation_id, trace=context.trace)
        declared = context.stream_record_count()
        with self.bodies.reserve_stream(user) as reservation:
            stream = StreamState(head, context.idempotency_key(), reservation)
            stopped = await self.read(context, stream, receive)
        self.watch(
            RequestRead(head.correlation_id, user.sub, len(stream.ends), stream.bytes, False)
        )
        outcomes = await self.wait_for_parts(context, stream)
        if not outcomes:
            raise stopped or Rejected("There is nothing in the body.")
        error = stream.failure or stopped or batch_error(outcomes)
        reply_context = wire.Context(head.correlation_id, self.dataset_rid, self.now())
        warnings = () if error else self.check_counts(stream, declared, outcomes)
        whole, safe_bytes = stream.whole, stream.safe_bytes()
        reply = stream_reply(outcomes, reply_context, whole, warnings, safe_bytes)
        if error:
            return self.errors.respond(context, error, user, reply)
        for outcome in outcomes:
            if isinstance(outcome, AtlasError):
                self.errors.emit(context, outcome, user)
        return respond(reply, outcomes, self.errors, whole)

    async def read(
        self, context: RequestContext, stream: StreamState, receive: Receive
    ) -> AtlasError | None:
        """Read to the end, or to an error, which is returned; then all parts are safe or refused.

        Raises ClientDisconnect, also after that.
        """
        cutter = Cutter(self.part_bytes)
        stopped: AtlasError | ClientDisconnect | None = None
        async with anyio.create_task_group() as tasks:
            try:
                chunks = self.bodies.read_stream(context, receive, stream.reservation)
                async with aclosing(chunks):
                    async for chunk in chunks:
                        stream.bytes += len(chunk)
                        for piece in cutter.feed(chunk):
                            await self.start(tasks, stream, piece)
                last = cutter.end()
                if last is not None:
                    await self.start(tasks, stream, last)
            except AtlasError as error:
                stopped = error.detached()
            except ClientDisconnect as error:
                stopped = error.with_traceback(None)
        if isinstance(stopped, ClientDisconnect):
            raise stopped
        return stopped

    async def start(self, tasks: TaskGroup, stream: StreamState, piece: Piece) -> None:
        """Start a part as soon as a slot is free. Raises the error that has ended the stream."""
        if self.is_draining():
            raise Draining
        await stream.part_slots.acquire()
        size = piece.end - piece.offset
        if stream.key is not None and stream.ends:
            await stream.first.wait()  # or two streams under one key could refuse each other
        if stream.failure is not None:
            raise stream.failure
        if ndjson.is_blank(piece.text, piece.first):
            self.release(stream, size)
            return
        id = await anyio.to_thread.run_sync(names.part_id, stream.head, piece.offset, piece.text)
        if stream.whole is None:
            user, key = stream.head.user, stream.key
            stream.whole = names.WHOLE + id if key is None else names.whole_id(user, key)
        index = len(stream.ends)
        stream.ends.append(piece.end)
        place = Place(stream.whole, index, stream.key)
        head = msgspec.structs.replace(stream.head, place=place)
        tasks.start_soon(self.keep, stream, Part(id, head, piece.text, piece.first), size)

    async def keep(self, stream: StreamState, part: Part, size: int) -> None:
        index = part.head.place.position if part.head.place else 0
        try:
            stream.parts[index] = await self.submit(stream, part)
            stream.progress = anyio.current_time()
        except AtlasError as error:
            stream.parts[index] = error.detached()
            if is_fatal(error):
                stream.failure = stream.failure or error
        finally:
            self.release(stream, size)
            stream.first.set()

    def release(self, stream: StreamState, size: int) -> None:
        """Release the memory and the slot of a part."""
        stream.reservation.release(size)
        stream.part_slots.release()

    async def submit(self, stream: StreamState, part: Part) -> Acknowledgement[Receipt]:
        """Submit a part, as soon as there is room in the journal. Meanwhile the sender waits.

        Raises JournalFull if the stream makes no progress for as long as an answer may take.
        """
        while True:
            try:
                known = await self.recall_in_time(part)
                return known or await self.flow.submit(part)
            except JournalFull:
                if anyio.current_time() - stream.progress > self.flow.reply_seconds:
                    raise
            await anyio.sleep(RETRY_SECONDS)

    async def recall_in_time(self, part: Part) -> Acknowledgement[Receipt] | None:
        with anyio.move_on_after(self.flow.reply_seconds):
            return await self.recall(part.head, part.id)
        raise NoRoom

    async def wait_for_parts(
        self, context: RequestContext, stream: StreamState
    ) -> list[wire.Outcome]:
        """The outcome of each part, once all are committed or the sender waits no longer."""
        until = 0.0 if stream.failure else self.flow.deadline(context)
        parts = sorted(stream.parts.items())
        return [await self.flow.wait_for_outcome(part, until) for _, part in parts]

    def check_counts(
        self, stream: StreamState, declared: int | None, outcomes: list[wire.Outcome]
    ) -> tuple[str, ...]:
        """Warnings if the sender has counted other lines than were received, which is unknown if a
        part was refused.
        """
        received = 0
        for outcome in outcomes:
            if isinstance(outcome, AtlasError):
                return ()
            received += outcome.received
        warnings = () if declared is None else wire.count_warnings(declared, received)
        if warnings and stream.whole is not None:
            self.watch(CountsDiffer(stream.whole, stream.head.correlation_id, received))
        return warnings


def is_fatal(error: AtlasError) -> bool:
    """Whether it ends the stream: the error is not about the lines, so a retry can succeed."""
    return isinstance(error, KeyReused) or not isinstance(error, Rejected)

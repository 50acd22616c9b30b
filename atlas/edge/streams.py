"""A streamed body: each part of it is safe as soon as it is full, before the rest has arrived.

So whoever is cut off in the middle sends the same again, and what was safe is passed over. No more
of the body is held than the parts that are on their way.
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

import anyio
import msgspec
from anyio.abc import TaskGroup
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from atlas.core import names, ndjson
from atlas.core.errors import AtlasError, Draining, JournalFull, KeyReused, Rejected
from atlas.core.events import CountsDiffer, RequestRead, Watch
from atlas.core.messages import Head, Part, Place, Receipt, User
from atlas.core.parts import PART_BYTES, Cutter, Piece
from atlas.core.ports import Clock
from atlas.edge import wire
from atlas.edge.admission import Held
from atlas.edge.answers import answer
from atlas.edge.bodies import Bodies, body
from atlas.edge.refusals import Refusals, correlation_id
from atlas.edge.waiting import COUNT, Waiting, idempotency_key
from atlas.runtime import Pending

PARTS_AT_ONCE = 2  # of one stream; and the next is read meanwhile
AGAIN_SECONDS = 1.0

Recall = Callable[[Head, str], Awaitable[Pending[Receipt] | None]]


@dataclass(slots=True)
class Stream:
    """What has come of one body so far. `failure` is why it makes no sense to read on."""

    head: Head
    key: str | None
    held: Held
    room: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(PARTS_AT_ONCE))
    whole: str | None = None
    bytes: int = 0
    ends: list[int] = field(default_factory=list)  # of the parts, in bytes of the body
    parts: dict[int, Pending[Receipt] | AtlasError] = field(default_factory=dict)
    failure: AtlasError | None = None
    first: anyio.Event = field(default_factory=anyio.Event)  # its first part is safe, or refused
    progress: float = field(default_factory=anyio.current_time)

    def safe_bytes(self) -> int:
        """Up to where all is safe, or is no use to anybody."""
        safe = 0
        for index, end in enumerate(self.ends):
            part = self.parts.get(index)
            if part is None or (isinstance(part, AtlasError) and ends_it(part)):
                break
            safe = end
        return safe


@dataclass(frozen=True, slots=True)
class Streams:
    """`recall` is asked for each part before it is worked at."""

    flow: Waiting
    bodies: Bodies
    recall: Recall
    dataset_rid: str
    refusals: Refusals
    now: Clock
    watch: Watch
    is_draining: Callable[[], bool]
    part_bytes: int = PART_BYTES

    async def post(self, request: Request, user: User) -> Response:
        device, timestamp = sent_with(request)
        head = Head(user, device, timestamp, correlation_id(request), trace=request.scope["trace"])
        said = count(request)
        with self.bodies.lines(user) as held:
            stream = Stream(head, idempotency_key(request), held)
            await self.bodies.come(request, held, self.bodies.stream_bytes_max)
            stopped = await self.take(request, stream)
        self.watch(
            RequestRead(head.correlation_id, user.sub, len(stream.ends), stream.bytes, False)
        )
        outcomes = await self.outcomes(request, stream)
        if not outcomes:
            raise stopped or Rejected("There is nothing in the body.")
        error = stream.failure or stopped or wire.batch_error(outcomes)
        context = wire.Context(head.correlation_id, self.dataset_rid, self.now())
        warnings = () if error else self.compare(stream, said, outcomes)
        whole, safe_bytes = stream.whole, stream.safe_bytes()
        reply = wire.stream_reply(outcomes, context, whole, warnings, safe_bytes)
        if error:
            return self.refusals.response(request, error, reply)
        for outcome in outcomes:
            if isinstance(outcome, AtlasError):
                self.refusals.tell(request, outcome)
        return answer(reply, outcomes, self.refusals, whole)

    async def take(self, request: Request, stream: Stream) -> AtlasError | None:
        """Read it to its end, or to what ends it early; then all parts are safe, or refused.

        Raises ClientDisconnect, after that, when nobody is there any more.
        """
        cutter, stopped = Cutter(self.part_bytes), None
        async with anyio.create_task_group() as tasks:
            try:
                reading = self.bodies.of_lines(stream.held)
                async with aclosing(body.inflated(request, reading)) as steps:
                    async for step in steps:
                        stream.bytes += len(step)
                        for piece in cutter.feed(step):
                            await self.start(tasks, stream, piece)
                last = cutter.end()
                if last is not None:
                    await self.start(tasks, stream, last)
            except (AtlasError, ClientDisconnect) as error:
                stopped = error
        if isinstance(stopped, ClientDisconnect):
            raise stopped
        return stopped

    async def start(self, tasks: TaskGroup, stream: Stream, piece: Piece) -> None:
        """Send a part on its way, when there is room for it. Raises what has ended the stream."""
        if self.is_draining():
            raise Draining
        await stream.room.acquire()
        size = piece.end - piece.offset
        if stream.key is not None and stream.ends:
            await stream.first.wait()  # or of two streams under one key each could refuse the other
        if stream.failure is not None:
            raise stream.failure
        if ndjson.is_blank(piece.text, piece.first):
            self.let_go(stream, size)
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

    async def keep(self, stream: Stream, part: Part, size: int) -> None:
        index = part.head.place.position if part.head.place else 0
        try:
            stream.parts[index] = await self.safe(stream, part)
            stream.progress = anyio.current_time()
        except AtlasError as error:
            stream.parts[index] = error
            if ends_it(error):
                stream.failure = stream.failure or error
        finally:
            self.let_go(stream, size)
            stream.first.set()

    def let_go(self, stream: Stream, size: int) -> None:
        """So many bytes of it are safe, or no use to anybody; more may come."""
        self.bodies.flight.give(stream.held, size)
        stream.room.release()

    async def safe(self, stream: Stream, part: Part) -> Pending[Receipt]:
        """Once there is room in the journal; meanwhile the sender waits at the socket.

        Raises JournalFull when nothing of the stream got on for as long as an answer may take.
        """
        while True:
            try:
                with self.flow.deadline():
                    known = await self.recall(part.head, part.id)
                return known or await self.flow.accepted(part)
            except JournalFull:
                if anyio.current_time() - stream.progress > self.flow.reply_seconds:
                    raise
            await anyio.sleep(AGAIN_SECONDS)

    async def outcomes(self, request: Request, stream: Stream) -> list[wire.Outcome]:
        """How each part stands when all are committed, or the sender waits no longer."""
        until = anyio.current_time() + (0 if stream.failure else self.flow.wait_seconds(request))
        return [await self.flow.outcome(part, until) for _, part in sorted(stream.parts.items())]

    def compare(
        self, stream: Stream, said: int | None, outcomes: list[wire.Outcome]
    ) -> tuple[str, ...]:
        """Is it what the sender thinks that he has sent? Nobody knows where a part was refused."""
        received = 0
        for outcome in outcomes:
            if isinstance(outcome, AtlasError):
                return ()
            received += outcome.received
        warnings = () if said is None else wire.count_warnings(said, received)
        if warnings and stream.whole is not None:
            self.watch(CountsDiffer(stream.whole, stream.head.correlation_id, received))
        return warnings


def ends_it(error: AtlasError) -> bool:
    """Whether it is of the whole stream: the same part can be good another time."""
    return isinstance(error, KeyReused) or not isinstance(error, Rejected)


def sent_with(request: Request) -> tuple[str, str]:
    """The device and the timestamp, as sent; "unknown" and "" if they are not."""
    return header(request, "Atlas-Device") or "unknown", header(request, "Atlas-Timestamp")


def header(request: Request, name: str) -> str:
    """UTF-8, as it is or percent-encoded. Raises Rejected."""
    raw = request.headers.get(name, "").encode("latin-1")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise Rejected(f"{name} is not UTF-8.") from error


def count(request: Request) -> int | None:
    said = request.headers.get("Atlas-Record-Count", "")
    return int(said) if COUNT.fullmatch(said) else None

"""Reads a body within its limits: of size, of pace, and of the memory there is for all of them."""

import codecs
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import TypeVar, cast

import anyio
import msgspec
from anyio.lowlevel import checkpoint
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from atlas.core.errors import (
    NOT_JSON,
    Draining,
    Rejected,
    TooLarge,
    TooSlow,
    UnsupportedMediaType,
)
from atlas.core.messages import User
from atlas.edge import wire
from atlas.edge.content_encoding import decoder_for
from atlas.edge.context import JSON, RequestContext
from atlas.runtime import Quota, Reservation

T = TypeVar("T")

JSON_WEIGHT = 4  # the body, the base64 in it twice, and what that decodes to
LINES_WEIGHT = 1  # what is made of them is bounded by how many parts are worked at
PREPAID_BYTES = 64 * 1024  # of a body whose size in memory is not known
CONTENDED_RATE_FACTOR = 32.0  # so many times as fast must a body come while others wait for memory
HELD_SECONDS = 30.0  # ... and so fast that it does not hold what it was promised for longer


@dataclass(frozen=True, slots=True)
class MinimumRate:
    """How slowly a body may come: so many bytes a second, looked at over so many seconds."""

    seconds: float = 10.0
    bytes_per_second: int = 1024


@dataclass(slots=True)
class Pace:
    """The window that is looked at just now. `factor`: so much faster than the minimum rate must
    the body come while others wait for memory.
    """

    factor: float
    waited_seconds: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class BodyReader:
    """`json_bytes_max` is of JSON, `stream_bytes_max` of lines; both after decoding, too.

    Nobody waits for memory for longer than `reply_seconds`.
    """

    quota: Quota
    json_bytes_max: int
    stream_bytes_max: int
    minimum_rate: MinimumRate
    reply_seconds: float

    def reserve_json(self, user: User) -> Reservation:
        """To be held for as long as anything of the body is used."""
        return self.quota.reserve(user.sub, JSON_WEIGHT)

    def reserve_stream(self, user: User) -> Reservation:
        """To be released part by part; what is left of it, at its end."""
        return self.quota.reserve(user.sub, LINES_WEIGHT)

    async def read_json(
        self,
        context: RequestContext,
        receive: Receive,
        reservation: Reservation,
        parse: Callable[[bytearray], T],
    ) -> tuple[T, int]:
        """A JSON body, parsed, and how many bytes it has.

        Raises UnsupportedMediaType, TooLarge, TooSlow, Rejected, Unavailable without memory.
        """
        if context.media_type != JSON:
            raise UnsupportedMediaType
        encoding, length = context.content_encoding(), context.content_length
        ahead = PREPAID_BYTES if encoding or length is None else length
        await self._prepay(reservation, ahead, length, self.json_bytes_max)
        body = bytearray()
        chunks = self._decoded(context, receive, reservation, self.json_bytes_max)
        async for chunk in chunks:
            body += chunk
        if body.startswith(codecs.BOM_UTF8):
            del body[: len(codecs.BOM_UTF8)]
        return parse(body), len(body)

    async def read_stream(
        self, context: RequestContext, receive: Receive, reservation: Reservation
    ) -> AsyncGenerator[bytes, None]:
        """A body of lines as it comes, without its encoding, a little at a time.

        Raises UnsupportedMediaType, TooLarge, TooSlow, Unavailable without memory, Rejected when it
        ends in the middle.
        """
        context.content_encoding()
        length = context.content_length
        await self._prepay(reservation, PREPAID_BYTES, length, self.stream_bytes_max)
        async for chunk in self._decoded(context, receive, reservation, self.stream_bytes_max):
            yield chunk

    async def _prepay(
        self, reservation: Reservation, ahead: int, length: int | None, bytes_max: int
    ) -> None:
        """Memory before anything is read, unless the body is refused for its size."""
        ahead = ahead if length is None else min(ahead, length)
        if ahead <= bytes_max:
            await reservation.prepay(ahead, self.reply_seconds)

    async def _decoded(
        self, context: RequestContext, receive: Receive, reservation: Reservation, bytes_max: int
    ) -> AsyncGenerator[bytes, None]:
        encoding = context.content_encoding()
        decoder = decoder_for(encoding)
        if (context.content_length or 0) > bytes_max:
            raise TooLarge(f"The body may have {bytes_max} bytes.")
        promised = reservation.prepaid / HELD_SECONDS / self.minimum_rate.bytes_per_second
        pace = Pace(max(CONTENDED_RATE_FACTOR, promised))
        received = made = 0
        is_more = True
        while is_more:
            message = await self._receive(receive, pace)
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk, is_more = message.get("body", b""), message.get("more_body", False)
            received += len(chunk)
            pace.bytes += len(chunk)
            for step in decoder.decode(chunk):
                made += len(step)
                if max(made, received) > bytes_max:
                    raise TooLarge(f"The body may have {bytes_max} bytes, after inflation too.")
                await reservation.acquire(len(step), self.reply_seconds)
                yield step
                if encoding:
                    await checkpoint()  # or the loop would stand still while a chunk is decoded
        decoder.end()

    async def _receive(self, receive: Receive, pace: Pace) -> Message:
        """The next message. Raises TooSlow when we wait for too long for too little, Draining.

        The server is asked directly: a stream of starlette's ends when a wait for it is cut short.
        """
        message = receive_at_once(receive)
        if message is not None:
            return message
        rate = self.minimum_rate
        while True:
            began = anyio.current_time()
            deadline = began + max(0.0, rate.seconds - pace.waited_seconds)
            with self.quota.cancelled_on_close(deadline) as scope:
                message = await receive()
            if not scope.cancelled_caught:
                pace.waited_seconds += anyio.current_time() - began
                return message
            if self.quota.is_closed:
                raise Draining
            factor = pace.factor if self.quota.is_contended else 1.0  # counts at once
            if pace.bytes < rate.seconds * rate.bytes_per_second * factor:
                raise TooSlow
            pace.waited_seconds, pace.bytes = 0.0, 0


def receive_at_once(receive: Receive) -> Message | None:
    """The next message, if it is there already, as that of a small body is: the scope that a wait
    needs costs as much as the rest of the reading.
    """
    attempt = cast("Coroutine[object, None, Message]", receive())
    try:
        attempt.send(None)
    except StopIteration as done:
        message: Message = done.value
        return message
    attempt.close()
    return None


def parse_export(body: bytes | bytearray | msgspec.Raw) -> wire.ExportBody:
    """An export; of a large one no copy is made, as it is nearly always plain. Raises Rejected."""
    raw = bytes(body) if isinstance(body, msgspec.Raw) else body
    if raw.isascii() and b"\\" not in raw:
        found = parse_json(raw, wire.PlainExportBody)
        if bytes(memoryview(found.rawhealthkit)[:1]) == b'"':
            return found  # else it is of another type, which the other way refuses
    return parse_json(raw, wire.ExportBody)


def parse_json(body: bytes | bytearray | msgspec.Raw, kind: type[T]) -> T:
    """Raises Rejected for what is no JSON of this kind; nothing of it is told."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Rejected(f"The body has another shape: {shape_of(error)}.") from error
    except NOT_JSON as error:
        raise Rejected("The body is not valid JSON.") from error


def shape_of(error: msgspec.ValidationError) -> str:
    """msgspec names types and keys of ours; a key of the sender's it replaces by `[...]`."""
    return str(error).replace("`", "").replace(" - at $", " at ")

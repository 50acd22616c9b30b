"""Reads bodies within their limits: size, rate, and the memory for all bodies."""

import codecs
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import anyio
import msgspec
from anyio.lowlevel import checkpoint
from msgspec import UNSET, Raw, UnsetType
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from atlas.core.errors import (
    JSON_ERRORS,
    BodyTooLarge,
    BodyTooSlow,
    Draining,
    Rejected,
    UnsupportedMediaType,
)
from atlas.core.messages import User
from atlas.edge.api_types import ExportBody, PlainExportBody
from atlas.edge.content_encoding import build_decoder
from atlas.edge.context import JSON, NDJSON, RequestContext
from atlas.edge.mistaken_bodies import is_body_of_lines
from atlas.runtime import Quota, Reservation

T = TypeVar("T")

JSON_WEIGHT = 4  # memory per byte of the body: itself, its base64 twice, the decoded text
LINES_WEIGHT = 1  # parts in progress are limited by their number
PREPAID_BYTES = 64 * 1024  # for a body whose decoded size is not known
CONTENDED_RATE_FACTOR = 32.0  # raises the minimum rate while other bodies wait for memory
PREPAID_SECONDS_MAX = 30.0  # raises it further, so that prepaid memory is used within this time

JSON_ONLY = "A batch is JSON: send it as application/json, or send lines to /export."
LINES_AS_JSON = (
    "The body is a line of a sample, not an export: send lines as application/x-ndjson, or their"
    " base64 as rawhealthkit."
)


@dataclass(frozen=True, slots=True)
class MinimumRate:
    """The minimum rate of a body, checked over windows of `seconds`."""

    seconds: float = 10.0
    bytes_per_second: int = 1024


@dataclass(slots=True)
class BodyRate:
    """The current window of a body. `factor` raises its minimum rate while others wait."""

    factor: float
    waited_seconds: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class BodyReader:
    """Reads and decodes bodies.

    `json_bytes_max` and `stream_bytes_max` apply both before and after decoding. A body waits at
    most `reply_seconds` for memory.
    """

    quota: Quota
    json_bytes_max: int
    stream_bytes_max: int
    minimum_rate: MinimumRate
    reply_seconds: float

    def reserve_json(self, user: User) -> Reservation:
        """Reserve memory, to be held while anything of the body is in use."""
        return self.quota.reserve(user.sub, JSON_WEIGHT)

    def reserve_stream(self, user: User) -> Reservation:
        """Reserve memory, to be released part by part, and the rest at the end."""
        return self.quota.reserve(user.sub, LINES_WEIGHT)

    async def read_json(
        self,
        context: RequestContext,
        receive: Receive,
        reservation: Reservation,
        parse: Callable[[bytearray], T],
    ) -> tuple[T, int]:
        """Read and parse a JSON body. Returns the result, and the number of bytes parsed.

        Raises UnsupportedMediaType, BodyTooLarge, BodyTooSlow, Rejected, and Unavailable if there
        is not enough memory in time.
        """
        if context.media_type != JSON:
            raise UnsupportedMediaType(JSON_ONLY if context.media_type == NDJSON else "")
        encoding, length = context.parse_encoding(), context.content_length
        prepaid_bytes = PREPAID_BYTES if encoding or length is None else length
        await self._prepay(reservation, prepaid_bytes, length, self.json_bytes_max)
        body = bytearray()
        bytes_max = self.json_bytes_max
        async for chunk in self._decode_chunks(context, receive, reservation, bytes_max):
            body += chunk
        if body.startswith(codecs.BOM_UTF8):
            del body[: len(codecs.BOM_UTF8)]
        try:
            return parse(body), len(body)
        except Rejected:
            if is_body_of_lines(body):
                raise Rejected(LINES_AS_JSON) from None
            raise

    async def read_stream(
        self, context: RequestContext, receive: Receive, reservation: Reservation
    ) -> AsyncGenerator[bytes, None]:
        """Yield the decoded chunks of a body of lines as they arrive.

        Raises UnsupportedMediaType, BodyTooLarge, BodyTooSlow, Rejected for a truncated encoding,
        and Unavailable if there is not enough memory in time.
        """
        context.parse_encoding()
        bytes_max = self.stream_bytes_max
        await self._prepay(reservation, PREPAID_BYTES, context.content_length, bytes_max)
        async for chunk in self._decode_chunks(context, receive, reservation, bytes_max):
            yield chunk

    async def _prepay(
        self, reservation: Reservation, prepaid_bytes: int, length: int | None, bytes_max: int
    ) -> None:
        """Acquire memory before reading, unless the body will be refused for its size."""
        prepaid_bytes = prepaid_bytes if length is None else min(prepaid_bytes, length)
        if prepaid_bytes <= bytes_max:
            await reservation.prepay(prepaid_bytes, self.reply_seconds)

    async def _decode_chunks(
        self, context: RequestContext, receive: Receive, reservation: Reservation, bytes_max: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield the decoded chunks, and acquire memory for each."""
        encoding = context.parse_encoding()
        decoder = build_decoder(encoding)
        if (context.content_length or 0) > bytes_max:
            raise BodyTooLarge(f"The body has more than {bytes_max} bytes.")
        prepaid_rate = reservation.prepaid / PREPAID_SECONDS_MAX
        prepaid_factor = prepaid_rate / self.minimum_rate.bytes_per_second
        body_rate = BodyRate(max(CONTENDED_RATE_FACTOR, prepaid_factor))
        received_bytes = decoded_bytes = 0
        has_more = True
        while has_more:
            message = await self._receive(receive, body_rate)
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk, has_more = message.get("body", b""), message.get("more_body", False)
            received_bytes += len(chunk)
            body_rate.bytes += len(chunk)
            for step in decoder.decode(chunk):
                decoded_bytes += len(step)
                if max(decoded_bytes, received_bytes) > bytes_max:
                    raise BodyTooLarge(
                        f"The body has more than {bytes_max} bytes, before or after decoding."
                    )
                await reservation.acquire(len(step), self.reply_seconds)
                yield step
                if encoding:
                    await checkpoint()  # keeps the event loop responsive while a chunk is decoded
        decoder.end()

    async def _receive(self, receive: Receive, body_rate: BodyRate) -> Message:
        """Wait for the next message. Raises Draining, and BodyTooSlow below the minimum rate.

        It calls `receive` directly, because a Starlette stream ends when a wait is cancelled.
        """
        message = receive_if_ready(receive)
        if message is not None:
            return message
        rate = self.minimum_rate
        while True:
            started_at = anyio.current_time()
            deadline = started_at + max(0.0, rate.seconds - body_rate.waited_seconds)
            with self.quota.cancelled_on_close(deadline) as scope:
                message = await receive()
            if not scope.cancelled_caught:
                body_rate.waited_seconds += anyio.current_time() - started_at
                return message
            if self.quota.is_closed:
                raise Draining
            factor = body_rate.factor if self.quota.is_contended else 1.0
            if body_rate.bytes < rate.seconds * rate.bytes_per_second * factor:
                raise BodyTooSlow
            body_rate.waited_seconds, body_rate.bytes = 0.0, 0


def receive_if_ready(receive: Receive) -> Message | None:
    """Return the next message if it has arrived already, as for a small body; None otherwise.

    This saves the cancel scope of a wait, which costs as much as the rest of reading.
    """
    attempt = cast("Coroutine[object, None, Message]", receive())
    try:
        attempt.send(None)
    except StopIteration as done:
        message: Message = done.value
        return message
    attempt.close()
    return None


def parse_export(body: bytes | bytearray | Raw) -> ExportBody:
    """Parse an export, without copying its base64 if nothing is escaped. Raises Rejected."""
    raw = bytes(body) if isinstance(body, Raw) else body
    if raw.isascii() and b"\\" not in raw:
        plain = parse_json(raw, PlainExportBody)
        if bytes(memoryview(plain.rawhealthkit)[:1]) == b'"':
            return plain  # anything but a string is rejected below
    return parse_json(raw, ExportBody)


def parse_json(body: bytes | bytearray | Raw, kind: type[T]) -> T:
    """Parse JSON. Raises Rejected, with a message that quotes nothing of the body."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Rejected(
            f"The body does not match the schema: {describe_mismatch(body, kind)}."
        ) from error
    except JSON_ERRORS as error:
        raise Rejected("The body is not valid JSON.") from error


def describe_mismatch(body: bytes | bytearray | Raw, kind: type) -> str:
    """Name the first field that does not match its type. Raises Rejected for invalid JSON."""
    fields, untyped = build_untyped(kind)
    try:
        decoded: Any = msgspec.json.decode(body, type=untyped)
    except msgspec.ValidationError:
        return "it is not an object"
    except JSON_ERRORS as error:
        raise Rejected("The body is not valid JSON.") from error
    for field, value in zip(fields, msgspec.structs.astuple(decoded), strict=True):
        if value is UNSET and field.required:
            return f"{field.encode_name} is missing"
        try:
            if value is not UNSET:
                msgspec.json.decode(value, type=field.type)
        except JSON_ERRORS:
            words = get_args(field.type) if get_origin(field.type) is Literal else ()
            problem = f"is none of {', '.join(words)}" if words else "has the wrong type"
            return f"{field.encode_name} {problem}"
    return "a field is unknown or given twice"


@cache
def build_untyped(kind: type) -> tuple[tuple[msgspec.structs.FieldInfo, ...], type]:
    """Return the fields of a struct, and a struct with the same fields left undecoded."""
    fields = msgspec.structs.fields(kind)  # creates reference cycles, hence the cache
    raw: Any = Raw | UnsetType
    untyped = msgspec.defstruct(
        "Untyped",
        [(each.name, raw, msgspec.field(default=UNSET, name=each.encode_name)) for each in fields],
    )
    return fields, untyped

"""The body of a request: within its limits while it is read and while it is inflated."""

import codecs
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import anyio
import msgspec
from anyio.lowlevel import checkpoint
from starlette.requests import ClientDisconnect, Request

from atlas.core.errors import NOT_JSON, Rejected, TooLarge, TooSlow, UnsupportedMediaType
from atlas.edge.bodies.inflate import ENCODINGS, inflater

T = TypeVar("T")

JSON, NDJSON = "application/json", "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Slowest:
    """How slowly a body may come: so many bytes a second, looked at over so many seconds."""

    seconds: float = 10.0
    bytes_per_second: int = 1024


async def room_at_once(_count: int) -> None:
    """There is room for whatever comes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """On what terms a body is read.

    `room` is asked for each few bytes before they are handed on. `hurry` is how many times as fast
    as the slowest a body must come just now. What waits in `patiently` ends when that does.
    """

    bytes_max: int
    slowest: Slowest = Slowest()
    room: Callable[[int], Awaitable[None]] = room_at_once
    hurry: Callable[[], float] = lambda: 1.0
    patiently: Callable[[], AbstractContextManager[None]] = nullcontext


async def read(request: Request, kind: type[T], reading: Reading) -> tuple[T, int]:
    """The JSON body of a request, and how many bytes it has.

    Raises UnsupportedMediaType, TooLarge, TooSlow, Rejected.
    """
    if media(request) != JSON:
        raise UnsupportedMediaType
    body = bytearray()
    async for step in inflated(request, reading):
        body += step
    if body.startswith(codecs.BOM_UTF8):
        del body[: len(codecs.BOM_UTF8)]
    return parse(body, kind), len(body)


async def inflated(request: Request, reading: Reading) -> AsyncGenerator[bytes, None]:
    """The body as it comes, without its encoding, a little at a time.

    Raises UnsupportedMediaType, TooLarge, TooSlow, Rejected when it ends in the middle.
    """
    inflating, bytes_max = inflater(encoding(request)), reading.bytes_max
    if (declared(request) or 0) > bytes_max:
        raise TooLarge(f"The body may have {bytes_max} bytes.")
    sent = made = 0
    async for piece in pieces(request, reading):
        sent += len(piece)
        for step in inflating.inflate(piece):
            made += len(step)
            if max(made, sent) > bytes_max:
                raise TooLarge(f"The body may have {bytes_max} bytes, after inflation too.")
            await reading.room(len(step))
            yield step
            await checkpoint()  # or the loop would stand still for as long as a piece inflates
    inflating.end()


def media(request: Request) -> str:
    """What the body is, in its plain form; JSON if nobody says."""
    return request.headers.get("content-type", JSON).partition(";")[0].strip().lower()


def encoding(request: Request) -> str:
    """How the body is encoded, "" for plainly. Raises UnsupportedMediaType."""
    found = request.headers.get("content-encoding", "identity").strip().lower()
    if found in {"identity", ""}:
        return ""
    if found not in ENCODINGS:
        raise UnsupportedMediaType
    return found


def declared(request: Request) -> int | None:
    """How many bytes are on their way, if the sender has said so."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


async def pieces(request: Request, reading: Reading) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises TooSlow when we wait for too long for too little of it.

    The server is asked directly: a stream of starlette's ends when a wait for it is cut short.
    """
    slowest = reading.slowest
    waited, in_window = 0.0, 0
    more = True
    while more:
        began = anyio.current_time()
        try:
            with anyio.fail_after(max(0.0, slowest.seconds - waited)), reading.patiently():
                message = await request.receive()
        except TimeoutError:  # haste counts at once, for the window that ends now
            if in_window < slowest.seconds * slowest.bytes_per_second * reading.hurry():
                raise TooSlow from None
            waited, in_window = 0.0, 0
            continue
        waited += anyio.current_time() - began
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece, more = message.get("body", b""), message.get("more_body", False)
        in_window += len(piece)
        yield piece


def parse(body: bytes | bytearray | msgspec.Raw, kind: type[T]) -> T:
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

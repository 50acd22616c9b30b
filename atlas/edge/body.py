"""The body of a request: within its limits while it is read and while it is inflated."""

import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

import anyio
import msgspec
from anyio.lowlevel import checkpoint
from starlette.requests import ClientDisconnect, Request

from atlas.core.errors import NOT_JSON, Rejected, TooLarge, TooSlow, UnsupportedMediaType
from atlas.edge.inflate import ENCODINGS, inflater

T = TypeVar("T")

WINDOW_SECONDS = 10.0
WINDOW_BYTES_MIN = 10 * 1024
JSON, NDJSON = "application/json", "application/x-ndjson"


async def read(request: Request, kind: type[T], bytes_max: int) -> T:
    """The JSON body of a request.

    Raises UnsupportedMediaType, TooLarge, TooSlow, Rejected.
    """
    if media(request) != JSON:
        raise UnsupportedMediaType
    body = bytearray()
    async for step in inflated(request, bytes_max):
        body += step
    return parse(bytes(body.removeprefix(codecs.BOM_UTF8)), kind)


async def inflated(request: Request, bytes_max: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes, without its encoding, a little at a time.

    Raises UnsupportedMediaType, TooLarge, TooSlow, Rejected when it ends in the middle.
    """
    inflating = inflater(encoding(request))
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bytes_max:
        raise TooLarge(f"The body may have {bytes_max} bytes.")
    sent = made = 0
    async for piece in pieces(request):
        sent += len(piece)
        for step in inflating.inflate(piece):
            made += len(step)
            if max(made, sent) > bytes_max:
                raise TooLarge(f"The body may have {bytes_max} bytes, after inflation too.")
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


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises TooSlow when we wait ten seconds for less than 10 KiB of it.

    The server is asked directly: a stream of starlette's ends when a wait for it is cut short.
    """
    waited, in_window = 0.0, 0
    more = True
    while more:
        began = anyio.current_time()
        try:
            with anyio.fail_after(max(0.0, WINDOW_SECONDS - waited)):
                message = await request.receive()
        except TimeoutError:
            if in_window < WINDOW_BYTES_MIN:
                raise TooSlow from None
            waited, in_window = 0.0, 0
            continue
        waited += anyio.current_time() - began
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece, more = message.get("body", b""), message.get("more_body", False)
        in_window += len(piece)
        yield piece


def parse(body: bytes | msgspec.Raw, kind: type[T]) -> T:
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

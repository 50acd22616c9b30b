"""The body of a request: within its limits while it is read and while it is inflated."""

import codecs
import zlib
from collections.abc import AsyncIterator
from typing import TypeVar

import anyio
import msgspec
from starlette.requests import ClientDisconnect, Request

from atlas.core.errors import NOT_JSON, Rejected, TooLarge, TooSlow, UnsupportedMediaType

T = TypeVar("T")

WINDOW_SECONDS = 10.0
WINDOW_BYTES_MIN = 10 * 1024
MEMBERS_MAX = 100
GZIP, ZLIB, DEFLATE = 31, 15, -15  # how zlib is told what to expect


async def read(request: Request, kind: type[T], bytes_max: int) -> T:
    """The JSON body of a request.

    Raises UnsupportedMediaType, TooLarge, TooSlow, Rejected.
    """
    encoding = media(request)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bytes_max:
        raise TooLarge(f"The body may have {bytes_max} bytes.")
    body = bytearray()
    inflater = Inflater() if encoding else None
    sent = 0
    async for piece in pieces(request):
        sent += len(piece)
        if inflater is None:
            body += piece
        else:
            inflater.inflate(piece, body, bytes_max)
        if max(len(body), sent) > bytes_max:
            raise TooLarge(f"The body may have {bytes_max} bytes, after inflation too.")
    if inflater is not None:
        inflater.end()
    return parse(bytes(body.removeprefix(codecs.BOM_UTF8)), kind)


def media(request: Request) -> str:
    """How the body is encoded, "" for plainly. Raises UnsupportedMediaType."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if kind != "application/json" or encoding not in {"identity", "", "gzip", "x-gzip", "deflate"}:
        raise UnsupportedMediaType
    return "" if encoding == "identity" else encoding


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises TooSlow when less than 1 KiB/s comes for ten seconds.

    The server is asked directly: a stream of starlette's ends when a wait for it is cut short.
    """
    window_ends, in_window = anyio.current_time() + WINDOW_SECONDS, 0
    more = True
    while more:
        try:
            with anyio.fail_after(window_ends - anyio.current_time()):
                message = await request.receive()
        except TimeoutError:
            if in_window < WINDOW_BYTES_MIN:
                raise TooSlow from None
            window_ends, in_window = anyio.current_time() + WINDOW_SECONDS, 0
            continue
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece, more = message.get("body", b""), message.get("more_body", False)
        in_window += len(piece)
        yield piece


class Inflater:
    """gzip, of any number of members, or deflate, which is sent with and without zlib's header."""

    def __init__(self) -> None:
        self._zlib: zlib._Decompress | None = None
        self._kind = 0
        self._members = 0

    def inflate(self, piece: bytes, body: bytearray, bytes_max: int) -> None:
        """Append what a piece inflates to, one byte more than may be at most. Raises Rejected."""
        while piece and len(body) <= bytes_max:
            inflating = self._member(piece)
            try:
                body += inflating.decompress(piece, bytes_max + 1 - len(body))
            except zlib.error as error:
                raise Rejected("The body does not inflate.") from error
            piece = inflating.unused_data or inflating.unconsumed_tail
            if inflating.eof and self._kind == GZIP:
                piece = piece.lstrip(b"\0")  # gzip may be padded

    def _member(self, piece: bytes) -> "zlib._Decompress":
        """What inflates this piece: the one at work, or a new one where that has ended."""
        if self._zlib is not None and not self._zlib.eof:
            return self._zlib
        is_gzip = piece[:1] == b"\x1f"
        if self._zlib is not None and not (is_gzip and self._kind == GZIP):
            raise Rejected("The body goes on where its compressed data end.")
        self._members += 1
        if self._members > MEMBERS_MAX:  # each costs time, however little is in it
            raise Rejected(f"The body may have {MEMBERS_MAX} members of gzip.")
        if is_gzip:
            self._kind = GZIP
        else:
            self._kind = ZLIB if piece[0] & 0x0F == 8 and piece[0] >> 4 <= 7 else DEFLATE
        self._zlib = zlib.decompressobj(self._kind)
        return self._zlib

    def end(self) -> None:
        if self._zlib is not None and not self._zlib.eof:
            raise Rejected("The compressed body ends too early.")


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

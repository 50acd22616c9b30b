"""Parses the requests of one connection: bytes in, events out. No I/O, no clock.

A message can only end with an empty line, or where its Content-Length says. So llhttp is fed up to
there and no further (a chunked body: from size to size, and then up to the empty line). That makes
the size of a header block exact, and pipelined bytes wait until the request before is answered. A
fault is the last event, behind those of everything before it.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, Protocol

import httptools

from atlas.core.errors import AtlasError, BadRequest, HeadersTooLarge
from atlas.server.http.framing import ChunkedTracker, find_end_of_headers
from atlas.server.http.header_validation import CHUNKED, Headers, strip_upgrade, validate


class Llhttp(Protocol):
    """The HTTP parser of Node.js, as httptools offers it."""

    def feed_data(self, data: bytes) -> None: ...

    def get_method(self) -> bytes: ...

    def should_keep_alive(self) -> bool: ...

    def should_upgrade(self) -> bool: ...


class RequestHead(NamedTuple):
    """A request without its body. Names of headers are in lower case."""

    method: str
    path: bytes  # percent-encoded
    query: bytes
    headers: Headers
    is_http_1_1: bool
    keeps_alive: bool
    expects_continue: bool


class BodyEnd:
    """The end of the body of a request."""


END = BodyEnd()
ParserEvent = RequestHead | bytes | BodyEnd | AtlasError  # bytes are a piece of a body


class ParseState(Enum):
    """The part of a message that comes next on a connection."""

    HEAD = auto()
    BODY = auto()  # with a Content-Length
    CHUNKS = auto()
    ANSWER = auto()  # nothing more is parsed before the request is answered
    FAULT = auto()  # nothing more is parsed


class RequestParser:
    """Parses the input of one connection. `header_bytes_max` includes the request line."""

    def __init__(
        self,
        header_bytes_max: int,
        new_llhttp: Callable[[object], Llhttp] = httptools.HttpRequestParser,
    ) -> None:
        self._new_llhttp = new_llhttp
        self._header_bytes_max = header_bytes_max
        self.state = ParseState.HEAD
        self.head = b""  # as far as it has come
        self.pipelined = b""  # received behind a request that is not answered yet
        self.bytes_left = 0  # of a body with a Content-Length
        self._chunks = ChunkedTracker()
        self._tail = b""  # the last parsed bytes: an empty line may come in two pieces
        self._events: list[ParserEvent] = []
        self._fault: AtlasError | None = None
        self._is_upgrade = False
        self._begin_head()

    def receive(self, data: bytes) -> list[ParserEvent]:
        """The events of these bytes. A fault is the last event of a connection."""
        at, end = 0, len(data)
        while at < end and self.state is not ParseState.FAULT:
            if self.state is ParseState.ANSWER:
                self.pipelined += data[at:]
                break
            at = self._consume(data, at)
        events, self._events = self._events, []
        return events

    def next_request(self) -> list[ParserEvent]:
        """The request is answered: parse the pipelined bytes behind it."""
        self.state = ParseState.HEAD
        self._begin_head()
        pipelined, self.pipelined = self.pipelined, b""
        return self.receive(pipelined) if pipelined else []

    def close(self) -> None:
        """Drop llhttp, which refers to this parser. Nothing more can be parsed."""
        self.state = ParseState.FAULT
        del self._llhttp

    def _begin_head(self) -> None:
        self.head = self._tail = b""
        self._target = b""
        self._headers: Headers = []
        self._llhttp = self._new_llhttp(self)

    def _consume(self, data: bytes, at: int) -> int:
        """Parse up to the first place where the message may end, and return its index."""
        if self.state is ParseState.BODY:
            boundary = min(len(data), at + self.bytes_left)
            self._events.append(data[at:boundary])
            self.bytes_left -= boundary - at
            if not self.bytes_left:
                self._end_body()
            return boundary
        if self.state is ParseState.CHUNKS and not self._chunks.is_over:
            boundary = self._chunks.find_boundary(data, at)
        else:
            boundary = find_end_of_headers(data, at, self._tail)
        piece = data[at:boundary] if at or boundary < len(data) else data
        self._tail = piece[-3:] if len(piece) >= 3 else (self._tail + piece)[-3:]
        if self.state is ParseState.CHUNKS:
            self._chunks.track(piece)
        elif len(self.head) + len(piece) <= self._header_bytes_max:
            self.head += piece
        else:
            self._fail(self._build_size_error())
            return boundary
        self._parse(piece)
        if self._chunks.overhead > self._header_bytes_max:
            self._fail(self._build_size_error())
        return boundary

    def _parse(self, piece: bytes) -> None:
        try:
            self._llhttp.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._is_upgrade:
                self._is_upgrade = False
                head = strip_upgrade(self.head)
                self._begin_head()
                self.head = head
                self._parse(head)
            else:
                # the message of llhttp does not quote the input
                self._fail(self._fault or BadRequest(f"This is not HTTP/1.1: {error}."))

    def _fail(self, fault: AtlasError) -> None:
        if self.state is not ParseState.FAULT:
            self.state = ParseState.FAULT
            self._events.append(fault)

    def _build_size_error(self) -> HeadersTooLarge:
        most = self._header_bytes_max
        return HeadersTooLarge(f"The header block, trailers too, may have {most} bytes.")

    def _end_body(self) -> None:
        self.state = ParseState.ANSWER
        self._events.append(END)

    # called by llhttp

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        llhttp = self._llhttp
        method = llhttp.get_method()
        try:
            is_http_1_1, length = validate(self.head, method, self._headers)
            path, query = split_target(self._target)
            if llhttp.should_upgrade():
                self._is_upgrade = True
                raise BadRequest
        except BadRequest as fault:
            self._fault = fault
            raise
        self._events.append(
            RequestHead(
                method.decode("ascii"),
                path,
                query,
                self._headers,
                is_http_1_1=is_http_1_1,
                keeps_alive=is_http_1_1 and llhttp.should_keep_alive(),
                expects_continue=is_http_1_1 and expects_continue(self._headers),
            )
        )
        self._headers = []  # trailers must not be taken for headers
        self._chunks, self._tail = ChunkedTracker(), b""
        self.bytes_left = max(0, length)
        self.state = ParseState.CHUNKS if length == CHUNKED else ParseState.BODY
        if length == 0:
            self._end_body()

    def on_chunk_header(self) -> None:
        try:
            self._chunks.start_chunk()
        except BadRequest as fault:
            self._fault = fault
            raise

    def on_body(self, body: bytes) -> None:
        self._events.append(body)

    def on_message_complete(self) -> None:
        if self.state is ParseState.CHUNKS:
            self._end_body()


def expects_continue(headers: Headers) -> bool:
    """Whether the client waits for a 100 (RFC 9110, section 10.1.1)."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a target, which may be absolute (RFC 9112, section 3.2.2).

    Raises BadRequest.
    """
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserError as error:
        raise BadRequest("The target of the request is no URL.") from error
    return url.path or b"/", url.query or b""

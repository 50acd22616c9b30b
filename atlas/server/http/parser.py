"""Parses the requests of one connection: bytes in, events out. No I/O, no clock.

A message ends either with an empty line or after the bytes of its Content-Length. So llhttp is fed
only up to the next of these boundaries (in a chunked body: after each chunk size, then up to the
empty line). So the size of a header block is exact, and pipelined bytes wait until the current
request is answered. An error is the last event, after the events of all bytes before it.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, Protocol

import httptools

from atlas.core.errors import AtlasError, BadRequest, HeadersTooLarge
from atlas.server.http.framing import ChunkedTracker, find_end_of_headers
from atlas.server.http.header_validation import CHUNKED, Headers, strip_upgrade, validate

SPACE = b" \t"  # not part of a value at its end (RFC 9110, section 5.5), but llhttp keeps it


class Llhttp(Protocol):
    """The HTTP parser of Node.js, as wrapped by httptools."""

    def feed_data(self, data: bytes) -> None: ...

    def get_method(self) -> bytes: ...

    def should_keep_alive(self) -> bool: ...

    def should_upgrade(self) -> bool: ...


class RequestHead(NamedTuple):
    """A request without its body. The names of headers are in lower case."""

    method: str
    path: bytes  # percent-encoded
    query: bytes
    headers: Headers
    is_http_1_1: bool
    keeps_alive: bool
    expects_continue: bool


class BodyEnd:
    """The event at the end of a request."""


END = BodyEnd()
ParserEvent = RequestHead | bytes | BodyEnd | AtlasError  # bytes are a part of the body


class ParseState(Enum):
    """The part of a message that is expected next on a connection."""

    HEAD = auto()
    BODY = auto()  # with a Content-Length
    CHUNKS = auto()
    RESPONSE = auto()  # parsing continues after the response
    FAILED = auto()  # parsing has ended


class RequestParser:
    """Parses the input of a connection. `header_bytes_max` includes the request line."""

    def __init__(
        self,
        header_bytes_max: int,
        new_llhttp: Callable[[object], Llhttp] = httptools.HttpRequestParser,
    ) -> None:
        self._new_llhttp = new_llhttp
        self._header_bytes_max = header_bytes_max
        self.state = ParseState.HEAD
        self.head = b""  # the received part of a header block
        self.pipelined = b""  # received after a request that is not answered yet
        self.bytes_left = 0  # of a body with a Content-Length
        self._chunks = ChunkedTracker()
        self._tail = b""  # the last parsed bytes, because an empty line may arrive in two parts
        self._events: list[ParserEvent] = []
        self._error: AtlasError | None = None  # raised inside a callback of llhttp
        self._is_upgrade = False
        self._begin_head()

    def receive(self, data: bytes) -> list[ParserEvent]:
        """Parse received bytes and return their events. An error is the last event."""
        start, end = 0, len(data)
        while start < end and self.state is not ParseState.FAILED:
            if self.state is ParseState.RESPONSE:
                self.pipelined += data[start:]
                break
            start = self._consume(data, start)
        events, self._events = self._events, []
        return events

    def next_request(self) -> list[ParserEvent]:
        """Parse the pipelined bytes that follow the request just answered."""
        self.state = ParseState.HEAD
        self._begin_head()
        pipelined, self.pipelined = self.pipelined, b""
        return self.receive(pipelined) if pipelined else []

    def close(self) -> None:
        """Drop llhttp, which refers to this parser, and end parsing."""
        self.state = ParseState.FAILED
        del self._llhttp

    def _begin_head(self) -> None:
        self.head = self._tail = b""
        self._target = b""
        self._headers: Headers = []
        self._llhttp = self._new_llhttp(self)

    def _consume(self, data: bytes, start: int) -> int:
        """Parse up to the next index at which the message may end, and return that index."""
        if self.state is ParseState.BODY:
            boundary = min(len(data), start + self.bytes_left)
            self._events.append(data[start:boundary])
            self.bytes_left -= boundary - start
            if not self.bytes_left:
                self._end_body()
            return boundary
        if self.state is ParseState.CHUNKS and not self._chunks.is_over:
            boundary = self._chunks.find_boundary(data, start)
        else:
            boundary = find_end_of_headers(data, start, self._tail)
        segment = data[start:boundary] if start or boundary < len(data) else data
        self._tail = segment[-3:] if len(segment) >= 3 else (self._tail + segment)[-3:]
        if self.state is ParseState.CHUNKS:
            self._chunks.track(segment)
        elif len(self.head) + len(segment) <= self._header_bytes_max:
            self.head += segment
        else:
            self._fail_too_large()
            return boundary
        self._parse(segment)
        if self._chunks.overhead > self._header_bytes_max:
            self._fail_too_large()
        return boundary

    def _parse(self, segment: bytes) -> None:
        try:
            self._llhttp.feed_data(segment)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._is_upgrade:
                self._is_upgrade = False
                head = strip_upgrade(self.head)
                self._begin_head()
                self.head = head
                self._parse(head)
            else:
                # the message of llhttp does not quote the input
                refusal = self._error or BadRequest(f"The request is not HTTP/1.1: {error}.")
                self._error = None
                self._fail(refusal.detach())

    def _fail(self, error: AtlasError) -> None:
        if self.state is not ParseState.FAILED:
            self.state = ParseState.FAILED
            self._events.append(error)

    def _fail_too_large(self) -> None:
        limit = self._header_bytes_max
        self._fail(HeadersTooLarge(f"Headers and trailers may have at most {limit} bytes."))

    def _end_body(self) -> None:
        self.state = ParseState.RESPONSE
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
        except BadRequest as error:
            self._error = error
            raise
        self._events.append(
            RequestHead(
                method.decode("ascii"),
                path,
                query,
                [(name, value.rstrip(SPACE)) for name, value in self._headers],
                is_http_1_1=is_http_1_1,
                keeps_alive=is_http_1_1 and llhttp.should_keep_alive(),
                expects_continue=is_http_1_1 and expects_continue(self._headers),
            )
        )
        self._headers = []  # a new list, so that trailers are not added to the headers
        self._chunks, self._tail = ChunkedTracker(), b""
        self.bytes_left = max(0, length)
        self.state = ParseState.CHUNKS if length == CHUNKED else ParseState.BODY
        if length == 0:
            self._end_body()

    def on_chunk_header(self) -> None:
        try:
            self._chunks.start_chunk()
        except BadRequest as error:
            self._error = error
            raise

    def on_body(self, body: bytes) -> None:
        self._events.append(body)

    def on_message_complete(self) -> None:
        if self.state is ParseState.CHUNKS:
            self._end_body()


def expects_continue(headers: Headers) -> bool:
    """True if the client waits for a 100 response (RFC 9110, section 10.1.1)."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Split a target into path and query. Raises BadRequest.

    The target may be a full URL (RFC 9112, section 3.2.2).
    """
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserError as error:
        raise BadRequest("The request target is not a valid URL.") from error
    return url.path or b"/", url.query or b""

"""The requests of one connection: bytes in, events out. No I/O, no clock.

A message can only end with an empty line, or where its Content-Length says. So bytes go to llhttp
up to there and no further (a chunked body: from size to size, and then so): a header block is
counted to the byte, and what stands behind a request waits until that one is answered. A fault is
the last event, and so is said in its turn.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, Protocol

import httptools

from atlas.core.errors import AtlasError, BadRequest, HeadersTooLarge
from atlas.process.http.framing import Chunks, cut_at_empty_line
from atlas.process.http.head import CHUNKED, judged, without_upgrade

Headers = list[tuple[bytes, bytes]]


class Llhttp(Protocol):
    """The parser of Node.js, as httptools has it."""

    def feed_data(self, data: bytes) -> None: ...

    def get_method(self) -> bytes: ...

    def should_keep_alive(self) -> bool: ...

    def should_upgrade(self) -> bool: ...


class Head(NamedTuple):
    """A request without its body. Names of headers are in lower case."""

    method: str
    path: bytes  # percent-encoded
    query: bytes
    headers: Headers
    is_http_1_1: bool
    keeps_alive: bool
    expects_continue: bool


class BodyEnd:
    """The body of a request is over."""


END = BodyEnd()
Event = Head | bytes | BodyEnd | AtlasError  # bytes are a piece of a body


class Stage(Enum):
    """What comes next on a connection."""

    HEAD = auto()
    BODY = auto()  # of a length that was said
    CHUNKS = auto()
    ANSWER = auto()  # nothing is taken before the request is answered
    FAULT = auto()  # nothing is taken any more


class RequestParser:
    """Parses what comes on one connection. `header_bytes_max` counts the request line, too."""

    def __init__(
        self,
        header_bytes_max: int,
        new_llhttp: Callable[[object], Llhttp] = httptools.HttpRequestParser,
    ) -> None:
        self._new_llhttp = new_llhttp
        self._header_bytes_max = header_bytes_max
        self.stage = Stage.HEAD
        self.head = b""  # as far as it has come
        self.held = b""  # what stands behind a request that is not answered
        self.bytes_left = 0  # of a body whose length was said
        self._chunks = Chunks()
        self._tail = b""  # of what was parsed: an empty line may come in two pieces
        self._events: list[Event] = []
        self._fault: AtlasError | None = None
        self._is_upgrade = False
        self._begin_head()

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes bring. A fault is the last event there is."""
        at, end = 0, len(data)
        while at < end and self.stage is not Stage.FAULT:
            if self.stage is Stage.ANSWER:
                self.held += data[at:]
                break
            at = self._take(data, at)
        events, self._events = self._events, []
        return events

    def next_request(self) -> list[Event]:
        """The request is answered: what was held behind it comes now."""
        self.stage = Stage.HEAD
        self._begin_head()
        held, self.held = self.held, b""
        return self.receive(held) if held else []

    def close(self) -> None:
        """Let go of llhttp, which knows us: nothing is taken any more."""
        self.stage = Stage.FAULT
        del self._llhttp

    def _begin_head(self) -> None:
        self.head = self._tail = b""
        self._target = b""
        self._headers: Headers = []
        self._llhttp = self._new_llhttp(self)

    def _take(self, data: bytes, at: int) -> int:
        """Take up to the first place where a message may end; where that is."""
        if self.stage is Stage.BODY:
            cut = min(len(data), at + self.bytes_left)
            self._events.append(data[at:cut])
            self.bytes_left -= cut - at
            if not self.bytes_left:
                self._end_body()
            return cut
        if self.stage is Stage.CHUNKS and not self._chunks.is_over:
            cut = self._chunks.cut(data, at)
        else:
            cut = cut_at_empty_line(data, at, self._tail)
        piece = data[at:cut] if at or cut < len(data) else data
        self._tail = piece[-3:] if len(piece) >= 3 else (self._tail + piece)[-3:]
        if self.stage is Stage.CHUNKS:
            self._chunks.take(piece)
        elif len(self.head) + len(piece) <= self._header_bytes_max:
            self.head += piece
        else:
            self._fail(self._too_large())
            return cut
        self._parse(piece)
        if self._chunks.surplus > self._header_bytes_max:
            self._fail(self._too_large())
        return cut

    def _parse(self, piece: bytes) -> None:
        try:
            self._llhttp.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._is_upgrade:
                self._is_upgrade = False
                head = without_upgrade(self.head)
                self._begin_head()
                self.head = head
                self._parse(head)
            else:
                # llhttp's own words, which quote nothing
                self._fail(self._fault or BadRequest(f"This is not HTTP/1.1: {error}."))

    def _fail(self, fault: AtlasError) -> None:
        if self.stage is not Stage.FAULT:
            self.stage = Stage.FAULT
            self._events.append(fault)

    def _too_large(self) -> HeadersTooLarge:
        most = self._header_bytes_max
        return HeadersTooLarge(f"The header block, trailers too, may have {most} bytes.")

    def _end_body(self) -> None:
        self.stage = Stage.ANSWER
        self._events.append(END)

    # what llhttp calls

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        llhttp = self._llhttp
        method = llhttp.get_method()
        try:
            is_new, length = judged(self.head, method, self._headers)
            path, query = split_target(self._target)
            if llhttp.should_upgrade():
                self._is_upgrade = True
                raise BadRequest
        except BadRequest as fault:
            self._fault = fault
            raise
        self._events.append(
            Head(
                method.decode("ascii"),
                path,
                query,
                self._headers,
                is_http_1_1=is_new,
                keeps_alive=is_new and llhttp.should_keep_alive(),
                expects_continue=is_new and expects_continue(self._headers),
            )
        )
        self._headers = []  # a trailer could say anything: it is no header
        self._chunks, self._tail = Chunks(), b""
        self.bytes_left = max(0, length)
        self.stage = Stage.CHUNKS if length == CHUNKED else Stage.BODY
        if length == 0:
            self._end_body()

    def on_chunk_header(self) -> None:
        try:
            self._chunks.begin()
        except BadRequest as fault:
            self._fault = fault
            raise

    def on_body(self, body: bytes) -> None:
        self._events.append(body)

    def on_message_complete(self) -> None:
        if self.stage is Stage.CHUNKS:
            self._end_body()


def expects_continue(headers: Headers) -> bool:
    """RFC 9110, section 10.1.1."""
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

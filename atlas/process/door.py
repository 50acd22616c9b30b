"""The protocol of both listeners: HTTP/1.1 with its limits, of which the server has none.

A message can only end with an empty line, or where its Content-Length says. So bytes go to the
parser up to there and no further (a chunked body: from size to size, and then so): its header block
is counted to the byte, and what stands behind a request waits, unread, until that is answered.
Whatever is wrong with it is then said in its turn.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from atlas.core.errors import AtlasError, BadRequest, HeadersTooLarge, TooSlow, Unavailable
from atlas.process.deadline import Deadline
from atlas.process.framing import EMPTY_LINE, Chunks, Stage, cut_at_empty_line
from atlas.process.head import CHUNKED, judged, without_upgrade
from atlas.process.outlet import Outlet
from atlas.process.places import Places
from atlas.process.refusals import Refusals


@dataclass(frozen=True, slots=True)
class Rules:
    """What a connection may take, in bytes and seconds; and how many there may be.

    A header block counts with its request line. `slow_seconds`: of an answer that is not taken.
    """

    header_bytes_max: int = 16 * 1024
    header_seconds: float = 10.0
    slow_seconds: float = 10.0
    idle_seconds: float = 75.0
    connections_max: int = 10_000


class Door(HttpToolsProtocol):
    """One connection."""

    transport: Outlet

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        rules: Rules,
        places: Places,
        refusals: Refusals,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._rules = rules
        self._places = places
        self._refusals = refusals
        self._stage = Stage.HEAD
        self._head = b""  # as far as it has come
        self._tail = b""  # of what was parsed: an empty line may come in two pieces
        self._left = 0  # of the body
        self._chunks = Chunks()
        self._held = b""  # what stands behind a request that is not answered
        self._fault: AtlasError | None = None
        self._is_upgrade = False
        self._is_head_timed = False
        self._deadline = Deadline(self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        outlet = Outlet(transport, self.loop, self._rules.slow_seconds, self._refusals)
        super().connection_made(outlet)
        if self._places.take(self):
            self._is_head_timed = True
            self._deadline.set(self._rules.header_seconds, self._late)
        elif self._places.turn_away(self):
            self._refuse(Unavailable("Too many connections are open already."))
        else:
            self._refusals.cut("too_many")
            outlet.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.lost()
        self._places.leave(self)
        self._deadline.end()
        super().connection_lost(exc)

    def make_room(self) -> None:
        self._refusals.cut("made_room")
        self.transport.abort()

    # what comes

    def data_received(self, data: bytes) -> None:
        if self.transport.is_leaving:
            self.transport.drop(len(data))
        elif (
            self._stage is Stage.HEAD
            and not self._head
            and data.endswith(EMPTY_LINE)
            and data.find(EMPTY_LINE) == len(data) - len(EMPTY_LINE)
            and len(data) <= self._rules.header_bytes_max
        ):
            self._head = data  # as it is nearly always: in one piece, and nothing behind it
            self._parse(data)
            self._wait_to_be_asked()
        else:
            is_new = self._stage is Stage.HEAD
            self._take(data)
            if is_new:
                self._wait_to_be_asked()

    def eof_received(self) -> bool:  # type: ignore[override]
        """He says no more. What he has asked is answered still; what is not whole has broken."""
        self.transport.is_all_said = True
        self._leave_behind_the_last()
        return not self.transport.is_leaving

    def _leave_behind_the_last(self) -> None:
        if self.transport.is_all_said and self._stage is not Stage.ANSWER:
            self.transport.close()

    def _take(self, data: bytes) -> None:
        at, end = 0, len(data)
        while at < end and not self.transport.is_leaving:
            if self._stage is Stage.ANSWER:
                self._hold(data[at:])
                return
            cut = self._cut(data, at)
            self._feed(data[at:cut])
            at = cut
        if self._stage is Stage.HEAD and self._head and not self._is_head_timed:
            self._is_head_timed = True
            self._deadline.set(self._rules.header_seconds, self._late)

    def _cut(self, data: bytes, at: int) -> int:
        """The first place from there on where a message may end."""
        if self._stage is Stage.BODY:
            return min(len(data), at + self._left)
        if self._stage is Stage.CHUNKS and not self._chunks.is_over:
            return self._chunks.cut(data, at)
        return cut_at_empty_line(data, at, self._tail)

    def _feed(self, piece: bytes) -> None:
        stage = self._stage
        if stage is Stage.BODY:
            self._left -= len(piece)
        else:
            self._tail = piece[-3:] if len(piece) >= 3 else (self._tail + piece)[-3:]
            if stage is Stage.CHUNKS:
                self._chunks.take(piece)
            elif len(self._head) + len(piece) <= self._rules.header_bytes_max:
                self._head += piece
            else:
                self._refuse(HeadersTooLarge(self._too_large))
                return
        self._parse(piece)
        too_many = self._chunks.surplus > self._rules.header_bytes_max
        if too_many and not self.transport.is_leaving:
            self._refuse(HeadersTooLarge(self._too_large))

    def _parse(self, piece: bytes) -> None:
        try:
            self.parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._is_upgrade:
                self._is_upgrade = False
                self.parser = httptools.HttpRequestParser(self)
                self._head = without_upgrade(self._head)
                self._parse(self._head)
            elif self._fault is not None:
                self._refuse(self._fault)
            else:
                # llhttp's own words, which quote nothing
                self._refuse(BadRequest(f"This is not HTTP/1.1: {error}."))

    def _wait_to_be_asked(self) -> None:
        """A body stays in the socket until the application wants it: that may be a while."""
        if self._stage in {Stage.BODY, Stage.CHUNKS} and not self.transport.is_leaving:
            self.flow.pause_reading()

    def _hold(self, data: bytes) -> None:
        self._held += data
        self.transport.is_owed = True
        self.flow.pause_reading()

    # what the parser finds

    def on_headers_complete(self) -> None:
        method = self.parser.get_method()
        try:
            is_new, length = judged(self._head, method, self.headers)
            if self.parser.should_upgrade():
                self._is_upgrade = True
                raise BadRequest
        except BadRequest as fault:
            self._fault = fault
            raise
        self._begin(method.decode("ascii"), is_new)
        self.headers = []  # a trailer could say anything: it is no header
        self._places.busy(self)
        self._deadline.lift()
        self._stage = Stage.CHUNKS if length == CHUNKED else Stage.BODY
        self._left, self._chunks, self._tail = length, Chunks(), b""
        self.transport.is_owed = True

    def _begin(self, method: str, is_new: bool) -> None:
        """As the server does it, but for what nobody here has set."""
        scope, target = self.scope, httptools.parse_url(self.url)
        raw = target.path or b"/"  # without one: RFC 9112, section 3.2.2
        path = raw.decode("ascii")
        scope["method"] = method
        if not is_new:
            scope["http_version"] = "1.0"
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"], scope["query_string"] = raw, target.query or b""
        self.cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=is_new and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def on_chunk_header(self) -> None:
        try:
            self._chunks.begin()
        except BadRequest as fault:
            self._fault = fault
            raise

    def on_message_complete(self) -> None:
        self._stage = Stage.ANSWER
        self.flow.resume_reading()  # or nobody would see him go
        self.transport.is_owed = False
        self.cycle.more_body = False
        self.cycle.message_event.set()

    # what happens then

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._stage is not Stage.ANSWER:  # nobody will read the rest
            self.transport.close()
            return
        self._stage, self._head, self._tail = Stage.HEAD, b"", b""
        self._is_head_timed = self.transport.is_owed = False
        self._places.idle(self)
        self._deadline.set(self._rules.idle_seconds, self._silent)
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self._held:
            held, self._held = self._held, b""
            self._take(held)
        self._leave_behind_the_last()

    def _refuse(self, error: AtlasError) -> None:
        """The last that happens here. Never a second answer, nor one in the middle of another."""
        cycle: RequestResponseCycle | None = self.cycle
        is_answering = False
        if cycle is not None and not cycle.response_complete:
            is_answering = cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
        answer = self._refusals.answer(error, self.server_state.default_headers)
        if not is_answering:
            self.transport.write(answer)
        self.transport.is_owed = True
        self.transport.close()

    def _late(self) -> None:
        if self.transport.is_leaving:
            return
        if self._head:
            seconds = self._rules.header_seconds
            self._refuse(TooSlow(f"The header block took longer than {seconds:g} seconds."))
        else:
            self._refusals.cut("silent")
            self.transport.abort()

    def _silent(self) -> None:
        """Between two requests, which is nobody's fault."""
        self.transport.close()

    @property
    def _too_large(self) -> str:
        return f"The header block, trailers too, may have {self._rules.header_bytes_max} bytes."

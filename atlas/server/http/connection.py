"""A connection: passes received bytes to the parser, and requests to the application."""

import asyncio
from collections.abc import Sequence

from starlette.types import ASGIApp

from atlas.core.errors import AtlasError, BodyTooSlow, Unavailable
from atlas.core.events import AbortReason, ConnectionAborted
from atlas.runtime import answer_crashes
from atlas.server.http.connection_limiter import ConnectionLimiter, ConnectionLimits
from atlas.server.http.deadline import Deadline
from atlas.server.http.exchange import Exchange
from atlas.server.http.header_validation import Headers
from atlas.server.http.lingering_transport import LingeringTransport
from atlas.server.http.parser import BodyEnd, ParserEvent, ParseState, RequestHead, RequestParser
from atlas.server.http.raw_errors import RawErrors
from atlas.server.http.turnstile import Turnstile


class ListenerState:
    """State shared by all connections of a listener."""

    def __init__(self, app: ASGIApp, limits: ConnectionLimits, errors: RawErrors) -> None:
        self.app = app
        self.limits = limits
        self.errors = errors
        self.loop = asyncio.get_running_loop()
        self.turnstile = Turnstile(self.loop)
        self.limiter = ConnectionLimiter(limits.connections_max)
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_ending = False
        self.ended = asyncio.Event()
        self._headers: Headers = []
        self._headers_until = 0.0

    def discard_task(self, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        self.check_ended()

    def check_ended(self) -> None:
        """Set `ended` if the listener is ending and has no requests and connections left."""
        if self.is_ending and not self.tasks and not self.connections:
            self.ended.set()

    def common_headers(self) -> Headers:
        """Return the headers of every response: the date, formatted once a second."""
        now = self.loop.time()
        if now >= self._headers_until:
            self._headers_until = now + 1.0
            self._headers = [(b"date", self.errors.format_date())]
        return self._headers


class Connection(asyncio.Protocol):
    """Serves the requests of one connection, one at a time and in their order."""

    def __init__(self, listener: ListenerState) -> None:
        limits = listener.limits
        self._listener = listener
        self._parser = RequestParser(limits.header_bytes_max)
        self._deadline = Deadline(listener.loop)
        self.exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._transport: LingeringTransport
        self._has_header_timer = False
        self._is_paused = False
        self._drained: asyncio.Future[None] | None = None

    # called by the loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        listener, limits = self._listener, self._listener.limits
        self._transport = LingeringTransport(
            transport, listener.loop, limits.write_timeout_seconds, listener.errors.emit
        )
        listener.connections.add(self)
        if listener.limiter.admit(self):
            self._start_header_timer()
        elif listener.limiter.admit_for_rejection(self):
            self._reject(Unavailable("Too many connections are open."))
        else:
            self._abort_without_response("too_many")

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport.connection_lost()
        self._listener.limiter.remove(self)
        self._listener.connections.discard(self)
        self._listener.check_ended()
        self._deadline.close()
        if self.exchange is not None:
            self.exchange.disconnect()
            if self._task is not None and self.exchange.is_untouched:
                self._task.cancel()  # still queued in the application, and its client is gone
            self.exchange = self._task = None
        self._parser.close()  # breaks the reference cycle between the parser and llhttp
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing_down:
            self._transport.discard(len(data))
            return
        is_new = self._parser.state is ParseState.HEAD
        self._handle(self._parser.receive(data))
        if is_new and self._parser.state in {ParseState.BODY, ParseState.CHUNKS}:
            self._pause_reading()  # leave the body in the socket until the application reads it

    def eof_received(self) -> bool:
        """Answer a complete request; close if there is none, or only an incomplete one."""
        self._transport.has_received_eof = True
        self._close_if_done()
        return not self._transport.is_closing_down

    def pause_writing(self) -> None:
        self._drained = self._listener.loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # received input

    def _handle(self, events: Sequence[ParserEvent]) -> None:
        for event in events:
            if isinstance(event, RequestHead):
                self._begin_exchange(event)
            elif isinstance(event, BodyEnd):
                self._end_body()
            elif isinstance(event, AtlasError):
                self._reject(event)
            elif self.exchange is not None and self.exchange.add_body(event):
                self._pause_reading()
        if (
            self._parser.state is ParseState.HEAD
            and self._parser.head
            and not self._has_header_timer
        ):
            self._start_header_timer()
        elif self._parser.pipelined:
            self._transport.has_unread_input = True
            self._pause_reading()

    def _begin_exchange(self, head: RequestHead) -> None:
        self._listener.limiter.mark_busy(self)
        self._deadline.cancel()
        self._transport.has_unread_input = True
        self.exchange = exchange = Exchange(head, self, self._listener.common_headers())
        self._listener.turnstile.enter(lambda: self._start(exchange))

    def _start(self, exchange: Exchange) -> None:
        if exchange.is_disconnected:
            return
        self._task = task = self._listener.loop.create_task(self._serve(exchange))
        self._listener.tasks.add(task)
        task.add_done_callback(self._listener.discard_task)

    async def _serve(self, exchange: Exchange) -> None:
        """Run the application. If it crashes before its response is complete, send an error."""
        try:
            await answer_crashes("http", self._answer(exchange), self._listener.errors.emit_crash)
        except AtlasError as error:
            if not (exchange.is_ended or exchange.is_disconnected):
                self._reject(error)

    async def _answer(self, exchange: Exchange) -> None:
        await self._listener.app(exchange.build_scope(), exchange.receive, exchange.send)
        if not (exchange.is_ended or exchange.is_disconnected):
            raise RuntimeError("The application returned without a complete response.")

    def _end_body(self) -> None:
        if self.exchange is not None:
            self.exchange.end_body()
        self._transport.has_unread_input = False
        self.resume_reading()  # to detect a disconnect

    def _close_if_done(self) -> None:
        if self._transport.has_received_eof and self._parser.state is not ParseState.RESPONSE:
            self._transport.close()

    def _pause_reading(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    # called by an exchange

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    async def drain(self) -> None:
        if self._drained is not None:
            await self._drained

    def end_exchange(self) -> None:
        exchange = self.exchange
        if exchange is None or self._transport.is_closing():
            return
        if not exchange.keeps_alive or self._parser.state is not ParseState.RESPONSE:
            self._transport.close()
            return
        self.exchange = self._task = None
        self._has_header_timer = self._transport.has_unread_input = False
        self._listener.limiter.mark_idle(self)
        self._deadline.arm(self._listener.limits.idle_seconds, self._transport.close)
        self.resume_reading()
        self._handle(self._parser.next_request())
        self._close_if_done()
        if self._listener.is_ending:
            self.end()

    # end of the connection

    def evict(self) -> None:
        """Close at once, so that another connection can be admitted."""
        self._abort_without_response("made_room")

    def end(self) -> None:
        """Close after the current request, or at once if there is none."""
        if self.exchange is None:
            self._transport.close()
        else:
            self.exchange.keeps_alive = False

    def abort(self) -> None:
        self._transport.abort()

    def _abort_without_response(self, reason: AbortReason) -> None:
        self._listener.errors.emit(ConnectionAborted(reason))
        self._transport.abort()

    def _reject(self, error: AtlasError) -> None:
        """Send the error, unless a response has begun already, and close the connection."""
        exchange, has_begun = self.exchange, False
        if exchange is not None and not exchange.is_ended:
            has_begun = exchange.has_written
            exchange.disconnect()
        response = self._listener.errors.build(error, self._listener.common_headers())
        if not has_begun:
            self._transport.write(response)
        self._transport.has_unread_input = True
        self._transport.close()

    def _start_header_timer(self) -> None:
        self._has_header_timer = True
        self._deadline.arm(self._listener.limits.header_seconds, self._on_header_timeout)

    def _on_header_timeout(self) -> None:
        if self._transport.is_closing_down:
            return
        if self._parser.head:
            seconds = self._listener.limits.header_seconds
            self._reject(BodyTooSlow(f"The header block took longer than {seconds:g} seconds."))
        else:
            self._abort_without_response("silent")

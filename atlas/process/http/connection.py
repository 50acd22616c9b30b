"""One connection: what comes on it goes to the parser, and each request to the application."""

import asyncio
from collections.abc import Sequence

from starlette.types import ASGIApp

from atlas.core.errors import AtlasError, TooSlow, Unavailable
from atlas.process.http.deadline import Deadline
from atlas.process.http.exchange import Exchange, Fields
from atlas.process.http.outlet import Outlet
from atlas.process.http.parser import BodyEnd, Event, Head, RequestParser, Stage
from atlas.process.http.places import Places
from atlas.process.http.refusals import Refusals
from atlas.process.http.rules import Rules
from atlas.process.http.turnstile import Turnstile
from atlas.runtime import answer_crashes


class Shared:
    """What all connections of a listener have in common."""

    def __init__(self, app: ASGIApp, rules: Rules, refusals: Refusals) -> None:
        self.app = app
        self.rules = rules
        self.refusals = refusals
        self.loop = asyncio.get_running_loop()
        self.turnstile = Turnstile(self.loop)
        self.places = Places(rules.connections_max)
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_ending = False
        self.are_gone = asyncio.Event()
        self._fields: Fields = []
        self._fields_until = 0.0

    def forget(self, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        self.look_for_the_end()

    def look_for_the_end(self) -> None:
        """Once the listener ends: whether the last request and the last connection are gone."""
        if self.is_ending and not self.tasks and not self.connections:
            self.are_gone.set()

    def fields(self) -> Fields:
        """The headers of every answer: its date, made once a second."""
        now = self.loop.time()
        if now >= self._fields_until:
            self._fields_until = now + 1.0
            self._fields = [(b"date", self.refusals.date())]
        return self._fields


class Connection(asyncio.Protocol):
    """Requests are served one after another, in the order in which they come."""

    def __init__(self, shared: Shared) -> None:
        rules = shared.rules
        self._shared = shared
        self._parser = RequestParser(rules.header_bytes_max)
        self._deadline = Deadline(shared.loop)
        self.exchange: Exchange | None = None
        self._outlet: Outlet
        self._is_head_timed = False
        self._is_paused = False
        self._drained: asyncio.Future[None] | None = None

    # what the loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        shared, rules = self._shared, self._shared.rules
        self._outlet = Outlet(transport, shared.loop, rules.slow_seconds, shared.refusals)
        shared.connections.add(self)
        if shared.places.take(self):
            self._time_head()
        elif shared.places.turn_away(self):
            self._refuse(Unavailable("Too many connections are open already."))
        else:
            shared.refusals.cut("too_many")
            self._outlet.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._outlet.lost()
        self._shared.places.leave(self)
        self._shared.connections.discard(self)
        self._shared.look_for_the_end()
        self._deadline.end()
        if self.exchange is not None:
            self.exchange.disconnect()
            self.exchange = None  # they know each other, and so do the parser and llhttp
        self._parser.close()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._outlet.is_leaving:
            self._outlet.drop(len(data))
            return
        is_new = self._parser.stage is Stage.HEAD
        self._handle(self._parser.receive(data))
        if is_new and not self._outlet.is_leaving:
            self._wait_to_be_asked()

    def eof_received(self) -> bool:
        """He says no more. What he has asked is answered still; what is not whole has broken."""
        self._outlet.is_all_said = True
        self._leave_behind_the_last()
        return not self._outlet.is_leaving

    def pause_writing(self) -> None:
        self._drained = self._shared.loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # what comes

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Head):
                self._begin(event)
            elif isinstance(event, BodyEnd):
                self._end_body()
            elif isinstance(event, AtlasError):
                self._refuse(event)
            elif self.exchange is not None and self.exchange.take_body(event):
                self._pause_reading()
        if self._parser.stage is Stage.HEAD and self._parser.head and not self._is_head_timed:
            self._time_head()
        elif self._parser.held:
            self._outlet.is_owed = True
            self._pause_reading()

    def _begin(self, head: Head) -> None:
        self._shared.places.busy(self)
        self._deadline.lift()
        self._outlet.is_owed = True
        self.exchange = exchange = Exchange(head, self, self._shared.fields())
        self._shared.turnstile.enter(lambda: self._start(exchange))

    def _start(self, exchange: Exchange) -> None:
        if exchange.is_disconnected:
            return
        task = self._shared.loop.create_task(self._serve(exchange))
        self._shared.tasks.add(task)
        task.add_done_callback(self._shared.forget)

    async def _serve(self, exchange: Exchange) -> None:
        """A bug of the application is an answer, too, if none has begun."""
        try:
            await answer_crashes("http", self._answer(exchange), self._shared.refusals.crashed)
        except AtlasError as error:
            if not (exchange.is_ended or exchange.is_disconnected):
                self._refuse(error)

    async def _answer(self, exchange: Exchange) -> None:
        await self._shared.app(exchange.scope(), exchange.receive, exchange.send)
        if not (exchange.is_ended or exchange.is_disconnected):
            raise RuntimeError("The application did not answer.")

    def _end_body(self) -> None:
        if self.exchange is not None:
            self.exchange.end_body()
        self._outlet.is_owed = False
        self.resume_reading()  # or nobody would see him go

    def _wait_to_be_asked(self) -> None:
        """A body stays in the socket until the application wants it: that may be a while."""
        if self._parser.stage in {Stage.BODY, Stage.CHUNKS}:
            self._pause_reading()

    def _leave_behind_the_last(self) -> None:
        if self._outlet.is_all_said and self._parser.stage is not Stage.ANSWER:
            self._outlet.close()

    def _pause_reading(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._outlet.pause_reading()

    # what an exchange needs

    def write(self, data: bytes) -> None:
        self._outlet.write(data)

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._outlet.resume_reading()

    async def drain(self) -> None:
        if self._drained is not None:
            await self._drained

    def exchange_ended(self) -> None:
        exchange = self.exchange
        if exchange is None or self._outlet.is_closing():
            return
        if not exchange.keeps_alive or self._parser.stage is not Stage.ANSWER:
            self._outlet.close()
            return
        self.exchange = None
        self._is_head_timed = self._outlet.is_owed = False
        self._shared.places.idle(self)
        self._deadline.set(self._shared.rules.idle_seconds, self._outlet.close)
        self.resume_reading()
        self._handle(self._parser.next_request())
        self._leave_behind_the_last()
        if self._shared.is_ending:
            self.end()

    # ends

    def make_room(self) -> None:
        self._shared.refusals.cut("made_room")
        self._outlet.abort()

    def end(self) -> None:
        """The listener ends: no request is begun any more; what is under way is answered."""
        if self.exchange is None:
            self._outlet.close()
        else:
            self.exchange.keeps_alive = False

    def abort(self) -> None:
        self._outlet.abort()

    def _refuse(self, error: AtlasError) -> None:
        """The last that happens here. Never a second answer, nor one in the middle of another."""
        exchange, is_answering = self.exchange, False
        if exchange is not None and not exchange.is_ended:
            is_answering = exchange.has_written
            exchange.disconnect()
        answer = self._shared.refusals.answer(error, self._shared.fields())
        if not is_answering:
            self._outlet.write(answer)
        self._outlet.is_owed = True
        self._outlet.close()

    def _time_head(self) -> None:
        self._is_head_timed = True
        self._deadline.set(self._shared.rules.header_seconds, self._late)

    def _late(self) -> None:
        if self._outlet.is_leaving:
            return
        if self._parser.head:
            seconds = self._shared.rules.header_seconds
            self._refuse(TooSlow(f"The header block took longer than {seconds:g} seconds."))
        else:
            self._shared.refusals.cut("silent")
            self._outlet.abort()

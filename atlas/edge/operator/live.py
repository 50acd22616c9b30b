"""The picture for whoever asks, and anew each second for whoever looks on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from atlas.core.picture import MOMENT_SECONDS, Sight
from atlas.edge.error_responses import json
from atlas.edge.operator.guard import Guard
from atlas.edge.operator.lookout import Lookout
from atlas.edge.operator.painter import EVERYTHING, Painter, Since
from atlas.runtime import OnCrash, RestartBudget, supervise

EVENTS = "text/event-stream"
VIEWERS_MAX = 16
UNBUFFERED = {"X-Accel-Buffering": "no"}


class Live:
    """One look a tick for all who look on, and one for the history, whoever does.

    A viewer has no queue: who reads slowly is shown less often, and by then everything that came
    in between, as far as it is kept.
    """

    def __init__(self, painter: Painter, lookout: Lookout, tick_seconds: float = 1.0) -> None:
        self.lookout = lookout
        self.viewers = 0
        self._painter = painter
        self._tick_seconds = tick_seconds
        self._has_ended = False
        self._ticked = anyio.Event()
        self._sight = Sight()
        self._messages: dict[Since, tuple[bytes, Since]] = {}

    def routes(self, guard: Guard) -> list[Route]:
        return [
            guard.route("GET", "/picture", self.show),
            guard.route("GET", "/live", self.show_on),
        ]

    async def show(self, _request: Request) -> Response:
        return json(self._painter.picture(await self.lookout.look()), 200)

    async def show_on(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type=EVENTS)
        if self.viewers >= VIEWERS_MAX:
            why = f"{VIEWERS_MAX} look on already: close another page, or ask for /picture."
            return json({"error": why}, 503, {"Retry-After": "10"})
        return Viewing(self)

    async def messages(self) -> AsyncIterator[bytes]:
        """What one viewer is sent: all of it, then what is new, until we end."""
        if self.viewers == 1:  # for nobody, one look in ten seconds will do
            self._see(await self.lookout.look())
        since = EVERYTHING
        is_last = False
        while not is_last:
            is_last = self._has_ended
            message, since = self._message(since)
            yield message
            if not self._has_ended:  # it may have, while he was slow
                await self._ticked.wait()

    def _message(self, since: Since) -> tuple[bytes, Since]:
        """And what has been shown by it; made once a tick for all who have seen as much before."""
        if since not in self._messages:
            told, picture = self._painter.told, self._painter.picture(self._sight, since)
            self._messages[since] = b"data: " + msgspec.json.encode(picture) + b"\n\n", told
        return self._messages[since]

    def _see(self, sight: Sight) -> None:
        self._sight = sight
        self._has_ended = self._has_ended or sight.is_draining
        self._messages = {}
        self._ticked.set()
        self._ticked = anyio.Event()

    @asynccontextmanager
    async def ticking(self, on_crash: OnCrash) -> AsyncIterator[None]:
        """As long as there is something to be seen; at its end, the viewers are sent away."""
        async with anyio.create_task_group() as tasks:
            restarts = RestartBudget()
            tasks.start_soon(supervise, "live", partial(self._tick, restarts), restarts, on_crash)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                self._see(replace(self._sight, is_draining=True))

    async def _tick(self, restarts: RestartBudget) -> None:
        due = anyio.current_time()
        while not self._has_ended:
            is_due = anyio.current_time() >= due
            if is_due or self.viewers:
                sight = await self.lookout.look()
                if is_due and sight.depth is not None:
                    self._painter.remember(sight.depth)
                    due = anyio.current_time() + MOMENT_SECONDS
                self._see(sight)
                restarts.has_made_progress = True
            await anyio.sleep(self._tick_seconds)


class Viewing(StreamingResponse):
    """Server-sent events for one viewer, who counts for as long as this lasts."""

    def __init__(self, live: Live) -> None:
        super().__init__(live.messages(), headers=UNBUFFERED, media_type=EVENTS)
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._live.viewers += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.viewers -= 1

"""The status of the service: once, each second for viewers, or as metrics for Prometheus."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from atlas.core.status import HISTORY_STEP_SECONDS, RuntimeGauges
from atlas.core.status_aggregator import FROM_START, Cursor, StatusAggregator
from atlas.edge.error_responses import build_json_response
from atlas.edge.operator.gauge_reader import GaugeReader
from atlas.edge.operator.guard import Guard
from atlas.runtime import OnCrash, RestartBudget, supervise

EVENTS = "text/event-stream"
VIEWERS_MAX = 16
UNBUFFERED = {"X-Accel-Buffering": "no"}


class StatusStream:
    """Reads the gauges once a tick for all viewers, and once in ten seconds for the history.

    A viewer has no queue: one that reads slowly is sent fewer messages, each with everything that
    came in between, as far as it is kept.
    """

    def __init__(
        self, status: StatusAggregator, gauges: GaugeReader, tick_seconds: float = 1.0
    ) -> None:
        self.gauges = gauges
        self.viewers = 0
        self._status = status
        self._tick_seconds = tick_seconds
        self._has_ended = False
        self._ticked = anyio.Event()
        self._sight = RuntimeGauges()
        self._messages: dict[Cursor, tuple[bytes, Cursor]] = {}

    def routes(self, guard: Guard) -> list[Route]:
        return [
            guard.build_route("GET", "/status", self.show),
            guard.build_route("GET", "/status/stream", self.stream),
        ]

    async def show(self, _request: Request) -> Response:
        return build_json_response(self._status.picture(await self.gauges.read()), 200)

    async def stream(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type=EVENTS)
        if self.viewers >= VIEWERS_MAX:
            why = f"{VIEWERS_MAX} look on already: close another page, or ask for /status."
            return build_json_response({"error": why}, 503, {"Retry-After": "10"})
        return StatusStreamResponse(self)

    async def messages(self) -> AsyncIterator[bytes]:
        """The messages to one viewer: everything, then what is new, until the service ends."""
        if self.viewers == 1:  # without viewers, the gauges are ten seconds old
            self._see(await self.gauges.read())
        since = FROM_START
        is_last = False
        while not is_last:
            is_last = self._has_ended
            message, since = self._message(since)
            yield message
            if not self._has_ended:  # it may have, while the viewer was slow
                await self._ticked.wait()

    def _message(self, since: Cursor) -> tuple[bytes, Cursor]:
        """A message and the cursor behind it; made once a tick for all viewers at `since`."""
        if since not in self._messages:
            picture = msgspec.json.encode(self._status.picture(self._sight, since))
            self._messages[since] = b"data: " + picture + b"\n\n", self._status.cursor
        return self._messages[since]

    def _see(self, sight: RuntimeGauges) -> None:
        self._sight = sight
        self._has_ended = self._has_ended or sight.is_draining
        self._messages = {}
        self._ticked.set()
        self._ticked = anyio.Event()

    @asynccontextmanager
    async def ticking(self, on_crash: OnCrash) -> AsyncIterator[None]:
        """Publish the status to the viewers; at the end, the last message closes their streams."""
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
                sight = await self.gauges.read()
                if is_due and sight.depth is not None:
                    self._status.remember(sight.depth)
                    due = anyio.current_time() + HISTORY_STEP_SECONDS
                self._see(sight)
                restarts.has_made_progress = True
            await anyio.sleep(self._tick_seconds)


class StatusStreamResponse(StreamingResponse):
    """Server-sent events for one viewer, counted for as long as the stream lasts."""

    def __init__(self, live: StatusStream) -> None:
        super().__init__(live.messages(), headers=UNBUFFERED, media_type=EVENTS)
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._live.viewers += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.viewers -= 1


def metrics_route(
    guard: Guard,
    gauges: GaugeReader,
    exposition: Callable[[RuntimeGauges], bytes],
    content_type: str,
) -> Route:
    async def get_metrics(_request: Request) -> Response:
        return Response(exposition(await gauges.read()), headers={"Content-Type": content_type})

    return guard.build_route("GET", "/metrics", get_metrics)

"""Serves the status: once, each second to viewers, and as metrics for Prometheus."""

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
    """Sends the status to viewers as server-sent events.

    The gauges are read once a tick for all viewers, and every ten seconds for the history. Viewers
    have no queues: a slow one gets fewer messages, each with everything new that is still stored.
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
        self._last_gauges = RuntimeGauges()
        self._messages: dict[Cursor, tuple[bytes, Cursor]] = {}

    def routes(self, guard: Guard) -> list[Route]:
        return [
            guard.build_route("GET", "/status", self.get_status),
            guard.build_route("GET", "/status/stream", self.stream),
        ]

    async def get_status(self, _request: Request) -> Response:
        return build_json_response(
            self._status.take_snapshot(await self.gauges.read_with_readiness()), 200
        )

    async def stream(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type=EVENTS)
        if self.viewers >= VIEWERS_MAX:
            error = f"There are {VIEWERS_MAX} viewers already. Close another page, or use /status."
            return build_json_response({"error": error}, 503, {"Retry-After": "10"})
        return StatusStreamResponse(self)

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield the messages to one viewer: everything, then changes, until the service ends."""
        if self.viewers == 1:  # without viewers, the gauges may be ten seconds old
            self._publish(await self.gauges.read_with_readiness())
        since = FROM_START
        is_last = False
        while not is_last:
            is_last = self._has_ended
            message, since = self._build_message(since)
            yield message
            if not self._has_ended:  # it may have ended while the viewer was slow
                await self._ticked.wait()

    def _build_message(self, since: Cursor) -> tuple[bytes, Cursor]:
        """Return a message and the next cursor, built once a tick for all viewers at `since`."""
        if since not in self._messages:
            data = msgspec.json.encode(self._status.take_snapshot(self._last_gauges, since))
            self._messages[since] = b"data: " + data + b"\n\n", self._status.cursor
        return self._messages[since]

    def _publish(self, latest: RuntimeGauges) -> None:
        self._last_gauges = latest
        self._has_ended = self._has_ended or latest.is_draining
        self._messages = {}
        self._ticked.set()
        self._ticked = anyio.Event()

    @asynccontextmanager
    async def run(self, on_crash: OnCrash) -> AsyncIterator[None]:
        """Publish the status until the end, when a last message ends the streams of viewers."""
        async with anyio.create_task_group() as tasks:
            restarts = RestartBudget()
            tasks.start_soon(supervise, "live", partial(self._tick, restarts), restarts, on_crash)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                self._publish(replace(self._last_gauges, is_draining=True))

    async def _tick(self, restarts: RestartBudget) -> None:
        due_at = anyio.current_time()
        while not self._has_ended:
            is_due = anyio.current_time() >= due_at
            if is_due or self.viewers:
                read = self.gauges.read_with_readiness if self.viewers else self.gauges.read
                latest = await read()
                if is_due:
                    self._status.latency.end_step()
                    if latest.totals is not None:
                        self._status.record_history(latest.totals)
                    due_at = anyio.current_time() + HISTORY_STEP_SECONDS
                self._publish(latest)
                restarts.has_made_progress = True
            await anyio.sleep(self._tick_seconds)


class StatusStreamResponse(StreamingResponse):
    """Server-sent events for one viewer, who is counted while the stream lasts."""

    def __init__(self, status_stream: StatusStream) -> None:
        super().__init__(status_stream.messages(), headers=UNBUFFERED, media_type=EVENTS)
        self._status_stream = status_stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._status_stream.viewers += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._status_stream.viewers -= 1


def metrics_route(
    guard: Guard,
    gauges: GaugeReader,
    exposition: Callable[[RuntimeGauges], bytes],
    content_type: str,
) -> Route:
    async def get_metrics(_request: Request) -> Response:
        return Response(exposition(await gauges.read()), headers={"Content-Type": content_type})

    return guard.build_route("GET", "/metrics", get_metrics)

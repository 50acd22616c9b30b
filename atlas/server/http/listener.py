"""Accepts connections at a bound socket."""

import asyncio
import socket
from collections.abc import Sequence

import anyio
from starlette.types import ASGIApp

from atlas.server.http.connection import Connection, ListenerState
from atlas.server.http.connection_limiter import ConnectionLimits
from atlas.server.http.raw_errors import RawErrors

ABORT_SECONDS = 0.5  # for aborted connections to close, which takes a few turns of the loop
GRACE_SECONDS = 3.0  # for requests in progress; those that wait for a commit end at once
BACKLOG = 2048


class Listener:
    """Serves the application at a bound socket, within its limits."""

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        limits: ConnectionLimits,
        errors: RawErrors,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._app = app
        self._bound = bound
        self._limits = limits
        self._errors = errors
        self._grace_seconds = grace_seconds
        self._state: ListenerState | None = None
        self._end = asyncio.Event()

    @property
    def connections(self) -> Sequence[Connection]:
        return [] if self._state is None else list(self._state.connections)

    @property
    def is_idle(self) -> bool:
        """True if no request is in progress."""
        return self._state is None or not self._state.tasks

    async def listen(self) -> None:
        """Serve until `end`, then finish requests in progress for at most `grace_seconds`."""
        state = self._state = ListenerState(self._app, self._limits, self._errors)
        server = await state.loop.create_server(
            lambda: Connection(state), sock=self._bound, backlog=BACKLOG
        )
        try:
            await self._end.wait()
            server.close()
            state.is_ending = True
            for connection in list(state.connections):
                connection.end()
            with anyio.move_on_after(self._grace_seconds):
                state.check_ended()
                await state.ended.wait()
        finally:
            state.is_ending = True
            server.close()
            for connection in list(state.connections):
                connection.abort()
            for task in list(state.tasks):
                task.cancel()
            with anyio.CancelScope(shield=True), anyio.move_on_after(ABORT_SECONDS):
                state.check_ended()
                await state.ended.wait()

    def end(self) -> None:
        """Stop accepting connections, which ends `listen`."""
        self._end.set()

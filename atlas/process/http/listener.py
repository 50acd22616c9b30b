"""Accepts connections at a socket of ours, until it is told to end."""

import asyncio
import socket
from collections.abc import Sequence

import anyio
from starlette.types import ASGIApp

from atlas.process.http.connection import Connection, Shared
from atlas.process.http.refusals import Refusals
from atlas.process.http.rules import Rules

GRACE_SECONDS = 3.0  # for answers under way: whoever waits for a commit is told at once
BACKLOG = 2048


class Listener:
    """Serves the application at a bound socket, within the rules."""

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        rules: Rules,
        refusals: Refusals,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._app = app
        self._bound = bound
        self._rules = rules
        self._refusals = refusals
        self._grace_seconds = grace_seconds
        self._shared: Shared | None = None
        self._end = asyncio.Event()

    @property
    def connections(self) -> Sequence[Connection]:
        return [] if self._shared is None else list(self._shared.connections)

    @property
    def is_idle(self) -> bool:
        """No request is under way."""
        return self._shared is None or not self._shared.tasks

    async def listen(self) -> None:
        """Serve until `end`; then requests under way are answered, within the grace."""
        shared = self._shared = Shared(self._app, self._rules, self._refusals)
        server = await shared.loop.create_server(
            lambda: Connection(shared), sock=self._bound, backlog=BACKLOG
        )
        try:
            await self._end.wait()
            server.close()
            shared.is_ending = True
            for connection in list(shared.connections):
                connection.end()
            with anyio.move_on_after(self._grace_seconds):
                shared.look_for_the_end()
                await shared.are_gone.wait()
        finally:
            server.close()
            for connection in list(shared.connections):
                connection.abort()
            for task in list(shared.tasks):
                task.cancel()

    def end(self) -> None:
        """Accept nobody any more."""
        self._end.set()

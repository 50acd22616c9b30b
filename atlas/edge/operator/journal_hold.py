"""Keeps the file of the journal unchanged for as long as a command reads it."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from atlas.core.errors import NotFound
from atlas.core.ports import JournalFile
from atlas.edge.operator.guard import Guard

BEAT = b"held\n"
BEAT_SECONDS = 1.0
HOLD_SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class JournalHold:
    """Serves POST /journal/hold. The response lasts until the command ends the connection."""

    file: JournalFile | None
    is_draining: Callable[[], bool]

    def routes(self, guard: Guard) -> list[Route]:
        return [guard.build_route("POST", "/journal/hold", self.hold)]

    async def hold(self, _request: Request) -> Response:
        if self.file is None:
            raise NotFound("This journal is not a file.")
        return HoldResponse(self.file, self.is_draining)


class HoldResponse(StreamingResponse):
    """One line each second, while the file is held."""

    def __init__(self, file: JournalFile, is_draining: Callable[[], bool]) -> None:
        super().__init__(send_beats(is_draining), media_type="text/plain")
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._file.hold():
            await super().__call__(scope, receive, send)


async def send_beats(is_draining: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield until the service shuts down, or a reader has forgotten to end."""
    end = anyio.current_time() + HOLD_SECONDS_MAX
    while not is_draining() and anyio.current_time() < end:
        yield BEAT
        await anyio.sleep(BEAT_SECONDS)

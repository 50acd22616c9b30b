"""A server in place of Foundry whose answers are written in the test, and which knows no rules.

The emulator answers as Foundry documents; this one as a stack might all the same.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from atlas.outside import foundry

TOKEN = {"access_token": "t", "expires_in": 3600}
RID = "ri.foundry.main.dataset.1"


@dataclass
class ScriptedFoundry:
    """`answers` are by the last segment of the path: a status and a body, bytes or JSON.

    A list is worked off, down to its last answer. An unknown address is a 404 without a body.
    """

    answers: dict[str, object] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    host: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        name = request.path.rpartition("/")[2]
        self.calls.append(name)
        answer = self.answers.get(name, (404, b""))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        status, body = answer
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return web.Response(status=status, body=content)

    @property
    def credentials(self) -> foundry.Credentials:
        return foundry.Credentials(f"{self.host}/multipass/api/oauth2/token", "local", "secret")

    @asynccontextmanager
    async def open_inspection(self) -> AsyncIterator[foundry.FoundryInspection]:
        target = foundry.FoundryTarget(self.host, RID, "master")
        async with foundry.open_inspection(
            target, self.credentials, lambda: datetime.now(UTC), time.monotonic
        ) as inspection:
            yield inspection

    @asynccontextmanager
    async def open_stream(self) -> AsyncIterator[foundry.FoundryStream]:
        target = foundry.FoundryTarget(self.host, RID, "master")
        async with foundry.open_stream_inspection(
            target, self.credentials, time.monotonic
        ) as stream:
            yield stream


@asynccontextmanager
async def serve_scripted_foundry(**answers: object) -> AsyncIterator[ScriptedFoundry]:
    scripted = ScriptedFoundry({"token": (200, TOKEN)} | answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", scripted.answer)
    async with TestServer(app) as server:
        scripted.host = f"http://127.0.0.1:{server.port}"
        yield scripted

"""The Foundry adapter, connected to an emulator or to one fixed response."""

import itertools
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from atlas.local.foundry import FoundryEmulator
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET
from atlas.outside.foundry import (
    CallLimits,
    Credentials,
    FoundryDataset,
    FoundryTarget,
    open_dataset,
)
from tests.conftest import EventRecorder
from tests.support.fakes import at_once

OUR_TIME = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
A_BRANCH = b'{"name":"master"}'
INSTANCE = "3f6e1c5a-1b2c-4d3e-8f90-a1b2c3d4e5f6"


@dataclass
class Stack:
    """A client with the emulated Foundry that it calls."""

    dataset: FoundryDataset
    foundry: FoundryEmulator
    seen: EventRecorder
    heard: list[web.Request]

    def asked(self, ending: str) -> int:
        """Return the number of requests to paths with this ending, whatever the response."""
        return len(self.requests(ending))

    def requests(self, ending: str) -> list[web.Request]:
        return [request for request in self.heard if request.path.endswith(ending)]

    def fault(self, call: str, kind: str, **more: object) -> None:
        self.foundry.faults.add(Fault(call, kind, **more))

    def states(self) -> list[str]:
        return [each.status for each in self.foundry.branches.transactions.values()]

    def files(self) -> dict[str, bytes]:
        view = self.foundry.branches.get_branch(DATASET, "master").view
        return {
            path: self.foundry.branches.read_content(found, path) for path, found in view.items()
        }


@asynccontextmanager
async def answered(answer=None, token=None, sleep=at_once):
    """Return a client of a server with one fixed response to every request.

    `token` is the response of its token endpoint. Either may be a function of the request.
    """
    a_token = {"body": b'{"access_token": "TOKEN-VALUE", "expires_in": 3600}'}

    async def handler(request):
        asked = (token or a_token) if request.path == "/token" else (answer or {"body": A_BRANCH})
        return web.Response(**asked(request) if callable(asked) else asked)

    app, seen, heard = web.Application(), EventRecorder(), []
    app.router.add_route("*", "/{anywhere:.*}", handler)
    async with serving(app, heard) as host:
        client = Credentials(f"{host}/token", "CLIENT-ID", "SECRET-VALUE")
        async with open_dataset(
            FoundryTarget(host, DATASET, "master"),
            client,
            CallLimits(8, 10_000, 30.0),
            seen.watch,
            lambda: OUR_TIME,
            hours(),
            lambda: 0.0,
            sleep,
        ) as dataset:
            yield Stack(dataset, None, seen, heard)


def hours():
    """Return a clock that advances one hour per reading, so that no wait takes time."""
    return itertools.count(step=3_600).__next__


@asynccontextmanager
async def serving(app, heard):
    @web.middleware
    async def listen(request, handler):
        heard.append(request)
        return await handler(request)

    app.middlewares.append(listen)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def error(status, name="", **parameters):
    body = {"errorName": name, "errorInstanceId": INSTANCE, "parameters": parameters}
    return {"status": status, "body": msgspec.json.encode(body) if name else b""}

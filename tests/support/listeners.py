"""Serves at a real socket, and sends requests to it byte by byte."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import msgspec

from atlas.core.identifiers import API_PREFIX
from atlas.server import bind
from atlas.server.http import ConnectionLimits, Listener, RawErrors
from tests.conftest import Flow, ServiceHarness
from tests.support.exports import NOON

HOST = {"host": "atlas.test"}
ADA = {**HOST, "authorization": "Bearer token-of-ada"}
SENDING = {**ADA, "content-type": "application/json"}
RULES = ConnectionLimits()


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    text: bytes

    @property
    def body(self):
        return msgspec.json.decode(self.text)

    @property
    def code(self):
        return self.body["error"]["code"]


@dataclass
class Server:
    port: int
    flow: Flow

    async def send(self, method, path, headers=None, body=b"", *, length=None) -> Reply:
        """Send one request as bytes; Content-Length is the only default header."""
        headers = dict(SENDING if headers is None else headers)
        if method == "POST":
            headers.setdefault("content-length", str(len(body) if length is None else length))
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return await self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    async def raw(self, request: bytes) -> Reply:
        async with (
            await anyio.connect_tcp("127.0.0.1", self.port) as stream,
            anyio.create_task_group() as sending,
        ):
            sending.start_soon(self.sent, stream, request)
            return await answered(stream)

    async def sent(self, stream, request: bytes) -> None:
        """Send a request that may be cut off by an early response."""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await stream.send(request)

    async def post(self, body, path="/export", **headers) -> Reply:
        text = body if isinstance(body, bytes) else msgspec.json.encode(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send("POST", API_PREFIX + path, SENDING | named, text)


async def answered(stream) -> Reply:
    """Return one response with a Content-Length."""
    with anyio.fail_after(10):
        text = b""
        while b"\r\n\r\n" not in text:
            text += await stream.receive()
        head, _, rest = text.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        headers = {name: line.split(": ", 1)[1] for name, line in zip(headers, lines, strict=True)}
        while len(rest) < int(headers["content-length"]):
            rest += await stream.receive()
    return Reply(int(status.split()[1]), headers, rest)


class FastShutdownListener(Listener):
    """A listener that shuts down at once.

    Its limits default to those of production, and its events are discarded.
    """

    def __init__(self, app, bound, rules=RULES, watch=lambda _event: None):
        refusals = RawErrors(lambda: NOON, lambda: 0.5, watch)
        super().__init__(app, bound, rules, refusals, grace_seconds=0.0)


@asynccontextmanager
async def listening(life: ServiceHarness) -> AsyncIterator[Server]:
    with bind("127.0.0.1", 0) as bound:
        async with life.running() as flow, anyio.create_task_group() as tasks:
            listener = FastShutdownListener(flow.service.public, bound)
            tasks.start_soon(listener.listen)
            yield Server(bound.getsockname()[1], flow)
            listener.end()

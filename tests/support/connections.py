"""A listener with a small application, and requests written byte by byte."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import msgspec
from anyio.lowlevel import checkpoint
from starlette.types import Message, Receive, Scope, Send

from atlas.server import bind
from atlas.server.http import ConnectionLimits
from tests.conftest import EventRecorder
from tests.support.listeners import FastShutdownListener

HOST = "127.0.0.1"
KIB, MIB = 1024, 1024 * 1024
SECONDS = 20.0  # longer than anything here takes
CANARY = b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = bytes(16 * MIB)  # more than two kernels buffer of an unread response
Stream = anyio.abc.SocketStream


@dataclass
class App:
    """An application that echoes the request; records its requests and those cut off."""

    requests: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    more: anyio.Event = field(default_factory=anyio.Event)
    has_room: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.requests.append(path)
        if path == "/early":
            await answer(send, b"no", 401, (b"connection", b"close"))
            return
        if path == "/unread":
            await answer(send, b"well")
            return
        if path == "/large":
            await answer(send, LARGE)
            return
        if path == "/waits":
            await self.has_room.wait()
        if path == "/half":
            await send(start(200, (b"content-length", b"9")))
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        if message["type"] == "http.disconnect":
            self.gone.append(path)
            self.more.set()
        body += message.get("body", b"")
        headers = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
        await answer(send, msgspec.json.encode([body.decode("latin-1"), headers]))

    async def is_cut_off(self) -> None:
        with anyio.fail_after(SECONDS):
            await self.more.wait()


def start(status: int, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


async def answer(send: Send, body: bytes, status: int = 200, *more: tuple[bytes, bytes]) -> None:
    await send(start(status, (b"content-length", str(len(body)).encode()), *more))
    await send({"type": "http.response.body", "body": body})


@dataclass
class RunningListener:
    """A listening server with its application and its recorded events."""

    port: int
    app: App
    seen: EventRecorder
    listener: FastShutdownListener

    def connections(self) -> list[object]:
        return list(self.listener.connections)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Stream]:
        async with await anyio.connect_tcp(HOST, self.port) as stream:
            yield stream

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send a request and return everything received until the connection is closed."""
        async with self.connected() as stream:
            for piece in pieces:
                await stream.send(piece)
                await let_server_run()
            return await receive_rest(stream)

    async def exchange_and_close(self, *pieces: bytes) -> bytes:
        """The same, after closing the sending side."""
        async with self.connected() as stream:
            for piece in pieces:
                await stream.send(piece)
                await let_server_run()
            await stream.send_eof()
            return await receive_rest(stream)


@asynccontextmanager
async def running_listener(**rules: Any) -> AsyncIterator[RunningListener]:
    seen, app = EventRecorder(), App()
    with bind(HOST, 0) as bound:
        port = bound.getsockname()[1]
        async with anyio.create_task_group() as tasks:
            listener = FastShutdownListener(app, bound, ConnectionLimits(**rules), seen.watch)
            tasks.start_soon(listener.listen)
            try:
                yield RunningListener(port, app, seen, listener)
            finally:
                listener.end()


async def let_server_run() -> None:
    """Wait until the server, on the same loop, has had its turn."""
    for _ in range(4):
        await checkpoint()


async def receive_rest(stream: Stream) -> bytes:
    """Return everything received until the peer closes; a reset raises an error."""
    found = b""
    with anyio.fail_after(SECONDS):
        while True:
            try:
                found += await stream.receive(MIB)
            except anyio.EndOfStream:
                return found


async def receive_response(stream: Stream) -> bytes:
    """Return the body of one response with a Content-Length."""
    found = b""
    with anyio.fail_after(SECONDS):
        while b"\r\n\r\n" not in found:
            found += await stream.receive()
        head, _, body = found.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length
        while len(body) < int(length[1]):
            body += await stream.receive()
    return body


def statuses(text: bytes) -> list[int]:
    return [int(each) for each in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", text)]


def get(path: str = "/echo", *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


def post(*fields: str, body: bytes = b"", path: str = "/echo") -> bytes:
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", *fields, "", ""])
    return head.encode("latin-1") + body


def chunks(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked", body=body)


LAST = b"0\r\n\r\n"
HELLO = b"5\r\nhello\r\n"


def echoed(body: bytes) -> tuple[str, list[list[str]]]:
    text, headers = msgspec.json.decode(body)
    return text, headers

"""A minimal HTTP client: bodies in pieces, and answers that may arrive before the body ends.

A client library costs as much CPU as the service, and hides the time of the answer and the state of
the connection after it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from atlas.core.identifiers import API_PREFIX
from tests.chaos.clients import ANSWER_SECONDS, Answer

EXPORT, BATCH = f"{API_PREFIX}/export", f"{API_PREFIX}/export/batch"
HEAD_BYTES_MAX = 64 * 1024
LAST_CHUNK = b"0\r\n\r\n"  # of a chunked body
CONNECTION_ERRORS = OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError

Body = bytes | Iterable[bytes]


@dataclass(frozen=True, slots=True)
class TimedResponse:
    """An answer, and the seconds from the first byte sent until it came; status 0 means none."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0

    @property
    def to_answer(self) -> Answer:
        return Answer(self.status, self.body, self.headers.get("retry-after", ""))

    @property
    def is_last(self) -> bool:
        """True if nothing more comes on this connection."""
        return not self.status or self.headers.get("connection", "").lower() == "close"


@dataclass(slots=True)
class RawConnection:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, body: Body) -> None:
        """Send a body at once, or chunked, each piece as soon as there is room for it."""
        if isinstance(body, bytes):
            self.writer.write(body)
            return
        for chunk in body:
            self.writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await self.writer.drain()
            await asyncio.sleep(0)  # lets an early answer arrive
        self.writer.write(LAST_CHUNK)

    async def read_response(self) -> TimedResponse:
        """Read the next answer. Raises any error of LOST."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return TimedResponse(int(first.split()[1]), headers, body)

    async def wait_closed(self) -> None:
        """Wait until the server closes the connection; drop whatever it sends before."""
        with suppress(OSError):
            while await self.reader.read(HEAD_BYTES_MAX):
                pass

    def close(self) -> None:
        self.writer.transport.abort()


class RawHttpClient:
    """Client of one server. Connections are reused as long as the server keeps them open."""

    def __init__(self, url: str) -> None:
        self.host, _, port = url.removeprefix("http://").partition(":")
        self.port = int(port)
        self._idle: list[RawConnection] = []

    async def open(self) -> RawConnection:
        return RawConnection(
            *await asyncio.open_connection(self.host, self.port, limit=HEAD_BYTES_MAX)
        )

    @asynccontextmanager
    async def open_one(self) -> AsyncIterator[RawConnection]:
        """Open a separate connection, and close it at the end."""
        socket = await self.open()
        try:
            yield socket
        finally:
            socket.close()

    def build_head(self, path: str, token: str, body: Body, **headers: str) -> bytes:
        """Build the head of a request with this body. Header names are written with underscores."""
        lines = [f"POST {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        named = {"Content_Type": "application/json", "Authorization": f"Bearer {token}"} | headers
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        else:
            lines.append("Transfer-Encoding: chunked")
        return "\r\n".join([*lines, "", ""]).encode()

    async def post(self, head: bytes, body: Body, seconds: float = ANSWER_SECONDS) -> TimedResponse:
        """Send a request and return its answer, which may arrive before the end of the body."""
        began, response = time.perf_counter(), TimedResponse(0)
        with suppress(*CONNECTION_ERRORS):
            async with asyncio.timeout(seconds):
                socket = self._idle.pop() if self._idle else await self.open()
                try:
                    response = await exchange(socket, head, body)
                finally:
                    if response.is_last:
                        socket.close()
                    else:
                        self._idle.append(socket)
        return replace(response, seconds=time.perf_counter() - began)

    def close(self) -> None:
        for socket in self._idle:
            socket.close()
        self._idle.clear()


async def exchange(socket: RawConnection, head: bytes, body: Body) -> TimedResponse:
    """Send a request and read its answer; stop sending if the answer arrives early."""
    socket.writer.write(head)
    if isinstance(body, bytes):
        await socket.send(body)
        return await socket.read_response()
    sending = asyncio.create_task(send_body(socket, body))
    try:
        response = await socket.read_response()
    finally:
        is_whole = sending.done()
        sending.cancel()
    return (
        response
        if is_whole
        else TimedResponse(
            response.status, {**response.headers, "connection": "close"}, response.body
        )
    )


async def send_body(socket: RawConnection, body: Body) -> None:
    """Send the body. A connection that the server closes meanwhile is not an error here: either
    there is an answer to read, or reading fails.
    """
    with suppress(OSError):
        await socket.send(body)

"""One request and its answer, as an ASGI application has them (asgi.readthedocs.io, HTTP 2.x)."""

import asyncio
from http import HTTPStatus
from typing import Protocol
from urllib.parse import unquote

from starlette.types import Message, Scope

from atlas.process.http.parser import Head

BUFFERED_BYTES_MAX = 64 * 1024  # of a body that nobody has asked for yet
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
LINE_END = b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"

Fields = list[tuple[bytes, bytes]]


class Way(Protocol):
    """What an exchange needs of its connection."""

    def write(self, data: bytes) -> None: ...

    def resume_reading(self) -> None: ...

    async def drain(self) -> None: ...

    def exchange_ended(self) -> None: ...


class Exchange:
    """`receive` and `send` of one request; `fields` are headers that every answer has."""

    def __init__(self, head: Head, connection: Way, fields: Fields) -> None:
        self._head = head
        self._connection = connection
        self._fields = fields
        self._body: list[bytes] = []
        self.buffered_bytes = 0
        self._is_complete = False  # the body has come, all of it
        self._is_told = False  # ... and the application knows
        self._waiter: asyncio.Future[None] | None = None
        self._start = b""  # of the answer: it goes with the first of its body
        self._is_chunked = False
        self._has_body = True
        self._bytes_left = 0  # of the answer; below 0 if nobody says how many
        self._awaits_continue = head.expects_continue
        self.is_disconnected = False
        self.is_started = False
        self.is_ended = False
        self.keeps_alive = head.keeps_alive

    def scope(self) -> Scope:
        head = self._head
        path = head.path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1" if head.is_http_1_1 else "1.0",
            "scheme": "http",
            "method": head.method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": head.path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            "client": None,  # nobody's address is asked for
            "server": None,
        }

    # what the connection brings

    def take_body(self, piece: bytes) -> bool:
        """A piece of the body; whether no more should be read until it is asked for."""
        self._body.append(piece)
        self.buffered_bytes += len(piece)
        self._wake()
        return self.buffered_bytes > BUFFERED_BYTES_MAX

    def end_body(self) -> None:
        self._is_complete = True
        self._wake()

    def disconnect(self) -> None:
        """Nobody is there any more, or nothing good is to come."""
        self.is_disconnected = True
        self._wake()

    @property
    def has_written(self) -> bool:
        """Something of the answer is on its way."""
        return self.is_started and not self._start

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # what the application does

    async def receive(self) -> Message:
        if self._awaits_continue and not self.is_started:
            self._awaits_continue = False
            self._connection.write(CONTINUE)
        while not self._has_news():
            self._connection.resume_reading()
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            await waiter
        if self.is_disconnected or self.is_ended:
            return {"type": "http.disconnect"}
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body, self.buffered_bytes = [], 0
        self._is_told = self._is_complete
        return {"type": "http.request", "body": body, "more_body": not self._is_complete}

    def _has_news(self) -> bool:
        if self._body or self.is_disconnected or self.is_ended:
            return True
        return self._is_complete and not self._is_told

    async def send(self, message: Message) -> None:
        """Raises RuntimeError for what is no answer of HTTP: a bug of the application."""
        if self.is_disconnected:
            return
        if message["type"] == "http.response.start" and not self.is_started:
            self._start = self._started(message)
            self.is_started = True
        elif message["type"] == "http.response.body" and self.is_started and not self.is_ended:
            is_more = message.get("more_body", False)
            self._write(message.get("body", b""), is_more)
            if is_more:
                await self._connection.drain()
            else:
                self.is_ended = True
                self._wake()
                self._connection.exchange_ended()
        else:
            raise RuntimeError(f"The application sent {message['type']} out of order.")

    def _started(self, message: Message) -> bytes:
        status, length, closes = message["status"], None, False
        lines = [STATUS_LINES[status]]
        for name, value in (*self._fields, *message["headers"]):
            lines += (name, b": ", value, LINE_END)
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and value.lower() == b"close":
                self.keeps_alive, closes = False, True
        has_body = self._head.method != "HEAD" and status not in {204, 304}
        if length is None and has_body and self._head.is_http_1_1:
            self._is_chunked = True
            lines += (b"transfer-encoding: chunked", LINE_END)
        elif length is None and has_body:
            self.keeps_alive = False
        self._bytes_left = (length if length is not None else -1) if has_body else 0
        self._has_body = has_body
        if not self._is_complete:  # nobody will read the rest
            self.keeps_alive = False
        if not (self.keeps_alive or closes):
            lines += (b"connection: close", LINE_END)
        lines.append(LINE_END)
        text = b"".join(lines)
        if text.count(b"\n") != lines.count(LINE_END) + 1:
            raise RuntimeError("A header of the answer holds a line end.")
        return text

    def _write(self, body: bytes, is_more: bool) -> None:
        if not self._has_body:
            body = b""
        elif self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if is_more else LAST_CHUNK
        elif self._bytes_left >= 0:
            self._bytes_left -= len(body)
            if self._bytes_left < 0 or (self._bytes_left and not is_more):
                raise RuntimeError("The answer is not as long as its Content-Length says.")
        start, self._start = self._start, b""
        if data := start + body:
            self._connection.write(data)

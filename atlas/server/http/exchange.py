"""A request and its response, as ASGI defines them (asgi.readthedocs.io, HTTP 2.x)."""

import asyncio
from http import HTTPStatus
from typing import Protocol
from urllib.parse import unquote

from starlette.types import Message, Scope

from atlas.server.http.header_validation import Headers
from atlas.server.http.parser import RequestHead

BUFFERED_BYTES_MAX = 64 * 1024  # of the body, before the application reads it
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
LINE_END = b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class ExchangeConnection(Protocol):
    """The part of a connection that an exchange uses."""

    def write(self, data: bytes) -> None: ...

    def resume_reading(self) -> None: ...

    async def drain(self) -> None: ...

    def end_exchange(self) -> None: ...


class Exchange:
    """Provides `receive` and `send` for one request. `headers` are added to its response."""

    def __init__(self, head: RequestHead, connection: ExchangeConnection, headers: Headers) -> None:
        self._head = head
        self._connection = connection
        self._headers = headers
        self._body: list[bytes] = []
        self.buffered_bytes = 0
        self._is_complete = False  # all of the body was received
        self._is_delivered = False  # the application has read all of the body
        self._waiter: asyncio.Future[None] | None = None
        self._pending_head = b""  # of the response, sent with the first part of its body
        self._is_chunked = False
        self._has_body = True
        self._bytes_left = 0  # of the response; below 0 without a Content-Length
        self._awaits_continue = head.expects_continue
        self.is_untouched = True  # the application has not called `receive` or `send`
        self.is_disconnected = False
        self.is_started = False
        self.is_ended = False
        self.keeps_alive = head.keeps_alive

    def build_scope(self) -> Scope:
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
            "client": None,  # Atlas does not use addresses
            "server": None,
        }

    # called by the connection

    def add_body(self, chunk: bytes) -> bool:
        """Buffer a part of the body. True if the buffer is full, so that reading should pause."""
        self._body.append(chunk)
        self.buffered_bytes += len(chunk)
        self._wake()
        return self.buffered_bytes > BUFFERED_BYTES_MAX

    def end_body(self) -> None:
        self._is_complete = True
        self._wake()

    def disconnect(self) -> None:
        """Record that the client is gone, or that the rest of its request is unreadable."""
        self.is_disconnected = True
        self._wake()

    @property
    def has_written(self) -> bool:
        """True if part of the response has been written."""
        return self.is_started and not self._pending_head

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # called by the application

    async def receive(self) -> Message:
        self.is_untouched = False
        if self._awaits_continue and not self.is_started:
            self._awaits_continue = False
            self._connection.write(CONTINUE)
        while not self._has_message():
            self._connection.resume_reading()
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            await waiter
        if self.is_disconnected or self.is_ended:
            return {"type": "http.disconnect"}
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body, self.buffered_bytes = [], 0
        self._is_delivered = self._is_complete
        return {"type": "http.request", "body": body, "more_body": not self._is_complete}

    def _has_message(self) -> bool:
        if self._body or self.is_disconnected or self.is_ended:
            return True
        return self._is_complete and not self._is_delivered

    async def send(self, message: Message) -> None:
        """Send an ASGI message. Raises RuntimeError if it violates ASGI or HTTP."""
        self.is_untouched = False
        if self.is_disconnected:
            return
        if message["type"] == "http.response.start" and not self.is_started:
            self._pending_head = self._format_head(message)
            self.is_started = True
        elif message["type"] == "http.response.body" and self.is_started and not self.is_ended:
            is_more = message.get("more_body", False)
            self._write(message.get("body", b""), is_more)
            if is_more:
                await self._connection.drain()
            else:
                self.is_ended = True
                self._wake()
                self._connection.end_exchange()
        else:
            raise RuntimeError(f"The application sent {message['type']} out of order.")

    def _format_head(self, message: Message) -> bytes:
        status, length, closes = message["status"], None, False
        lines = [STATUS_LINES[status]]
        for name, value in (*self._headers, *message["headers"]):
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
        if not self._is_complete:  # the rest of the body will not be read
            self.keeps_alive = False
        if not (self.keeps_alive or closes):
            lines += (b"connection: close", LINE_END)
        lines.append(LINE_END)
        text = b"".join(lines)
        if text.count(b"\n") != lines.count(LINE_END) + 1:
            raise RuntimeError("A header of the response contains a line end.")
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
                raise RuntimeError("The body does not match the Content-Length of the response.")
        start, self._pending_head = self._pending_head, b""
        if data := start + body:
            self._connection.write(data)

"""Errors as raw HTTP, for connections and requests that do not reach the application."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import format_datetime
from http import HTTPStatus
from math import ceil

import msgspec

from atlas.core import names
from atlas.core.errors import AtlasError
from atlas.core.events import ConnectionCut, ConnectionRefused, Watch, Why, crash_of
from atlas.core.ports import Clock
from atlas.process.http.header_validation import Headers


@dataclass(frozen=True, slots=True)
class RawErrors:
    """Error responses in the form of the contract, and their events. They quote no request."""

    now: Clock
    random: Callable[[], float]
    watch: Watch

    def build(self, error: AtlasError, headers: Headers) -> bytes:
        """The bytes of the response, and its event. The connection must be closed behind it."""
        id = str(uuid.uuid4())
        self.watch(ConnectionRefused(id, error.code, error.status, str(error)))
        wait = self._retry_after(error)
        detail = {
            "code": error.code,
            "message": str(error),
            "correlationId": id,
            "timestamp": names.timestamp(self.now()),
            "retryable": error.retryable,
        }
        if wait is not None:
            detail["retryAfter"] = wait
            headers = [*headers, (b"retry-after", str(wait).encode())]
        body = msgspec.json.encode({"error": detail})
        fields = [
            *headers,
            (b"x-correlation-id", id.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        first = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n".encode()
        return b"".join([first, *(b"%b: %b\r\n" % each for each in fields), b"\r\n", body])

    def emit_aborted(self, why: Why) -> None:
        """Emit that a connection is closed without a response."""
        self.watch(ConnectionCut(why))

    def emit_crash(self, stage: str, error: Exception) -> None:
        """Emit that the application has crashed."""
        self.watch(crash_of(stage, error))

    def format_date(self) -> bytes:
        """The Date header (RFC 9110, section 6.6.1)."""
        return format_datetime(self.now(), usegmt=True).encode()

    def _retry_after(self, error: AtlasError) -> int | None:
        """Seconds, up to twice what the error says, so that not all come again together."""
        seconds = error.retry_seconds
        return None if seconds is None else ceil(seconds * (1 + self.random()))

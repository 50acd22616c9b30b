"""Builds error responses for connections and requests that do not reach the application."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import format_datetime
from http import HTTPStatus

import msgspec

from atlas.core.error_reply import ErrorReply, describe
from atlas.core.errors import AtlasError
from atlas.core.events import ConnectionRejected, EventSink, build_crash_event
from atlas.core.ports import Clock
from atlas.server.http.header_validation import Headers


@dataclass(frozen=True, slots=True)
class RawErrors:
    """Builds error responses in the format of the API, and emits events.

    Neither the responses nor the events quote the request.
    """

    clock: Clock
    random: Callable[[], float]
    emit: EventSink

    def build(self, error: AtlasError, headers: Headers) -> bytes:
        """Emit the rejection and return its response. The caller must close the connection."""
        id = str(uuid.uuid4())
        self.emit(ConnectionRejected(id, error.code, error.status, str(error)))
        detail = describe(error, id, self.clock(), self.random)
        if detail.retry_after is not None:
            headers = [*headers, (b"retry-after", str(detail.retry_after).encode())]
        body = msgspec.json.encode(ErrorReply(error=detail))
        fields = [
            *headers,
            (b"x-correlation-id", id.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        first = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n".encode()
        return b"".join([first, *(b"%b: %b\r\n" % each for each in fields), b"\r\n", body])

    def emit_crash(self, stage: str, error: Exception) -> None:
        """Emit the event of a crash of the application."""
        self.emit(build_crash_event(stage, error))

    def format_date(self) -> bytes:
        """Return the value of the Date header (RFC 9110, section 6.6.1)."""
        return format_datetime(self.clock(), usegmt=True).encode()

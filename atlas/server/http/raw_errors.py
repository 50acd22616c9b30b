"""Errors as raw HTTP, for connections and requests that do not reach the application."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import format_datetime
from http import HTTPStatus

import msgspec

from atlas.core.error_reply import ErrorReply, describe
from atlas.core.errors import AtlasError
from atlas.core.events import (
    AbortReason,
    ConnectionAborted,
    ConnectionRejected,
    EventSink,
    build_crash_event,
)
from atlas.core.ports import Clock
from atlas.server.http.header_validation import Headers


@dataclass(frozen=True, slots=True)
class RawErrors:
    """Error responses in the form of the contract, and their events. They quote no request."""

    clock: Clock
    random: Callable[[], float]
    emit: EventSink

    def build(self, error: AtlasError, headers: Headers) -> bytes:
        """The bytes of the response, and its event. The connection must be closed behind it."""
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

    def emit_aborted(self, reason: AbortReason) -> None:
        """Emit that a connection is closed without a response."""
        self.emit(ConnectionAborted(reason))

    def emit_crash(self, stage: str, error: Exception) -> None:
        """Emit that the application has crashed."""
        self.emit(build_crash_event(stage, error))

    def format_date(self) -> bytes:
        """The Date header (RFC 9110, section 6.6.1)."""
        return format_datetime(self.clock(), usegmt=True).encode()

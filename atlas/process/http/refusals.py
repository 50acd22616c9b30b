"""What the server says by itself, of a connection or of a request that reaches no application."""

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

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Refusals:
    """Refuses as the contract has it, and tells of it; nothing of a request is repeated."""

    now: Clock
    random: Callable[[], float]
    watch: Watch

    def answer(self, error: AtlasError, headers: Headers) -> bytes:
        """The whole answer, as it goes to the socket. The connection is closed behind it."""
        id = str(uuid.uuid4())
        self.watch(ConnectionRefused(id, error.code, error.status, str(error)))
        wait = self._wait(error)
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

    def cut(self, why: Why) -> None:
        """A connection ends without a word to the other side."""
        self.watch(ConnectionCut(why))

    def crashed(self, stage: str, error: Exception) -> None:
        """A request met a bug of ours."""
        self.watch(crash_of(stage, error))

    def date(self) -> bytes:
        """The Date header (RFC 9110, section 6.6.1)."""
        return format_datetime(self.now(), usegmt=True).encode()

    def _wait(self, error: AtlasError) -> int | None:
        """Seconds, up to twice what the error says, so that not all come again together."""
        seconds = error.retry_seconds
        return None if seconds is None else ceil(seconds * (1 + self.random()))

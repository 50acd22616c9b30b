"""The JSON of an error, as the public listener sends it and as clients read it."""

from collections.abc import Callable
from datetime import datetime
from math import ceil

from msgspec import Struct, field

from atlas.core import identifiers
from atlas.core.errors import AtlasError
from atlas.core.messages import Reject

RETRY_SECONDS = 5.0  # for errors that do not say when to retry


class ErrorDetail(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reason why a request was rejected, and whether sending it again can help."""

    code: str
    message: str
    correlation_id: str = field(name="correlationId")
    timestamp: str
    retryable: bool
    retry_after: int | None = field(default=None, name="retryAfter")
    details: tuple[Reject, ...] = ()


class ErrorReply(Struct, frozen=True, kw_only=True):
    """The body of every rejection."""

    error: ErrorDetail


class ReceivedError(Struct):
    """An error as a client reads it, perhaps from another server than Atlas."""

    code: str = ""
    message: str = "This is not Atlas."


class ReceivedReply(Struct):
    error: ReceivedError
    safe_bytes: int = 0


def describe(
    error: AtlasError, correlation_id: str, now: datetime, random: Callable[[], float]
) -> ErrorDetail:
    """Build the JSON of an error. `random` spreads retries, so that they do not coincide."""
    return ErrorDetail(
        code=error.code,
        message=str(error),
        correlation_id=correlation_id,
        timestamp=identifiers.format_timestamp(now),
        retryable=error.retryable,
        retry_after=retry_after(error, random),
        details=error.details,
    )


def retry_after(error: AtlasError, random: Callable[[], float]) -> int | None:
    """Return the seconds until a retry: for a 5xx always, up to twice as long as the error says."""
    if error.status >= 500:
        seconds = RETRY_SECONDS if error.retry_seconds is None else error.retry_seconds
        return ceil(seconds * (1 + random()))
    return None if error.retry_seconds is None else ceil(error.retry_seconds)

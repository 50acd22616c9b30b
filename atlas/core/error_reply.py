"""The JSON of an error, as the public listener sends it and as others read it."""

from collections.abc import Callable
from datetime import datetime
from math import ceil

from msgspec import Struct, field

from atlas.core import identifiers
from atlas.core.errors import AtlasError
from atlas.core.messages import Reject

RETRY_SECONDS = 5.0  # for errors that do not say when to retry


class ErrorDetail(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was refused, and whether sending it again can help."""

    code: str
    message: str
    correlation_id: str = field(name="correlationId")
    timestamp: str
    retryable: bool
    retry_after: int | None = field(default=None, name="retryAfter")
    details: tuple[Reject, ...] = ()


class ErrorReply(Struct, frozen=True, kw_only=True):
    """Every refusal."""

    error: ErrorDetail


class ReceivedError(Struct):
    """An error as somebody else reads it, who may have reached another server than Atlas."""

    code: str = ""
    message: str = "This is no Atlas."


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
    """Seconds until a retry; for a 5xx always, and up to twice as long as the error says."""
    if error.status >= 500:
        seconds = RETRY_SECONDS if error.retry_seconds is None else error.retry_seconds
        return ceil(seconds * (1 + random()))
    return None if error.retry_seconds is None else ceil(error.retry_seconds)

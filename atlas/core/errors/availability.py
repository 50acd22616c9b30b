"""Temporary failures of Atlas, and failures of its journal."""

from atlas.core.errors.requests import AtlasError


class Unavailable(AtlasError):
    """Atlas cannot do this now. Send the same request later."""

    code = "OVERLOADED"
    status = 503
    retry_seconds: float | None = 2.0


class FlowFull(Unavailable):
    """The service is at capacity. Retry later."""


class Overloaded(Unavailable):
    """Atlas is at capacity. Send the same request later."""

    def __init__(self, retry_seconds: float) -> None:
        super().__init__()
        self.retry_seconds = retry_seconds


class AuthUnavailable(Unavailable):
    """Tokens cannot be verified: the issuer's keys cannot be fetched. Retry later."""

    code = "AUTH_UNAVAILABLE"
    retry_seconds = 10.0


class JournalFull(Unavailable):
    """The journal is full: too many exports wait for Foundry. Retry later."""

    code = "JOURNAL_FULL"
    retry_seconds = 30.0

    def __init__(self, message: str = "", retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds or type(self).retry_seconds


class CorruptEntry(AtlasError):
    """The stored export is damaged on the disk and cannot be restored."""

    retryable = False


class OutOfOrder(AtlasError):
    """The journal is not in the state that this step of a commit requires: a bug."""

    retryable = False


class Deposed(AtlasError):
    """Another replica took over the uploads. Send the same request again."""

    status = 503


class JournalAway(Unavailable):
    """The database of the journal cannot be reached. Send the same request later."""

    code = "JOURNAL_AWAY"
    retry_seconds = 5.0


class Draining(Unavailable):
    """Atlas is shutting down. Send the same request again."""

    code = "DRAINING"
    retry_seconds = 5.0

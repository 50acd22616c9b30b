"""Trouble of ours: the same request can be sent again, and may succeed later."""

from atlas.core.errors.requests import AtlasError


class Unavailable(AtlasError):
    """Not now: the same request can succeed later."""

    code = "OVERLOADED"
    status = 503
    retry_seconds: float | None = 2.0


class Overloaded(Unavailable):
    """Atlas has as much to do as it can just now; send the same later."""

    def __init__(self, retry_seconds: float) -> None:
        super().__init__()
        self.retry_seconds = retry_seconds


class AuthUnavailable(Unavailable):
    """Tokens cannot be checked now: the keys of the issuer are not to be had."""

    code = "AUTH_UNAVAILABLE"
    retry_seconds = 10.0


class JournalFull(Unavailable):
    """Too many exports wait for Foundry already."""

    code = "JOURNAL_FULL"
    retry_seconds = 30.0

    def __init__(self, message: str = "", retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds or type(self).retry_seconds


class Damaged(AtlasError):
    """What was kept of this export has changed on the disk: it cannot be sent as it came."""

    retryable = False


class OutOfOrder(AtlasError):
    """The journal is not in the state that this step of a commit starts from: a bug."""

    retryable = False


class Draining(Unavailable):
    """Atlas is shutting down; another will answer."""

    code = "DRAINING"
    retry_seconds = 5.0

"""Errors of a request. The docstring is the message to its sender."""

from typing import ClassVar, Self

from atlas.core.messages import Reject


class AtlasError(Exception):
    """Something went wrong inside Atlas. Please send the same request again."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = True
    retry_seconds: float | None = 5.0
    details: tuple[Reject, ...] = ()

    def __init__(self, message: str = "") -> None:
        super().__init__(message or type(self).__doc__)

    def detach(self) -> Self:
        """The same without its traceback and its cause.

        They know the frames that the error has passed, and whoever keeps the error stands in one
        of those: it would be a cycle of garbage.
        """
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class Rejected(AtlasError):
    """The request is not an export: see the message."""

    code = "INVALID_PAYLOAD"
    status = 400
    retryable = False
    retry_seconds: float | None = None


class BadRequest(Rejected):
    """The request is not HTTP/1.1 as Atlas reads it."""

    code = "BAD_REQUEST"


class HeadersTooLarge(Rejected):
    """The header block of the request is larger than is accepted."""

    code = "HEADERS_TOO_LARGE"
    status = 431


class NotNdjson(Rejected):
    """No line of it is a JSON object."""

    code = "INVALID_NDJSON"

    def __init__(self, rejects: tuple[Reject, ...] = ()) -> None:
        super().__init__()
        self.details = rejects


class TooManyChunks(Rejected):
    """The batch has more chunks than are accepted at once."""

    code = "TOO_MANY_CHUNKS"


class BatchRejected(Rejected):
    """No chunk of the batch was accepted; errors says why, chunk by chunk."""

    code = "BATCH_UPLOAD_FAILED"

    def __init__(self, status: int = 400) -> None:
        super().__init__()
        self.status = status  # type: ignore[misc]  # the status all its chunks have in common


class MissingIdentity(Rejected):
    """The token is good and names nobody: it has no sub claim."""

    code = "MISSING_IDENTITY"


class Unauthenticated(Rejected):
    """No bearer token was sent."""

    code = "UNAUTHORIZED"
    status = 401


class TokenExpired(Unauthenticated):
    """The bearer token has expired; send a fresh one."""

    code = "TOKEN_EXPIRED"
    retryable = True


class InvalidToken(Unauthenticated):
    """The bearer token is not one that Atlas accepts."""

    code = "INVALID_TOKEN"


class SenderConstrainedToken(InvalidToken):
    """The bearer token is bound to a key (DPoP, mTLS): Atlas takes plain bearer tokens."""


class InsufficientScope(Rejected):
    """The bearer token lacks the scope that exports need."""

    code = "INSUFFICIENT_SCOPE"
    status = 403

    def __init__(self, scope: str = "") -> None:
        super().__init__()
        self.scope = scope


class NotFound(Rejected):
    """There is nothing at this address."""

    code = "NOT_FOUND"
    status = 404


class MethodNotAllowed(Rejected):
    """This address does not answer to that method."""

    code = "METHOD_NOT_ALLOWED"
    status = 405


class BodyTooSlow(Rejected):
    """The body of the request came too slowly."""

    code = "REQUEST_TIMEOUT"
    status = 408
    retryable = True


class BodyTooLarge(Rejected):
    """The body of the request is larger than is accepted at once."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class ChunkTooLarge(Rejected):
    """One export is larger than one file may be."""

    code = "CHUNK_TOO_LARGE"
    status = 413


class UnsupportedMediaType(Rejected):
    """Exports are application/json, or application/x-ndjson; plain, gzip, deflate or zstd."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415


class ExportErased(Rejected):
    """While this export waited, all of its user was forgotten; sent again, it is new."""

    code = "FORGOTTEN"
    status = 410


class IdempotencyKeyReused(Rejected):
    """This Idempotency-Key was used for another export before."""

    code = "IDEMPOTENCY_KEY_REUSED"
    status = 422


class RateLimited(Rejected):
    """Too many requests of this user; the same can be sent again, later."""

    code = "RATE_LIMITED"
    status = 429
    retryable = True

    def __init__(self, limit: int, window_seconds: int, retry_seconds: float) -> None:
        super().__init__()
        self.limit = limit
        self.window_seconds = window_seconds
        self.retry_seconds: float = retry_seconds

"""Errors of a request. A docstring's first paragraph is the default message to the client."""

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
        super().__init__(message or self._get_default_message())

    @classmethod
    def _get_default_message(cls) -> str:
        first, *_ = (cls.__doc__ or "").split("\n\n")
        return " ".join(first.split())

    def detach(self) -> Self:
        """Return this error without its traceback and cause.

        They refer to the frames that the error has passed, and one of those frames stores the
        error: a reference cycle.
        """
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class Rejected(AtlasError):
    """The request is not a valid export."""

    code = "INVALID_PAYLOAD"
    status = 400
    retryable = False
    retry_seconds: float | None = None


class BadRequest(Rejected):
    """The request is not valid HTTP/1.1."""

    code = "BAD_REQUEST"


class HeadersTooLarge(Rejected):
    """The headers of the request are too large."""

    code = "HEADERS_TOO_LARGE"
    status = 431


class NotNdjson(Rejected):
    """No line of the export is a JSON object."""

    code = "INVALID_NDJSON"

    def __init__(self, rejects: tuple[Reject, ...] = ()) -> None:
        super().__init__()
        self.details = rejects


class TooManyChunks(Rejected):
    """The batch has too many chunks."""

    code = "TOO_MANY_CHUNKS"


class BatchRejected(Rejected):
    """No chunk of the batch was accepted; `errors` has the reason for each."""

    code = "BATCH_UPLOAD_FAILED"

    def __init__(self, status: int = 400) -> None:
        super().__init__()
        self.status = status  # type: ignore[misc]  # the status all its chunks have in common


class MissingIdentity(Rejected):
    """The token is valid but has no sub claim."""

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
    """The bearer token is not valid here."""

    code = "INVALID_TOKEN"


class SenderConstrainedToken(InvalidToken):
    """The bearer token is bound to a key (DPoP, mTLS). Send a plain bearer token."""


class ProofRequired(InvalidToken):
    """Send this token with the scheme DPoP, and with a proof of the key that it is bound to."""


class InvalidProof(InvalidToken):
    """The DPoP proof is not valid for this request."""


class ProofNonceRequired(InvalidToken):
    """Send a DPoP proof with the nonce of this answer."""

    def __init__(self, nonce: str = "") -> None:
        super().__init__()
        self.nonce = nonce


class InsufficientScope(Rejected):
    """The bearer token lacks the scope that is required for exports."""

    code = "INSUFFICIENT_SCOPE"
    status = 403

    def __init__(self, scope: str = "") -> None:
        super().__init__()
        self.scope = scope


class NotFound(Rejected):
    """Nothing exists at this URL."""

    code = "NOT_FOUND"
    status = 404


class NotSetAside(Rejected):
    """The export is not set aside, so an operator cannot decide on it."""

    status = 409


class MethodNotAllowed(Rejected):
    """This URL does not support the method of the request."""

    code = "METHOD_NOT_ALLOWED"
    status = 405


class BodyTooSlow(Rejected):
    """The body of the request arrived too slowly."""

    code = "REQUEST_TIMEOUT"
    status = 408
    retryable = True


class BodyTooLarge(Rejected):
    """The body of the request is too large."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class ChunkTooLarge(Rejected):
    """The export is too large for one file."""

    code = "CHUNK_TOO_LARGE"
    status = 413


class UnsupportedMediaType(Rejected):
    """Send application/json or application/x-ndjson: plain, gzip, deflate or zstd."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415


class ExportErased(Rejected):
    """All data of this user was erased while the export waited. Sent again, it is a new export."""

    code = "FORGOTTEN"
    status = 410


class IdempotencyKeyReused(Rejected):
    """This Idempotency-Key was already used for another export."""

    code = "IDEMPOTENCY_KEY_REUSED"
    status = 422


class RateLimited(Rejected):
    """This user has sent too many requests. Send the same request later."""

    code = "RATE_LIMITED"
    status = 429
    retryable = True

    def __init__(self, limit: int, window_seconds: int, retry_seconds: float) -> None:
        super().__init__()
        self.limit = limit
        self.window_seconds = window_seconds
        self.retry_seconds: float = retry_seconds

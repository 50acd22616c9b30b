"""All errors that are reported to a client or an operator.

`code`, `status` and `retryable` are the wire contract with the iOS app; the docstring is the
default message. The tree is divided first by blame: a Rejected request fails however often it is
sent, while Unavailable is a problem of Atlas or Foundry, so the same request can be sent again.
"""

import msgspec

from atlas.core.errors.availability import (
    AuthUnavailable,
    CorruptEntry,
    Draining,
    FlowFull,
    JournalFull,
    OutOfOrder,
    Overloaded,
    Unavailable,
)
from atlas.core.errors.foundry import (
    RETRY_LATER,
    BranchBusy,
    CommitRefused,
    ContentTooLarge,
    FileInvalid,
    FileRefused,
    FileSpoiled,
    FoundryError,
    PathTaken,
    TransactionEnded,
)
from atlas.core.errors.requests import (
    AtlasError,
    BadRequest,
    BatchRejected,
    BodyTooLarge,
    BodyTooSlow,
    ChunkTooLarge,
    ExportErased,
    HeadersTooLarge,
    IdempotencyKeyReused,
    InsufficientScope,
    InvalidToken,
    MethodNotAllowed,
    MissingIdentity,
    NotFound,
    NotNdjson,
    RateLimited,
    Rejected,
    SenderConstrainedToken,
    TokenExpired,
    TooManyChunks,
    Unauthenticated,
    UnsupportedMediaType,
)
from atlas.core.errors.startup import (
    CommandError,
    ConfigurationError,
    JournalLocked,
)

JSON_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # msgspec raises all three

__all__ = [
    "JSON_ERRORS",
    "RETRY_LATER",
    "AtlasError",
    "AuthUnavailable",
    "BadRequest",
    "BatchRejected",
    "BodyTooLarge",
    "BodyTooSlow",
    "BranchBusy",
    "ChunkTooLarge",
    "CommandError",
    "CommitRefused",
    "ConfigurationError",
    "ContentTooLarge",
    "CorruptEntry",
    "Draining",
    "ExportErased",
    "FileInvalid",
    "FileRefused",
    "FileSpoiled",
    "FlowFull",
    "FoundryError",
    "HeadersTooLarge",
    "IdempotencyKeyReused",
    "InsufficientScope",
    "InvalidToken",
    "JournalFull",
    "JournalLocked",
    "MethodNotAllowed",
    "MissingIdentity",
    "NotFound",
    "NotNdjson",
    "OutOfOrder",
    "Overloaded",
    "PathTaken",
    "RateLimited",
    "Rejected",
    "SenderConstrainedToken",
    "TokenExpired",
    "TooManyChunks",
    "TransactionEnded",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedMediaType",
]

"""All errors that are reported to a client or an operator.

`code`, `status` and `retryable` are the wire contract with the iOS app; the docstring is the
default message. The tree is cut first by blame: a Rejected request fails however often it is sent,
while Unavailable means a problem of Atlas or Foundry, so the same request can be sent again.
"""

import msgspec

from atlas.core.errors.availability import (
    AuthUnavailable,
    Damaged,
    Draining,
    JournalFull,
    NoRoom,
    OutOfOrder,
    Overloaded,
    Unavailable,
)
from atlas.core.errors.foundry import (
    AGAIN,
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
    BoundToken,
    ChunkTooLarge,
    Forgotten,
    HeadersTooLarge,
    InsufficientScope,
    InvalidToken,
    KeyReused,
    MethodNotAllowed,
    MissingIdentity,
    NotFound,
    NotNdjson,
    RateLimited,
    Rejected,
    TokenExpired,
    TooLarge,
    TooManyChunks,
    TooSlow,
    Unauthenticated,
    UnsupportedMediaType,
)
from atlas.core.errors.startup import (
    BadSetting,
    CannotStart,
    JournalHeld,
)

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # msgspec raises all three

__all__ = [
    "AGAIN",
    "NOT_JSON",
    "AtlasError",
    "AuthUnavailable",
    "BadRequest",
    "BadSetting",
    "BatchRejected",
    "BoundToken",
    "BranchBusy",
    "CannotStart",
    "ChunkTooLarge",
    "CommitRefused",
    "ContentTooLarge",
    "Damaged",
    "Draining",
    "FileInvalid",
    "FileRefused",
    "FileSpoiled",
    "Forgotten",
    "FoundryError",
    "HeadersTooLarge",
    "InsufficientScope",
    "InvalidToken",
    "JournalFull",
    "JournalHeld",
    "KeyReused",
    "MethodNotAllowed",
    "MissingIdentity",
    "NoRoom",
    "NotFound",
    "NotNdjson",
    "OutOfOrder",
    "Overloaded",
    "PathTaken",
    "RateLimited",
    "Rejected",
    "TokenExpired",
    "TooLarge",
    "TooManyChunks",
    "TooSlow",
    "TransactionEnded",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedMediaType",
]

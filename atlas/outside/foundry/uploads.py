"""Interprets the answer to an upload. Pure.

| answer | meaning |
|---|---|
| 2xx, our path and size | confirmed |
| 2xx, another size | FileSpoiled |
| 2xx, unreadable or another path | not confirmed |
| FileAlreadyExists after an unanswered attempt | not confirmed: it may be that attempt's file |
| FileAlreadyExists on the first attempt | PathTaken |
| TransactionNotOpen, TransactionNotFound | TransactionEnded |
| InvalidFilePath, or 413 | FileInvalid |
| any other 4xx that blames neither access, dataset, branch nor transaction | FileRefused |
| any other 4xx | FoundryError |
"""

from dataclasses import dataclass

from atlas.core.errors import (
    FileInvalid,
    FileRefused,
    FileSpoiled,
    FoundryError,
    PathTaken,
    TransactionEnded,
)
from atlas.outside.foundry.errors import (
    build_error,
    build_typed_error,
    is_about_setup,
    is_about_transaction,
)
from atlas.outside.foundry.responses import ApiResponse, UploadedFile

FILE_ERROR = "InvalidFilePath"  # any other error may hold for any file
FILE_EXISTS = "FileAlreadyExists"
ENDED_ERRORS = ("TransactionNotOpen", "TransactionNotFound")


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file as it was sent."""

    transaction: str
    path: str
    bytes: int


def is_confirmed(response: ApiResponse, sent: SentFile) -> bool:
    """Return whether Foundry confirms the file; False if it may or may not be there.

    Raises FoundryError, or a subclass that says more.
    """
    if not response.is_success:
        if response.has_error(FILE_EXISTS) and response.is_repeat:
            return False
        raise build_upload_error(response)
    stored = response.read_if_valid(UploadedFile)
    if stored is None or stored.size_bytes is None:
        return False
    if int(stored.size_bytes) != sent.bytes:
        raise FileSpoiled("Foundry stored a file with another size than was sent.")
    return stored.path == sent.path and stored.transaction_rid == sent.transaction


def build_upload_error(response: ApiResponse) -> FoundryError:
    """Return the error for a 4xx that answers an upload."""
    if response.has_error(FILE_EXISTS):
        return build_typed_error(PathTaken, response)
    if response.has_error(*ENDED_ERRORS):
        return build_typed_error(TransactionEnded, response)
    if is_about_setup(response):
        return build_error(response)
    if response.has_error(FILE_ERROR) or response.status == 413:
        return build_typed_error(FileInvalid, response)
    if is_about_transaction(response):
        return build_error(response)
    return build_typed_error(FileRefused, response)

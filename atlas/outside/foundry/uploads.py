"""Interpretation of the answer to an upload. Pure.

| answer | meaning |
|---|---|
| 2xx, our path and size | confirmed |
| 2xx, another size | FileSpoiled |
| 2xx, unreadable or another path | not confirmed |
| FileAlreadyExists after an unanswered attempt | not confirmed: it may be that attempt's file |
| FileAlreadyExists on the first attempt | PathTaken |
| TransactionNotOpen, TransactionNotFound | TransactionEnded |
| InvalidFilePath, or 413 | FileInvalid |
| any other 4xx not about access, dataset, branch or transaction | FileRefused |
| any other 4xx | FoundryError |
"""

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

FILE_ERROR = "InvalidFilePath"  # the only error that is certainly about this one file
FILE_EXISTS = "FileAlreadyExists"
ENDED_ERRORS = ("TransactionNotOpen", "TransactionNotFound")


def is_confirmed(response: ApiResponse, transaction: str, path: str, size: int) -> bool:
    """True if Foundry confirms the file that was sent; False if it may or may not be stored.

    Raises FoundryError or one of its subclasses if the upload failed.
    """
    if not response.is_success:
        if response.has_error(FILE_EXISTS) and response.is_repeat:
            return False
        raise build_upload_error(response)
    stored = response.read_if_valid(UploadedFile)
    if stored is None or stored.size_bytes is None:
        return False
    if int(stored.size_bytes) != size:
        raise FileSpoiled("Foundry stored the file with a size other than was sent.")
    return stored.path == path and stored.transaction_rid == transaction


def build_upload_error(response: ApiResponse) -> FoundryError:
    """Return the error for an upload that Foundry answers with a 4xx."""
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

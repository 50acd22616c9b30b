"""Failures and refusals of Foundry."""

from atlas.core.errors.availability import Unavailable

RETRY_LATER = "Try again in a minute; if it persists, check Foundry's own status."


class FoundryError(Unavailable):
    """Foundry did not respond as expected; the call may have taken effect all the same.

    `error_name` and `instance_id` are from Foundry's response, "" if it had none; Palantir's
    support asks for the instance id. `remedy` is an instruction for the operator. `retry_seconds`
    is Foundry's.
    """

    code = "FOUNDRY_ERROR"
    retry_seconds = None  # the uploader backs off by itself, unless Foundry says when

    def __init__(
        self,
        message: str = "",
        retry_seconds: float | None = None,
        *,
        remedy: str = RETRY_LATER,
        error_name: str = "",
        instance_id: str = "",
    ) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds
        self.remedy = remedy
        self.error_name = error_name
        self.instance_id = instance_id


class BranchBusy(FoundryError):
    """Another transaction is open on the branch."""


class TransactionEnded(FoundryError):
    """The transaction is no longer open: another client has committed or aborted it."""


class CommitRefused(FoundryError):
    """Foundry refuses to commit the transaction."""


class FileRefused(FoundryError):
    """Foundry refuses this file."""


class FileInvalid(FileRefused):
    """Foundry refuses this file, and its answer blames nothing but the file."""


class FileSpoiled(FileRefused):
    """Foundry stored this file with the wrong size: its transaction must be aborted."""


class PathTaken(FoundryError):
    """A file that Atlas did not put there exists at this path."""


class ContentTooLarge(FoundryError):
    """Foundry does not serve the content of a file of this size."""


class RecordsRefused(FoundryError):
    """Foundry refuses records for a stream, and has stored none of the request."""


class RecordTooLarge(RecordsRefused):
    """Foundry refuses records for a stream because one of them is too large."""


class RequestTooLarge(RecordsRefused):
    """Foundry refuses records for a stream because their request is too large."""

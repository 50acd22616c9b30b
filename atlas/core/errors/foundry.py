"""Failures and refusals of Foundry."""

from atlas.core.errors.availability import Unavailable

RETRY_LATER = "Try again in a minute; if it persists, check Foundry's own status."


class FoundryError(Unavailable):
    """Foundry did not answer as expected; a call may have taken effect all the same.

    `error_name` and `instance_id` are from Foundry's answer, "" if it had none; Palantir's support
    asks for the instance id. `remedy` tells the operator what to do. `retry_seconds` is Foundry's.
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
    """The transaction is not open any more: somebody else has committed or aborted it."""


class CommitRefused(FoundryError):
    """Foundry refuses to commit the transaction as it is."""


class FileRefused(FoundryError):
    """Foundry refuses this file."""


class FileInvalid(FileRefused):
    """Foundry refuses this file, and its answer blames nothing but the file."""


class FileSpoiled(FileRefused):
    """Foundry stored this file with another size than was sent: its transaction must be aborted."""


class PathTaken(FoundryError):
    """A file that we have not put stands at this path already."""


class ContentTooLarge(FoundryError):
    """Foundry does not serve the content of a file of this size."""

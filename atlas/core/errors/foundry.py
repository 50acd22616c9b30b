"""Trouble of Foundry's, and its refusals."""

from atlas.core.errors.availability import Unavailable

AGAIN = "Try again in a minute; if it stays so, look at Foundry's own status."


class FoundryError(Unavailable):
    """Foundry did not take it yet.

    `error_name` and `instance_id` are those of Foundry's answer, "" if it gave none. The instance
    id is what Palantir's support asks for.
    """

    code = "FOUNDRY_ERROR"
    retry_seconds = None  # the uploader backs off by itself, unless Foundry says when

    def __init__(
        self,
        message: str = "",
        retry_seconds: float | None = None,
        *,
        to_do: str = AGAIN,
        error_name: str = "",
        instance_id: str = "",
    ) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds
        self.to_do = to_do
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
    """Foundry refuses this file by an answer that blames the file alone."""


class FileSpoiled(FileRefused):
    """Foundry kept another size of this file than was sent: do not commit its transaction."""


class PathTaken(FoundryError):
    """A file that we have not put stands at this path already."""


class ContentTooLarge(FoundryError):
    """Foundry does not serve the content of a file of this size."""

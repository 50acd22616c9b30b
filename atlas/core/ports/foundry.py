"""Ports to Foundry: one branch of one dataset."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from atlas.core.commits import CommitResult
from atlas.core.messages import (
    BranchSnapshot,
    PathOwner,
    ProbeResult,
    RemovalResult,
    ReplacementResult,
    TransactionKind,
)
from atlas.core.personal_data import DatasetFile

SNAPSHOT_MAX_AGE_SECONDS = 5.0  # of the snapshot, when a transaction is begun

Bytes = bytes | bytearray
TransactionState = Literal["OPEN", "COMMITTED", "ABORTED"]


class Dataset(Protocol):
    """Writes to one branch of one dataset.

    Any call may raise FoundryError: then it is unknown whether it happened.
    """

    async def take_snapshot(self) -> BranchSnapshot:
        """Return the branch as it is now, to be recorded before a transaction is begun."""

    async def begin(self, kind: TransactionKind = "APPEND") -> str:
        """Open a transaction and return its RID. Raises BranchBusy while another one is open."""

    def count_remaining_calls(self) -> int:
        """Return the number of calls that fit into this minute before Foundry's rate limit."""

    async def put(self, transaction: str, path: str, content: Bytes) -> bool:
        """Put a file into an open transaction; return True if Foundry has confirmed it.

        False: the file may have been stored; `list_transaction_files` shows it after the commit.
        Raises FileRefused when Foundry answers that it does not accept this file, PathTaken when
        another file exists at the path, TransactionEnded when the transaction is not open any more.
        """

    def content_type(self) -> str:
        """Return the media type that Foundry has accepted for NDJSON files so far."""

    def observations(self) -> Mapping[str, str]:
        """Return Foundry's observed behaviour, by topic, where its documentation is silent."""

    async def describe_open(self, transaction: str) -> str:
        """Describe Foundry's list of files of this open transaction, for diagnosis only."""

    async def remove(self, transaction: str, path: str) -> bool:
        """Delete a file, in an open DELETE transaction; return False if there is none at the path.

        Raises TransactionEnded when the transaction is not open any more.
        """

    async def commit(self, transaction: str) -> CommitResult:
        """Commit, and return the branch after the commit.

        Returns only when the transaction is known to be committed. Raises CommitRefused when
        Foundry answers that it does not commit this transaction, TransactionEnded when another
        client has aborted it.
        """

    async def abort(self, transaction: str) -> None:
        """Abort. Returns only when the transaction is not open any more; it may be committed."""


class TransactionQueries(Protocol):
    """Queries that resolve the outcome of earlier calls. Raises FoundryError."""

    async def transaction_status(self, transaction: str) -> TransactionState:
        """Return the status. A transaction unknown to Foundry is ABORTED."""

    async def list_transaction_files(self, transaction: str) -> Mapping[str, int]:
        """Return the files of a committed transaction: the size in bytes of each path.

        Never called for an open one, because Foundry does not document the answer.
        """

    async def find_file(self, path: str) -> PathOwner | None:
        """Return the transaction and size of the committed file at this path, if any."""

    async def read_file(self, path: str, size: int) -> bytes:
        """Return the bytes of the committed file at this path; `size` is as Foundry lists it.

        Raises ContentTooLarge when Foundry does not serve a file of this size.
        """

    async def find_orphan(
        self, snapshot: BranchSnapshot, paths: Collection[str], kind: TransactionKind = "APPEND"
    ) -> str | None:
        """Return the open transaction that an attempt after `snapshot` may have begun.

        The head must have moved since, to an open transaction of this kind that was created within
        the longest possible duration of the attempt. An orphan of ours is empty, because nothing
        is put into a transaction before it is recorded. So a file in it that is not at one of
        `paths` shows that the transaction belongs to another client; if Foundry lists no files of
        an open transaction, that proves nothing.
        """


class FileListing(Protocol):
    """The files that a reader of the branch sees now. Raises FoundryError."""

    async def list_files(self, prefix: str, files_max: int | None = None) -> Sequence[DatasetFile]:
        """Return every file whose path starts with `prefix`, sorted by path, up to `files_max`.

        The prefix may end within a file name.
        """


class Branch(Dataset, TransactionQueries, FileListing, Protocol):
    """The branch as the uploader uses it."""


class MaintenanceTasks(Protocol):
    """Operators' tasks on the branch, performed by its uploader between two groups.

    Raises FoundryError; BranchBusy while another client's transaction is open. After any error the
    uploader first ends the task's transaction, before it does anything else on the branch.
    """

    async def probe(self) -> ProbeResult:
        """Open a transaction, put a file, and abort: no reader of the dataset sees any of it."""

    async def remove(self, paths: Collection[str]) -> RemovalResult:
        """Remove these files from the dataset, in one transaction."""

    def exclusive(self) -> AbstractAsyncContextManager["BranchAccess"]:
        """Hold the branch: no transaction or claim of Atlas is open while the context is active."""


class BranchAccess(Protocol):
    """Exclusive access to the branch. Raises the same errors as MaintenanceTasks."""

    async def remove(self, paths: Collection[str]) -> RemovalResult:
        """As `MaintenanceTasks.remove`."""

    async def replace(
        self, paths: Collection[str], rewrite: Callable[[str], Awaitable[Bytes | None]]
    ) -> ReplacementResult:
        """Replace each file by the content that `rewrite` returns, in one UPDATE transaction.

        A file for which it returns None stays as it is.
        """

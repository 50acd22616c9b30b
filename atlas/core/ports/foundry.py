"""Foundry: one branch of one dataset, to write to and to ask."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from atlas.core.messages import (
    BranchSnapshot,
    LeftOpen,
    PathOwner,
    ProbeResult,
    RemovalResult,
    TransactionKind,
)
from atlas.core.people import Standing

SNAPSHOT_MAX_AGE_SECONDS = 5.0  # how old a look at the branch may be when a transaction is begun

Bytes = bytes | bytearray
TransactionState = Literal["OPEN", "COMMITTED", "ABORTED"]


class Dataset(Protocol):
    """One branch of one dataset, to write to.

    Any call may raise FoundryError, and what raised may have happened all the same.
    """

    async def branch_snapshot(self) -> BranchSnapshot:
        """The branch as it is now: what is to be noted before we begin."""

    async def begin(self, kind: TransactionKind = "APPEND") -> str:
        """Open a transaction; its RID. Raises BranchBusy while another is open on the branch."""

    def calls_remaining(self) -> int:
        """How often Foundry may be asked just now before its limit of requests holds us up."""
        ...

    async def put(self, transaction: str, path: str, content: Bytes) -> None:
        """Put a file into an open transaction. Raises FileRefused when only this file is wrong."""

    def content_type(self) -> str:
        """What files of NDJSON are put as, by what Foundry has taken so far."""
        ...

    async def remove(self, transaction: str, path: str) -> bool:
        """Take a file out of the dataset, in an open DELETE transaction; False if none is there."""
        ...

    async def commit(self, transaction: str) -> BranchSnapshot:
        """What the branch is like now: this transaction is its head. Raises CommitRefused."""

    async def abort(self, transaction: str) -> None:
        """Returns only when the transaction is open no more; it may turn out to be committed."""


class TransactionQueries(Protocol):
    """The same branch, to ask what became of what we did. Raises FoundryError."""

    async def transaction_status(self, transaction: str) -> TransactionState:
        """A transaction that Foundry does not know is ABORTED: nothing of it can be seen."""

    async def files_of(self, transaction: str) -> Mapping[str, int]:
        """What lies in a transaction: each path, and how many bytes."""

    async def file_at(self, path: str) -> PathOwner | None:
        """Who holds this path on the branch."""

    async def content(self, path: str, size: int) -> bytes:
        """The bytes of the committed file at this path: so many, says Foundry."""

    async def find_orphan(
        self, seen: BranchSnapshot, paths: Collection[str], kind: TransactionKind = "APPEND"
    ) -> LeftOpen | None:
        """The open transaction that an attempt after `seen` may have begun.

        That is: the head has moved, to an open one of this kind, created while the attempt can have
        lasted, with no file in it but of these paths.
        """


class FileListing(Protocol):
    """What a reader of the branch sees now. Raises FoundryError."""

    async def files_under(self, folder: str) -> Sequence[Standing]:
        """Every file whose path begins so: with a folder, or a day in it; by path."""
        ...


class Branch(Dataset, TransactionQueries, FileListing, Protocol):
    """All that the uploader needs of Foundry."""


class MaintenanceTasks(Protocol):
    """What operators have done on the branch: by its uploader, between two groups.

    Raises FoundryError, BranchBusy while somebody else's transaction is open. Of what raised
    nothing is left open: that is seen to before anything else is done on the branch.
    """

    async def probe(self) -> ProbeResult:
        """Open a transaction, put a file, abort: nothing of it is ever seen in the dataset."""
        ...

    async def remove(self, paths: Collection[str]) -> RemovalResult:
        """Take these files out of the dataset, in one transaction."""
        ...

    def between_groups(self) -> AbstractAsyncContextManager["BranchAccess"]:
        """Nothing of ours is open or claimed, and nothing will be until this is left."""
        ...


class BranchAccess(Protocol):
    """On the branch, as long as one has it. The same is raised, and holds for what raised."""

    async def remove(self, paths: Collection[str]) -> RemovalResult:
        """As `Errands.remove`."""
        ...

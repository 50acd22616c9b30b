"""Begins and ends transactions on the branch, while this replica leads.

Foundry does not know which replica leads. So the journal is asked right before each call; the rest
is a window of one call, in which a transaction of the next leader may be aborted: it tries again.
"""

from atlas.core.commits import CommitResult
from atlas.core.messages import TransactionKind
from atlas.core.ports import Branch, UploadQueue


class OwnTransactions:
    """The transactions of this replica. Every call but `abandon` raises Deposed, FoundryError."""

    def __init__(self, branch: Branch, queue: UploadQueue) -> None:
        self._branch = branch
        self._queue = queue
        self._begun: str | None = None  # until it is committed or aborted

    async def begin(self, kind: TransactionKind) -> str:
        """Begin a transaction. Raises BranchBusy."""
        await self._queue.confirm_lead()
        transaction = self._begun = await self._branch.begin(kind)
        return transaction

    async def commit(self, transaction: str) -> CommitResult:
        """Commit a transaction. Raises CommitRefused."""
        await self._queue.confirm_lead()
        committed = await self._branch.commit(transaction)
        self._begun = None
        return committed

    async def abort(self, transaction: str) -> None:
        await self._queue.confirm_lead()
        await self._branch.abort(transaction)
        self._begun = None

    async def abandon(self) -> None:
        """Abort the transaction that was begun, though another replica leads. Raises FoundryError.

        That replica does not know it, or finds that it was aborted.
        """
        transaction, self._begun = self._begun, None
        if transaction is not None:
            await self._branch.abort(transaction)

    def forget(self) -> None:
        """Forget the transaction that was begun: it is resolved like those of other processes."""
        self._begun = None

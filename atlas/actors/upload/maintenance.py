"""Performs operators' tasks on the branch, crash-safely and between two groups.

A task that fails halfway, or a response that is lost, could leave a transaction open and block the
branch. So the transaction of a task is recorded like any other, and ended before the next group.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from atlas.actors.upload.uploader import Uploader
from atlas.core import identifiers
from atlas.core.commits import Conclusion
from atlas.core.errors import FoundryError
from atlas.core.messages import ProbeResult, RemovalResult, ReplacementResult, TransactionKind
from atlas.core.ports import Bytes
from atlas.runtime import Wakeup, for_each_concurrently

HoldLead = Callable[[], AbstractAsyncContextManager[None]]  # keeps the lease of the branch

REWRITES_AT_ONCE = 2  # because whole files are in memory
LISTING = "open transaction's listing"  # a topic of Foundry's observations


@dataclass(frozen=True, slots=True)
class BranchMaintenance:
    """Implements `ports.MaintenanceTasks`."""

    uploader: Uploader
    wakeup: Wakeup
    hold_lead: HoldLead

    async def probe(self) -> ProbeResult:
        branch, monotonic = self.uploader.branch, self.uploader.timing.monotonic
        async with self.exclusive() as access, access.transaction("APPEND") as transaction:
            began = monotonic()
            await branch.put(transaction, identifiers.PROBE, identifiers.PROBE_CONTENT)
            listing = await self.describe_open(transaction)
            await self.uploader.transactions.abort(transaction)
            observations = {**branch.observations(), LISTING: listing}
            return ProbeResult(
                transaction, branch.content_type(), monotonic() - began, observations
            )

    async def describe_open(self, transaction: str) -> str:
        """Return a description of Foundry's listing of an open transaction, or of its error."""
        try:
            return await self.uploader.branch.describe_open(transaction)
        except FoundryError as error:
            return str(error)

    async def remove(self, paths: Collection[str]) -> RemovalResult:
        async with self.exclusive() as access:
            return await access.remove(paths)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator["LockedBranch"]:
        try:
            async with self.hold_lead(), self.uploader.exclusive():
                yield LockedBranch(self.uploader)
        finally:
            self.wakeup.notify()  # after an exception there is work to resolve


@dataclass(frozen=True, slots=True)
class LockedBranch:
    """Implements `ports.BranchAccess`."""

    uploader: Uploader

    async def remove(self, paths: Collection[str]) -> RemovalResult:
        branch, removed = self.uploader.branch, list[str]()
        if not paths:
            return RemovalResult(0)

        async def delete_file(path: str) -> None:
            if await branch.remove(transaction, path):
                removed.append(path)

        async with self.transaction("DELETE") as transaction:
            await for_each_concurrently(delete_file, paths, self.uploader.policy.uploads_at_once)
            if not removed:
                await self.uploader.transactions.abort(transaction)
                return RemovalResult(0)
            await self.uploader.transactions.commit(transaction)
            return RemovalResult(len(removed), transaction)

    async def replace(
        self, paths: Collection[str], rewrite: Callable[[str], Awaitable[Bytes | None]]
    ) -> ReplacementResult:
        """Replace files. If Foundry did not confirm them, check their sizes after the commit."""
        branch, sizes, unconfirmed = self.uploader.branch, dict[str, int](), list[str]()

        async def replace_file(path: str) -> None:
            content = await rewrite(path)
            if content is not None:
                sizes[path] = len(content)
                if not await branch.put(transaction, path, content):
                    unconfirmed.append(path)

        async with self.transaction("UPDATE") as transaction:
            await for_each_concurrently(replace_file, paths, REWRITES_AT_ONCE)
            if not sizes:
                await self.uploader.transactions.abort(transaction)
                return ReplacementResult(0)
            committed = await self.uploader.transactions.commit(transaction)
            if unconfirmed or not committed.is_confirmed:
                listed = await branch.list_transaction_files(transaction)
                if any(listed.get(path) != size for path, size in sizes.items()):
                    raise FoundryError(
                        "Foundry did not store every replaced file. Repeat the command."
                    )
            return ReplacementResult(len(sizes), transaction)

    @asynccontextmanager
    async def transaction(self, kind: TransactionKind) -> AsyncIterator[str]:
        """Open a transaction. The body must end it; if the body raises, the uploader ends it."""
        transaction = await self.uploader.open_transaction(kind)
        yield transaction
        await self.uploader.outbox.conclude(Conclusion(transaction))

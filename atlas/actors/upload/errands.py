"""What operators have done on the branch, by its uploader: between two groups, and as safe.

A probe that dies halfway, or whose answer is lost, would block the branch for all exports. So it is
noted as an attempt, as any other, and what raises is settled before the next group.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from atlas.actors.upload.uploader import Upload
from atlas.core import names
from atlas.core.messages import ProbeResult, RemovalResult, TransactionKind
from atlas.runtime import Bell, side_by_side

NO_ROW = b"\n"  # even if somebody else commits our probe, no reader sees a row


@dataclass(frozen=True, slots=True)
class Errands:
    """Answers `ports.Errands`."""

    uploader: Upload
    bell: Bell

    async def probe(self) -> ProbeResult:
        branch, elapsed = self.uploader.branch, self.uploader.chance.elapsed
        async with self.between_groups() as turn, turn.transaction("APPEND") as transaction:
            began = elapsed()
            await branch.put(transaction, names.PROBE, NO_ROW)
            await branch.abort(transaction)
            return ProbeResult(transaction, branch.content_type(), elapsed() - began)

    async def remove(self, paths: Collection[str]) -> RemovalResult:
        async with self.between_groups() as turn:
            return await turn.remove(paths)

    @asynccontextmanager
    async def between_groups(self) -> AsyncIterator["Turn"]:
        try:
            async with self.uploader.between_groups():
                yield Turn(self.uploader)
        finally:
            self.bell.ring()  # if it has raised, there is something to ask


@dataclass(frozen=True, slots=True)
class Turn:
    """Answers `ports.Turn`."""

    uploader: Upload

    async def remove(self, paths: Collection[str]) -> RemovalResult:
        branch, removed = self.uploader.branch, list[str]()
        if not paths:
            return RemovalResult(0)

        async def take_out(path: str) -> None:
            if await branch.remove(transaction, path):
                removed.append(path)

        async with self.transaction("DELETE") as transaction:
            await side_by_side(take_out, paths, self.uploader.pace.uploads_at_once)
            if not removed:
                await branch.abort(transaction)
                return RemovalResult(0)
            await branch.commit(transaction)
            return RemovalResult(len(removed), transaction)

    @asynccontextmanager
    async def transaction(self, kind: TransactionKind) -> AsyncIterator[str]:
        """One that is ended inside; otherwise the uploader ends it."""
        outbox = self.uploader.outbox
        await outbox.attempt(await self.uploader.branch.branch_snapshot(), kind)
        transaction = await self.uploader.begin(kind)
        await self.uploader.begun(transaction)
        yield transaction
        await outbox.ended()

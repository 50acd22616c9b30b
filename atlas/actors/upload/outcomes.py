"""What became of it: asked of Foundry, kept in the journal, told to whoever waits."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import get_args

from atlas.actors.upload.layout import Files
from atlas.actors.upload.pace import Pace
from atlas.core import events, names
from atlas.core.errors import Damaged, FoundryError
from atlas.core.events import Watch
from atlas.core.messages import (
    ClaimedExport,
    CommitGroup,
    File,
    PathOwner,
    Receipt,
    TransactionKind,
)
from atlas.core.ports import Branch, Outbox
from atlas.runtime import Budget, Promises, side_by_side

KINDS: tuple[TransactionKind, ...] = get_args(TransactionKind)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of groups, of single files, and of attempts to begin. All of it may raise FoundryError."""

    branch: Branch
    outbox: Outbox
    promises: Promises[Receipt]
    files: Files
    budget: Budget
    watch: Watch
    pace: Pace

    async def recover(self, *, is_excused: bool) -> bool:
        """What became of what we began, and of the group that is still claimed?

        If nothing of it is in the dataset, and Foundry does not excuse that, the group has failed:
        it may be one of its exports that has ended us. Whether an attempt may still open a
        transaction.
        """
        group = await self.outbox.claimed()
        is_unresolved = await self.resolve([file.path for file in group.files] if group else [])
        if group is not None:
            there = await self.committed(group)
            if group.transaction is not None:
                await self.complete(there, group.transaction)
            if is_excused or there or group.transaction is None:
                await self.outbox.release()
            else:
                await self.fail(group.exports)
            await self.outbox.ended()
            found = sum(len(file.exports) for file in there)
            exports = len(group.exports)
            self.watch(events.GroupRecovered(exports, found, group.transaction))
        return is_unresolved

    async def resolve(self, paths: list[str]) -> bool:
        """End what an attempt of ours has opened. It may open late: until then it stays noted."""
        for kind in KINDS:
            for seen in await self.outbox.attempts(kind):
                found = await self.branch.find_orphan(seen, paths, kind)
                if found is None:
                    continue
                if found.is_empty and not self.pace.is_sole_writer:
                    self.watch(events.OrphanSuspected(found.transaction))
                    continue
                await self.branch.abort(found.transaction)
                await self.outbox.resolve()
                self.watch(events.OrphanAborted(found.transaction))
        return any([await self.outbox.attempts(kind) for kind in KINDS])

    async def committed(self, group: CommitGroup) -> list[File]:
        """The files that stand in the transaction of the group, which is open no more."""
        if group.transaction is None:
            return []
        state = await self.branch.transaction_status(group.transaction)
        if state == "OPEN":
            await self.branch.abort(group.transaction)
            state = await self.branch.transaction_status(
                group.transaction
            )  # another may have been quicker
        if state != "COMMITTED":
            return []
        return await self.standing(group.files, group.transaction)

    async def standing(self, files: Sequence[File], transaction: str) -> list[File]:
        """Which of them stand in this committed transaction, as they should."""
        there = await self.branch.files_of(transaction) if files else {}
        return [file for file in files if there.get(file.path) == file.bytes]

    async def sort_out(self, files: Sequence[File], refused: str) -> bool:
        """Who holds our paths: we, from another life, or somebody else? Whether anybody does."""
        held: list[File] = []

        async def look_up(file: File) -> None:
            holder = await self.branch.file_at(file.path)
            if holder is None:
                return
            held.append(file)
            theirs = None
            if holder.transaction != refused:
                theirs = await self.rows_at(file, holder)
            for export in file.exports:
                try:
                    if theirs is None or await self.files.rows_of(export) <= theirs:
                        await self.complete([with_only(file, export)], holder.transaction)
                    else:
                        await self.outbox.move(export.id)
                except Damaged:
                    await self.set_damaged_aside(export)

        await self.branch.abort(refused)
        await side_by_side(look_up, files, self.pace.uploads_at_once, room=self.room)
        return bool(held)

    def room(self, file: File) -> AbstractAsyncContextManager[None]:
        return self.budget.taken(file.bytes)

    async def rows_at(self, file: File, holder: PathOwner) -> frozenset[bytes]:
        """What stands at a path of ours. Each row names its user and moment: of an export, all are
        there or none.

        What has another size than ours may hold some of them all the same: a shared file may have
        been made of others when it was put, and Parquet of one size today is of another tomorrow.
        """
        is_as_it_came = names.is_own(file.path) and names.format_of(file.path) == "ndjson"
        if is_as_it_came and holder.bytes != file.bytes:
            return frozenset()
        content = await self.branch.content(file.path, holder.bytes)
        if len(content) != holder.bytes:
            raise FoundryError("Foundry answers another size of a file than it lists.")
        return await self.files.rows_in(content)

    async def complete(self, files: Iterable[File], transaction: str) -> None:
        """Durable first; then tell whoever waits."""
        exports = {export.id: export for file in files for export in file.exports}
        self.tell(await self.outbox.complete(exports.keys(), transaction), exports)

    def tell(self, receipts: Iterable[Receipt], exports: Mapping[str, ClaimedExport]) -> None:
        for receipt in receipts:
            export = exports[receipt.id]
            self.promises.settle(receipt.id, receipt)
            self.watch(
                events.ExportCommitted(
                    export.id,
                    export.correlation_id,
                    receipt.transaction or "",
                    receipt.path,
                    export.records,
                    export.bytes,
                    export.trace,
                )
            )

    async def fail(
        self, exports: Iterable[ClaimedExport], named: Iterable[ClaimedExport] = ()
    ) -> None:
        """What is still claimed of these was tried, and it was not Foundry that was away."""
        by_id = {export.id: export for export in exports}
        ids = [export.id for export in named]
        for receipt in await self.outbox.fail(ids, self.pace.tries_max):
            self.promises.settle(receipt.id, receipt)
            correlation_id = by_id[receipt.id].correlation_id
            self.watch(events.ExportSetAside(receipt.id, correlation_id, self.pace.tries_max))

    async def set_damaged_aside(self, export: ClaimedExport) -> None:
        """Nobody can send it any more, and nobody may send something else."""
        receipt = await self.outbox.damaged(export.id)
        if receipt is not None:
            self.promises.settle(receipt.id, receipt)
            self.watch(events.JournalDamaged("an export", export.id, export.correlation_id))


def with_only(file: File, export: ClaimedExport) -> File:
    return File(file.path, file.bytes, (export,))

"""Group after group, at a pace."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from atlas.actors.upload.layout import Files, Shape
from atlas.actors.upload.memory import Memory
from atlas.actors.upload.outcomes import Outcomes
from atlas.actors.upload.pace import Pace
from atlas.actors.upload.put import Put, size_of
from atlas.actors.upload.restored import Restored
from atlas.core import events
from atlas.core.errors import (
    BranchBusy,
    CommitRefused,
    Damaged,
    FileRefused,
    FoundryError,
    Unavailable,
)
from atlas.core.events import Watch
from atlas.core.messages import BranchSnapshot, File, Receipt, TransactionKind
from atlas.core.ports import SNAPSHOT_MAX_AGE_SECONDS, Branch, Bytes, Compute, Outbox
from atlas.runtime import Bell, Budget, Lock, Promises, Restarts, side_by_side

PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.5, 15.0
FULL_SECONDS = 0.5  # so often we look whether a group is full: at each ring would be far oftener
HOLDERS_MAX = 3


@dataclass(frozen=True, slots=True)
class Chance:
    """The seconds since some moment, and a random number from 0 to 1."""

    elapsed: Callable[[], float]
    random: Callable[[], float]


class Upload:
    """One for each branch, because a branch allows one open transaction."""

    def __init__(
        self,
        branch: Branch,
        outbox: Outbox,
        promises: Promises[Receipt],
        pace: Pace,
        shape: Shape,
        compute: Compute,
        chance: Chance,
        watch: Watch,
    ) -> None:
        self.branch = branch
        self.outbox = outbox
        self.promises = promises
        self.pace = pace
        self.chance = chance
        self.watch = watch
        self.files = Files(branch, outbox, shape, compute)
        self.budget = Budget(pace.bytes_at_once)
        self.outcomes = Outcomes(branch, outbox, promises, self.files, self.budget, watch, pace)
        self.restored = Restored(branch, outbox, self.files, self.outcomes)
        self.memory = Memory()
        self.turn = Lock()  # on the branch: a group has it, or an errand

    async def run(self, bell: Bell, restarts: Restarts) -> None:
        """Empty the mailbox: at the start, and at every ring."""
        self.memory = Memory()
        await self.empty(bell, restarts)
        while await bell.heard():
            await self.empty(bell, restarts)

    async def empty(self, bell: Bell, restarts: Restarts) -> None:
        """Upload group after group. While Foundry is down, try again and again."""
        more, self.memory.is_busy = True, False
        while more and not bell.is_down:
            try:
                async with self.turn:
                    await self.settle()
                if await self.is_down_before_the_next(bell):
                    return
                async with self.turn:
                    await self.settle()  # an errand may have left something to ask
                    more = self.memory.is_busy = await self.upload()
                self.memory.failures = 0
                restarts.has_worked = True
            except Unavailable as error:
                self.memory.is_asked, self.memory.seen = False, None
                self.memory.is_excused = not isinstance(error, CommitRefused)
                seconds = self.pause_seconds(error)
                self.watch(events.UploadPaused(str(error), seconds))
                if await bell.down_within(seconds):
                    return

    async def settle(self) -> None:
        """What became of all that we began? Asked once, until something is unknown again.

        And before the first that waits goes out: has anything come of it that we forgot?
        """
        if not self.memory.is_asked:
            is_excused = self.memory.is_excused
            self.memory.is_unresolved = await self.outcomes.recover(is_excused=is_excused)
            self.memory.is_asked = True
        if not self.memory.is_compared and (seen := await self.branch_snapshot()):
            await self.restored.compare(seen)
            self.memory.is_compared = True

    @asynccontextmanager
    async def between_groups(self) -> AsyncIterator[None]:
        """Nothing of ours is open, or claimed. What raises inside is asked for before the next."""
        async with self.turn:
            await self.settle()
            self.memory.is_asked, self.memory.seen = False, None
            yield
            self.memory.is_asked = True

    async def is_down_before_the_next(self, bell: Bell) -> bool:
        """An idle uploader starts at once; a busy one when the commit interval is over, or when
        a whole group has gathered: to wait with that would make no transaction fewer.
        """
        self.memory.because = "interval" if self.memory.is_busy else "idle"
        while (seconds := self.seconds_to_next()) > 0:
            self.memory.because = "interval"
            if await self.outbox.is_full(self.pace.group):
                self.memory.because = "full"
                return False
            if await bell.down_within(min(seconds, FULL_SECONDS)):
                return True
        return False

    def seconds_to_next(self) -> float:
        if self.memory.begun_at is None:
            return 0.0
        return self.memory.begun_at + self.pace.interval_seconds - self.chance.elapsed()

    def pause_seconds(self, error: Unavailable) -> float:
        """Full jitter, and never before Foundry wants to hear from us again.

        What other errors say of a retry is said to phones.
        """
        after = error.retry_seconds if isinstance(error, FoundryError) else None
        longest = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS * 2.0**self.memory.failures)
        self.memory.failures = min(self.memory.failures + 1, 10)
        return (0.0 if after is None else after) + self.chance.random() * longest

    async def upload(self) -> bool:
        """Upload the next group; False when there is none."""
        seen = await self.branch_snapshot()
        turn = self.memory.is_turn_of_suspects
        if seen is None or await self.outbox.claim(self.pace.group, seen, suspects=turn) is None:
            return False
        self.memory.is_turn_of_suspects = not turn
        started = self.memory.begun_at = self.chance.elapsed()
        transaction = await self.begin()
        put = await self.put(transaction)
        there = put.there
        if put.trouble is not None and len(there) == len(put.unsure):
            if not put.group.is_suspect:
                raise put.trouble
            there = []
        if there:
            if not await self.commit(there, transaction):
                return True
            if put.unsure:
                there = await self.outcomes.standing(there, transaction)
            await self.outcomes.complete(there, transaction)
            self.tell(transaction, there, self.chance.elapsed() - started)
        else:
            await self.branch.abort(transaction)
        if not put.is_whole or len(there) < len(put.there):
            await self.outcomes.fail(put.group.exports, named=put.named)
        await self.outbox.ended()
        return True

    def tell(self, transaction: str, files: list[File], seconds: float) -> None:
        exports = [export for file in files for export in file.exports]
        self.watch(
            events.GroupCommitted(
                transaction=transaction,
                exports=len(exports),
                bytes=size_of(files),
                seconds=seconds,
                rows=sum(export.records for export in exports),
                because=self.memory.because,
            )
        )

    async def branch_snapshot(self) -> BranchSnapshot | None:
        """The branch before we begin: as our last commit left it, or look, a moment ago.

        None if there is nothing to begin for: an idle uploader does not ask Foundry.
        """
        if (
            self.memory.seen
            and self.chance.elapsed() - self.memory.seen[0] <= SNAPSHOT_MAX_AGE_SECONDS
        ):
            return self.memory.seen[1]
        if not await self.outbox.waiting():
            return None
        self.memory.seen = (self.chance.elapsed(), await self.branch.branch_snapshot())
        return self.memory.seen[1]

    async def begin(self, kind: TransactionKind = "APPEND") -> str:
        """Open the transaction of an attempt that is noted."""
        try:
            transaction = await self.branch.begin(kind)
        except BranchBusy:
            if not self.memory.is_unresolved:
                await self.outbox.resolve()  # this attempt began nothing, and no other is open
            await self.notice_holder()
            raise
        self.memory.holder, self.memory.holders = "", 0
        return transaction

    async def begun(self, transaction: str) -> None:
        """It is noted, and no other of ours can be open."""
        await self.outbox.begun(transaction)
        self.memory.is_unresolved = False

    async def notice_holder(self) -> None:
        """Busy with one transaction is a build that takes its time; with ever others, a writer."""
        holder = (await self.branch.branch_snapshot()).head
        if holder != self.memory.holder:
            self.memory.holder = holder
            self.memory.holders += 1
        if self.memory.holders >= HOLDERS_MAX:
            self.watch(events.SecondWriter(self.memory.holders))
            self.memory.holders = 0

    async def put(self, transaction: str) -> Put:
        """Put the claimed exports in: as one file, or side by side.

        Then whoever comes until the last file has found its place goes along: who just missed one
        transaction would wait for the end of two. A file whose answers are lost stops no other,
        until there are so many that it is Foundry that is away.
        """
        put = Put(await self.outbox.note(transaction, self.pace.group))
        self.memory.is_unresolved = False
        exports, size = len(put.group.exports), size_of(put.group.files)
        self.watch(events.GroupStarted(transaction, exports, size, self.memory.because))

        async def put_in(file: File) -> None:
            try:
                file, content = await self.files.own(file)
            except Damaged:
                await self.outcomes.set_damaged_aside(file.exports[0])
            else:
                await self.put_file(put, transaction, file, content)

        async def latecomers() -> list[File]:
            known = {export.id for export in put.group.exports}
            put.group = await self.outbox.note(transaction, self.pace.group)
            return [file for file in put.group.files if file.exports[0].id not in known]

        if self.files.is_shared(put.group):
            await self.put_together(put, transaction)
        else:
            at_once = self.pace.uploads_at_once
            await side_by_side(put_in, put.group.files, at_once, latecomers, self.outcomes.room)
        return put

    async def put_together(self, put: Put, transaction: str) -> None:
        """All of the group as one file; nobody can be added to that."""
        made = await self.files.shared(put.group.exports)
        readable = {export.id for export in made[0].exports} if made else set()
        for export in put.group.exports:
            if export.id not in readable:
                await self.outcomes.set_damaged_aside(export)
        if made:
            await self.put_file(put, transaction, *made)

    async def put_file(self, put: Put, transaction: str, file: File, content: Bytes) -> None:
        try:
            await self.branch.put(transaction, file.path, content)
        except FileRefused:
            put.refused.append(file)
            return
        except FoundryError as error:
            put.unsure.append(file)
            put.trouble = error
            if len(put.unsure) > put.unsure_max:
                raise
        put.there.append(file)

    async def commit(self, files: list[File], transaction: str) -> bool:
        """Whether it is committed; if not, the reason was found and taken away."""
        try:
            self.memory.seen = (self.chance.elapsed(), await self.branch.commit(transaction))
        except CommitRefused:
            if not await self.outcomes.sort_out(files, transaction):
                raise
            self.memory.is_asked, self.memory.is_excused = False, True  # the reason is gone
            return False
        return True

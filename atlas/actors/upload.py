"""Is it in the dataset? Many exports, one transaction, each of them once.

The outcome of a call can stay unknown: the answer is lost, or we are killed. So the group is
claimed and the attempt noted before a transaction is begun, and the transaction noted before its
first file is put. What is found noted is a question to Foundry, asked before anything else is done.
Only what is seen in the dataset counts as being there: others may end our transactions, too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from atlas.core import events
from atlas.core.errors import BranchBusy, CommitRefused, FileRefused, FoundryError, Unavailable
from atlas.core.events import Watch
from atlas.core.messages import File, Group, Held, Limits, Receipt, Seen
from atlas.core.ports import Branch, Outbox
from atlas.runtime import Bell, Promises, Restarts, side_by_side

SEEN_SECONDS = 5.0  # for so long the head of a branch that we committed to counts as seen
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.5, 15.0
HOLDERS_MAX = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """How much, how often, how hard, and whether others write to the branch, too."""

    group: Limits
    interval_seconds: float = 5.0
    uploads_at_once: int = 64
    tries_max: int = 5
    is_sole_writer: bool = True


@dataclass(frozen=True, slots=True)
class Chance:
    """The seconds since some moment, and a random number from 0 to 1."""

    elapsed: Callable[[], float]
    random: Callable[[], float]


@dataclass(slots=True)
class Memory:
    """What the uploader remembers from one group to the next; a new life knows nothing."""

    is_asked: bool = False  # all that the journal notes as begun was asked for
    is_unresolved: bool = False  # an attempt before this one may still open a transaction
    failures: int = 0
    begun_at: float | None = None
    seen: tuple[float, Seen] | None = None
    holder: str = ""
    holders: int = 0


class Upload:
    """One for each branch, because a branch allows one open transaction."""

    def __init__(
        self,
        branch: Branch,
        outbox: Outbox,
        promises: Promises[Receipt],
        pace: Pace,
        chance: Chance,
        watch: Watch,
    ) -> None:
        self.branch = branch
        self.outbox = outbox
        self.promises = promises
        self.pace = pace
        self.chance = chance
        self.watch = watch
        self.memory = Memory()

    async def run(self, bell: Bell, restarts: Restarts) -> None:
        """Empty the mailbox: at the start, and at every ring."""
        self.memory = Memory()
        await self.empty(bell, restarts)
        while await bell.heard():
            await self.empty(bell, restarts)

    async def empty(self, bell: Bell, restarts: Restarts) -> None:
        """Upload group after group. While Foundry is down, try again and again."""
        more = True
        while more and not bell.is_down:
            try:
                if not self.memory.is_asked:
                    await self.recover()
                seconds = self.seconds_to_next()
                if seconds > 0 and await bell.down_within(seconds):
                    return
                more = await self.upload()
                self.memory.failures = 0
                restarts.has_worked = True
            except Unavailable as error:
                self.memory.is_asked, self.memory.seen = False, None
                seconds = self.pause_seconds(error)
                self.watch(events.UploadPaused(str(error), seconds))
                if await bell.down_within(seconds):
                    return

    def seconds_to_next(self) -> float:
        """An idle uploader starts at once, a busy one when the commit interval is over."""
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
        seen = await self.look()
        if seen is None or await self.outbox.claim(self.pace.group, seen) is None:
            return False
        started = self.memory.begun_at = self.chance.elapsed()
        transaction = await self.begin()
        group, refused = await self.put(transaction)
        there = [file for file in group.files if file not in refused]
        if there:
            if not await self.commit(group, transaction):
                return True
            await self.complete(there, transaction)
            size, seconds = size_of(there), self.chance.elapsed() - started
            self.watch(events.GroupCommitted(transaction, len(there), size, seconds))
        if refused:
            await self.turn_back(refused, transaction, is_empty=not there)
        return True

    async def look(self) -> Seen | None:
        """The branch before we begin: as our last commit left it, if that was a moment ago.

        None if there is nothing to begin for: an idle uploader does not ask Foundry.
        """
        if self.memory.seen and self.chance.elapsed() - self.memory.seen[0] <= SEEN_SECONDS:
            return self.memory.seen[1]
        return await self.branch.look() if await self.outbox.waiting() else None

    async def begin(self) -> str:
        try:
            transaction = await self.branch.begin()
        except BranchBusy:
            if not self.memory.is_unresolved:
                await self.outbox.resolve()  # this attempt began nothing, and no other is open
            await self.notice_holder()
            raise
        self.memory.holder, self.memory.holders = "", 0
        return transaction

    async def notice_holder(self) -> None:
        """Busy with one transaction is a build that takes its time; with ever others, a writer."""
        holder = (await self.branch.look()).head
        if holder != self.memory.holder:
            self.memory.holder = holder
            self.memory.holders += 1
        if self.memory.holders >= HOLDERS_MAX:
            self.watch(events.SecondWriter(self.memory.holders))
            self.memory.holders = 0

    async def put(self, transaction: str) -> tuple[Group, list[File]]:
        """Put the claimed files in, side by side; and those that Foundry would refuse again.

        Whoever comes until the last file has found its place goes along: who just missed one
        transaction would wait for the end of two.
        """
        group = await self.outbox.note(transaction, self.pace.group)
        self.memory.is_unresolved = False
        self.watch(events.GroupStarted(transaction, len(group.files), size_of(group.files)))
        refused: list[File] = []

        async def put(file: File) -> None:
            try:
                ndjson = await self.outbox.ndjson(file.id)
                await self.branch.put(transaction, file.path, ndjson)
            except FileRefused:
                refused.append(file)

        async def latecomers() -> list[File]:
            nonlocal group
            known = frozenset(group.files)
            group = await self.outbox.note(transaction, self.pace.group)
            return [file for file in group.files if file not in known]

        await side_by_side(put, group.files, self.pace.uploads_at_once, latecomers)
        return group, refused

    async def commit(self, group: Group, transaction: str) -> bool:
        """Whether it is committed; if not, the reason was found and taken away."""
        try:
            self.memory.seen = (self.chance.elapsed(), await self.branch.commit(transaction))
        except CommitRefused:
            if not await self.sort_out(group, transaction):
                raise
            self.memory.is_asked = False
            return False
        return True

    async def sort_out(self, group: Group, refused: str) -> bool:
        """Who holds our paths: we, from another life, or somebody else? Whether anybody does."""
        held: list[File] = []

        async def look_up(file: File) -> None:
            holder = await self.branch.holder_of(file.path)
            if holder is None:
                return
            held.append(file)
            if holder.transaction == refused or await self.is_ours(file, holder):
                await self.complete([file], holder.transaction)
            else:
                await self.outbox.move(file.id)

        await self.branch.abort(refused)
        await side_by_side(look_up, group.files, self.pace.uploads_at_once)
        return bool(held)

    async def is_ours(self, file: File, holder: Held) -> bool:
        """Byte for byte; what is not even as long as Foundry says it is proves nothing."""
        if holder.bytes != file.bytes:
            return False
        content = await self.branch.content(file.path)
        if len(content) != holder.bytes:
            raise FoundryError("Foundry answers another size of a file than it lists.")
        return content == await self.outbox.ndjson(file.id)

    async def turn_back(self, refused: list[File], transaction: str, *, is_empty: bool) -> None:
        """Count what Foundry refused, and let it try again; an empty transaction is aborted."""
        if is_empty:
            await self.branch.abort(transaction)
        for file in refused:
            aside = await self.outbox.refused(file.id, self.pace.tries_max)
            if aside is not None:
                self.watch(events.ExportSetAside(file.id, file.correlation_id, self.pace.tries_max))
                self.promises.settle(aside.id, aside)
        await self.outbox.release()

    async def recover(self) -> None:
        """What became of what we began, and of the group that is still claimed?"""
        group = await self.outbox.claimed()
        await self.resolve([file.path for file in group.files] if group else [])
        if group is not None:
            there = await self.committed(group)
            if group.transaction is not None:
                await self.complete(there, group.transaction)
            await self.outbox.release()
            self.watch(events.GroupRecovered(len(group.files), len(there), group.transaction))
        self.memory.is_asked = True

    async def resolve(self, paths: list[str]) -> None:
        """End what an attempt of ours has opened. It may open late: until then it stays noted."""
        for seen in await self.outbox.attempts():
            found = await self.branch.left_open(seen, paths)
            if found is None:
                continue
            if found.is_empty and not self.pace.is_sole_writer:
                self.watch(events.OrphanSuspected(found.transaction))
                continue
            await self.branch.abort(found.transaction)
            await self.outbox.resolve()
            self.watch(events.OrphanAborted(found.transaction))
        self.memory.is_unresolved = bool(await self.outbox.attempts())

    async def committed(self, group: Group) -> list[File]:
        """The files that stand in the transaction of the group, which is open no more."""
        if group.transaction is None:
            return []
        state = await self.branch.state_of(group.transaction)
        if state == "OPEN":
            await self.branch.abort(group.transaction)
            state = await self.branch.state_of(group.transaction)  # another may have been quicker
        if state != "COMMITTED":
            return []
        there = await self.branch.files_of(group.transaction)
        return [file for file in group.files if there.get(file.path) == file.bytes]

    async def complete(self, files: Iterable[File], transaction: str) -> None:
        """Durable first; then tell whoever waits."""
        by_id = {file.id: file for file in files}
        for receipt in await self.outbox.complete(list(by_id), transaction):
            file = by_id[receipt.id]
            self.promises.settle(receipt.id, receipt)
            self.watch(
                events.ExportCommitted(
                    file.id, file.correlation_id, transaction, file.path, file.records, file.bytes
                )
            )


def size_of(files: Iterable[File]) -> int:
    return sum(file.bytes for file in files)

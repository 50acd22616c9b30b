"""One person: what is there of them, and how all of it is forgotten.

The dataset first, the journal last: killed in between, we find in the journal what is left to do
when we are told again. Both between two groups, so that nothing of theirs is on its way meanwhile.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from atlas.core import names, people
from atlas.core.errors import Forgotten, FoundryError, Unavailable
from atlas.core.events import UserForgotten, Watch
from atlas.core.messages import Receipt, User
from atlas.core.people import Journaled, Purged, Shared, Standing, Whereabouts
from atlas.core.ports import BranchAccess, Clock, FileListing, MaintenanceTasks, PersonRecords
from atlas.runtime import Lock, Promises

FILES_MAX = 5_000  # of a transaction: in between, the groups of others have their turn

Leave = Callable[[Collection[str]], object]


@dataclass(frozen=True, slots=True)
class People:
    """What do we hold of this person? And how do we lose it for good?

    `leave` is told the ids of what nobody is to remember. A purge is `alone`: a replay at the same
    time would bring back behind it what it took out of the journal before.
    """

    journal: PersonRecords
    folders: FileListing
    errands: MaintenanceTasks
    promises: Promises[Receipt]
    leave: Leave
    alone: Lock
    now: Clock
    watch: Watch
    files_max: int = FILES_MAX

    async def where(self, user: User, *, lists: bool = False) -> Whereabouts:
        files = await self.folders.files_under(names.home_of(user))
        journal = await self.journal.of(user)
        return people.whereabouts(journal, files, await self.shared(journal), lists=lists)

    async def forget(self, user: User) -> people.Erasure:
        """Raises FoundryError, Unavailable; then some of it is done, and the rest when told again.

        Whoever waits for what was purged is told so. What comes meanwhile is purged, too, or is
        accepted anew; never only half of that.
        """
        done = Forgetting()
        while done.purged is None:
            async with self.errands.between_groups() as turn:
                await self.go_on(user, turn, done)
        purged = done.purged
        for id in purged.waiting:
            self.promises.settle(id, Forgotten())
        self.leave(purged.waiting)
        self.watch(UserForgotten(user.sub, done.files, sum(purged.rows.values())))
        is_spelled = names.folder(user) != user.sub
        to_do = tuple(people.to_do(done.files, done.shared, is_spelled=is_spelled))
        try:
            await self.journal.rewrite()
        except Unavailable as error:
            to_do = (people.again(str(error)), *to_do)
        return people.Erasure(
            at=self.now(),
            user=purged.user,
            files=done.files,
            bytes=done.bytes,
            transactions=tuple(done.transactions),
            purged=purged.rows,
            shared=done.shared,
            to_do=to_do,
        )

    async def go_on(self, user: User, turn: BranchAccess, done: "Forgetting") -> None:
        """Remove some files; when Foundry lists no more, purge the journal."""
        files = await self.folders.files_under(names.home_of(user))
        if not files:
            async with self.alone:
                done.shared = await self.shared(await self.journal.of(user))
                done.purged = await self.journal.purge(user, done.shared)
            return
        some = files[: self.files_max]
        removed = await turn.remove([file.path for file in some])
        if removed.transaction is None or some == done.last:
            raise FoundryError("Foundry lists files and does not take them out.")
        done.add(some, removed.transaction)

    async def shared(self, journal: Journaled) -> tuple[Shared, ...]:
        """The group files; Foundry is asked for all of them only if digests may be in some."""
        groups = await self.folders.files_under(names.GROUPS) if journal.digests else ()
        return people.shared_files(journal, groups)


@dataclass(slots=True)
class Forgetting:
    """How far it got."""

    files: int = 0
    bytes: int = 0
    transactions: list[str] = field(default_factory=list)
    last: Sequence[Standing] = ()
    shared: tuple[Shared, ...] = ()
    purged: Purged | None = None

    def add(self, files: Sequence[Standing], transaction: str) -> None:
        self.files += len(files)
        self.bytes += sum(file.bytes for file in files)
        self.transactions.append(transaction)
        self.last = files

"""Everything that is kept of one person, and how it is erased.

The dataset first, the journal last: after a crash in between, the journal still shows what is left
to do, when the erasure is asked for again. All of it happens between two groups, so that nothing of
the person is on its way meanwhile.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from atlas.actors.upload.shared_files import Rewrites, SharedFiles
from atlas.core import names, people
from atlas.core.errors import Forgotten, FoundryError, Unavailable
from atlas.core.events import UserForgotten, Watch
from atlas.core.messages import Receipt, User
from atlas.core.people import Journaled, Purged, Rewritten, Shared, Standing, Whereabouts
from atlas.core.ports import BranchAccess, Clock, FileListing, MaintenanceTasks, PersonRecords
from atlas.runtime import Lock, Promises

FILES_MAX = 5_000  # of a transaction: in between, the groups of others have their turn

Leave = Callable[[Collection[str]], object]


@dataclass(frozen=True, slots=True)
class PersonalData:
    """Answers `ports.People`.

    `leave` is told the ids that no stage is to remember. A purge holds the lock `alone`: a replay
    at the same time would bring back what it has taken out of the journal before.
    """

    journal: PersonRecords
    folders: FileListing
    shared_files: SharedFiles
    maintenance: MaintenanceTasks
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
        """Erase everything. Raises FoundryError, Unavailable; then repeat it: it goes on.

        A request that waits for a purged export is told so. Exports that come meanwhile are purged,
        too, or accepted anew; never only half of that.
        """
        done = ErasureProgress()
        while done.purged is None:
            async with self.maintenance.exclusive() as access:
                await self.erase_step(user, access, done)
        purged = done.purged
        for id in purged.waiting:
            self.promises.settle(id, Forgotten())
        self.leave(purged.waiting)
        self.watch(UserForgotten(user.sub, done.files, sum(purged.rows.values())))
        is_spelled = names.folder(user) != user.sub
        changed = done.files + len(done.rewrites.rows)
        to_do = tuple(people.to_do(changed, done.shared, is_spelled=is_spelled))
        try:
            await self.journal.rewrite()
        except Unavailable as error:
            to_do = (people.again(str(error)), *to_do)
        return people.Erasure(
            at=self.now(),
            user=purged.user,
            files=done.files,
            bytes=done.bytes,
            transactions=(*done.transactions, *done.rewrites.transactions),
            purged=purged.rows,
            shared=done.shared,
            to_do=to_do,
            rewritten=tuple(Rewritten(*each) for each in sorted(done.rewrites.rows.items())),
        )

    async def erase_step(self, user: User, access: BranchAccess, done: "ErasureProgress") -> None:
        """Remove some files, or rewrite some; when nothing is left of either, purge the journal."""
        files = await self.folders.files_under(names.home_of(user))
        if files:
            some = files[: self.files_max]
            removed = await access.remove([file.path for file in some])
            if removed.transaction is None or some == done.last:
                raise FoundryError("Foundry lists files and does not take them out.")
            done.add(some, removed.transaction)
            return
        journal = await self.journal.of(user)
        if await self.shared_files.rewrite_some(user, journal, access, done.rewrites):
            return
        async with self.alone:
            journal = await self.journal.of(user)
            unreadable = done.rewrites.unreadable
            done.shared = tuple(each for each in journal.shared if each.path in unreadable)
            done.purged = await self.journal.purge(user, done.shared)

    async def shared(self, journal: Journaled) -> tuple[Shared, ...]:
        """The group files; Foundry is asked for all of them only if digests may be in some."""
        groups = await self.folders.files_under(names.GROUPS) if journal.digests else ()
        return people.shared_files(journal, groups)


@dataclass(slots=True)
class ErasureProgress:
    """How far it got."""

    files: int = 0
    bytes: int = 0
    transactions: list[str] = field(default_factory=list)
    last: Sequence[Standing] = ()
    rewrites: Rewrites = field(default_factory=Rewrites)
    shared: tuple[Shared, ...] = ()
    purged: Purged | None = None

    def add(self, files: Sequence[Standing], transaction: str) -> None:
        self.files += len(files)
        self.bytes += sum(file.bytes for file in files)
        self.transactions.append(transaction)
        self.last = files

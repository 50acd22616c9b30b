"""Finds and erases all data of one person.

The dataset is erased first, the journal last: after a crash in between, the journal still shows
what is left to do when the erasure is repeated. Each step runs between two groups, so that no data
of the person is being uploaded meanwhile.
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
from atlas.runtime import CompletionRegistry, Lock

FILES_MAX = 5_000  # per transaction, so that groups of others can go in between

Leave = Callable[[Collection[str]], object]


@dataclass(frozen=True, slots=True)
class PersonalData:
    """Implements `ports.People`.

    `leave` is called with the ids that every stage must drop. A purge holds the lock `alone`,
    because a concurrent replay would restore what the purge has removed from the journal.
    """

    journal: PersonRecords
    folders: FileListing
    shared_files: SharedFiles
    maintenance: MaintenanceTasks
    completions: CompletionRegistry[Receipt]
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
        """Erase everything. Raises FoundryError, Unavailable; a repeated call continues.

        Requests that wait for a purged export fail with Forgotten. An export that arrives meanwhile
        is either purged as a whole, or accepted as new.
        """
        done = ErasureProgress()
        while done.purged is None:
            async with self.maintenance.exclusive() as access:
                await self.erase_step(user, access, done)
        purged = done.purged
        for id in purged.waiting:
            self.completions.resolve(id, Forgotten())
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
        """Remove or rewrite some files; once none are left, purge the journal."""
        files = await self.folders.files_under(names.home_of(user))
        if files:
            some = files[: self.files_max]
            removed = await access.remove([file.path for file in some])
            if removed.transaction is None or some == done.last:
                raise FoundryError(
                    "Foundry lists files and does not take them out. Repeat the command."
                )
            done.add(some, removed.transaction)
            return
        journal = await self.journal.of(user)
        if await self.shared_files.rewrite_some(user, journal, access, done.rewrites):
            return
        async with self.alone:
            journal = await self.journal.of(user)
            unreadable = done.rewrites.unreadable
            shared = await self.shared(journal) if unreadable else ()
            known = {each.path for each in shared}
            done.shared = (
                *(each for each in shared if each.path in unreadable),
                *(Shared(path, 0) for path in sorted(unreadable - known)),
            )
            done.purged = await self.journal.purge(user, done.shared)

    async def shared(self, journal: Journaled) -> tuple[Shared, ...]:
        """Return the shared files with rows of the person.

        Foundry lists them only if compacted receipts (digests) may belong to some.
        """
        groups = await self.folders.files_under(names.GROUPS) if journal.digests else ()
        return people.shared_files(journal, groups)


@dataclass(slots=True)
class ErasureProgress:
    """The progress of an erasure: files and bytes that were removed, and in which transactions."""

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

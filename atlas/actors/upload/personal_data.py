"""Finds and erases all data of one person.

The dataset is erased first and the journal last. After a crash in between, the journal still shows
what is left to erase when the command is repeated. Each step runs between two groups, so that no
data of the person is being uploaded meanwhile.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from atlas.actors.upload.shared_files import REWRITTEN_MAX, Rewrites, SharedFiles
from atlas.core import identifiers, personal_data
from atlas.core.errors import ExportErased, FoundryError, Unavailable
from atlas.core.events import EventSink, UserErased
from atlas.core.messages import Receipt, User
from atlas.core.personal_data import (
    DatasetFile,
    JournalHoldings,
    PersonalDataReport,
    PurgeResult,
    RewrittenFile,
    SharedFile,
)
from atlas.core.ports import BranchAccess, Clock, FileListing, MaintenanceTasks, PersonalDataStore
from atlas.runtime import CompletionRegistry, Lock

FILES_MAX = 5_000  # files per transaction, so that groups can be uploaded in between

DiscardIds = Callable[[Collection[str]], object]


@dataclass(frozen=True, slots=True)
class PersonalData:
    """Implements `ports.PersonalDataTasks`.

    `discard_ids` is called with ids that every stage must drop. A purge holds `replay_lock`,
    because a concurrent replay would restore what the purge has removed from the journal.
    """

    journal: PersonalDataStore
    listing: FileListing
    shared_files: SharedFiles
    maintenance: MaintenanceTasks
    completions: CompletionRegistry[Receipt]
    discard_ids: DiscardIds
    replay_lock: Lock
    clock: Clock
    emit: EventSink
    files_max: int = FILES_MAX

    async def report(self, user: User, *, lists: bool = False) -> PersonalDataReport:
        files = await self.listing.list_files(identifiers.build_user_prefix(user))
        journal = await self.journal.read_holdings(user)
        shared = await self.find_shared_files(journal)
        return personal_data.build_report(journal, files, shared, lists=lists)

    async def erase(self, user: User) -> personal_data.ErasureReceipt:
        """Erase everything. Raises FoundryError, Unavailable; a repeated call continues.

        Requests that wait for a purged export fail with ExportErased. An export that arrives
        meanwhile is either purged as a whole, or accepted as new.
        """
        progress = ErasureProgress()
        while progress.purged is None:
            async with self.maintenance.exclusive() as access:
                # no group in between, or a person who keeps sending is never erased
                while await self.erase_step(user, access, progress):
                    pass
        purged = progress.purged
        for id in purged.waiting:
            self.completions.resolve(id, ExportErased())
        self.discard_ids(purged.waiting)
        if progress.has_found_data:
            self.emit(UserErased(user.sub, progress.files, sum(purged.rows.values())))
        rewrites = progress.rewrites
        remaining_steps = list(
            personal_data.list_remaining_steps(
                progress.files + len(rewrites.rows),
                progress.shared,
                is_folder_escaped=identifiers.escape_user(user) != user.sub,
            )
        )
        try:
            await self.journal.rewrite()
        except Unavailable as error:
            remaining_steps.insert(0, personal_data.describe_retry(str(error)))
        return personal_data.ErasureReceipt(
            at=self.clock(),
            user=purged.user,
            files=progress.files,
            bytes=progress.bytes,
            transactions=(*progress.transactions, *rewrites.transactions),
            purged=purged.rows,
            shared=progress.shared,
            to_do=tuple(remaining_steps) if progress.has_found_data else (),
            rewritten=tuple(RewrittenFile(*each) for each in sorted(rewrites.rows.items())),
            known=progress.has_found_data,
        )

    async def erase_step(
        self, user: User, access: BranchAccess, progress: "ErasureProgress"
    ) -> bool:
        """Remove or rewrite some files. Once none are left, purge the journal.

        Returns True if the next step can follow at once, False if that would take too long.
        """
        files = await self.listing.list_files(identifiers.build_user_prefix(user))
        if files:
            batch = files[: self.files_max]
            removed = await access.remove([file.path for file in batch])
            if removed.transaction is None or batch == progress.last:
                raise FoundryError(
                    "Foundry still lists files after their removal. Repeat the command."
                )
            progress.add(batch, removed.transaction)
            return len(batch) < self.files_max
        journal = await self.journal.read_holdings(user)
        before = len(progress.rewrites.rows)
        if await self.shared_files.rewrite_some(user, journal, access, progress.rewrites):
            return len(progress.rewrites.rows) - before < REWRITTEN_MAX
        async with self.replay_lock:
            journal = await self.journal.read_holdings(user)
            unreadable = progress.rewrites.unreadable
            shared = await self.find_shared_files(journal) if unreadable else ()
            known = {each.path for each in shared}
            progress.shared = (
                *(each for each in shared if each.path in unreadable),
                *(SharedFile(path, 0) for path in sorted(unreadable - known)),
            )
            progress.purged = await self.journal.purge(user, progress.shared)
        return False

    async def find_shared_files(self, journal: JournalHoldings) -> tuple[SharedFile, ...]:
        """Return the shared files that hold rows of the person.

        Foundry lists them only if there are compacted receipts (digests), which do not record
        their file.
        """
        groups = await self.listing.list_files(identifiers.GROUPS) if journal.digests else ()
        return personal_data.merge_shared_files(journal, groups)


@dataclass(slots=True)
class ErasureProgress:
    """The progress of an erasure: removed files and bytes, and the transactions that did it."""

    files: int = 0
    bytes: int = 0
    transactions: list[str] = field(default_factory=list)
    last: Sequence[DatasetFile] = ()
    rewrites: Rewrites = field(default_factory=Rewrites)
    shared: tuple[SharedFile, ...] = ()
    purged: PurgeResult | None = None

    @property
    def has_found_data(self) -> bool:
        purged = () if self.purged is None else self.purged.rows.values()
        return bool(self.files or self.rewrites.rows or self.shared or any(purged))

    def add(self, files: Sequence[DatasetFile], transaction: str) -> None:
        self.files += len(files)
        self.bytes += sum(file.bytes for file in files)
        self.transactions.append(transaction)
        self.last = files

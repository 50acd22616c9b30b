"""The journal, as each of those who use it sees it.

Any call may raise Unavailable, while its disk fails.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from atlas.core.messages import (
    BranchSnapshot,
    CommitGroup,
    Entry,
    File,
    FileFormat,
    Flattened,
    GroupLimits,
    Head,
    Listing,
    Original,
    Page,
    Receipt,
    Replayed,
    Status,
    TransactionKind,
    User,
)
from atlas.core.people import Erasure, Journaled, Purged, Shared, Standing, Whereabouts
from atlas.core.picture import Depth


class Intake(Protocol):
    """The journal as the flow fills it. Every answer is durable before it is given."""

    async def recall(self, head: Head, id: str) -> Receipt | None:
        """The receipt of an export that is here; else None, or when it is to come again."""

    async def append(self, export: Flattened) -> Receipt:
        """Keep the export for good, or answer how far the same one got before: `replayed`.

        Raises KeyReused when its Idempotency-Key names another sequence, JournalFull.
        """


class Receipts(Protocol):
    """The journal as a sender sees it: nothing but his own exports."""

    async def find(self, user: User, id: str) -> Receipt | None:
        """How far an export of this user got; None for one that he never sent."""

    async def parts(self, user: User, whole: str) -> Sequence[Receipt]:
        """Those of a stream, in their order; none of one that is not known."""
        ...

    async def page(self, user: User, key: str | None, limit: int, cursor: str | None) -> Page:
        """His receipts, newest first; with a key, those that this Idempotency-Key names.

        Raises Rejected for a cursor that no page gave.
        """


class Mailbox(Protocol):
    """The journal as the uploader empties it.

    An export is accepted, then claimed for a group, then committed. At most one group is claimed
    at a time, because Foundry allows one open transaction on a branch.
    """

    async def waiting(self) -> int:
        """How many exports are neither committed nor set aside."""

    async def claim(
        self, limits: GroupLimits, seen: BranchSnapshot, *, suspects: bool = False
    ) -> CommitGroup | None:
        """Claim the oldest accepted exports, and note the attempt to begin a transaction.

        In one step, so that no transaction is ever begun that the journal does not know of. None
        means that the mailbox is empty. An export in which two groups have failed is a suspect:
        those go by themselves, in ever smaller groups, when they are preferred or nothing else is
        there.
        """

    async def claimed(self) -> CommitGroup | None:
        """The group that is claimed now, if any; no file, if only its transaction is left of it.

        Each export has a file of its own, as it came, unless `filed` says otherwise.
        """

    async def ndjson(self, id: str) -> bytes:
        """The bytes of a claimed export. Raises Damaged when they are not what was accepted."""

    async def packed(self, ids: Collection[str]) -> Mapping[str, bytes]:
        """The same of several, in their order, still compressed; without what is Damaged."""
        ...

    async def filed(
        self, ids: Collection[str], format: FileFormat, size: int, *, is_shared: bool
    ) -> File:
        """These claimed exports are put as one file of this format and of so many bytes.

        Until they are released, or have failed. The file, which has a path of its own if it is
        shared, and the export's otherwise.
        """
        ...

    async def is_full(self, limits: GroupLimits) -> bool:
        """Whether a whole group of exports waits that never failed."""
        ...

    async def note(self, transaction: str, limits: GroupLimits) -> CommitGroup:
        """Remember the transaction of the claimed group; the try counts. It resolves the attempts.

        The group as it is now: what has come meanwhile is claimed, too, and goes along, unless it
        is a group of suspects.
        """
        ...

    async def complete(self, ids: Collection[str], transaction: str) -> Sequence[Receipt]:
        """These exports of the claimed group stand in this transaction. Their receipts."""

    async def damaged(self, id: str) -> Receipt | None:
        """Nobody can read this claimed export any more: set it aside. Its receipt."""

    async def move(self, id: str) -> None:
        """The path of a claimed export is taken: give it another."""

    async def release(self) -> None:
        """What is claimed still is not in the dataset, and will not be: accept it again.

        Foundry was not to be had, so the try does not count.
        """

    async def fail(self, named: Collection[str], tries_max: int) -> Sequence[Receipt]:
        """The same, and the try counts: it was not Foundry that was not to be had.

        After so many tries an export is set aside, if Foundry has named it, or if it was alone and
        others have been committed since its first. The receipts of those.
        """
        ...


class Attempts(Protocol):
    """Transactions that we may have begun without hearing the answer."""

    async def ended(self) -> None:
        """The transaction that was noted is open no more."""

    async def attempt(self, seen: BranchSnapshot, kind: TransactionKind) -> None:
        """We are about to begin a transaction for which no group is claimed."""

    async def begun(self, transaction: str) -> None:
        """It is open, and noted until it has `ended`. It resolves the attempts."""

    async def attempts(self, kind: TransactionKind = "APPEND") -> Sequence[BranchSnapshot]:
        """What the branch was like before each that is not resolved; a release forgets none."""

    async def resolve(self) -> None:
        """Nothing that we began is left open: forget the attempts."""


class Backlog(Protocol):
    """What is not in the dataset, as far as the journal knows, while no group is claimed."""

    async def known(self, transactions: Collection[str]) -> frozenset[str]:
        """Those of them in which something of ours is committed."""
        ...

    async def unsent(self, after: str) -> Sequence[File]:
        """A page of those that wait or are set aside, oldest first, each as it came.

        `after` is the id of the last one seen, "" at first.
        """
        ...

    async def found(self, stood: Sequence[tuple[Standing, Collection[str]]]) -> Sequence[Receipt]:
        """Note that these stand in those files, all of it or nothing.

        Receipts of those that were not committed before.
        """
        ...


class Aside(Protocol):
    """What was set aside, in the journal."""

    async def keep(self, original: Original, id: str, at: datetime) -> Receipt:
        """Keep what crashes a stage. Its receipt; `replayed` if it was kept before.

        Raises JournalFull.
        """
        ...

    async def originals(self) -> Collection[str]:
        """The ids of what is kept so."""
        ...

    async def original(self, id: str) -> Original | None:
        """One of them. Raises Damaged."""

    async def forget(self, id: str) -> None:
        """It went through the flow after all, and stands in the journal as any other."""

    async def accept(self, id: str | None) -> int:
        """Let the uploader try again what Foundry did not take: this one, or all; how many."""
        ...

    async def abandon(self, id: str | None) -> int:
        """Give up what is set aside, this one or all, and keep its entry only; how many."""
        ...


class Replays(Protocol):
    """What was set aside, through the flow once more."""

    async def one(self, id: str) -> Replayed:
        """Raises Rejected when it is none that the flow accepts."""
        ...

    async def all(self) -> Replayed: ...


class Ledger(Protocol):
    """The journal as an operator sees it."""

    async def listing(
        self, status: Status | None, limit: int, before: int | None, find: str | None = None
    ) -> Listing:
        """A page of exports, newest first; `before` is what the page before this one told.

        What is to be found is a receipt id or its beginning (of four characters or more), a user
        as entries call him, or else a correlation id: that is looked for in 10,000 exports a page.
        """
        ...

    async def entry(self, id: str) -> Entry | None:
        """One export, by its receipt id or the beginning of it; None if several begin so, too."""

    async def depth(self) -> Depth:
        """How much stands in it, at a price that does not grow with that."""
        ...

    async def ready(self) -> None:
        """Raises JournalFull, or Unavailable while the journal cannot be written."""


class PersonRecords(Protocol):
    """The journal, asked about one person."""

    async def of(self, user: User) -> Journaled:
        """What there is of them."""
        ...

    async def purge(self, user: User, shared: Sequence[Shared]) -> Purged:
        """Forget them: exports, receipts, what their keys name, digests. Others keep theirs.

        `shared` are files of others that hold rows of theirs: which, is remembered. Raises
        Unavailable while something of theirs is claimed: it may be committed any moment.
        """
        ...

    async def rewrite(self) -> None:
        """Let no byte of what was purged stay on the disk. Nothing to do if nothing was.

        Raises JournalFull when the disk has no room for a second journal.
        """


class People(Protocol):
    """One person, in the journal and on the branch. Raises FoundryError."""

    async def where(self, user: User, *, lists: bool = False) -> Whereabouts:
        """What is there of them; each file by its path, if it `lists` them."""
        ...

    async def forget(self, user: User) -> Erasure:
        """All that can be told apart from what is others', for good. It may be said again."""
        ...


class Outbox(Mailbox, Attempts, Backlog, Protocol):
    """All that the uploader needs of the journal."""

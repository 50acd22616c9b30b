"""The journal, as each of those who use it sees it.

Any call may raise Unavailable, while its disk fails.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from atlas.core.commits import Backlog, Conclusion, InHand, Lane
from atlas.core.messages import (
    BranchSnapshot,
    CommitGroup,
    Entry,
    File,
    FileFormat,
    Flattened,
    GroupLimits,
    Head,
    ListedStatus,
    Listing,
    Original,
    Page,
    Receipt,
    Replayed,
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


class UploadQueue(Protocol):
    """The journal as the uploader empties it: the transitions of a commit.

    An export is accepted, then claimed for a group, then committed. At most one group is in hand
    at a time, because Foundry allows one open transaction on a branch. Each of these is one
    transaction of the journal. Each either does nothing when it is repeated, or raises OutOfOrder,
    and then has changed nothing.
    """

    async def backlog(self, limits: GroupLimits) -> Backlog:
        """Return how much waits; claimed exports wait, too."""
        ...

    async def in_hand(self) -> InHand:
        """Return what was begun and not concluded.

        Each export has a file of its own, as it came, unless `record_file` says otherwise.
        """
        ...

    async def claim(
        self, limits: GroupLimits, snapshot: BranchSnapshot, lane: Lane
    ) -> CommitGroup | None:
        """Claim the oldest exports of this lane, and record the intent to begin an APPEND.

        In one step, so that no transaction is ever begun that the journal does not know of. None,
        and no intent, if nothing waits there. The normal lane has the fresh exports, and beside
        them those of which Foundry has refused the file; the isolated lane has groups of exports
        that failed together, the smaller the more often they failed. Raises OutOfOrder while
        a group or a transaction is in hand.
        """

    async def record_intent(self, snapshot: BranchSnapshot, kind: TransactionKind) -> None:
        """Record that a transaction without exports is about to begin.

        Raises OutOfOrder while a group or a transaction is in hand.
        """

    async def record_open(self, transaction: str, limits: GroupLimits) -> CommitGroup:
        """Record the transaction that was begun. It settles every intent: no other can be open.

        Returns the group as it is now: exports that came meanwhile are claimed, too, unless the
        group is isolated. Repeated with the same transaction it returns the group. Raises
        OutOfOrder when no intent is recorded, or another transaction is open.
        """
        ...

    async def record_file(
        self, ids: Collection[str], format: FileFormat, size: int, *, is_shared: bool
    ) -> File:
        """Record that these claimed exports are put as one file of this format and size in bytes.

        It holds until they are concluded. Returns the file, which has a path of its own if it is
        shared, and the export's otherwise. Raises OutOfOrder unless all of them are claimed, and
        for none of them, or several that share no file.
        """
        ...

    async def conclude(self, conclusion: Conclusion) -> Sequence[Receipt]:
        """Carry out a verdict on every claimed export; the transaction is not open any more.

        Returns the receipts of those that are committed or set aside by it. With nothing in hand it
        does nothing. Else it raises OutOfOrder unless the recorded transaction is the one that the
        conclusion names, or there is none and it names none. Verdicts on exports that are not
        claimed are ignored.
        """
        ...

    async def clear_intents(self) -> None:
        """Forget all intents: nothing that they began is or will be open."""

    async def read(self, ids: Collection[str]) -> Mapping[str, bytes]:
        """Return the payloads of these exports, compressed, in order of acceptance.

        Without those that are not what was accepted any more.
        """
        ...


class Reconciliation(Protocol):
    """Compares an older copy of the journal with the dataset."""

    async def own_transactions(self, transactions: Collection[str]) -> frozenset[str]:
        """Return those of these transactions that hold exports of this journal."""
        ...

    async def has_committed(self) -> bool:
        """Return whether this journal knows of any committed export."""
        ...

    async def uncommitted(self, after: str) -> Sequence[File]:
        """Return a page of all exports that are not in the dataset as far as the journal knows.

        Claimed ones and those that were set aside are among them, each with a file of its own.
        The page begins behind the export with this id, "" for the first.
        """
        ...

    async def mark_found(
        self, found: Sequence[tuple[Standing, Collection[str]]]
    ) -> Sequence[Receipt]:
        """Mark exports as committed: the rows of these ids stand in this file.

        All at once. Returns the receipts of those that were not committed before.
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
        self, status: ListedStatus | None, limit: int, before: int | None, find: str | None = None
    ) -> Listing:
        """A page of exports, newest first; `before` is what the page before this one told.

        `failed` are those accepted exports that have failed and are tried apart.

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


class Outbox(UploadQueue, Reconciliation, Protocol):
    """The journal as the uploader sees it."""

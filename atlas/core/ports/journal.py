"""Ports to the journal, one for each of its users.

Any call raises Unavailable while the journal's disk fails.
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
    """The journal as the flow fills it. Every result is durable before it is returned."""

    async def recall(self, head: Head, id: str) -> Receipt | None:
        """Return the receipt of a stored export; None if it is unknown, or has to be sent again."""

    async def append(self, export: Flattened) -> Receipt:
        """Store the export, or return the receipt of the same one with `replayed` set.

        Raises KeyReused when its Idempotency-Key belongs to another export, JournalFull.
        """


class Receipts(Protocol):
    """The journal as a sender sees it: only their own exports."""

    async def find(self, user: User, id: str) -> Receipt | None:
        """Return the receipt of an export of this user; None if the user never sent it."""

    async def parts(self, user: User, whole: str) -> Sequence[Receipt]:
        """Return the receipts of a stream's parts in order; none if the stream is unknown."""
        ...

    async def page(self, user: User, key: str | None, limit: int, cursor: str | None) -> Page:
        """Return the user's receipts, newest first; with `key`, those of this Idempotency-Key.

        Raises Rejected for a cursor that no page has returned.
        """


class UploadQueue(Protocol):
    """The journal as the uploader empties it: the durable steps of the commit protocol.

    An export is accepted, then claimed for a group, then committed. At most one group is in hand
    at a time, because Foundry allows one open transaction on a branch. Each call is one transaction
    of the journal. A repeated call either does nothing, or raises OutOfOrder and changes nothing.
    """

    async def backlog(self, limits: GroupLimits) -> Backlog:
        """Return the numbers of waiting exports, claimed ones included."""
        ...

    async def in_hand(self) -> InHand:
        """Return what was begun and not concluded.

        Each export has an NDJSON file of its own, unless `record_file` has recorded another.
        """
        ...

    async def claim(
        self, limits: GroupLimits, snapshot: BranchSnapshot, lane: Lane
    ) -> CommitGroup | None:
        """Claim the oldest exports of this lane, and record the intent to begin an APPEND.

        Both in one step, so that no transaction is begun that the journal does not know of. Returns
        None, and records no intent, if nothing waits in the lane. The normal lane has the fresh
        exports, and with them exports whose files Foundry has refused. The isolated lane has all
        failed exports; the more often a group failed, the smaller its parts. Raises OutOfOrder
        while a group or a transaction is in hand.
        """

    async def record_intent(self, snapshot: BranchSnapshot, kind: TransactionKind) -> None:
        """Record that a transaction without exports is about to begin.

        Raises OutOfOrder while a group or a transaction is in hand.
        """

    async def record_open(self, transaction: str, limits: GroupLimits) -> CommitGroup:
        """Record the transaction that was begun, and clear the intents: no other can be open.

        Returns the group as it is now: exports accepted since the claim are claimed, too, unless
        the group is isolated. A repeated call with the same transaction returns the group. Raises
        OutOfOrder when no intent is recorded, or another transaction is open.
        """
        ...

    async def record_file(
        self, ids: Collection[str], format: FileFormat, size: int, *, is_shared: bool
    ) -> File:
        """Record that these claimed exports are put as one file of this format and size in bytes.

        The record holds until they are concluded. Returns the file, which has a path of its own if
        it is shared, and the export's path otherwise. Raises OutOfOrder unless all of them are
        claimed, if `ids` is empty, or if it names several exports and `is_shared` is False.
        """
        ...

    async def conclude(self, conclusion: Conclusion) -> Sequence[Receipt]:
        """Carry out a verdict on every claimed export; the transaction is not open any more.

        Returns the receipts of those that it commits or sets aside. With nothing in hand it does
        nothing. Otherwise it raises OutOfOrder unless the conclusion names the recorded
        transaction, or None if none is recorded. Verdicts on exports that are not claimed are
        ignored.
        """
        ...

    async def clear_intents(self) -> None:
        """Delete all intents: nothing that they began is or will be open."""

    async def read(self, ids: Collection[str]) -> Mapping[str, bytes]:
        """Return the payloads of these exports, compressed, in order of acceptance.

        Damaged ones are left out.
        """
        ...


class Reconciliation(Protocol):
    """Compares an older copy of the journal with the dataset."""

    async def own_transactions(self, transactions: Collection[str]) -> frozenset[str]:
        """Return the subset of these transactions that hold exports of this journal."""
        ...

    async def has_committed(self) -> bool:
        """Return whether this journal knows of any committed export."""
        ...

    async def uncommitted(self, after: str) -> Sequence[File]:
        """Return a page of all exports that the journal believes uncommitted.

        Claimed and set-aside ones are included, each with a file of its own. The page begins after
        the export with the id `after`, "" for the first page.
        """
        ...

    async def mark_found(
        self, found: Sequence[tuple[Standing, Collection[str]]]
    ) -> Sequence[Receipt]:
        """Mark exports as committed, each in the file that holds its rows; all in one step.

        Returns the receipts of those that were not committed before.
        """
        ...


class Aside(Protocol):
    """Set-aside exports in the journal."""

    async def keep(self, original: Original, id: str, at: datetime) -> Receipt:
        """Store an export that crashes a stage. Its receipt is `replayed` if it was stored before.

        Raises JournalFull.
        """
        ...

    async def originals(self) -> Collection[str]:
        """Return the ids of the exports that crashed a stage."""
        ...

    async def original(self, id: str) -> Original | None:
        """Return one of them; None if it is unknown. Raises Damaged."""

    async def forget(self, id: str) -> None:
        """Delete an original that went through the flow, and is in the journal like any other."""

    async def accept(self, id: str | None) -> int:
        """Let the uploader retry this set-aside export, or all; return how many."""
        ...

    async def abandon(self, id: str | None) -> int:
        """Delete the payload of this set-aside export, or of all, for good; return how many."""
        ...


class Replays(Protocol):
    """Sends set-aside exports through the flow once more."""

    async def one(self, id: str) -> Replayed:
        """Replay one export. Raises Rejected when the flow does not accept it."""
        ...

    async def all(self) -> Replayed:
        """Replay all of them."""
        ...


class Ledger(Protocol):
    """The journal as an operator sees it."""

    async def listing(
        self, status: ListedStatus | None, limit: int, before: int | None, find: str | None = None
    ) -> Listing:
        """Return a page of exports, newest first; `before` is the cursor of the previous page.

        The status `failed` selects accepted exports that have failed and are tried separately.

        `find` is a receipt id or its beginning (of four characters or more), a user as named in
        entries, or a correlation id, for which each page searches 10,000 exports.
        """
        ...

    async def entry(self, id: str) -> Entry | None:
        """Return an export by its receipt id or a prefix of it; None unless exactly one matches."""

    async def depth(self) -> Depth:
        """Return how much the journal holds, in constant time."""
        ...

    async def ready(self) -> None:
        """Return if the journal accepts exports. Raises JournalFull, or Unavailable."""


class PersonRecords(Protocol):
    """The journal's records of one person."""

    async def of(self, user: User) -> Journaled:
        """Return the records of this person."""
        ...

    async def purge(self, user: User, shared: Sequence[Shared]) -> Purged:
        """Delete the person's exports, receipts, idempotency keys and digests.

        `shared` are shared files that still hold rows of the person; the journal remembers their
        paths. Raises Unavailable while an export of theirs is claimed, because it may be committed
        any moment.
        """
        ...

    async def rewrite(self) -> None:
        """Rewrite the journal's file, so that no purged byte stays on the disk, if any was purged.

        Raises JournalFull when the disk has no space for a second copy.
        """


class People(Protocol):
    """One person's data, in the journal and on the branch. Raises FoundryError."""

    async def where(self, user: User, *, lists: bool = False) -> Whereabouts:
        """Return all that is stored of a person; with `lists`, each file by its path."""
        ...

    async def forget(self, user: User) -> Erasure:
        """Erase all that can be separated from the data of others. It can be repeated."""
        ...


class Outbox(UploadQueue, Reconciliation, Protocol):
    """The journal as the uploader sees it."""

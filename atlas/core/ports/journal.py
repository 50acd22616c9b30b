"""Ports to the journal, one for each of its users.

Any call raises Unavailable while the journal's disk fails.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from atlas.core.commits import Backlog, Conclusion, Lane, WorkInHand
from atlas.core.events import EventBuffer
from atlas.core.messages import (
    BranchSnapshot,
    CommitGroup,
    ExportMetadata,
    File,
    FileFormat,
    FlattenedExport,
    GroupLimits,
    JournalEntry,
    JournalPage,
    ListedStatus,
    Receipt,
    ReceiptPage,
    ReplayResult,
    StageInput,
    TransactionKind,
    User,
)
from atlas.core.personal_data import DatasetFile
from atlas.core.ports.inspection import JournalFile, JournalInspector
from atlas.core.ports.personal_data import PersonalDataStore
from atlas.core.ports.phones import PhoneBook
from atlas.core.ports.replicas import Leadership, ReplicaPeers
from atlas.core.ports.stream import StreamQueue
from atlas.core.status import JournalTotals


class Intake(Protocol):
    """The journal as stages add to it. Every result is durable before it is returned."""

    async def find_existing(self, head: ExportMetadata, id: str) -> Receipt | None:
        """Return the receipt of a stored export; None if it is unknown or must be sent again."""

    async def append(self, export: FlattenedExport) -> Receipt:
        """Store the export, or return the receipt of an identical one with `replayed` set.

        Raises IdempotencyKeyReused if its Idempotency-Key belongs to another export, JournalFull.
        """


class ReceiptQueries(Protocol):
    """The journal as a client sees it: only the user's own exports."""

    async def find(self, user: User, id: str) -> Receipt | None:
        """Return the receipt of an export of this user; None if the user never sent it."""

    async def list_parts(self, user: User, stream_id: str) -> Sequence[Receipt]:
        """Return the receipts of a stream's parts in order; none if the stream is unknown."""

    async def list_page(
        self, user: User, key: str | None, limit: int, cursor: str | None
    ) -> ReceiptPage:
        """Return the user's receipts, newest first; with `key`, those of this Idempotency-Key.

        Raises Rejected for a cursor that no page has returned.
        """


class UploadQueue(Protocol):
    """The journal as the uploader uses it: the durable steps of the commit protocol.

    An export is accepted, then claimed for a group, then committed. At most one group is in hand at
    a time, because Foundry allows one open transaction on a branch. Each call is one transaction of
    the journal. A repeated call either does nothing, or raises OutOfOrder and changes nothing. Any
    call but `read_backlog` and `read` raises Deposed if another replica leads.
    """

    async def confirm_lead(self) -> None:
        """Raise Deposed if another replica leads."""

    async def read_backlog(self, limits: GroupLimits) -> Backlog:
        """Return the numbers of waiting exports, claimed ones included."""

    async def read_in_hand(self) -> WorkInHand:
        """Return what was begun and not concluded.

        Each export has an NDJSON file of its own, unless `record_file` has recorded another.
        """

    async def claim(
        self, limits: GroupLimits, snapshot: BranchSnapshot, lane: Lane
    ) -> CommitGroup | None:
        """Claim the oldest exports of this lane, and record the intent to begin an APPEND.

        Both happen in one step, so that no transaction is begun without a record. Returns None, and
        records no intent, if nothing waits in the lane. The normal lane has the fresh exports, and
        with them exports whose files Foundry has refused. The isolated lane has all failed exports;
        the more often a group failed, the smaller its parts. Raises OutOfOrder while a group or a
        transaction is in hand.
        """

    async def record_intent(self, snapshot: BranchSnapshot, kind: TransactionKind) -> None:
        """Record that a transaction without exports is about to begin.

        Raises OutOfOrder while a group or a transaction is in hand.
        """

    async def record_open(self, transaction: str, limits: GroupLimits) -> CommitGroup:
        """Record the transaction that was begun, and clear the intents: no other can be open.

        Returns the current group: exports accepted since the claim are claimed, too, unless the
        group is isolated. A repeated call with the same transaction returns the group. Raises
        OutOfOrder when no intent is recorded, or another transaction is open.
        """

    async def record_file(
        self, ids: Collection[str], format: FileFormat, size: int, *, is_shared: bool
    ) -> File:
        """Record that these claimed exports are uploaded as one file of this format and size.

        The record holds until they are concluded. Returns the file, which has a path of its own if
        it is shared, and the export's path otherwise. Raises OutOfOrder unless all of them are
        claimed, if `ids` is empty, or if it names several exports and `is_shared` is False.
        """

    async def conclude(self, conclusion: Conclusion) -> Sequence[Receipt]:
        """Apply a verdict to every claimed export; the transaction is not open any more.

        Returns the receipts of the exports that were committed or set aside. Does nothing if
        nothing is in hand. Otherwise it raises OutOfOrder unless the conclusion names the recorded
        transaction, or None if none is recorded. Verdicts on exports that are not claimed are
        ignored.
        """

    async def clear_intents(self) -> None:
        """Delete all intents: no transaction that they began is or will be open."""

    async def read(self, ids: Collection[str]) -> Mapping[str, bytes]:
        """Return the payloads of these exports, compressed, in order of acceptance.

        Damaged ones are left out.
        """


class Reconciliation(Protocol):
    """Compares an older copy of the journal with the dataset.

    An export is doubtful if the database may have lost what happened to it: its rows may be in the
    dataset already. It is not claimed until it was compared.
    """

    async def filter_own_transactions(self, transactions: Collection[str]) -> frozenset[str]:
        """Return those of these transactions that hold exports of this journal."""

    async def has_committed_lately(self, transaction: str) -> bool:
        """Return True if it holds exports of this journal. Always quick, at the start of a term.

        It may be False for a transaction whose exports are older than a thousand committed ones.
        """

    async def list_uncommitted(self, after: str) -> Sequence[File]:
        """Return a page of all exports that the journal believes uncommitted.

        Claimed and set-aside ones are included, each with a file of its own. The page begins after
        the export with the id `after`, "" for the first page.
        """

    async def mark_found(
        self, matches: Sequence[tuple[DatasetFile, Collection[str]]]
    ) -> Sequence[Receipt]:
        """Mark exports as committed, each in the file that holds its rows; all in one step.

        Returns the receipts of those that were not committed before.
        """

    async def list_doubtful(self) -> Collection[str]:
        """Return the ids of the doubtful exports."""

    async def clear_doubt(self, ids: Collection[str]) -> None:
        """Let these exports be claimed: they were compared."""


class DeadLetters(Protocol):
    """Set-aside exports in the journal."""

    async def store(self, original: StageInput, id: str, at: datetime) -> Receipt:
        """Store an export that crashes a stage. Its receipt is `replayed` if it was stored before.

        Raises JournalFull.
        """

    async def list_original_ids(self) -> Collection[str]:
        """Return the ids of the exports that crashed a stage."""

    async def read_original(self, id: str) -> StageInput | None:
        """Return an export that crashed a stage; None if it is unknown. Raises CorruptEntry."""

    async def delete(self, id: str) -> None:
        """Delete an original that has passed the stages since, and is now stored as an export."""

    async def requeue(self, id: str | None) -> int:
        """Let the uploader retry this set-aside export, or all; return their number."""

    async def abandon(self, id: str | None) -> int:
        """Delete the payload of this set-aside export, or of all, for good; return their number."""


class ReplayTasks(Protocol):
    """Sends set-aside exports through the flow again."""

    async def replay(self, id: str) -> ReplayResult:
        """Replay one export. Raises Rejected when the flow does not accept it."""

    async def replay_all(self) -> ReplayResult:
        """Replay all set-aside exports."""


class Ledger(Protocol):
    """The journal as an operator sees it."""

    async def list_entries(
        self, status: ListedStatus | None, limit: int, before: int | None, find: str | None = None
    ) -> JournalPage:
        """Return a page of exports, newest first; `before` is the cursor of the previous page.

        The status `failed` selects accepted exports that have failed and are retried separately.
        `find` is a receipt id or its beginning (of four characters or more), a user as named in
        entries, or a correlation id, for which each page searches 10,000 exports.
        """

    async def find_entry(self, id: str) -> JournalEntry | None:
        """Return an export by its receipt id or a prefix of it; None unless exactly one matches."""

    async def read_totals(self) -> JournalTotals:
        """Return the journal's totals, in constant time."""

    async def check_ready(self) -> None:
        """Raise JournalFull or Unavailable if the journal does not accept exports."""


class Outbox(UploadQueue, Reconciliation, Protocol):
    """The journal as the uploader uses it, and compares it with the dataset."""


@dataclass(frozen=True, slots=True)
class JournalPorts:
    """The ports of an open journal.

    `log_key` is the key of user pseudonyms in logs. `events` reports damage found and repaired.
    `is_durable`: exports survive the process. `file` is None in memory and in PostgreSQL. `replica`
    is the name of this one of several, else "".
    """

    intake: Intake
    receipts: ReceiptQueries
    outbox: Outbox
    stream: StreamQueue
    dead_letters: DeadLetters
    ledger: Ledger
    personal_data: PersonalDataStore
    phones: PhoneBook
    inspector: JournalInspector
    file: JournalFile | None
    leadership: Leadership
    peers: ReplicaPeers
    log_key: bytes = field(repr=False)
    events: EventBuffer
    is_durable: bool
    replica: str = ""

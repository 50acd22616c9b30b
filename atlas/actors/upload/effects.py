"""The effects that the commit protocol asks for, one at a time, and their results.

Each effect has one result, or several of which one arrives. Any of them but `Rest` may end in
`Failed` instead: then nobody knows whether it happened.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct

from atlas.actors.upload.reports import Resolution, UploadReport
from atlas.core.commits import Backlog, CommitResult, Conclusion, InHand, Intent, Lane
from atlas.core.errors import CommitRefused, FoundryError, Unavailable
from atlas.core.messages import BranchSnapshot, CommitGroup, File
from atlas.core.ports import TransactionState


class ReadInHand(Struct, frozen=True):
    """Ask the journal what was begun and not concluded: HandRead."""


class ReadBacklog(Struct, frozen=True):
    """Ask the journal what waits: BacklogRead."""


class Reconcile(Struct, frozen=True):
    """Find exports in the dataset of which the journal does not know: Reconciled.

    Unless the journal knows the head of the branch, as it does when it is no older copy of itself.
    `explained` is a transaction of ours in which every file is known.
    """

    explained: str | None = None
    is_forced: bool = False


class TakeSnapshot(Struct, frozen=True):
    """Look at the branch: SnapshotTaken."""


class Claim(Struct, frozen=True):
    """Claim a group of this lane, and record the intent to begin a transaction: Claimed."""

    snapshot: BranchSnapshot
    lane: Lane


class Begin(Struct, frozen=True):
    """Begin a transaction: Begun or Busy."""


class RecordOpen(Struct, frozen=True):
    """Record the transaction in the journal, and claim latecomers: Recorded."""

    transaction: str


class Upload(Struct, frozen=True):
    """Put the files of the group into the transaction: Uploaded."""

    transaction: str
    group: CommitGroup


class PutProbe(Struct, frozen=True):
    """Put a file without a row, to see whether Foundry takes any: ProbePut."""

    transaction: str


class Commit(Struct, frozen=True):
    """Commit: Committed or NotCommitted."""

    transaction: str


class Abort(Struct, frozen=True):
    """Abort: Ended."""

    transaction: str


class ReadStatus(Struct, frozen=True):
    """Ask Foundry for the status of a transaction: StatusRead."""

    transaction: str


class ListFiles(Struct, frozen=True):
    """List the files of a committed transaction: FilesListed."""

    transaction: str


class ResolveConflicts(Struct, frozen=True):
    """Find out who holds the paths of these files: ConflictsResolved."""

    files: tuple[File, ...]


class FindOrphan(Struct, frozen=True):
    """Look for an open transaction that this attempt may have begun: OrphanSought."""

    intent: Intent
    paths: Collection[str]


class ClearIntents(Struct, frozen=True):
    """Forget the intents: IntentsCleared."""


class Conclude(Struct, frozen=True):
    """Carry out verdicts on the exports of the group, and tell whoever waits: Concluded."""

    conclusion: Conclusion
    group: CommitGroup


class Rest(Struct, frozen=True):
    """Do nothing for so many seconds: Woken.

    `is_light`: an export that is accepted ends it. For ever, if `seconds` is None.
    """

    seconds: float | None = None
    is_light: bool = False


class HandRead(Struct, frozen=True):
    hand: InHand


class BacklogRead(Struct, frozen=True):
    backlog: Backlog


class Reconciled(Struct, frozen=True):
    """So many exports were found in the dataset, and are marked as committed.

    `snapshot`: the branch, if nothing had to be searched since it was looked at.
    """

    found: int
    snapshot: BranchSnapshot | None = None


class SnapshotTaken(Struct, frozen=True):
    snapshot: BranchSnapshot


class Claimed(Struct, frozen=True):
    """None if nothing waits in this lane."""

    group: CommitGroup | None


class Begun(Struct, frozen=True):
    transaction: str


class Busy(Struct, frozen=True):
    """Another transaction is open on the branch: this attempt has begun nothing."""

    error: FoundryError


class Recorded(Struct, frozen=True):
    group: CommitGroup


class Uploaded(Struct, frozen=True):
    report: UploadReport


class ProbePut(Struct, frozen=True):
    is_stored: bool


class Committed(Struct, frozen=True):
    result: CommitResult


class NotCommitted(Struct, frozen=True):
    """Foundry refuses to commit the transaction as it is."""

    error: CommitRefused


class Ended(Struct, frozen=True):
    """The transaction is not open any more."""


class StatusRead(Struct, frozen=True):
    status: TransactionState


class FilesListed(Struct, frozen=True):
    files: Mapping[str, int]


class ConflictsResolved(Struct, frozen=True):
    resolution: Resolution


class OrphanSought(Struct, frozen=True):
    transaction: str | None


class IntentsCleared(Struct, frozen=True):
    pass


class Concluded(Struct, frozen=True):
    pass


class Woken(Struct, frozen=True):
    pass


class Failed(Struct, frozen=True):
    """The effect raised, and may have happened all the same."""

    error: Unavailable


Effect = (
    ReadInHand
    | ReadBacklog
    | Reconcile
    | TakeSnapshot
    | Claim
    | Begin
    | RecordOpen
    | Upload
    | PutProbe
    | Commit
    | Abort
    | ReadStatus
    | ListFiles
    | ResolveConflicts
    | FindOrphan
    | ClearIntents
    | Conclude
    | Rest
)
Result = (
    HandRead
    | BacklogRead
    | Reconciled
    | SnapshotTaken
    | Claimed
    | Begun
    | Busy
    | Recorded
    | Uploaded
    | ProbePut
    | Committed
    | NotCommitted
    | Ended
    | StatusRead
    | FilesListed
    | ConflictsResolved
    | OrphanSought
    | IntentsCleared
    | Concluded
    | Woken
    | Failed
)

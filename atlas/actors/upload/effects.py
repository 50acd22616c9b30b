"""The effects that the commit protocol asks for, one at a time, and their results.

The docstring of each effect ends with the results of which one arrives. Any effect but `Rest` may
end in `Failed` instead: then it is unknown whether it happened.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct

from atlas.actors.upload.reports import Resolution, UploadReport
from atlas.core.commits import Backlog, CommitResult, Conclusion, Intent, Lane, WorkInHand
from atlas.core.errors import CommitRefused, FoundryError, Unavailable
from atlas.core.messages import BranchSnapshot, CommitGroup, File
from atlas.core.ports import TransactionState


class ReadInHand(Struct, frozen=True):
    """Read from the journal what was begun and not concluded: HandRead."""


class ReadBacklog(Struct, frozen=True):
    """Read from the journal how much waits: BacklogRead."""


class Reconcile(Struct, frozen=True):
    """Find exports in the dataset that the journal believes uncommitted: Reconciled.

    The search is skipped if the journal knows the head of the branch, so that it cannot be an older
    copy, unless `is_forced`. `explained` is a transaction of ours in which every file is known.
    """

    explained: str | None = None
    is_forced: bool = False


class TakeSnapshot(Struct, frozen=True):
    """Read the head of the branch and Foundry's time: SnapshotTaken."""


class Claim(Struct, frozen=True):
    """Claim a group of this lane, and record the intent to begin a transaction: Claimed."""

    snapshot: BranchSnapshot
    lane: Lane


class Begin(Struct, frozen=True):
    """Begin a transaction: Begun or Busy."""


class RecordOpen(Struct, frozen=True):
    """Record the transaction, and claim exports accepted since the claim: Recorded."""

    transaction: str


class Upload(Struct, frozen=True):
    """Put the files of the group into the transaction: Uploaded."""

    transaction: str
    group: CommitGroup


class PutProbe(Struct, frozen=True):
    """Put a file without rows, to see whether Foundry takes any file: ProbePut."""

    transaction: str


class Commit(Struct, frozen=True):
    """Commit the transaction: Committed or NotCommitted."""

    transaction: str


class Abort(Struct, frozen=True):
    """Abort the transaction: Ended."""

    transaction: str


class ReadStatus(Struct, frozen=True):
    """Ask Foundry for the status of a transaction: StatusRead."""

    transaction: str


class ListFiles(Struct, frozen=True):
    """List the files of a committed transaction: FilesListed."""

    transaction: str


class ResolveConflicts(Struct, frozen=True):
    """Find out which transactions hold the paths of these files: ConflictsResolved."""

    files: tuple[File, ...]


class FindOrphan(Struct, frozen=True):
    """Look for an open transaction that this attempt may have begun: OrphanSought.

    `paths`: those of the claimed group. A file at another path shows that it is not ours.
    """

    intent: Intent
    paths: Collection[str]


class ClearIntents(Struct, frozen=True):
    """Delete the intents from the journal: IntentsCleared."""


class Conclude(Struct, frozen=True):
    """Carry out the verdicts on the group's exports, and answer waiting requests: Concluded."""

    conclusion: Conclusion
    group: CommitGroup


class Rest(Struct, frozen=True):
    """Do nothing for `seconds`, or without a limit if that is None: Woken.

    `is_light`: a newly accepted export ends the rest.
    """

    seconds: float | None = None
    is_light: bool = False


class HandRead(Struct, frozen=True):
    hand: WorkInHand


class BacklogRead(Struct, frozen=True):
    backlog: Backlog


class Reconciled(Struct, frozen=True):
    """The number of exports that were found in the dataset and marked as committed.

    `snapshot`: the branch, if no search was needed, so that it is still fresh.
    """

    exports: int
    snapshot: BranchSnapshot | None = None


class SnapshotTaken(Struct, frozen=True):
    snapshot: BranchSnapshot


class Claimed(Struct, frozen=True):
    """The claimed group; None if nothing waits in this lane."""

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
    """The size in bytes of each path."""

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

"""The effects that the commit protocol requests, one at a time, and their results.

The docstring of each effect ends with its possible results. Any effect except `Rest` may end in
`Failed` instead: then it is unknown whether it happened.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct

from atlas.actors.upload.reports import Resolution, UploadReport
from atlas.core.commits import Backlog, CommitResult, Conclusion, Intent, Lane, WorkInHand
from atlas.core.errors import CommitRefused, FoundryError, Unavailable
from atlas.core.messages import BranchSnapshot, CommitGroup, File
from atlas.core.ports import TransactionState


class Effect(Struct, frozen=True):
    """An action that the protocol requests from the driver."""


class ReadWorkInHand(Effect, frozen=True):
    """Read from the journal the work that was begun and not concluded: WorkInHandRead."""


class ReadBacklog(Effect, frozen=True):
    """Read from the journal how many exports are waiting: BacklogRead."""


class Reconcile(Effect, frozen=True):
    """Find exports in the dataset that the journal believes uncommitted: Reconciled.

    Unless `is_forced`, the search is skipped if the head of the branch is one of the latest commits
    of the journal, because then it cannot be an older copy. `explained`: our transaction, if all of
    its files are known. `is_final`: it fails while a transaction that the journal does not know is
    open, because that one may be committed after the search.
    """

    explained: str | None = None
    is_forced: bool = False
    is_final: bool = False


class TakeSnapshot(Effect, frozen=True):
    """Read the head of the branch and Foundry's time: SnapshotTaken."""


class Claim(Effect, frozen=True):
    """Claim a group of this lane, and record the intent to begin a transaction: Claimed."""

    snapshot: BranchSnapshot
    lane: Lane


class Begin(Effect, frozen=True):
    """Begin a transaction: Begun or Busy."""


class RecordOpen(Effect, frozen=True):
    """Record the transaction, and claim exports accepted since the claim: Recorded."""

    transaction: str


class Upload(Effect, frozen=True):
    """Put the files of the group into the transaction: Uploaded."""

    transaction: str
    group: CommitGroup


class PutProbe(Effect, frozen=True):
    """Put a file without rows, to see whether Foundry takes any file: ProbePut."""

    transaction: str


class Commit(Effect, frozen=True):
    """Commit the transaction: Committed or NotCommitted."""

    transaction: str


class Abort(Effect, frozen=True):
    """Abort the transaction: Ended."""

    transaction: str


class ReadStatus(Effect, frozen=True):
    """Read the status of a transaction from Foundry: StatusRead."""

    transaction: str


class ListFiles(Effect, frozen=True):
    """List the files of a committed transaction: FilesListed."""

    transaction: str


class ResolveConflicts(Effect, frozen=True):
    """Determine which transactions hold the paths of these files: ConflictsResolved."""

    files: tuple[File, ...]


class FindOrphan(Effect, frozen=True):
    """Look for an open transaction that this attempt may have begun: OrphanSought.

    `paths`: the paths of the claimed group. A file at another path shows that it is not ours.
    """

    intent: Intent
    paths: Collection[str]


class ClearIntents(Effect, frozen=True):
    """Delete the intents from the journal: IntentsCleared."""


class Conclude(Effect, frozen=True):
    """Carry out the verdicts on the group's exports, and answer waiting requests: Concluded."""

    conclusion: Conclusion
    group: CommitGroup


class Rest(Effect, frozen=True):
    """Do nothing for `seconds`, without a limit if None: Woken.

    `is_interruptible`: a newly accepted export ends the rest.
    """

    seconds: float | None = None
    is_interruptible: bool = False


class Result(Struct, frozen=True):
    """The result of an effect, which the driver passes back to the protocol."""


class WorkInHandRead(Result, frozen=True):
    work: WorkInHand


class BacklogRead(Result, frozen=True):
    backlog: Backlog


class Reconciled(Result, frozen=True):
    """`exports`: number of exports that were found in the dataset and marked as committed.

    `snapshot`: the branch, if no search was needed, so that the snapshot is still fresh.
    """

    exports: int
    snapshot: BranchSnapshot | None = None


class SnapshotTaken(Result, frozen=True):
    snapshot: BranchSnapshot


class Claimed(Result, frozen=True):
    """The claimed group; None if no export is waiting in this lane."""

    group: CommitGroup | None


class Begun(Result, frozen=True):
    transaction: str


class Busy(Result, frozen=True):
    """Another transaction is open on the branch: this attempt has begun nothing."""

    error: FoundryError


class Recorded(Result, frozen=True):
    """`group`: the claimed group, with the exports accepted since the claim."""

    group: CommitGroup


class Uploaded(Result, frozen=True):
    report: UploadReport


class ProbePut(Result, frozen=True):
    is_stored: bool


class Committed(Result, frozen=True):
    result: CommitResult


class NotCommitted(Result, frozen=True):
    """Foundry refused to commit the transaction."""

    error: CommitRefused


class Ended(Result, frozen=True):
    """The transaction is no longer open."""


class StatusRead(Result, frozen=True):
    status: TransactionState


class FilesListed(Result, frozen=True):
    """The size in bytes of each path."""

    files: Mapping[str, int]


class ConflictsResolved(Result, frozen=True):
    resolution: Resolution


class OrphanSought(Result, frozen=True):
    """`transaction`: the orphan, or None if none was found."""

    transaction: str | None


class IntentsCleared(Result, frozen=True):
    """The journal contains no intents."""


class Concluded(Result, frozen=True):
    """The verdicts are durable, and waiting requests are answered."""


class Woken(Result, frozen=True):
    """The rest is over, or maintenance has ended it."""


class Failed(Result, frozen=True):
    """The effect raised an error, but may have happened all the same."""

    error: Unavailable

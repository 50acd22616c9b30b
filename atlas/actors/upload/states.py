"""The states of the commit protocol."""

from typing import Literal

from msgspec import Struct

from atlas.actors.upload.reports import UploadReport
from atlas.core.commits import Intent, Lane
from atlas.core.errors import FoundryError
from atlas.core.events import GroupTrigger
from atlas.core.messages import BranchSnapshot, CommitGroup, File

Phase = Literal[
    "recovering",  # reads the work in hand from the journal
    "resolving",  # asks Foundry for the status of our transaction
    "ending",  # aborts our transaction
    "verifying",  # lists the files of our committed transaction
    "reconciling",  # compares the journal with the dataset: it may be an older copy
    "searching",  # looks for an orphan: an open transaction of ours that was never recorded
    "removing",  # aborts the orphan
    "settling",  # clears the intents, because only one of them can have opened the orphan
    "assessing",  # reads the backlog and chooses the next group
    "idle",  # rests: no export is waiting
    "waiting",  # rests until the commit interval is over, or a failed export may be retried
    "looking",  # takes a snapshot of the branch
    "claiming",  # claims a group and records the intent to begin
    "opening",  # begins the transaction
    "yielding",  # clears the intent, because somebody else's transaction is open
    "recording",  # records the transaction, and claims exports accepted since the claim
    "uploading",  # puts the files
    "probing",  # puts a file without rows, to see whether Foundry takes any file
    "committing",  # commits
    "conflicting",  # determines which transactions hold our paths
    "concluding",  # carries out the verdicts
    "paused",  # rests after a failure of Foundry or the journal
]
AT_REST: frozenset[Phase] = frozenset({"idle", "waiting", "paused"})
BETWEEN_GROUPS: frozenset[Phase] = AT_REST | {"assessing"}


class Moment(Struct, frozen=True):
    """`now`: seconds on a monotonic clock. `jitter`: a random number from 0 to 1."""

    now: float
    jitter: float = 0.0


class Pacing(Struct, frozen=True):
    """The earliest start of each lane's next group, and the lane of the last one.

    Times are in seconds on the clock of `Moment`. `trigger`: the reason for the next group.
    """

    next_group_at: float = 0.0
    next_isolated_at: float = 0.0
    last_lane: Lane = "isolated"  # so that fresh exports go first after a start
    trigger: GroupTrigger = "idle"


class Memory(Struct, frozen=True):
    """State kept between groups. Empty after every start.

    `is_compared`: the journal was compared with the dataset, so work in hand may be concluded.
    `is_reconciled`: the same with nothing in hand and no unknown transaction open, so a group may
    be begun. `is_unsettled`: an earlier attempt may still open a transaction. `snapshot`: the
    branch at `snapshot_at`. `failures`: number of consecutive pauses.
    """

    is_compared: bool = False
    is_reconciled: bool = False
    is_unsettled: bool = False
    snapshot: BranchSnapshot | None = None
    snapshot_at: float = 0.0
    failures: int = 0
    pacing: Pacing = Pacing()


class Work(Struct, frozen=True):
    """A group, its transaction, and the results so far.

    `is_excused`: its exports did not cause the failure. False for work left by an earlier process,
    because one of its exports may have crashed that process. `is_aborted`: we aborted the
    transaction. `error`: the reason why nothing is committed. `present`: files that are in the
    committed transaction. `has_evidence`: Foundry accepted a probe after it had refused the files.
    `has_progressed`: at least one export has its final outcome.
    """

    group: CommitGroup = CommitGroup(())
    transaction: str | None = None
    intents: tuple[Intent, ...] = ()
    lane: Lane = "normal"
    began_at: float = 0.0
    report: UploadReport | None = None
    present: tuple[File, ...] = ()
    error: FoundryError | None = None
    is_excused: bool = True
    is_aborted: bool = False
    has_evidence: bool = False
    has_progressed: bool = False


class State(Struct, frozen=True):
    """The state of the protocol. `memory` is kept between groups, `work` is not."""

    phase: Phase = "recovering"
    work: Work = Work(is_excused=False)
    memory: Memory = Memory()

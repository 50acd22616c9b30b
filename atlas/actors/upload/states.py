"""The states of the commit protocol."""

from typing import Literal

from msgspec import Struct

from atlas.actors.upload.reports import UploadReport
from atlas.core.commits import Intent, Lane
from atlas.core.errors import FoundryError
from atlas.core.events import GroupTrigger
from atlas.core.messages import BranchSnapshot, CommitGroup, File

Phase = Literal[
    "recovering",  # reads from the journal what is in hand
    "resolving",  # asks Foundry for the status of our transaction
    "ending",  # aborts our transaction
    "verifying",  # lists the files of our committed transaction
    "reconciling",  # compares the journal with the dataset: it may be an older copy
    "searching",  # looks for an orphan: a transaction that an unrecorded attempt has opened
    "removing",  # aborts the orphan
    "settling",  # clears the intents, which the orphan has settled
    "assessing",  # reads the backlog and chooses the next group
    "idle",  # nothing waits
    "waiting",  # for the commit interval, or for the turn of a failed export
    "looking",  # takes a snapshot of the branch
    "claiming",  # claims a group and records the intent to begin
    "opening",  # begins the transaction
    "yielding",  # clears the intent, because somebody else's transaction is open
    "recording",  # records the transaction, and claims exports accepted meanwhile
    "uploading",  # puts the files
    "probing",  # puts a file without rows, to see whether Foundry takes any file
    "committing",  # commits
    "conflicting",  # finds out which transactions hold our paths
    "concluding",  # carries out the verdicts
    "paused",  # until Foundry, or the journal, may be asked again
]
AT_REST: frozenset[Phase] = frozenset({"idle", "waiting", "paused"})


class Moment(Struct, frozen=True):
    """The time in seconds since some moment, and a random number from 0 to 1."""

    now: float
    jitter: float = 0.0


class Pacing(Struct, frozen=True):
    """The time at which each lane's next group may go, and which lane had the last one.

    Times are in seconds on the clock of `Moment`. `trigger`: the reason why the next group starts.
    """

    next_group_at: float = 0.0
    next_isolated_at: float = 0.0
    last_lane: Lane = "isolated"  # so that a new life begins with fresh exports
    trigger: GroupTrigger = "idle"


class Memory(Struct, frozen=True):
    """State that is kept from one group to the next. Empty after every start.

    `is_reconciled`: the journal was compared with the dataset. `is_unsettled`: an earlier attempt
    may still open a transaction. `snapshot`: the branch, as of `snapshot_at`. `failures`: the
    number of consecutive pauses.
    """

    is_reconciled: bool = False
    is_unsettled: bool = False
    snapshot: BranchSnapshot | None = None
    snapshot_at: float = 0.0
    failures: int = 0
    pacing: Pacing = Pacing()


class Work(Struct, frozen=True):
    """The transaction in hand, and what is known of it.

    `is_excused`: its exports did not cause its end. False for work that an earlier life has left,
    because one of its exports may have crashed that life. `is_aborted`: we aborted it. `error`: why
    nothing is committed. `present`: its files that are in it, once it is committed.
    `has_evidence`: Foundry took a probe after it had refused the files. `has_progressed`: at least
    one export was settled for good.
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
    """The state of the protocol. `memory` outlives a group, `work` does not."""

    phase: Phase = "recovering"
    work: Work = Work(is_excused=False)
    memory: Memory = Memory()

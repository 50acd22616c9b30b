"""The states of the commit protocol."""

from typing import Literal

from msgspec import Struct

from atlas.actors.upload.reports import UploadReport
from atlas.core.commits import Intent, Lane
from atlas.core.errors import FoundryError
from atlas.core.events import Because
from atlas.core.messages import BranchSnapshot, CommitGroup, File

Phase = Literal[
    "recovering",  # reads from the journal what is in hand
    "resolving",  # asks Foundry for the status of our transaction
    "ending",  # aborts our transaction
    "verifying",  # lists the files of our committed transaction
    "reconciling",  # compares the journal with the dataset: it may be an older copy
    "searching",  # looks for a transaction that a lost attempt has opened
    "removing",  # aborts such an orphan
    "settling",  # forgets the intents, which are settled by that
    "assessing",  # asks the journal what waits
    "idle",  # nothing waits
    "waiting",  # for the commit interval, or for the turn of a failed export
    "looking",  # takes a snapshot of the branch
    "claiming",  # claims a group and records the intent to begin
    "opening",  # begins the transaction
    "yielding",  # somebody else's is open: forgets the intent
    "recording",  # records the transaction
    "uploading",  # puts the files
    "probing",  # puts a file without a row: does Foundry take any?
    "committing",  # commits
    "conflicting",  # finds out who holds our paths
    "concluding",  # carries out the verdicts
    "paused",  # until Foundry, or the journal, may be asked again
]
AT_REST: frozenset[Phase] = frozenset({"idle", "waiting", "paused"})


class Moment(Struct, frozen=True):
    """The time in seconds since some moment, and a random number from 0 to 1."""

    now: float
    jitter: float = 0.0


class Pacing(Struct, frozen=True):
    """When the next groups may go, in seconds as in `Moment`; which lane had the last group.

    `trigger`: what the next group did not wait for any longer.
    """

    next_group_at: float = 0.0
    next_isolated_at: float = 0.0
    last_lane: Lane = "isolated"  # so that a new life begins with what never failed
    trigger: Because = "idle"


class Memory(Struct, frozen=True):
    """Kept from one group to the next; empty after every start.

    `is_reconciled`: the journal was compared with the dataset. `is_unsettled`: an earlier attempt
    may still open a transaction. `snapshot`: the branch, as of `snapshot_at`. `failures`: pauses in
    a row.
    """

    is_reconciled: bool = False
    is_unsettled: bool = False
    snapshot: BranchSnapshot | None = None
    snapshot_at: float = 0.0
    failures: int = 0
    pacing: Pacing = Pacing()


class Work(Struct, frozen=True):
    """The transaction in hand, and what is known of it.

    `is_excused`: what ended it was not one of its exports; False for what an earlier life has left,
    which may have died of it. `is_aborted`: we aborted it. `error`: why nothing is committed.
    `present`: its files that stand in it, once it is committed. `has_evidence`: Foundry took a
    probe where it refused the files. `has_progressed`: something was settled for good.
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
    """`memory` outlives a group, `work` does not."""

    phase: Phase = "recovering"
    work: Work = Work(is_excused=False)
    memory: Memory = Memory()

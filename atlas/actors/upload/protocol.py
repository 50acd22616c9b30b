"""The commit protocol: decides what the uploader does next. Pure: no I/O, clock or randomness.

`TRANSITIONS` is the table that README.md shows: for each phase and each result that can arrive in
it, the function that returns the next state and the next effect.
"""

from collections.abc import Callable
from typing import Any

from atlas.actors.upload import effects as e
from atlas.actors.upload import ending, grouping, recovery
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.states import Moment, Phase, State, Work
from atlas.actors.upload.steps import Step, pause

Transition = Callable[[UploadPolicy, State, Any, Moment], Step]
TRANSITIONS: dict[tuple[Phase, type[e.Result]], Transition] = {
    ("recovering", e.WorkInHandRead): recovery.recover,
    ("reconciling", e.Reconciled): recovery.reconcile,
    ("searching", e.OrphanSought): recovery.handle_orphan,
    ("removing", e.Ended): recovery.clear_settled_intents,
    ("settling", e.IntentsCleared): recovery.finish_search,
    ("assessing", e.BacklogRead): grouping.assess,
    ("idle", e.Woken): grouping.reassess,
    ("waiting", e.Woken): grouping.reassess,
    ("looking", e.SnapshotTaken): grouping.claim,
    ("claiming", e.Claimed): grouping.begin,
    ("opening", e.Begun): grouping.record,
    ("opening", e.Busy): grouping.yield_branch,
    ("yielding", e.IntentsCleared): grouping.pause_while_busy,
    ("recording", e.Recorded): grouping.upload,
    ("uploading", e.Uploaded): grouping.evaluate,
    ("probing", e.ProbePut): ending.abort_probe,
    ("committing", e.Committed): ending.check_commit,
    ("committing", e.NotCommitted): ending.abort_refused,
    ("ending", e.Ended): ending.reread_status,
    ("resolving", e.StatusRead): ending.resolve,
    ("verifying", e.FilesListed): ending.verify,
    ("conflicting", e.ConflictsResolved): ending.apply_resolution,
    ("concluding", e.Concluded): ending.finish,
    ("paused", e.Woken): recovery.resume,
}


def start(*, is_excused: bool = False) -> Step:
    """Return the first step after a start: read work that the last process left unfinished.

    `is_excused`: none of its exports can have ended that process.
    """
    return Step(State(work=Work(is_excused=is_excused)), e.ReadWorkInHand())


def advance(policy: UploadPolicy, state: State, result: e.Result, moment: Moment) -> Step:
    """Return the step after this result. Raises KeyError if this phase cannot have the result."""
    if isinstance(result, e.Failed):
        return pause(state, result.error, moment)
    return TRANSITIONS[state.phase, type(result)](policy, state, result, moment)

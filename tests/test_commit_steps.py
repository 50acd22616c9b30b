"""Single steps of the commit protocol: the effect requested and the state remembered."""

import pytest

from atlas.actors.upload import effects as e
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.protocol import advance, start
from atlas.actors.upload.reports import FileRefusal, Resolution, UploadReport
from atlas.actors.upload.states import Memory, Moment, State, Work
from atlas.core.commits import RELEASED, Backlog, CommitResult, Intent, Verdict, WorkInHand
from atlas.core.errors import BranchBusy, CommitRefused, FoundryError
from atlas.core.messages import BranchSnapshot, ClaimedExport, CommitGroup, File, GroupLimits

POLICY = UploadPolicy(group=GroupLimits(), interval_seconds=5.0, tries_max=2)
T, HEAD = "t1", BranchSnapshot("t0", None)
A, B = (File(f"{id}.ndjson", 1, (ClaimedExport(id, 1),)) for id in "ab")
LAST = File("c.ndjson", 1, (ClaimedExport("c", 1, isolation=4, tries=1),))
GROUP, GROWN = CommitGroup((A,)), CommitGroup((A, B))
INTENT = Intent("APPEND", HEAD)
RECORDED = e.WorkInHandRead(WorkInHand(GROUP, T))
NOTHING = e.WorkInHandRead(WorkInHand())
AWAY = e.Failed(FoundryError())
ABORTED, COMMITTED = e.StatusRead("ABORTED"), e.StatusRead("COMMITTED")
FRESH, FAILED_ONES = e.BacklogRead(Backlog(fresh=1)), e.BacklogRead(Backlog(failed=1))
BOTH = e.BacklogRead(Backlog(fresh=1, failed=1))
TO_GROUP = (NOTHING, FRESH, e.Reconciled(0, HEAD), NOTHING, FRESH)
TO_UPLOAD = (*TO_GROUP, e.Claimed(GROUP), e.Begun(T), e.Recorded(GROUP))
BEHIND = CommitResult(HEAD.head, HEAD.at)
TO_COMMITTED = (*TO_UPLOAD, e.Uploaded(UploadReport((A,))), e.Committed(BEHIND))


def walk(*results, step=None, now=0.0):
    """Return the step reached by these results, from a fresh start or from `step`."""
    step = step or start()
    for result in results:
        step = advance(POLICY, step.state, result, Moment(now, 1.0))
    return step


def answer_to_busy(step):
    """Return the effect that follows if the branch is busy, given the protocol's current memory."""
    state = State("opening", Work(), step.state.memory)
    return type(advance(POLICY, state, e.Busy(BranchBusy()), Moment(0.0)).effect)


def test_a_group_goes_from_the_backlog_into_the_dataset():
    effects, step = [], start()
    for result in (*TO_COMMITTED, e.Concluded()):
        effects.append(type(step.effect).__name__)
        step = walk(result, step=step)
    assert " ".join(effects) == (
        "ReadWorkInHand ReadBacklog Reconcile ReadWorkInHand ReadBacklog "
        "Claim Begin RecordOpen Upload Commit Conclude"
    )
    assert step.effect == e.ReadBacklog()


def test_exports_that_came_while_the_transaction_was_begun_are_uploaded_too():
    step = walk(*TO_GROUP, e.Claimed(GROUP), e.Begun(T), e.Recorded(GROWN))
    assert step.effect == e.Upload(T, GROWN)
    step = walk(e.Uploaded(UploadReport((A, B))), e.Committed(BEHIND), step=step)
    assert step.effect.conclusion.verdicts.keys() == {"a", "b"}


def test_the_next_normal_group_waits_for_the_commit_interval():
    step = walk(*TO_COMMITTED, e.Concluded(), FRESH)
    assert (step.state.phase, step.effect) == ("waiting", e.Rest(0.5))


def test_the_lanes_take_turns():
    step = walk(*TO_COMMITTED, e.Concluded(), BOTH)
    assert step.effect == e.Claim(BEHIND, "isolated")
    step = walk(e.Claimed(GROUP), e.Begun(T), e.Recorded(GROUP), step=step)
    step = walk(e.Uploaded(UploadReport((A,))), e.Committed(BEHIND), e.Concluded(), step=step)
    late = walk(BOTH, step=step, now=5.0)
    assert late.effect == e.Claim(BEHIND, "normal")


@pytest.mark.parametrize(
    "report", [UploadReport(unconfirmed=(A,)), UploadReport((A,)), UploadReport((A,), taken=(B,))]
)
def test_a_transaction_that_may_hold_a_file_is_committed(report):
    assert walk(*TO_UPLOAD, e.Uploaded(report)).effect == e.Commit(T)


def test_a_group_whose_paths_are_moved_is_progress_and_no_reason_to_pause():
    moved = e.ConflictsResolved(Resolution(moved=("a",)))
    report = e.Uploaded(UploadReport(taken=(A,)))
    step = walk(*TO_UPLOAD, report, e.Ended(), ABORTED, moved, e.Concluded())
    assert step.effect == e.ReadBacklog()


def test_a_group_that_came_to_nothing_pauses_and_speaks_against_nobody_if_foundry_was_silent():
    report = e.Uploaded(UploadReport(unanswered=(A,)))
    step = walk(*TO_UPLOAD, report, e.ProbePut(is_stored=False), e.Ended(), ABORTED)
    assert (step.effect.conclusion.verdicts, step.effect.conclusion.default_verdict) == (
        {},
        RELEASED,
    )
    assert walk(e.Concluded(), step=step).state.phase == "paused"


def test_a_group_about_which_foundry_is_silent_while_it_takes_a_probe_is_tried_apart_at_once():
    """A firewall answers 403 for one path, say: no failure is counted, and nothing waits for it."""
    report = e.Uploaded(UploadReport(unanswered=(A,)))
    step = walk(*TO_UPLOAD, report, e.ProbePut(is_stored=True), e.Ended(), ABORTED)
    assert step.effect.conclusion.verdicts["a"].kind == "isolated"
    assert step.effect.conclusion.verdicts["a"].is_unanswered
    assert walk(e.Concluded(), step=step).state.phase == "assessing"


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_probe_on_the_last_try_is_the_evidence(is_stored):
    group = CommitGroup((LAST,))
    refused = e.Uploaded(UploadReport(refused=(FileRefusal(LAST, "no"),)))
    before = (NOTHING, FAILED_ONES, e.Reconciled(0, HEAD), NOTHING, FAILED_ONES)
    step = walk(*before, e.Claimed(group), e.Begun(T), e.Recorded(group), refused)
    assert step.effect == e.PutProbe(T)
    step = walk(e.ProbePut(is_stored), e.Ended(), ABORTED, step=step)
    assert step.effect.conclusion.has_evidence == is_stored


def test_a_refused_commit_speaks_against_a_group_of_which_nothing_else_is_known():
    refused = e.NotCommitted(CommitRefused("no"))
    free = e.ConflictsResolved(Resolution())
    uploaded = e.Uploaded(UploadReport((A,)))
    step = walk(*TO_UPLOAD, uploaded, refused, e.Ended(), ABORTED, free)
    assert step.effect.conclusion.default_verdict == Verdict("failed", "no")


# State left by an earlier run


@pytest.mark.parametrize("status", ["ABORTED", "COMMITTED"])
def test_nothing_that_was_left_is_concluded_before_the_journal_was_compared(status):
    step = walk(RECORDED, e.StatusRead(status))
    if status == "COMMITTED":
        step = walk(e.FilesListed({}), step=step)
    assert isinstance(step.effect, e.Reconcile)


def test_a_group_is_begun_only_after_a_comparison_with_no_unknown_transaction_open():
    """The one for the work in hand may have been made while another one was open."""
    step = walk(RECORDED, ABORTED, e.Reconciled(0), RECORDED, ABORTED, e.Concluded(), NOTHING)
    assert not step.state.memory.is_reconciled
    step = walk(FRESH, step=step)
    assert step.effect == e.Reconcile(is_final=True)
    assert walk(e.Reconciled(0, HEAD), step=step).state.memory.is_reconciled


def test_a_death_speaks_against_the_group_that_was_under_way():
    step = walk(RECORDED, ABORTED, e.Reconciled(0), RECORDED, ABORTED)
    assert step.effect.conclusion.default_verdict.kind == "failed"


def test_a_failure_that_the_process_survives_does_not():
    step = walk(*TO_UPLOAD, AWAY, e.Woken(), RECORDED, ABORTED)
    assert step.effect.conclusion.default_verdict == RELEASED


@pytest.mark.parametrize(
    ("listed", "effect"),
    [
        pytest.param({A.path: 1}, e.Reconcile(T, is_forced=False), id="all files are known"),
        pytest.param({A.path: 1, "g": 9}, e.Reconcile(None, is_forced=True), id="one is not"),
        pytest.param({A.path: 7}, e.Reconcile(None, is_forced=True), id="one of another size"),
    ],
)
def test_a_committed_transaction_with_unknown_files_shows_an_older_journal(listed, effect):
    assert walk(RECORDED, COMMITTED, e.FilesListed(listed)).effect == effect


def test_an_orphan_may_hold_no_path_but_those_of_the_group():
    step = walk(e.WorkInHandRead(WorkInHand(GROWN, None, (INTENT,))))
    assert step.effect == e.FindOrphan(INTENT, [A.path, B.path])


# State that is remembered

UNSETTLED = e.WorkInHandRead(WorkInHand(None, None, (INTENT,)))
NO_ORPHAN = e.OrphanSought(None)


def test_a_busy_branch_leaves_the_intents_alone_while_one_may_still_have_an_effect():
    assert answer_to_busy(walk(UNSETTLED, NO_ORPHAN)) is e.Rest


def test_an_open_transaction_of_ours_settles_them():
    step = walk(UNSETTLED, NO_ORPHAN, FRESH, e.Reconciled(0, HEAD), UNSETTLED, NO_ORPHAN, FRESH)
    step = walk(e.Claimed(GROUP), e.Begun(T), e.Recorded(GROUP), step=step)
    assert answer_to_busy(step) is e.ClearIntents


def test_an_orphan_that_is_aborted_settles_them():
    step = walk(UNSETTLED, e.OrphanSought(T), e.Ended(), e.IntentsCleared())
    assert answer_to_busy(step) is e.ClearIntents


def test_a_failure_leaves_nothing_to_rely_on():
    step = walk(*TO_UPLOAD, AWAY)
    assert step.state.work == Work()
    assert step.state.memory.snapshot is None


def test_pauses_grow_until_something_is_settled():
    step = walk(AWAY, e.Woken(), AWAY)
    assert step.effect == e.Rest(1.0)
    step = walk(e.Woken(), *TO_COMMITTED, e.Concluded(), step=step)
    assert walk(AWAY, step=step).effect == e.Rest(0.5)


def test_a_life_that_has_compared_the_journal_once_does_not_again():
    memory = Memory(is_reconciled=True, snapshot=HEAD)
    step = advance(POLICY, State("assessing", Work(), memory), FRESH, Moment(5.0))
    assert step.effect == e.Claim(HEAD, "normal")
    step = advance(POLICY, State("assessing", Work(), memory), FRESH, Moment(5.1))
    assert step.effect == e.TakeSnapshot()

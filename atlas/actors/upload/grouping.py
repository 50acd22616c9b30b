"""Transitions that bring a group into a transaction. Pure."""

from msgspec.structs import replace

from atlas.actors.upload import effects as e
from atlas.actors.upload.pacing import POLL_SECONDS, choose
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.reports import UploadReport
from atlas.actors.upload.states import Moment, State, Work
from atlas.actors.upload.steps import Step, enter, pause, require
from atlas.core.events import GroupStarted
from atlas.core.ports import SNAPSHOT_MAX_AGE_SECONDS


def assess(_: UploadPolicy, state: State, result: e.BacklogRead, moment: Moment) -> Step:
    """Choose the next group. While no export is waiting, Foundry is not called."""
    backlog, memory = result.backlog, state.memory
    if not backlog.waiting:
        memory = replace(memory, pacing=replace(memory.pacing, trigger="idle"))
        return enter("idle", State(state.phase, Work(), memory), e.Rest(is_interruptible=True))
    choice = choose(backlog, memory.pacing, moment.now)
    memory = replace(memory, pacing=replace(memory.pacing, trigger=choice.trigger))
    state = State(state.phase, Work(lane=choice.lane), memory)
    if choice.seconds > 0:
        return enter("waiting", state, e.Rest(choice.seconds, choice.is_interruptible))
    if backlog.doubtful or not memory.is_reconciled:
        reconcile = e.Reconcile(is_forced=backlog.doubtful > 0, is_final=True)
        return enter("reconciling", state, reconcile)
    if memory.snapshot is None or moment.now - memory.snapshot_at > SNAPSHOT_MAX_AGE_SECONDS:
        return enter("looking", state, e.TakeSnapshot())
    return enter("claiming", state, e.Claim(memory.snapshot, choice.lane))


def reassess(_: UploadPolicy, state: State, __: e.Woken, ___: Moment) -> Step:
    return enter("assessing", state, e.ReadBacklog())


def claim(_: UploadPolicy, state: State, result: e.SnapshotTaken, moment: Moment) -> Step:
    memory = replace(state.memory, snapshot=result.snapshot, snapshot_at=moment.now)
    state = replace(state, memory=memory)
    return enter("claiming", state, e.Claim(result.snapshot, state.work.lane))


def begin(policy: UploadPolicy, state: State, result: e.Claimed, moment: Moment) -> Step:
    work, memory = state.work, state.memory
    if result.group is None:  # its exports have just been purged
        return enter("waiting", state, e.Rest(POLL_SECONDS))
    if work.lane == "normal":
        next_group_at = moment.now + policy.interval_seconds
        memory = replace(memory, pacing=replace(memory.pacing, next_group_at=next_group_at))
    work = replace(work, group=result.group, began_at=moment.now)
    return enter("opening", State(state.phase, work, memory), e.Begin())


def yield_branch(_: UploadPolicy, state: State, result: e.Busy, moment: Moment) -> Step:
    if state.memory.is_unsettled:  # an earlier attempt of ours may have opened the transaction
        return pause(state, result.error, moment)
    work = replace(state.work, error=result.error)
    return enter("yielding", replace(state, work=work), e.ClearIntents())


def pause_while_busy(_: UploadPolicy, state: State, __: e.IntentsCleared, moment: Moment) -> Step:
    return pause(state, require(state.work.error), moment)


def record(_: UploadPolicy, state: State, result: e.Begun, __: Moment) -> Step:
    work = replace(state.work, transaction=result.transaction)
    return enter("recording", replace(state, work=work), e.RecordOpen(result.transaction))


def upload(_: UploadPolicy, state: State, result: e.Recorded, __: Moment) -> Step:
    """Start the upload. Our transaction is open, so an earlier attempt can no longer open one."""
    group, transaction = result.group, require(state.work.transaction)
    work = replace(state.work, group=group)
    memory = replace(state.memory, is_unsettled=False)
    size = sum(file.bytes for file in group.files)
    started = GroupStarted(transaction, len(group.exports), size, memory.pacing.trigger)
    state = State(state.phase, work, memory)
    return enter("uploading", state, e.Upload(transaction, group), started)


def evaluate(policy: UploadPolicy, state: State, result: e.Uploaded, _: Moment) -> Step:
    report, transaction = result.report, require(state.work.transaction)
    state = replace(state, work=replace(state.work, report=report))
    if report.is_ended:
        return enter("resolving", state, e.ReadStatus(transaction))
    if report.is_committable:
        return enter("committing", state, e.Commit(transaction))
    if needs_probe(policy, state.work, report):
        return enter("probing", state, e.PutProbe(transaction))
    return enter("ending", state, e.Abort(transaction))


def needs_probe(policy: UploadPolicy, work: Work, report: UploadReport) -> bool:
    """True if only a probe can show whether these files are the cause, or Foundry itself.

    Called if nothing can be committed. A probe is needed if Foundry did not respond to some file,
    or if it refused every file of an isolated group on the group's last try.
    """
    if report.is_spoiled:
        return False
    if report.unanswered:
        return True
    tries = [export.tries + 1 for export in work.group.exports]
    is_last_try = work.lane == "isolated" and min(tries, default=0) >= policy.tries_max
    is_only_refused = len(report.refused) == len(work.group.files)
    return is_last_try and is_only_refused

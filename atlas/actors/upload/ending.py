"""Transitions that end a transaction, and conclude it with a verdict on each export. Pure."""

from msgspec.structs import replace

from atlas.actors.upload import effects as e
from atlas.actors.upload.pacing import delay_isolated
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.reports import Resolution, UploadReport
from atlas.actors.upload.states import Moment, State, Work
from atlas.actors.upload.steps import Step, enter, pause, require
from atlas.actors.upload.verdicts import conclude_recovered, conclude_uploaded
from atlas.core import events
from atlas.core.commits import Conclusion
from atlas.core.errors import FoundryError
from atlas.core.events import Event
from atlas.core.messages import File

STILL_OPEN = "Foundry confirmed an abort, but reports the transaction as open. Atlas tries again."
REFUSES_ALL = "Foundry accepted no file of the group. Atlas tries again."
FINAL_VERDICTS = {"committed", "moved", "corrupt"}


def resolve(policy: UploadPolicy, state: State, result: e.StatusRead, moment: Moment) -> Step:
    work = state.work
    transaction = require(work.transaction)
    if result.status == "OPEN":
        if work.is_aborted:
            return pause(state, FoundryError(STILL_OPEN), moment)
        return enter("ending", state, e.Abort(transaction))
    if result.status == "COMMITTED" and work.group.files:
        return enter("verifying", state, e.ListFiles(transaction))
    if work.report is not None:
        return find_owners(policy, state, work.report)
    if work.group.files and not state.memory.is_compared:
        return enter("reconciling", state, e.Reconcile())
    return conclude(state, conclude_recovered(work, policy.tries_max))


def reread_status(_: UploadPolicy, state: State, __: e.Ended, ___: Moment) -> Step:
    """Read the status after an abort: another client may have committed the transaction first."""
    state = replace(state, work=replace(state.work, is_aborted=True))
    return enter("resolving", state, e.ReadStatus(require(state.work.transaction)))


def verify(policy: UploadPolicy, state: State, result: e.FilesListed, _: Moment) -> Step:
    """Compare the committed files with ours: a file is present if it is listed with its size.

    If the journal is an older copy, the transaction may have files that the journal does not know.
    """
    work, listed = state.work, result.files
    files = work.group.files if work.report is None else work.report.possible
    present = tuple(file for file in files if listed.get(file.path) == file.bytes)
    work = replace(work, present=present)
    state = replace(state, work=work)
    if work.report is not None:
        return find_owners(policy, state, work.report)
    if not state.memory.is_compared:
        unexplained = listed.keys() - {file.path for file in present}
        explained = None if unexplained else work.transaction
        return enter("reconciling", state, e.Reconcile(explained, bool(unexplained)))
    return conclude(state, conclude_recovered(work, policy.tries_max))


def check_commit(policy: UploadPolicy, state: State, result: e.Committed, moment: Moment) -> Step:
    """List the committed transaction, unless Foundry confirmed every put and the commit."""
    memory = replace(state.memory, snapshot=result.result, snapshot_at=moment.now)
    report = require(state.work.report)
    state = State(state.phase, replace(state.work, present=report.stored), memory)
    if report.possible != report.stored or not result.result.is_confirmed:
        return enter("verifying", state, e.ListFiles(require(state.work.transaction)))
    return find_owners(policy, state, report)


def abort_refused(_: UploadPolicy, state: State, result: e.NotCommitted, __: Moment) -> Step:
    state = replace(state, work=replace(state.work, error=result.error))
    return enter("ending", state, e.Abort(require(state.work.transaction)))


def abort_probe(_: UploadPolicy, state: State, result: e.ProbePut, __: Moment) -> Step:
    state = replace(state, work=replace(state.work, has_evidence=result.is_stored))
    return enter("ending", state, e.Abort(require(state.work.transaction)))


def find_owners(policy: UploadPolicy, state: State, report: UploadReport) -> Step:
    """Look up the owners of paths at which our files should be, but are not."""
    work = state.work
    files: tuple[File, ...] = report.taken
    if work.present or work.error is not None:
        files += report.stored + report.unconfirmed
    if work.error is not None:
        files += report.unanswered
    absent = tuple(file for file in files if file not in work.present)
    if absent:
        return enter("conflicting", state, e.ResolveConflicts(absent))
    return conclude(state, conclude_uploaded(work, report, Resolution(), policy.tries_max))


def apply_resolution(
    policy: UploadPolicy, state: State, result: e.ConflictsResolved, _: Moment
) -> Step:
    report = require(state.work.report)
    return conclude(
        state, conclude_uploaded(state.work, report, result.resolution, policy.tries_max)
    )


def conclude(state: State, conclusion: Conclusion) -> Step:
    kinds = {verdict.kind for verdict in conclusion.verdicts.values()}
    work = replace(state.work, has_progressed=bool(kinds & FINAL_VERDICTS))
    return enter("concluding", replace(state, work=work), e.Conclude(conclusion, work.group))


def finish(_: UploadPolicy, state: State, __: e.Concluded, moment: Moment) -> Step:
    work, memory = state.work, state.memory
    if work.report is None:
        recovered = events.GroupRecovered(
            exports=len(work.group.exports),
            committed=sum(len(file.exports) for file in work.present),
            transaction=work.transaction,
        )
        return enter("recovering", replace(state, work=Work()), e.ReadWorkInHand(), recovered)
    pacing = replace(memory.pacing, trigger="interval", last_lane=work.lane)
    if work.lane == "isolated":
        pacing = delay_isolated(work, pacing, moment.now)
    elif not (work.has_progressed or work.has_evidence):
        error = explain_failure(work, work.report)
        return pause(state, error, moment, is_outage=is_outage(work, work.report))
    committed = (describe_commit(state, moment),) if work.present else ()
    failures = 0 if work.has_progressed else memory.failures
    memory = replace(memory, pacing=pacing, failures=failures)
    return enter("assessing", State(state.phase, Work(), memory), e.ReadBacklog(), *committed)


def explain_failure(work: Work, report: UploadReport) -> FoundryError:
    """Return the reason why nothing of a group was committed."""
    refused = FoundryError(report.refused[0].reason if report.refused else REFUSES_ALL)
    return work.error or report.last_error or refused


def is_outage(work: Work, report: UploadReport) -> bool:
    """True if a group failed without evidence that Foundry would accept other files."""
    is_answered = work.error is None and report.last_error is None
    is_certain = bool(report.refused) and all(refusal.is_certain for refusal in report.refused)
    return not (is_answered and is_certain)


def describe_commit(state: State, moment: Moment) -> Event:
    work = state.work
    exports = [export for file in work.present for export in file.exports]
    return events.GroupCommitted(
        transaction=require(work.transaction),
        exports=len(exports),
        bytes=sum(file.bytes for file in work.present),
        seconds=moment.now - work.began_at,
        rows=sum(export.records for export in exports),
        trigger=state.memory.pacing.trigger,
        users=tuple(sorted({export.user for export in exports if export.user})),
    )

"""Transitions that resolve work that was begun and not concluded. Pure."""

from msgspec.structs import replace

from atlas.actors.upload import effects as e
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.states import Moment, State, Work
from atlas.actors.upload.steps import Step, enter
from atlas.actors.upload.verdicts import conclude_recovered
from atlas.core import events
from atlas.core.messages import CommitGroup


def resume(_: UploadPolicy, state: State, __: e.Woken, ___: Moment) -> Step:
    return enter("recovering", state, e.ReadWorkInHand())


def recover(policy: UploadPolicy, state: State, result: e.WorkInHandRead, _: Moment) -> Step:
    in_hand = result.work
    work = replace(
        state.work,
        group=in_hand.group or CommitGroup(()),
        transaction=in_hand.transaction,
        intents=in_hand.intents,
    )
    memory = replace(state.memory, is_unsettled=bool(in_hand.intents))
    state = State(state.phase, work, memory)
    if in_hand.transaction is not None:
        return enter("resolving", state, e.ReadStatus(in_hand.transaction))
    return search_orphans(policy, state)


def reconcile(_: UploadPolicy, state: State, result: e.Reconciled, moment: Moment) -> Step:
    """Read the work in hand again, because its exports may have been found in the dataset."""
    restored = (events.JournalRestored(result.exports),) if result.exports else ()
    memory = replace(
        state.memory,
        is_compared=True,
        is_reconciled=state.work.transaction is None,
        snapshot=result.snapshot,
        snapshot_at=moment.now,
    )
    state = State(state.phase, Work(is_excused=state.work.is_excused), memory)
    return enter("recovering", state, e.ReadWorkInHand(), *restored)


def search_orphans(policy: UploadPolicy, state: State) -> Step:
    """Look for the orphan of each intent. After the last one, conclude the claimed exports."""
    work = state.work
    if work.intents:
        paths = [file.path for file in work.group.files]
        return enter("searching", state, e.FindOrphan(work.intents[0], paths))
    if work.group.files:
        conclusion = conclude_recovered(work, policy.tries_max)
        return enter("concluding", state, e.Conclude(conclusion, work.group))
    return enter("assessing", state, e.ReadBacklog())


def handle_orphan(policy: UploadPolicy, state: State, result: e.OrphanSought, _: Moment) -> Step:
    """Abort the orphan, or continue with the next intent.

    An intent without an orphan stays recorded, because its begin may take effect late.
    """
    orphan = result.transaction
    if orphan is not None and policy.is_sole_writer:
        return enter("removing", state, e.Abort(orphan), events.OrphanAborted(orphan))
    work = replace(state.work, intents=state.work.intents[1:])
    step = search_orphans(policy, replace(state, work=work))
    if orphan is None:
        return step
    return step._replace(events=(events.OrphanSuspected(orphan), *step.events))


def clear_settled_intents(_: UploadPolicy, state: State, __: e.Ended, ___: Moment) -> Step:
    return enter("settling", state, e.ClearIntents())


def finish_search(policy: UploadPolicy, state: State, _: e.IntentsCleared, __: Moment) -> Step:
    """Finish the search: after the orphan, no other attempt can have opened a transaction."""
    work = replace(state.work, intents=())
    memory = replace(state.memory, is_unsettled=False)
    return search_orphans(policy, State(state.phase, work, memory))

"""Drives the commit protocol: performs its effects and passes back their results."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import anyio
from msgspec.structs import replace

from atlas.actors.upload import effects as e
from atlas.actors.upload import ending
from atlas.actors.upload.conflicts import ConflictResolver, RemoteFiles
from atlas.actors.upload.files import FileBuilder, FilePolicy
from atlas.actors.upload.foreign_writers import ForeignWriters
from atlas.actors.upload.group_upload import GroupUploader
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.protocol import advance, start
from atlas.actors.upload.publisher import Publisher
from atlas.actors.upload.restore_reconciler import RestoreReconciler
from atlas.actors.upload.states import AT_REST, BETWEEN_GROUPS, Moment, State, Work
from atlas.actors.upload.steps import Step
from atlas.actors.upload.transactions import OwnTransactions
from atlas.core import identifiers
from atlas.core.errors import BranchBusy, CommitRefused, Deposed, FoundryError, Unavailable
from atlas.core.events import EventSink
from atlas.core.messages import TransactionKind
from atlas.core.ports import Branch, CpuExecutor, LeadStatus, Outbox
from atlas.runtime import Lock, Quota, RestartBudget, Wakeup


@dataclass(frozen=True, slots=True)
class Timing:
    """A monotonic clock in seconds, and a source of random numbers from 0 to 1."""

    monotonic: Callable[[], float]
    random: Callable[[], float]


class Uploader:
    """Uploads groups to a branch. A branch has one, as it allows only one open transaction."""

    def __init__(
        self,
        branch: Branch,
        outbox: Outbox,
        publisher: Publisher,
        policy: UploadPolicy,
        file_policy: FilePolicy,
        compute: CpuExecutor,
        timing: Timing,
        emit: EventSink,
    ) -> None:
        self.branch = branch
        self.outbox = outbox
        self.policy = policy
        self.timing = timing
        self.emit = emit
        self.publisher = publisher
        files = FileBuilder(branch, outbox, file_policy, compute)
        quota, concurrency = Quota(policy.bytes_at_once), policy.uploads_at_once
        remote = RemoteFiles(branch, files, quota)
        self.group_uploader = GroupUploader(branch, files, quota, concurrency)
        self.conflicts = ConflictResolver(branch, files, remote, concurrency)
        self.reconciler = RestoreReconciler(branch, outbox, files, remote, publisher, concurrency)
        self.foreign_writers = ForeignWriters(emit)
        self.step = start()
        self.branch_lock = Lock()  # held by a group or by maintenance
        self.transactions = OwnTransactions(branch, outbox)
        self.lead = LeadStatus()
        self.resting: anyio.CancelScope | None = None

    def begin_term(self, *, is_excused: bool = False) -> None:
        """Forget all earlier work, because other replicas may have uploaded since.

        `is_excused`: the exports in hand did not cause the end of the last term.
        """
        self.step, self.lead = start(is_excused=is_excused), LeadStatus()
        self.transactions.forget()

    async def run(self, wakeup: Wakeup, restarts: RestartBudget) -> None:
        """Upload groups until the wakeup is closed, until `finish`, or until another replica leads.

        After a crash, it can be called again.
        """
        try:
            while not (wakeup.is_closed or self.lead.is_finishing):
                await self.run_group(restarts)
                if self.step.state.phase in AT_REST and not self.lead.is_finishing:
                    await self.rest(wakeup)
        except Deposed:
            self.lead.is_deposed = True

    def finish(self) -> None:
        """Let `run` end after the current group."""
        self.lead.is_finishing = True
        if self.resting is not None:
            self.resting.cancel()

    async def abandon(self) -> None:
        """Abort the transaction that was begun, because another replica does not know it."""
        await self.transactions.abandon()

    async def run_group(self, restarts: RestartBudget) -> None:
        """Take steps until the current group has ended, or the protocol rests."""
        async with self.branch_lock:
            if self.step.state.phase in AT_REST:
                return
            while True:
                before = self.step.state.phase
                await self.take_step()
                after = self.step.state.phase
                has_ended = before == "concluding" and after == "assessing"
                if has_ended or after == "idle":
                    restarts.has_made_progress = True
                    self.lead.record_progress()
                if has_ended or after in AT_REST:
                    return

    async def rest(self, wakeup: Wakeup) -> None:
        """Rest as the protocol requests. Maintenance may take other steps meanwhile."""
        step = self.step
        if isinstance(step.effect, e.Rest):
            seconds = step.effect.seconds
            with anyio.CancelScope() as self.resting:
                if step.effect.is_interruptible:
                    with anyio.move_on_after(seconds):
                        await wakeup.wait()
                else:
                    await wakeup.sleep_unless_closed(seconds or 0.0)
            self.resting = None
        if self.step is step:
            self.apply_result(step, e.Woken())

    async def take_step(self) -> None:
        """Perform one effect. After an unexpected exception, the next step starts recovery."""
        step, self.step = self.step, start()
        self.apply_result(step, await self.perform(step.effect))

    def apply_result(self, step: Step, result: e.Result) -> None:
        moment = Moment(self.timing.monotonic(), self.timing.random())
        self.step = advance(self.policy, step.state, result, moment)
        if self.step.state.phase == "paused":
            self.lead.record_failure(moment.now)
        for event in self.step.events:
            self.emit(event)

    async def perform(self, effect: e.Effect) -> e.Result:
        try:
            return await PERFORM[type(effect)](self, effect)
        except Unavailable as error:
            return e.Failed(error)

    # maintenance

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Lock the branch. Atlas has no open transaction or claimed export inside this context.

        Raises FoundryError, and the journal's Unavailable. If the body raises, the uploader
        recovers before the next group.
        """
        async with self.branch_lock:
            await self.recover()
            before = self.step
            memory = replace(before.state.memory, snapshot=None)
            self.step = meanwhile = Step(State("recovering", Work(), memory), e.ReadWorkInHand())
            yield
            if self.step is meanwhile:  # or a new term has begun
                self.step = before._replace(state=replace(before.state, memory=memory), events=())

    async def recover(self) -> None:
        """Resolve all work in hand. Raises FoundryError, and the journal's Unavailable."""
        if self.step.state.phase == "paused":
            self.apply_result(self.step, e.Woken())
        while self.step.state.phase not in BETWEEN_GROUPS:
            step, self.step = self.step, start()
            result = await self.perform(step.effect)
            self.apply_result(step, result)
            if isinstance(result, e.Failed):
                raise result.error
            if self.step.state.phase == "paused":
                raise FoundryError(ending.STILL_OPEN)

    async def open_transaction(self, kind: TransactionKind) -> str:
        """Begin and record a transaction without exports. Call it only inside `exclusive`.

        Raises BranchBusy, FoundryError, and the journal's Unavailable.
        """
        await self.outbox.record_intent(await self.branch.take_snapshot(), kind)
        try:
            transaction = await self.transactions.begin(kind)
        except BranchBusy:
            if not self.step.state.memory.is_unsettled:
                await self.outbox.clear_intents()
            raise
        await self.outbox.record_open(transaction, self.policy.group)
        return transaction

    # effects

    async def read_in_hand(self, _: e.ReadWorkInHand) -> e.Result:
        return e.WorkInHandRead(await self.outbox.read_in_hand())

    async def read_backlog(self, _: e.ReadBacklog) -> e.Result:
        return e.BacklogRead(await self.outbox.read_backlog(self.policy.group))

    async def reconcile(self, effect: e.Reconcile) -> e.Result:
        snapshot, reconciler = await self.branch.take_snapshot(), self.reconciler
        if effect.is_forced or not await reconciler.is_up_to_date(snapshot, effect.explained):
            found = await reconciler.reconcile(snapshot.head, is_final=effect.is_final)
            return e.Reconciled(found)
        return e.Reconciled(0, snapshot)

    async def take_snapshot(self, _: e.TakeSnapshot) -> e.Result:
        return e.SnapshotTaken(await self.branch.take_snapshot())

    async def claim(self, effect: e.Claim) -> e.Result:
        return e.Claimed(await self.outbox.claim(self.policy.group, effect.snapshot, effect.lane))

    async def begin(self, _: e.Begin) -> e.Result:
        try:
            transaction = await self.transactions.begin("APPEND")
        except BranchBusy as error:
            with suppress(FoundryError):  # the snapshot only serves to detect foreign writers
                self.foreign_writers.record((await self.branch.take_snapshot()).head)
            return e.Busy(error)
        self.foreign_writers.reset()
        return e.Begun(transaction)

    async def record_open(self, effect: e.RecordOpen) -> e.Result:
        return e.Recorded(await self.outbox.record_open(effect.transaction, self.policy.group))

    async def upload_group(self, effect: e.Upload) -> e.Result:
        return e.Uploaded(await self.group_uploader.upload(effect.transaction, effect.group))

    async def put_probe(self, effect: e.PutProbe) -> e.Result:
        try:
            probe = identifiers.PROBE, identifiers.PROBE_CONTENT
            return e.ProbePut(await self.branch.put(effect.transaction, *probe))
        except FoundryError:
            return e.ProbePut(is_stored=False)

    async def commit(self, effect: e.Commit) -> e.Result:
        try:
            return e.Committed(await self.transactions.commit(effect.transaction))
        except CommitRefused as error:
            return e.NotCommitted(error)

    async def abort(self, effect: e.Abort) -> e.Result:
        await self.transactions.abort(effect.transaction)
        return e.Ended()

    async def read_status(self, effect: e.ReadStatus) -> e.Result:
        return e.StatusRead(await self.branch.transaction_status(effect.transaction))

    async def list_files(self, effect: e.ListFiles) -> e.Result:
        return e.FilesListed(await self.branch.list_transaction_files(effect.transaction))

    async def resolve_conflicts(self, effect: e.ResolveConflicts) -> e.Result:
        return e.ConflictsResolved(await self.conflicts.resolve(effect.files))

    async def find_orphan(self, effect: e.FindOrphan) -> e.Result:
        intent = effect.intent
        return e.OrphanSought(
            await self.branch.find_orphan(intent.snapshot, effect.paths, intent.kind)
        )

    async def clear_intents(self, _: e.ClearIntents) -> e.Result:
        await self.outbox.clear_intents()
        return e.IntentsCleared()

    async def conclude(self, effect: e.Conclude) -> e.Result:
        receipts = await self.outbox.conclude(effect.conclusion)
        self.publisher.publish_conclusion(effect.conclusion, effect.group, receipts)
        return e.Concluded()


U = Uploader
PERFORM: dict[type[e.Effect], Callable[[Uploader, Any], Awaitable[e.Result]]] = {
    e.ReadWorkInHand: U.read_in_hand,
    e.ReadBacklog: U.read_backlog,
    e.Reconcile: U.reconcile,
    e.TakeSnapshot: U.take_snapshot,
    e.Claim: U.claim,
    e.Begin: U.begin,
    e.RecordOpen: U.record_open,
    e.Upload: U.upload_group,
    e.PutProbe: U.put_probe,
    e.Commit: U.commit,
    e.Abort: U.abort,
    e.ReadStatus: U.read_status,
    e.ListFiles: U.list_files,
    e.ResolveConflicts: U.resolve_conflicts,
    e.FindOrphan: U.find_orphan,
    e.ClearIntents: U.clear_intents,
    e.Conclude: U.conclude,
}

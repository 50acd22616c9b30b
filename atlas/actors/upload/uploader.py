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
from atlas.actors.upload.group_upload import GroupUploader
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.protocol import advance, start
from atlas.actors.upload.publisher import Publisher
from atlas.actors.upload.restore_reconciler import RestoreReconciler
from atlas.actors.upload.states import AT_REST, Moment, Phase, State, Work
from atlas.actors.upload.steps import Step
from atlas.core import identifiers
from atlas.core.errors import BranchBusy, CommitRefused, FoundryError, Unavailable
from atlas.core.events import EventSink, ForeignWriterDetected
from atlas.core.messages import TransactionKind
from atlas.core.ports import Branch, CpuExecutor, Outbox
from atlas.runtime import Lock, Quota, RestartBudget, Wakeup

FOREIGN_HEADS_MAX = 3  # different foreign transactions in a row before the event is emitted
BETWEEN_GROUPS: frozenset[Phase] = AT_REST | {"assessing"}
PROBE_CONTENT = b"\n"  # adds no row if another client commits our probe


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

    async def run(self, wakeup: Wakeup, restarts: RestartBudget) -> None:
        """Upload groups until the wakeup is closed."""
        self.step = start()
        while not wakeup.is_closed:
            await self.run_group(restarts)
            if self.step.state.phase in AT_REST:
                await self.rest(wakeup)

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
                if has_ended or after in AT_REST:
                    return

    async def rest(self, wakeup: Wakeup) -> None:
        """Rest as the protocol requests. Maintenance may take other steps meanwhile."""
        step = self.step
        if isinstance(step.effect, e.Rest):
            seconds = step.effect.seconds
            if step.effect.is_interruptible:
                with anyio.move_on_after(seconds):
                    await wakeup.wait()
            else:
                await wakeup.sleep_unless_closed(seconds or 0.0)
        if self.step is step:
            self.apply_result(step, e.Woken())

    async def take_step(self) -> None:
        """Perform one effect. After an unexpected exception, the next step starts recovery."""
        step, self.step = self.step, start()
        self.apply_result(step, await self.perform(step.effect))

    def apply_result(self, step: Step, result: e.Result) -> None:
        moment = Moment(self.timing.monotonic(), self.timing.random())
        self.step = advance(self.policy, step.state, result, moment)
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
            self.step = Step(State("recovering", Work(), memory), e.ReadWorkInHand())
            yield
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
            transaction = await self.branch.begin(kind)
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
            return e.Reconciled(await reconciler.reconcile())
        return e.Reconciled(0, snapshot)

    async def take_snapshot(self, _: e.TakeSnapshot) -> e.Result:
        return e.SnapshotTaken(await self.branch.take_snapshot())

    async def claim(self, effect: e.Claim) -> e.Result:
        return e.Claimed(await self.outbox.claim(self.policy.group, effect.snapshot, effect.lane))

    async def begin(self, _: e.Begin) -> e.Result:
        try:
            transaction = await self.branch.begin("APPEND")
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
            return e.ProbePut(
                await self.branch.put(effect.transaction, identifiers.PROBE, PROBE_CONTENT)
            )
        except FoundryError:
            return e.ProbePut(is_stored=False)

    async def commit(self, effect: e.Commit) -> e.Result:
        try:
            return e.Committed(await self.branch.commit(effect.transaction))
        except CommitRefused as error:
            return e.NotCommitted(error)

    async def abort(self, effect: e.Abort) -> e.Result:
        await self.branch.abort(effect.transaction)
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


@dataclass(slots=True)
class ForeignWriters:
    """Detects other writers on the branch.

    A single foreign transaction that stays open is a long build; a series of different ones shows
    that another service writes to the branch.
    """

    emit: EventSink
    last_head: str = ""
    heads_seen: int = 0

    def record(self, head: str) -> None:
        if head != self.last_head:
            self.last_head, self.heads_seen = head, self.heads_seen + 1
        if self.heads_seen >= FOREIGN_HEADS_MAX:
            self.emit(ForeignWriterDetected(self.heads_seen))
            self.heads_seen = 0

    def reset(self) -> None:
        self.last_head, self.heads_seen = "", 0


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

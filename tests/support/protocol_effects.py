"""The external systems of the simulated commit protocol: effects on the journal and the branch.

Each promise is asserted here, at the moment at which it would be broken.
"""

import random

from atlas.actors.upload import effects as e
from atlas.actors.upload.reports import Resolution
from atlas.core.commits import CommitResult
from atlas.core.errors import BranchBusy, CommitRefused, FoundryError, TransactionEnded, Unavailable
from atlas.core.messages import BranchSnapshot
from tests.support.protocol_foundry import NO_ROWS
from tests.support.protocol_journal import UNCOMMITTED
from tests.support.protocol_uploads import upload

FAILURES = frozenset({"refused", "failed", "divided", "isolated"})
AWAY = e.Failed(FoundryError("No answer."))
DISK = e.Failed(Unavailable("The disk fails."))
OF_JOURNAL = frozenset(
    {e.ReadWorkInHand, e.ReadBacklog, e.Claim, e.RecordOpen, e.ClearIntents, e.Conclude}
)
BUSY = e.Busy(BranchBusy())
ENDED, CLEARED, CONCLUDED, WOKEN = e.Ended(), e.IntentsCleared(), e.Concluded(), e.Woken()


class Performer:
    """Performs effects. `natures` are those of the exports; `noise` is the rate of random failures.

    `blame` counts the evidence against an export, `failed_at` is the time of its last failed
    verdict, and `evidence_at` the time when Foundry last accepted something else.
    """

    def __init__(self, seed, journal, foundry):
        self.rng = random.Random(seed)
        self.chance = self.rng.random
        self.journal, self.foundry, self.now = journal, foundry, 0.0
        self.natures, self.blame, self.failed_at = {}, {}, {}
        self.claimed_at = self.evidence_at = -1.0
        self.noise = self.shares = 0.0
        self.has_outage = self.is_odd = False
        self.effects = 0

    def perform(self, effect):
        return PERFORM[type(effect)](self, effect)

    def blame_claimed(self):
        for row in self.journal.with_status("claimed"):
            self.blame[row.id] += 1

    def read_in_hand(self, _):
        return e.WorkInHandRead(self.journal.in_hand())

    def read_backlog(self, _):
        return e.BacklogRead(self.journal.backlog())

    def take_snapshot(self, _):
        return e.SnapshotTaken(self.snapshot())

    def snapshot(self):
        return BranchSnapshot(self.foundry.head, self.now)  # seconds are enough as a time here

    def claim(self, effect):
        self.claimed_at = self.now
        return e.Claimed(self.journal.claim(effect.snapshot, effect.lane))

    def begin(self, _):
        assert self.journal.intents, "no intent is recorded"
        assert self.journal.open is None, "another transaction is in hand"
        if self.foundry.open is not None:
            return BUSY
        return e.Begun(self.foundry.begin("APPEND", self.now).rid)

    def record_open(self, effect):
        return e.Recorded(self.journal.record_open(effect.transaction))

    def is_recorded(self, rid):
        return self.journal.open == rid

    def put_probe(self, effect):
        assert self.is_recorded(effect.transaction)
        if self.has_outage:
            return e.ProbePut(False)
        is_stored = self.foundry.put(effect.transaction, "probe", 1, NO_ROWS)
        if is_stored:
            self.evidence_at = self.now
        return e.ProbePut(is_stored)

    def commit(self, effect):
        found, foundry = self.foundry.transactions[effect.transaction], self.foundry
        assert found.is_ours, "a transaction of somebody else is committed"
        assert not found.is_spoiled, "a spoiled transaction is committed"
        if found.state == "ABORTED":
            return e.Failed(TransactionEnded())
        is_confirmed = found.state == "OPEN"
        if is_confirmed:
            ids = [id for _, rows in found.files.values() for id in rows]
            is_harmful = any(self.natures[id] == "harmful" for id in ids)
            is_noise = self.chance() < self.noise * 0.3
            if is_harmful or is_noise or not foundry.can_commit(found):
                self.blame_claimed()
                return e.NotCommitted(CommitRefused())
            foundry.commit(found)
        snapshot = self.snapshot()
        return e.Committed(CommitResult(snapshot.head, snapshot.at, is_confirmed))

    def abort(self, effect):
        found = self.foundry.transactions[effect.transaction]
        assert found.is_ours, "a transaction of somebody else is aborted"
        if found.state == "OPEN":
            self.foundry.abort(found)
        return ENDED

    def read_status(self, effect):
        return e.StatusRead(self.foundry.state(effect.transaction))

    def list_files(self, effect):
        found = self.foundry.transactions[effect.transaction]
        assert found.state == "COMMITTED", "what is listed of others is not documented"
        return e.FilesListed({path: size for path, (size, _) in found.files.items()})

    def find_orphan(self, effect):
        return e.OrphanSought(self.foundry.find_orphan(effect.intent, set(effect.paths)))

    def clear_intents(self, _):
        self.journal.intents.clear()
        return CLEARED

    def resolve_conflicts(self, effect):
        stored, moved, corrupt = {}, [], []
        for file in effect.files:
            owner = self.foundry.files.get(file.path)
            if owner is None:
                continue
            rid, size, rows = owner
            if size != file.bytes and not file.path.startswith("g:"):
                rows = NO_ROWS
            for export in file.exports:
                if self.natures[export.id] == "corrupt":
                    corrupt.append(export.id)
                elif export.id in rows:
                    stored[export.id] = rid
                else:
                    moved.append(export.id)
        return e.ConflictsResolved(Resolution(stored, tuple(moved), tuple(corrupt)))

    def reconcile(self, effect):
        head, journal = self.foundry.head, self.journal
        own = journal.own_transactions()
        is_known = bool(head) and (head == effect.explained or head in own)
        if is_known and not effect.is_forced:
            return e.Reconciled(0, self.snapshot())
        if effect.is_final and head and self.foundry.state(head) == "OPEN":
            return e.Failed(BranchBusy())
        found = 0
        for row in journal.rows.values():
            if row.status in UNCOMMITTED and self.natures[row.id] != "corrupt":
                for path, (rid, size, rows) in self.foundry.files.items():
                    is_own = path == row.path and size == row.bytes
                    is_shared = path.startswith("g:") and rid not in own
                    if row.id in rows and (is_own or is_shared):
                        row.status, row.transaction, row.file = "committed", rid, path
                        self.check_committed(row)
                        self.evidence_at = self.now
                        found += 1
        return e.Reconciled(found)

    def conclude(self, effect):
        conclusion, claimed = effect.conclusion, self.journal.with_status("claimed")
        before = dict(self.failed_at)
        for row in claimed:
            kind = conclusion.verdicts.get(row.id, conclusion.default_verdict).kind
            if kind == "committed":
                self.evidence_at = self.now
            elif kind in FAILURES:
                self.failed_at[row.id] = self.now
        for row in self.journal.conclude(conclusion):
            self.effects = 0
            if row.status == "committed":
                self.check_committed(row)
            else:
                verdict = conclusion.verdicts.get(row.id, conclusion.default_verdict)
                self.check_set_aside(row.id, verdict, conclusion, before)
        return CONCLUDED

    def check_committed(self, row):
        transaction = self.foundry.transactions[row.transaction]
        assert transaction.state == "COMMITTED", f"{row.id}: {row.transaction} is not committed"
        is_there = any(row.id in rows for _, rows in transaction.files.values())
        assert is_there, f"{row.id} does not stand in {row.transaction}"

    def check_set_aside(self, id, verdict, conclusion, failed_at):
        assert not self.foundry.copies.get(id), f"{id} is set aside and stands in the dataset"
        if verdict.kind == "corrupt":
            return
        assert self.blame[id] >= conclusion.tries_max, f"{id} is set aside without a fault"
        is_proven = self.evidence_at > failed_at.get(id, self.claimed_at)
        assert verdict.is_certain or is_proven, f"{id} is set aside without evidence"

    def rest(self, effect):
        self.now += effect.seconds or 0.0
        return WOKEN


def failure_of(effect):
    return DISK if type(effect) in OF_JOURNAL else AWAY


P = Performer
PERFORM = {
    e.ReadWorkInHand: P.read_in_hand,
    e.ReadBacklog: P.read_backlog,
    e.Reconcile: P.reconcile,
    e.TakeSnapshot: P.take_snapshot,
    e.Claim: P.claim,
    e.Begin: P.begin,
    e.RecordOpen: P.record_open,
    e.Upload: upload,
    e.PutProbe: P.put_probe,
    e.Commit: P.commit,
    e.Abort: P.abort,
    e.ReadStatus: P.read_status,
    e.ListFiles: P.list_files,
    e.ResolveConflicts: P.resolve_conflicts,
    e.FindOrphan: P.find_orphan,
    e.ClearIntents: P.clear_intents,
    e.Conclude: P.conclude,
    e.Rest: P.rest,
}

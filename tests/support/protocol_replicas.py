"""A simulator of several uploaders over one journal and one branch; each may freeze anywhere.

    python -m tests.support.protocol_replicas SEED [WITHOUT]     replays a history

Between any two parts of an effect, other replicas act: before it, between the journal's answer and
the call to Foundry, between two puts, and before the response arrives. Another replica may take
over at each of these moments, and the frozen one goes on with what it was about to do. A database
may fail over to an older copy. WITHOUT is a protection that is switched off.
"""

import random
import sys

from atlas.actors.upload import effects as e
from atlas.actors.upload.protocol import start
from atlas.core.errors import Deposed
from tests.support import protocol_mishaps as mishaps
from tests.support.protocol_effects import BUSY, OF_JOURNAL, failure_of
from tests.support.protocol_foundry import LATE_SECONDS
from tests.support.protocol_leases import Lease, SharedBranch, SharedJournal
from tests.support.protocol_uploads import put_files
from tests.support.protocol_world import STEPS_MAX, World, show

FENCED = OF_JOURNAL - {e.ReadBacklog} | {e.Reconcile, e.Upload}
ASKED = frozenset({e.Begin, e.Commit, e.Abort})


def let_time_pass(world):
    """Advance the clock, whatever is under way: a begin that is too late for it is not made."""
    world.now += world.rng.choice((1.0, 6.0, 20.0, 70.0, 3600.0))


MEDDLERS = (
    *(mishaps.land_begin, mishaps.land_begin, mishaps.land_begin, mishaps.land_others),
    *(mishaps.somebody_begins, mishaps.somebody_ends_it, mishaps.somebody_ends_it),
    *(mishaps.somebody_takes_a_path, let_time_pass, mishaps.retry, mishaps.purge),
)
DELICATE = frozenset({"opening", "recording", "uploading", "committing", "ending", "removing"})
BACKUPS_MAX = 3  # a standby lags by moments


class Killed(Exception):
    """The replica ends without another effect."""


class Replica:
    """A process: its lease, the protocol's state, and the effect that it is performing."""

    def __init__(self, name):
        self.name = name
        self.forget()

    def forget(self):
        """Become a new process, which follows."""
        self.lease = self.begun = self.course = self.asked = None
        self.state, self.effect = None, None
        self.effects = self.attempt_at = 0


class Replicas(World):
    """One history of several uploaders. `without` names a protection that is switched off."""

    journal_type, branch_type = SharedJournal, SharedBranch
    effects_max = 300  # each recovery looks for the orphans of earlier leaders, too

    def __init__(self, seed, without=""):
        self.replica = Replica("a")
        super().__init__(seed, set())
        pick = random.Random(seed + 0.5).choice
        self.replicas = [self.replica, *(Replica(name) for name in pick(("b", "bc")))]
        self.replica.forget()
        self.noise, self.is_odd = pick((0.0, 0.0, 0.1)), False
        self.natures = dict.fromkeys(self.natures, "good")
        self.fault_rate = pick((0.0, 0.1))
        self.change_rate = pick((0.02, 0.06, 0.15))  # of leaders
        self.failover_rate = pick((0.0, 0.01, 0.03))
        self.without, self.known_to, self.has_failed_over = without, {}, False
        self.recorded, self.frozen = set(), set()
        self.journal.has_fence, self.journal.has_epochs = without != "fence", without != "epochs"

    # The course of a history

    def run(self):
        for _ in range(self.rng.randrange(100, 600)):
            self.take_turn()
        self.finish()

    def take_turn(self):
        roll = self.chance()
        if roll < self.change_rate:
            self.change()
        elif roll < self.change_rate + self.failover_rate:
            self.fail_over()
        elif roll > 0.97:
            self.meddle()
        elif roll > 0.94:
            self.accept()
        elif roll > 0.91 or not self.awake():
            self.frozen.discard(self.rng.choice(self.replicas))
            if self.chance() < 0.3:
                self.take_over_if_nobody_leads()
        else:
            replica = self.rng.choice(self.awake())
            self.go_on_with(replica)
            if replica.lease is not None and self.state.phase in DELICATE and self.chance() < 0.1:
                self.freeze(replica)
                if self.failover_rate and self.chance() < 0.3:
                    self.fail_over()
            elif self.chance() < 0.03:
                self.foundry.land_begin(self.now)

    def meddle(self):
        """An older copy does not know moved paths, so a search misses what stands there."""
        meddle = self.rng.choice(MEDDLERS)
        if not (self.failover_rate and meddle is mishaps.somebody_takes_a_path):
            meddle(self)

    def freeze(self, replica):
        """Freeze this replica for long enough that another takes over."""
        self.note(f"{replica.name} freezes")
        self.frozen.add(replica)
        followers = [each for each in self.replicas if each.lease is None]
        if followers:
            self.take_over(self.rng.choice(followers))
        if self.chance() < 0.3:
            let_time_pass(self)

    def awake(self):
        """Return the replicas that believe that they lead and are not frozen."""
        return [x for x in self.replicas if x.lease is not None and x not in self.frozen]

    def activate(self, replica):
        """Make this replica the one whose state the world has."""
        before = self.replica
        before.state, before.effect, before.effects = self.state, self.effect, self.effects
        self.replica = replica
        self.state, self.effect, self.effects = replica.state, replica.effect, replica.effects
        self.journal.caller = replica.lease or Lease(0)
        self.foundry.epoch = self.journal.caller.epoch

    def go_on_with(self, replica):
        """Let this replica do the next part of an effect; one that follows does nothing."""
        if replica.lease is None:
            return
        self.activate(replica)
        self.note(replica.name)
        if replica.course is None:
            replica.course = self.play(replica, self.effect)
        try:
            next(replica.course)
        except StopIteration:
            replica.course = replica.asked = None
        except Deposed:
            self.depose(replica)
        except Killed:
            self.kill(replica)

    def play(self, replica, effect):
        """Perform an effect part by part. Others may act at each yield."""
        kind = type(effect)
        is_failing, is_done = kind is not e.Rest and self.chance() < self.fault_rate, True
        yield
        if kind in FENCED:
            self.journal.fence()
        elif kind in ASKED:
            if self.without != kind.__name__.lower():
                self.journal.check()
            replica.asked = kind
            yield
            if kind is e.Begin and self.is_too_late(replica):
                raise Killed
        if is_failing and kind is not e.Upload and self.chance() < 0.5:
            result, is_done = self.fail_before(effect), False
        elif kind is e.Upload:
            result = yield from put_files(self, effect)
        else:
            result = self.perform(effect)
        replica.asked = None
        yield
        if is_failing and is_done:
            result = failure_of(effect)
        if type(result) is e.Begun:
            replica.begun = result.transaction
            self.known_to[result.transaction] = replica.lease
        elif type(result) in {e.Committed, e.Ended}:
            replica.begun = None
        self.go_on(result)

    def perform(self, effect):
        own = {e.Begin: self.begin, e.Claim: self.claim, e.RecordOpen: self.record_open}
        if type(effect) is e.Reconcile and self.without == "final":
            effect = e.Reconcile(effect.explained, effect.is_forced)
        return own.get(type(effect), super().perform)(effect)

    def begin(self, _):
        if self.foundry.open is not None:
            return BUSY
        return e.Begun(self.foundry.begin("APPEND", self.now).rid)

    def is_too_late(self, replica):
        """True if it was frozen for longer than a condition of the promise allows.

        One that does not ask the journal may be deposed, and begins all the same.
        """
        is_late = self.now > replica.attempt_at + LATE_SECONDS
        return is_late and (self.journal.is_led_by(replica.lease) or self.without != "begin")

    def claim(self, effect):
        self.replica.attempt_at = effect.snapshot.at
        return super().claim(effect)

    def record_open(self, effect):
        self.recorded.add(effect.transaction)
        return super().record_open(effect)

    def is_recorded(self, rid):
        return rid in self.recorded  # by an earlier leader, too, whose records may be gone

    # Changes of the leader

    def change(self):
        replica, roll = self.rng.choice(self.replicas), self.chance()
        if replica.lease is None:
            self.take_over(replica)
        elif roll < 0.3:
            self.kill(replica)
        elif roll < 0.6 and not self.journal.is_led_by(replica.lease):
            self.activate(replica)
            self.drop(replica)
            self.depose(replica)  # it learns that from a renewal
        elif roll < 0.7 and self.journal.is_led_by(replica.lease):
            self.activate(replica)
            self.drop(replica)
            self.note(f"{replica.name} stops for a while, and resumes")
            self.disown(replica)
            self.state, self.effect, _ = start(is_excused=True)

    def take_over(self, replica):
        self.note(f"{replica.name} leads")
        replica.forget()
        replica.lease = self.journal.acquire()
        self.activate(replica)
        self.blame_claimed()
        self.start()

    def take_over_if_nobody_leads(self):
        followers = [each for each in self.replicas if each.lease is None]
        if followers and not any(self.journal.is_led_by(each.lease) for each in self.replicas):
            self.take_over(self.rng.choice(followers))

    def depose(self, replica):
        self.note(f"{replica.name} learns that it is deposed")
        if self.chance() < 0.2:
            self.kill(replica)
        else:
            replica.course = self.abandon(replica)

    def abandon(self, replica):
        yield
        if replica.begun is not None and self.without != "abandon":
            found = self.foundry.transactions[replica.begun]
            if found.state == "OPEN":
                self.note(f"{replica.name} abandons {found.rid}")
                self.foundry.abort(found)
        replica.forget()
        self.state = self.effect = None

    def kill(self, replica):
        self.note(f"{replica.name} dies")
        self.frozen.discard(replica)
        self.activate(replica)
        self.drop(replica)
        self.disown(replica)
        replica.forget()
        self.state = self.effect = None

    def disown(self, replica):
        """Have this replica forget what it has begun."""
        self.known_to = {x: lease for x, lease in self.known_to.items() if lease != replica.lease}
        replica.begun = None

    def drop(self, replica):
        """Cancel an effect. A call to Foundry that was under way may take effect later."""
        kind, effect, foundry = replica.asked, self.effect, self.foundry
        replica.course = replica.asked = None
        if kind is None or self.chance() < 0.5:
            return
        if kind is e.Begin and self.now <= replica.attempt_at + LATE_SECONDS:
            foundry.lose_begin("APPEND", self.now)
        elif kind is e.Abort:
            foundry.late_ends.append((effect.transaction, "abort"))
        elif kind is e.Commit and not foundry.transactions[effect.transaction].is_spoiled:
            foundry.late_ends.append((effect.transaction, "commit"))

    # Failovers

    def accept(self, nature=None):
        super().accept(nature or "good")
        self.keep_copy()

    def keep_copy(self):
        copy = self.journal.copy(), dict(self.natures), dict(self.failed_at)
        self.backups = [*self.backups[1 - BACKUPS_MAX :], copy]

    def fail_over(self):
        """Replace the database by an older copy. The lease counts as lost, at all replicas."""
        if not self.backups:
            return
        self.note("the database fails over to an older copy")
        self.has_failed_over = True
        journal, natures, failed_at = self.rng.choice(self.backups)
        self.journal, self.failed_at = journal.copy(), dict(failed_at)
        for id in self.natures.keys() - natures.keys():
            self.natures[id] = "lost"
        self.activate(self.replica)

    # The end

    def finish(self):
        self.note("nothing goes wrong any more")
        self.fault_rate = self.noise = 0.0
        self.has_outage = False
        found = self.foundry.open
        self.foundry.forget_late()
        if found is not None and not self.is_known(found):
            self.foundry.abort(found)
        self.accept("good")
        steps, self.frozen = 0, set()
        while not self.has_settled():
            self.go_on_with(self.rng.choice(self.replicas))
            steps += 1
            assert steps < STEPS_MAX * 10, "it comes to no end"
            self.take_over_if_nobody_leads()
            if steps % 200 == 0:
                self.end_unknown()
                self.accept("good")
        self.check_end()

    def has_settled(self):
        """True if one replica leads and is idle, and all others follow."""
        leaders = [each for each in self.replicas if each.lease is not None]
        if len(leaders) != 1 or not self.journal.is_led_by(leaders[0].lease):
            return False
        self.activate(leaders[0])
        return self.state.phase == "idle" and not self.journal.backlog().waiting

    def end_unknown(self):
        """Abort what Atlas cannot attribute, as a person must.

        That is an orphan, if there are other writers, and what an older copy of the database does
        not know. The replica that has begun it must not know it: otherwise it aborts it itself.
        """
        found, is_sole = self.foundry.open, self.policy.is_sole_writer
        if found is None or found.rid == self.journal.open:
            return
        if any(found.rid == each.begun for each in self.replicas):
            return  # it will go on
        if is_sole and not self.has_failed_over:
            return
        intents = self.journal.in_hand().intents
        if not is_sole or not any(self.foundry.find_orphan(x, set()) for x in intents):
            assert found.rid not in self.known_to, f"{found.rid} was not abandoned"
            self.foundry.abort(found)


if __name__ == "__main__":
    world = Replicas(int(sys.argv[1]), *sys.argv[2:])
    world.trace = show
    world.run()

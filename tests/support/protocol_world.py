"""A simulator of the commit protocol without I/O: a journal, a branch, and every mishap.

    python -m tests.support.protocol_world SEED     replays a history, effect by effect

Each promise is asserted at the moment at which it would be broken. Times are virtual.
"""

import random
import sys

from atlas.actors.upload import effects as e
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.protocol import advance, start
from atlas.actors.upload.states import AT_REST, Moment
from atlas.core.messages import GroupLimits
from tests.support import protocol_mishaps as mishaps
from tests.support.protocol_effects import Performer, failure_of
from tests.support.protocol_foundry import Branch
from tests.support.protocol_journal import Journal

EXPORTS_MAX = 4  # size of a group
POLICIES = {
    (tries, is_sole): UploadPolicy(
        group=GroupLimits(exports_max=EXPORTS_MAX),
        interval_seconds=2.0,
        tries_max=tries,
        is_sole_writer=is_sole,
    )
    for tries in (1, 2, 3)
    for is_sole in (True, False)
}
STEPS_MAX = 1_500  # until all is committed or set aside, once nothing goes wrong any more
NATURES = ("good",) * 10 + ("refused", "invalid", "silent", "spoiling", "harmful", "corrupt")
BETWEEN_GROUPS = AT_REST | {"assessing"}


class World(Performer):
    """One history. `transitions` collects the observed steps of `advance`."""

    journal_type, branch_type = Journal, Branch
    effects_max = 60  # without a rest or progress

    def __init__(self, seed, transitions):
        pick = random.Random(seed).choice
        foundry = self.branch_type(
            pick(("previous", "none", "aborted")),
            pick(("empty", "listed")),
            pick(("commit", "upload")),
        )
        super().__init__(pick(range(2**32)), self.journal_type(EXPORTS_MAX), foundry)
        self.transitions, self.trace = transitions, None
        self.policy = POLICIES[pick((1, 2, 2, 3)), pick((True, True, False))]
        self.shares = pick((0.0, 0.0, 0.5, 1.0))  # how often fresh exports share a file
        self.fault_rate = pick((0.05, 0.15, 0.3))
        self.noise = pick((0.0, 0.1, 0.4))
        self.is_odd = pick((True, False))  # some exports are at fault themselves
        self.backups = []
        for _ in range(pick((1, 2, 3, 5))):
            self.accept()
        self.start()

    # The course of a history

    def run(self):
        for _ in range(self.rng.randrange(20, 50)):
            if self.state.phase == "idle":
                if self.chance() < 0.3:
                    break
                self.accept()
            self.take_step()
        self.finish()

    def start(self):
        self.state, self.effect, _ = start()
        self.effects = 0

    def take_step(self):
        effect = self.effect
        if self.chance() < self.fault_rate:
            self.take_step_with_fault(effect)
        else:
            self.go_on(self.perform(effect))

    def go_on(self, result):
        before = self.state.phase
        self.now += 0.5
        step = advance(self.policy, self.state, result, Moment(self.now, 0.5))
        self.state, self.effect, _ = step
        kind, after = type(step.effect), self.state.phase
        self.transitions.add((before, type(result), after, kind))
        if kind is e.Rest:
            self.effects = 0
        else:
            self.effects += 1
            assert self.effects < self.effects_max, "a hot loop"
        if self.trace is not None:
            self.trace(before, result, after, step.effect)

    def take_step_with_fault(self, effect):
        roll, is_rest = self.chance(), type(effect) is e.Rest
        self.note(f"fault {roll:.3f}")
        if roll < 0.2 and not is_rest:
            self.go_on(self.fail_before(effect))
        elif roll < 0.4 and not is_rest:
            self.perform(effect)
            self.go_on(failure_of(effect))
        elif roll < 0.46:
            self.die()
        elif roll < 0.52 and not is_rest:
            self.perform(effect)
            self.start_anew()
        elif roll < 0.56:
            self.backups.append((self.journal.copy(), dict(self.natures), dict(self.failed_at)))
            self.go_on(self.perform(effect))
        elif roll < 0.60:
            mishaps.restore(self)
        elif roll < 0.64:
            mishaps.run_errand(self)
        else:
            self.meddle()
            if self.effect is effect:
                self.go_on(self.perform(effect))

    def meddle(self):
        roll = self.chance() * (len(mishaps.MEDDLERS) + 1)
        mishaps.MEDDLERS[int(roll)](self) if roll < len(mishaps.MEDDLERS) else self.accept()

    def finish(self):
        """Stop all trouble. A person ends the empty transactions that Atlas cannot attribute."""
        self.note("nothing goes wrong any more")
        foundry, found = self.foundry, self.foundry.open
        self.fault_rate = self.noise = 0.0
        self.has_outage = False
        foundry.forget_late()
        if found is not None and not self.is_known(found):
            foundry.abort(found)
        for id, nature in self.natures.items():
            if nature == "silent":
                self.natures[id] = "good"
        if self.chance() < 0.5:
            self.start_anew()
        self.accept("good")
        steps = 0
        while self.state.phase != "idle" or self.journal.backlog().waiting:
            self.take_step()
            steps += 1
            assert steps < STEPS_MAX, "it comes to no end"
            if steps % 40 == 0:  # no failure is proven unless others are committed
                self.accept("good")
        self.check_end()

    def is_known(self, transaction):
        is_told = self.policy.is_sole_writer or transaction.rid == self.journal.open
        return transaction.is_ours and is_told

    def check_end(self):
        assert self.foundry.open is None, "a transaction is left open"
        assert self.journal.open is None
        for row in self.journal.rows.values():
            copies = self.foundry.copies.get(row.id, 0)
            assert row.status in {"committed", "set_aside"}, f"{row.id} is {row.status}"
            assert copies == (row.status == "committed"), f"{row.id} is {row.status}, {copies}"

    # Mishaps

    def accept(self, nature=None):
        number = len(self.natures)
        id = f"x{number}"
        if nature is None:
            nature = self.rng.choice(NATURES) if self.is_odd else "good"
        self.natures[id], self.blame[id] = nature, 0
        self.journal.accept(id, number)

    def fail_before(self, effect):
        """Fail the effect; Begin, Commit and Abort may take effect later."""
        kind, foundry = type(effect), self.foundry
        if kind is e.Begin:
            foundry.lose_begin("APPEND", self.now)
        elif kind is e.Commit and not foundry.transactions[effect.transaction].is_spoiled:
            foundry.late_ends.append((effect.transaction, "commit"))
        elif kind is e.Abort and self.chance() < 0.5:
            foundry.late_ends.append((effect.transaction, "abort"))
        return failure_of(effect)

    def die(self):
        if type(self.effect) is e.Begin and self.chance() < 0.5:
            self.foundry.lose_begin("APPEND", self.now)
        self.start_anew()

    def start_anew(self):
        self.note("life ends")
        if self.chance() < 0.2:
            self.now += self.chance() * 100.0
        self.blame_claimed()
        self.start()

    def note(self, text):
        if self.trace is not None:
            self.trace(text, None, None, None)

    def end_open_transaction(self):
        mishaps.somebody_ends_it(self)


def show(before, result, after, effect):
    """Print each step of a history; for `World.trace`."""
    if result is None:
        sys.stdout.write(f"{'':12} # {before}\n")
    else:
        sys.stdout.write(f"{before:12} {result!r:.300}\n{after:>12} <- {effect!r:.300}\n")


if __name__ == "__main__":
    world = World(int(sys.argv[1]), set())
    world.trace = show
    world.run()

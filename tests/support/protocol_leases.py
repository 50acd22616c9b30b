"""The journal and the branch as several uploaders share them, for protocol_replicas.py.

The journal knows who leads: the writes of others raise Deposed. The branch does not.
"""

from atlas.core.commits import WorkInHand
from atlas.core.errors import Deposed
from tests.support.protocol_foundry import LATE_SECONDS, Branch
from tests.support.protocol_journal import Journal


class Lease:
    """A term of a leader. Two terms may have the same epoch after a failover."""

    def __init__(self, epoch):
        self.epoch = epoch


class SharedJournal(Journal):
    """A journal with a lease. `caller` is the lease of the replica that calls it now.

    `has_fence` and `has_epochs` can be switched off, to see what depends on them.
    """

    def __init__(self, exports_max):
        self.lead, self.caller, self.epoch = None, Lease(0), 0
        self.has_fence = self.has_epochs = True
        super().__init__(exports_max)

    @property
    def intents(self):
        """Return the intents of the caller's epoch: it sees the others only in `in_hand`."""
        return self.intents_by_epoch.setdefault(self.caller.epoch if self.has_epochs else 0, {})

    @intents.setter
    def intents(self, _):
        self.intents_by_epoch = {}

    def copy(self):
        other = SharedJournal(self.exports_max)
        other.rows = {id: row.copy() for id, row in self.rows.items()}
        other.intents_by_epoch = {at: dict(each) for at, each in self.intents_by_epoch.items()}
        other.open, other.epoch = self.open, self.epoch
        other.has_fence, other.has_epochs = self.has_fence, self.has_epochs
        return other

    def in_hand(self):
        intents = [each for epoch in self.intents_by_epoch.values() for each in epoch.values()]
        return WorkInHand(self.group(), self.open, tuple(intents))

    def acquire(self):
        self.epoch += 1
        self.lead = Lease(self.epoch)
        return self.lead

    def is_led_by(self, lease):
        return lease is not None and self.lead is lease

    def check(self):
        """Raise Deposed unless the caller leads."""
        if not self.is_led_by(self.caller):
            raise Deposed

    def fence(self):
        if self.has_fence:
            self.check()


class SharedBranch(Branch):
    """A branch on which late begins of one epoch do not end with a begin of another."""

    epoch = 0  # of the caller

    def begin(self, kind, now, *, is_ours=True):
        others = [late for late in self.late_begins if late[2] != self.epoch]
        found = super().begin(kind, now, is_ours=is_ours)
        if is_ours:
            self.late_begins = others
        return found

    def lose_begin(self, kind, now):
        self.late_begins.append((kind, now + LATE_SECONDS, self.epoch))

    def land_begin(self, now):
        lates = [late for late in self.late_begins if now <= late[1]]
        if self.open is None and lates:
            kind, _, epoch = lates[0]
            self.epoch, caller = epoch, self.epoch
            self.begin(kind, now)
            self.epoch = caller

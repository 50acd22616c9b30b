"""A lease in memory, shared by several leaders, and an uploader of which only the times matter."""

import anyio

from atlas.core.errors import Deposed, Unavailable
from atlas.core.ports import LeadStatus

LEASE_SECONDS = 5.0
GROUP_SECONDS = 0.5
PREFERENCE_SECONDS = 10.0  # for which a replica that has asked for the lease is preferred


class SharedLease:
    """The row in the database: its times are by the clock of the database."""

    def __init__(self):
        self.epoch, self.holder, self.until = 0, None, float("-inf")
        self.wanted_by, self.wanted_at = None, float("-inf")
        self.uploading = []  # the replicas that upload: at most one


class ReplicaLease:
    """Implements `ports.Leadership`. `answer` decides how the database answers each call.

    A call that is not answered in time goes on, as it does in a real database.
    """

    lease_seconds = LEASE_SECONDS

    def __init__(self, shared, name):
        self.shared, self.name, self.epoch = shared, name, 0
        self.mood = "well"  # or "failing", or "silent"
        self.latency = lambda: 0.0
        self.calls = []

    async def reach(self, call):
        self.calls.append((anyio.current_time(), call))
        if self.mood == "failing":
            raise Unavailable
        if self.mood == "silent":
            await anyio.sleep_forever()
        await anyio.sleep(self.latency())

    async def acquire(self, *, is_urgent=False):
        await self.reach("acquire")
        now, shared = anyio.current_time(), self.shared
        is_free = shared.until < now or shared.holder == self.name
        is_wanted = shared.wanted_at > now - PREFERENCE_SECONDS
        if is_free and (shared.wanted_by in {None, self.name} or not is_wanted):
            shared.epoch += 1
            shared.holder, shared.until, shared.wanted_by = self.name, now + LEASE_SECONDS, None
            self.epoch = shared.epoch
            await anyio.sleep(self.latency())
            return self.epoch
        if is_urgent:
            shared.wanted_by, shared.wanted_at = self.name, now
        return None

    def confirm(self):
        if (self.shared.epoch, self.shared.holder) != (self.epoch, self.name):
            raise Deposed

    async def renew(self):
        await self.reach("renew")
        self.confirm()
        self.shared.until = anyio.current_time() + LEASE_SECONDS
        is_wanted = self.shared.wanted_by is not None
        await anyio.sleep(self.latency())
        return is_wanted

    async def release(self):
        epoch = self.epoch
        await self.reach("release")
        if (self.shared.epoch, self.shared.holder) == (epoch, self.name):
            self.shared.holder, self.shared.until = None, float("-inf")


class TimedUploads:
    """Implements `Uploads`: a group takes half a second. `log` has what happened, and when."""

    def __init__(self, lease, log):
        self.lease, self.log = lease, log
        self.lead = LeadStatus()
        self.asks = False  # whether it learns from the journal that another replica leads
        self.crash = None

    def note(self, what):
        self.log.append((round(anyio.current_time(), 3), self.lease.name, what))

    def begin_term(self, *, is_excused):
        self.note("resumes" if is_excused else "starts")
        self.lead = LeadStatus()

    def finish(self):
        self.note("finishes")
        self.lead.is_finishing = True

    async def abandon(self):
        self.note("abandons")

    async def run(self):
        name, uploading = self.lease.name, self.lease.shared.uploading
        assert not uploading, f"{uploading} uploads, and so does {name}"
        uploading.append(name)
        try:
            while not self.lead.is_finishing:
                await anyio.sleep(GROUP_SECONDS)
                if self.crash is not None:
                    raise self.crash
                if self.asks:
                    self.lease.confirm()
        except Deposed:
            self.lead.is_deposed = True
        finally:
            uploading.remove(name)
            self.note("ends")

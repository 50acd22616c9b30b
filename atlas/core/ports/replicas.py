"""Ports to the other replicas of the service. A service of one process has none."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec import Struct

from atlas.core.messages import Receipt

Topic = Literal["stored", "settled", "set_aside", "lease"]
HandleNotification = Callable[[Topic], Awaitable[None]]


class Outcomes(Struct, frozen=True):
    """Receipts of exports that were committed or set aside, and ids of exports that were erased."""

    receipts: tuple[Receipt, ...] = ()
    erased: tuple[str, ...] = ()


@dataclass(slots=True)
class LeadStatus:
    """The status of the uploader during one lead of this replica.

    `is_finishing`: it ends after the current group. `is_deposed`: it ended because another replica
    leads. `failing_since`: the time since which nothing succeeds, on the monotonic clock.
    `has_progressed`: something succeeded.
    """

    is_finishing: bool = False
    is_deposed: bool = False
    failing_since: float | None = None
    has_progressed: bool = False

    def record_failure(self, now: float) -> None:
        self.failing_since = now if self.failing_since is None else self.failing_since

    def record_progress(self) -> None:
        self.failing_since, self.has_progressed = None, True


class Leadership(Protocol):
    """The lease on the branch: the replica that holds it uploads, and no other does.

    Once another replica has taken it, every write of the outbox and `read_in_hand` raise Deposed.
    """

    @property
    def lease_seconds(self) -> float | None:
        """The time after which a lease that is not renewed may be taken; None if it never is."""

    async def acquire(self, *, is_urgent: bool = False) -> int | None:
        """Take the lease if no other replica holds it. Return its epoch, or None.

        `is_urgent` asks the holder to release it after its group.
        """

    async def renew(self) -> bool:
        """Extend the lease. Return True if another replica asks for it. Raises Deposed."""

    async def release(self) -> None:
        """Give the lease back, so that another replica takes it at once."""


class ReplicaPeers(Protocol):
    """The other replicas, and what they have done."""

    async def listen(self, handle: HandleNotification) -> None:
        """Call `handle` with the topic of each notification, until cancelled.

        It may be called too often, for example after a connection was lost, but never too rarely.
        """

    async def read_outcomes(self, ids: Collection[str]) -> Outcomes:
        """Return the outcomes of those of these stored exports that do not wait any more."""

    async def exchange_usage(self, usage: Mapping[str, float]) -> Mapping[str, float]:
        """Add the usage of users to that at other replicas, and return their debts, in seconds."""

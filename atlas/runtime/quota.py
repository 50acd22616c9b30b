"""Limits the bytes that are held in memory at once: in total, and by each owner.

Whoever does not fit waits, and smaller ones may overtake it, so that a large one cannot block
everyone. A reservation that grows takes precedence over new ones; of those that wait while they
hold bytes, one at a time may exceed the limit, or they could all wait for each other.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple, Self

import anyio

from atlas.core.errors import Draining, NoRoom

IDLE_SHARE = 0.04  # of the limit: small bodies that come and go keep no large one out


class Reservation:
    """The bytes that one holder has of a quota. Leaving it as a context manager releases them.

    Each byte counts `weight` times: what is made of it takes memory, too.
    """

    __slots__ = ("_quota", "bytes", "owner", "prepaid", "weight")

    def __init__(self, quota: "Quota", owner: str, weight: int) -> None:
        self._quota = quota
        self.owner = owner
        self.weight = weight
        self.bytes = 0
        self.prepaid = 0  # bytes that have not come yet, unweighted

    async def prepay(self, count: int, seconds: float | None = None) -> None:
        """Acquire so many bytes before they come: what is acquired later comes out of them."""
        await self._quota.grant(self, count * self.weight, seconds)
        self.prepaid += count

    async def acquire(self, count: int, seconds: float | None = None) -> None:
        """Wait for so many more bytes, so long at most.

        Raises NoRoom when that is over, Draining when the quota is closed.
        """
        if count <= self.prepaid:
            self.prepaid -= count
            return
        count -= self.prepaid
        self.prepaid = 0
        await self._quota.grant(self, count * self.weight, seconds)

    def release(self, count: int) -> None:
        self._quota.release(self, count * self.weight)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._quota.release(self, self.bytes)


class Waiter(NamedTuple):
    """A reservation that waits for so many bytes."""

    reservation: Reservation
    size: int
    granted: anyio.Event


class Quota:
    """At most `bytes_max` in all; of one owner `owner_bytes_max`, if that is limited."""

    def __init__(self, bytes_max: int, owner_bytes_max: int | None = None) -> None:
        self._bytes_max = bytes_max
        self._owner_bytes_max = owner_bytes_max
        self.bytes = 0
        self.is_closed = False
        self._of_owner: dict[str, list[Reservation]] = {}
        self._growing: deque[Waiter] = deque()  # of reservations that hold bytes already
        self._new: deque[Waiter] = deque()
        self._overcommitted: Reservation | None = None
        self._scopes: set[anyio.CancelScope] = set()

    @property
    def waiting(self) -> int:
        """How many wait that hold nothing yet."""
        return len(self._new)

    @property
    def is_contended(self) -> bool:
        """Somebody waits for bytes that others hold, and not only for the owner's own."""
        waiters = (*self._growing, *self._new)
        return any(not self._exceeds_share(each.reservation, each.size) for each in waiters)

    def reserve(self, owner: str, weight: int = 1) -> Reservation:
        """A reservation of nothing yet."""
        return Reservation(self, owner, weight)

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Hold so many bytes, once there is room. A size above the limit goes alone."""
        with self.reserve("") as reservation:
            await reservation.acquire(size)
            yield

    async def grant(self, reservation: Reservation, size: int, seconds: float | None) -> None:
        """Wait until the reservation may hold so many more bytes, weighted."""
        if self._fits(reservation, size) and not self._exceeds_share(reservation, size):
            self._grant(reservation, size)
            return
        waiter = Waiter(reservation, size, anyio.Event())
        queue = self._growing if reservation.bytes else self._new
        queue.append(waiter)
        self._grant_waiting()
        try:
            with anyio.fail_after(seconds):
                while waiter in queue:
                    if self.is_closed:
                        raise Draining
                    await waiter.granted.wait()
        except TimeoutError as error:
            raise NoRoom from error
        finally:
            if waiter in queue:  # what was granted is released with its reservation
                queue.remove(waiter)
                self._grant_waiting()

    def release(self, reservation: Reservation, size: int) -> None:
        """So many bytes, weighted, are held no longer."""
        reservation.bytes -= size
        self.bytes -= size
        if not reservation.bytes:
            self._forget(reservation)
        if self.bytes <= self._bytes_max:
            self._overcommitted = None
        if self._growing or self._new:
            self._grant_waiting()

    @contextmanager
    def cancelled_on_close(self, deadline: float) -> Iterator[anyio.CancelScope]:
        """A scope that ends at this moment of the loop's clock, and when the quota is closed."""
        with anyio.CancelScope(deadline=deadline) as scope:
            self._scopes.add(scope)
            try:
                if self.is_closed:
                    scope.cancel()
                yield scope
            finally:
                self._scopes.remove(scope)

    def close(self) -> None:
        """Nobody waits any more: whoever does is told why."""
        self.is_closed = True
        for waiter in [*self._growing, *self._new]:
            waiter.granted.set()
        for scope in self._scopes:
            scope.cancel()

    def _grant_waiting(self) -> None:
        """Grant what fits: first what grows, then what is new, in the order of asking."""
        for queue in (self._growing, self._new):
            for waiter in list(queue):
                reservation, size, granted = waiter
                if self._exceeds_share(reservation, size):
                    continue
                fits = self._fits(reservation, size)
                if not fits and queue is self._growing and self._overcommitted is None:
                    self._overcommitted, fits = reservation, True
                if fits:
                    queue.remove(waiter)
                    self._grant(reservation, size)
                    granted.set()

    def _fits(self, reservation: Reservation, size: int) -> bool:
        is_idle = self.bytes <= self._bytes_max * IDLE_SHARE
        has_room = self.bytes + size <= self._bytes_max
        return has_room or reservation is self._overcommitted or is_idle

    def _exceeds_share(self, reservation: Reservation, size: int) -> bool:
        """Whether its owner holds too much. The oldest reservation of an owner always goes on, and
        so does the overcommitted one, or it would wait for one that waits for it.
        """
        if self._owner_bytes_max is None:
            return False
        held = self._of_owner.get(reservation.owner)
        if not held or held[0] is reservation or reservation is self._overcommitted:
            return False
        return sum(each.bytes for each in held) + size > self._owner_bytes_max

    def _grant(self, reservation: Reservation, size: int) -> None:
        if not reservation.bytes:
            held = self._of_owner.setdefault(reservation.owner, [])
            if reservation not in held:
                held.append(reservation)
        reservation.bytes += size
        self.bytes += size

    def _forget(self, reservation: Reservation) -> None:
        """It holds nothing any more; what it acquires later, it acquires as a new one."""
        held = self._of_owner.get(reservation.owner, [])
        if reservation in held:
            held.remove(reservation)
        if not held:
            self._of_owner.pop(reservation.owner, None)
        if self._overcommitted is reservation:
            self._overcommitted = None

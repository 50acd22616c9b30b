"""Limits the bytes that are held in memory at once, in total and by owner.

A reservation that does not fit waits. Smaller ones may overtake it, so that a large one cannot
block all others. A reservation that grows takes precedence over new ones. Of those that wait while
they hold bytes, one at a time may exceed the limit; otherwise they could all wait for each other.
"""

from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from heapq import heappop, heappush
from itertools import chain
from math import inf
from typing import Self

import anyio

from atlas.core.errors import Draining, FlowFull

STALE_SIZES_MAX = 64  # of former waiters
IDLE_SHARE = 0.04  # of the limit: with so little in use, a large body is not kept out by small ones


class Reservation:
    """Bytes of a quota that one request holds. Leaving it as a context manager releases them.

    Each byte counts `weight` times, because data derived from it takes memory, too.
    """

    __slots__ = ("_quota", "bytes", "owner", "prepaid", "weight")

    def __init__(self, quota: "Quota", owner: str, weight: int) -> None:
        self._quota = quota
        self.owner = owner
        self.weight = weight
        self.bytes = 0
        self.prepaid = 0  # bytes that have not arrived yet, unweighted

    async def prepay(self, count: int, seconds: float | None = None) -> None:
        """Acquire `count` bytes before they arrive. Later calls of `acquire` use them up first."""
        await self._quota.grant(self, count * self.weight, seconds)
        self.prepaid += count

    async def acquire(self, count: int, seconds: float | None = None) -> None:
        """Wait for `count` more bytes, for `seconds` at most.

        Raises FlowFull when the time is up, Draining when the quota is closed.
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


class Waiter:
    """A reservation that waits for `size` more bytes, weighted."""

    def __init__(self, reservation: Reservation, size: int) -> None:
        self.reservation = reservation
        self.size = size
        self.is_new = not reservation.bytes  # it holds nothing yet
        self.is_granted = False
        self.woken = anyio.Event()


class NewWaiters:
    """Waiters that hold nothing yet, by owner.

    Grouped by owner, because one check then skips all waiters of an owner who sends too many
    requests.
    """

    def __init__(self) -> None:
        self.count = 0
        self._by_owner: dict[str, deque[Waiter]] = {}
        self._sizes: list[int] = []  # a heap, which may contain sizes of former waiters
        self._counts: Counter[int] = Counter()

    def add(self, waiter: Waiter) -> None:
        self.count += 1
        self._by_owner.setdefault(waiter.reservation.owner, deque()).append(waiter)
        heappush(self._sizes, waiter.size)
        self._counts[waiter.size] += 1

    def remove(self, waiter: Waiter) -> None:
        """Remove a waiter. The next one of its owner moves behind those of all other owners."""
        self.count -= 1
        self._counts[waiter.size] -= 1
        waiters = self._by_owner.pop(waiter.reservation.owner)
        waiters.remove(waiter)
        if waiters:
            self._by_owner[waiter.reservation.owner] = waiters
        if len(self._sizes) > 2 * self.count + STALE_SIZES_MAX:
            self._sizes = sorted(self._counts.elements())

    def smallest(self) -> float:
        """Return the smallest size that is waited for; infinity if there is none."""
        while self._sizes and not self._counts[self._sizes[0]]:
            heappop(self._sizes)
        return self._sizes[0] if self._sizes else inf

    def first_waiters(self) -> Iterator[Waiter]:
        """Yield the first waiter of each owner."""
        for waiters in self._by_owner.values():
            yield waiters[0]

    def all_waiters(self) -> Iterator[Waiter]:
        return chain.from_iterable(self._by_owner.values())


class Quota:
    """A limit of `bytes_max` in total and `owner_bytes_max` for each owner, if that is not None."""

    def __init__(self, bytes_max: int, owner_bytes_max: int | None = None) -> None:
        self._bytes_max = bytes_max
        self._owner_bytes_max = owner_bytes_max
        self.bytes = 0
        self.is_closed = False
        self._by_owner: dict[str, dict[Reservation, None]] = {}  # the oldest first
        self._owner_bytes: Counter[str] = Counter()
        self._growing: dict[Waiter, None] = {}  # of reservations that hold bytes already
        self._new = NewWaiters()
        self._overcommitted: Reservation | None = None
        self._scopes: set[anyio.CancelScope] = set()

    @property
    def waiting(self) -> int:
        """The number of waiters that hold nothing yet."""
        return self._new.count

    @property
    def is_contended(self) -> bool:
        """True if a reservation waits for bytes of other owners, and not only of its own."""
        waiters = chain(self._growing, self._new.first_waiters())
        return any(not self._exceeds_share(each.reservation, each.size) for each in waiters)

    def reserve(self, owner: str, weight: int = 1) -> Reservation:
        """Return an empty reservation."""
        return Reservation(self, owner, weight)

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes, as soon as they fit. A size above the limit is held alone."""
        with self.reserve("") as reservation:
            await reservation.acquire(size)
            yield

    async def grant(self, reservation: Reservation, size: int, seconds: float | None) -> None:
        """Wait until the reservation may hold `size` more bytes, weighted."""
        if self._fits(reservation, size) and not self._exceeds_share(reservation, size):
            self._grant(reservation, size)
            return
        waiter = Waiter(reservation, size)
        if waiter.is_new:
            self._new.add(waiter)
        else:
            self._growing[waiter] = None
        self._grant_waiting()
        try:
            with anyio.fail_after(seconds):
                while not waiter.is_granted:
                    if self.is_closed:
                        raise Draining
                    await waiter.woken.wait()
        except TimeoutError as error:
            raise FlowFull from error
        finally:
            if not waiter.is_granted:  # granted bytes are released with the reservation
                self._remove(waiter)
                self._grant_waiting()

    def release(self, reservation: Reservation, size: int) -> None:
        """Release `size` bytes, weighted."""
        reservation.bytes -= size
        self.bytes -= size
        self._owner_bytes[reservation.owner] -= size
        if not reservation.bytes:
            self._discard(reservation)
        if self.bytes <= self._bytes_max:
            self._overcommitted = None
        self._grant_waiting()

    @contextmanager
    def cancelled_on_close(self, deadline: float) -> Iterator[anyio.CancelScope]:
        """Return a scope that is cancelled at the deadline, in loop time, or by `close`."""
        with anyio.CancelScope(deadline=deadline) as scope:
            self._scopes.add(scope)
            try:
                if self.is_closed:
                    scope.cancel()
                yield scope
            finally:
                self._scopes.remove(scope)

    def close(self) -> None:
        """End all waits, now and later, with Draining."""
        self.is_closed = True
        for waiter in chain(self._growing, self._new.all_waiters()):
            waiter.woken.set()
        for scope in self._scopes:
            scope.cancel()

    def _grant_waiting(self) -> None:
        """Grant the waiters that fit: growing ones first, then new ones, in order of arrival."""
        for waiter in list(self._growing) if self._growing else ():
            if not self._exceeds_share(waiter.reservation, waiter.size):
                if self._overcommitted is None and not self._fits(waiter.reservation, waiter.size):
                    self._overcommitted = waiter.reservation
                self._try_grant(waiter)
        while self._new.count and self._has_capacity_for(self._new.smallest()):
            if not any(self._try_grant(waiter) for waiter in self._new.first_waiters()):
                return

    def _try_grant(self, waiter: Waiter) -> bool:
        """Grant the waiter's bytes if they fit, and return True if they did."""
        reservation, size = waiter.reservation, waiter.size
        if self._exceeds_share(reservation, size) or not self._fits(reservation, size):
            return False
        self._remove(waiter)
        self._grant(reservation, size)
        waiter.is_granted = True
        waiter.woken.set()
        return True

    def _remove(self, waiter: Waiter) -> None:
        if waiter.is_new:
            self._new.remove(waiter)
        else:
            self._growing.pop(waiter, None)

    def _has_capacity_for(self, size: float) -> bool:
        is_idle = self.bytes <= self._bytes_max * IDLE_SHARE
        return is_idle or self.bytes + size <= self._bytes_max

    def _fits(self, reservation: Reservation, size: int) -> bool:
        return self._has_capacity_for(size) or reservation is self._overcommitted

    def _exceeds_share(self, reservation: Reservation, size: int) -> bool:
        """True if the owner would hold too much.

        The oldest reservation of an owner is exempt, and so is the overcommitted one: it would wait
        for one that waits for it.
        """
        if self._owner_bytes_max is None:
            return False
        oldest = next(iter(self._by_owner.get(reservation.owner, ())), reservation)
        if reservation is oldest or reservation is self._overcommitted:
            return False
        return self._owner_bytes[reservation.owner] + size > self._owner_bytes_max

    def _grant(self, reservation: Reservation, size: int) -> None:
        if size and not reservation.bytes:
            self._by_owner.setdefault(reservation.owner, {}).setdefault(reservation)
        reservation.bytes += size
        self.bytes += size
        self._owner_bytes[reservation.owner] += size

    def _discard(self, reservation: Reservation) -> None:
        """Drop an empty reservation. If it acquires more later, it is a new one."""
        reservations = self._by_owner.get(reservation.owner, {})
        reservations.pop(reservation, None)
        if not reservations:
            self._by_owner.pop(reservation.owner, None)
            del self._owner_bytes[reservation.owner]
        if self._overcommitted is reservation:
            self._overcommitted = None

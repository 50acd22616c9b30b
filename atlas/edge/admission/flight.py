"""Bytes in flight: what is read of bodies and not yet safe, so much of all users and of each.

Whoever comes while there is no room for him waits with his body in the socket; who needs less
passes, or one large body on a slow line would keep everybody out. Whoever is read already and grows
waits, too, but goes first; and of those that wait in the middle one at a time may go beyond the
limit, or they could all wait for each other.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import anyio

from atlas.core.errors import Draining

NEXT_TO_NOTHING = 0.04  # of the room: small bodies that come and go keep no large one out


@dataclass(eq=False, slots=True)
class Held:
    """What one body holds. Each byte of it weighs `weight`: what is made of it counts, too."""

    user: str
    weight: int
    bytes: int = 0
    ahead: int = 0  # of the body, not weighed: room that is there before they come


class Turn(NamedTuple):
    """Somebody who waits, and for how much."""

    held: Held
    size: int
    awake: anyio.Event


@dataclass(slots=True)
class Flight:
    bytes_max: int
    bytes_max_of_user: int
    bytes: int = 0
    _of: dict[str, list[Held]] = field(default_factory=dict)
    _growing: deque[Turn] = field(default_factory=deque)
    _coming: deque[Turn] = field(default_factory=deque)
    _beyond: Held | None = None
    _is_closed: bool = False
    _scopes: set[anyio.CancelScope] = field(default_factory=set)

    @property
    def waiting(self) -> int:
        """How many bodies wait for room before anything of them is read."""
        return len(self._coming)

    @property
    def is_short(self) -> bool:
        """Somebody waits for room that others have, and not only for what he has himself."""
        turns = (*self._growing, *self._coming)
        return any(not self._is_held_back(turn.held, turn.size) for turn in turns)

    @contextmanager
    def body(self, user: str, weight: int) -> Iterator[Held]:
        """All that is taken for it in here is given back."""
        held = Held(user, weight)
        try:
            yield held
        finally:
            self.give(held, held.bytes // weight)

    async def reserve(self, held: Held, count: int) -> None:
        """Room for so many bytes of a body before they come: what is taken then comes out of it."""
        await self._take(held, count * held.weight)
        held.ahead += count

    async def take(self, held: Held, count: int) -> None:
        """Room for so many bytes more of a body, when there is some."""
        reserved = min(count, held.ahead)
        held.ahead -= reserved
        if count > reserved:
            await self._take(held, (count - reserved) * held.weight)

    async def _take(self, held: Held, size: int) -> None:
        if self._fits(held, size) and not self._is_held_back(held, size):
            self._let(held, size)
            return
        turn = Turn(held, size, anyio.Event())
        waiting = self._growing if held.bytes else self._coming
        waiting.append(turn)
        self._let_in()
        try:
            while turn in waiting:
                if self._is_closed:
                    raise Draining
                await turn.awake.wait()
        finally:
            if turn in waiting:  # what has come is given back with all of its body
                waiting.remove(turn)
                self._let_in()

    @contextmanager
    def until_closed(self) -> Iterator[None]:
        """Whatever waits in here is cut short when we end. Raises Draining."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if self._is_closed:
                    scope.cancel()
                yield
            finally:
                self._scopes.remove(scope)
        if scope.cancelled_caught:
            raise Draining

    def close(self) -> None:
        """Nobody waits any more, for room or for a body: whoever does is told why."""
        self._is_closed = True
        for turn in [*self._growing, *self._coming]:
            turn.awake.set()
        for scope in self._scopes:
            scope.cancel()

    def give(self, held: Held, count: int) -> None:
        """So many bytes are held no longer."""
        held.bytes -= count * held.weight
        self.bytes -= count * held.weight
        if not held.bytes:
            self._forget(held)
        if self.bytes <= self.bytes_max:
            self._beyond = None
        self._let_in()

    def _let_in(self) -> None:
        """Whoever fits: first those who grow, then those who come, in the order of asking.

        Who needs more than there is keeps nobody waiting who needs less.
        """
        for waiting in (self._growing, self._coming):
            for turn in list(waiting):
                held, size = turn.held, turn.size
                if self._is_held_back(held, size):
                    continue
                if waiting is self._growing and self._beyond is None and not self._fits(held, size):
                    self._beyond = held
                if self._fits(held, size):
                    waiting.remove(turn)
                    self._let(held, size)
                    turn.awake.set()

    def _fits(self, held: Held, size: int) -> bool:
        """There is room; or it is beyond the limit already; or next to nothing is in flight."""
        is_alone = self.bytes <= self.bytes_max * NEXT_TO_NOTHING
        return self.bytes + size <= self.bytes_max or held is self._beyond or is_alone

    def _is_held_back(self, held: Held, size: int) -> bool:
        """By other bodies of its user, of which the eldest goes first; but not in the middle of
        going beyond, or it would wait for one that waits for it.
        """
        others = self._of.get(held.user, [held])
        if others[0] is held or held is self._beyond:
            return False
        return sum(each.bytes for each in others) + size > self.bytes_max_of_user

    def _forget(self, held: Held) -> None:
        """It holds nothing any more; what comes of it again, comes anew."""
        others = self._of.get(held.user, [])
        if held in others:
            others.remove(held)
        if not others:
            self._of.pop(held.user, None)
        if self._beyond is held:
            self._beyond = None

    def _let(self, held: Held, size: int) -> None:
        """From its first byte on a body is one of those of its user."""
        others = self._of.setdefault(held.user, [])
        if held not in others:
            others.append(held)
        held.bytes += size
        self.bytes += size

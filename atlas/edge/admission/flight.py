"""Bytes in flight: what is read of bodies and not yet safe, so much of all users and of each.

Whoever comes while there is no room waits with his body in the socket. Whoever is read already and
grows waits, too, but goes first; and of those that wait in the middle one at a time may go beyond
the limit, or they could all wait for each other.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import anyio


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
    came: anyio.Event


@dataclass(slots=True)
class Flight:
    bytes_max: int
    bytes_max_of_user: int
    bytes: int = 0
    _of: dict[str, list[Held]] = field(default_factory=dict)
    _growing: deque[Turn] = field(default_factory=deque)
    _coming: deque[Turn] = field(default_factory=deque)
    _beyond: Held | None = None

    @property
    def waiting(self) -> int:
        """How many bodies wait for room before anything of them is read."""
        return len(self._coming)

    @property
    def is_full(self) -> bool:
        """Somebody waits for room."""
        return bool(self._growing or self._coming)

    @contextmanager
    def body(self, user: str, weight: int) -> Iterator[Held]:
        """All that is taken for it in here is given back."""
        held = Held(user, weight)
        self._of.setdefault(user, []).append(held)
        try:
            yield held
        finally:
            self._of[user].remove(held)
            if not self._of[user]:
                del self._of[user]
            self.give(held, held.bytes // weight)
            if self._beyond is held:
                self._beyond = None
            self._let_in()

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
        if not self.is_full and self._may(held, size):
            self._let(held, size)
            return
        turn = Turn(held, size, anyio.Event())
        waiting = self._growing if held.bytes else self._coming
        waiting.append(turn)
        self._let_in()
        try:
            await turn.came.wait()
        finally:
            if not turn.came.is_set():  # what has come is given back with all of its body
                waiting.remove(turn)
                self._let_in()

    def give(self, held: Held, count: int) -> None:
        """So many bytes are held no longer."""
        held.bytes -= count * held.weight
        self.bytes -= count * held.weight
        self._let_in()

    def _let_in(self) -> None:
        """Those who grow, in the order of asking; then those who come. None of the latter is
        overtaken, but by others while his own bodies hold him back.
        """
        for turn in [each for each in self._growing if self._may(each.held, each.size)]:
            if self._may(turn.held, turn.size):
                self._growing.remove(turn)
                self._go(turn)
        if self._growing and self._beyond is None:
            self._beyond = self._growing[0].held
            self._go(self._growing.popleft())
        if self._growing:
            return
        for turn in list(self._coming):
            if self._is_held_back(turn.held, turn.size):
                continue
            if not self._fits(turn.held, turn.size):
                return
            self._coming.remove(turn)
            self._go(turn)

    def _may(self, held: Held, size: int) -> bool:
        return self._fits(held, size) and not self._is_held_back(held, size)

    def _fits(self, held: Held, size: int) -> bool:
        """There is room; or it is beyond the limit already; or nothing else is in flight."""
        return self.bytes + size <= self.bytes_max or held is self._beyond or not self.bytes

    def _is_held_back(self, held: Held, size: int) -> bool:
        """By other bodies of its user, of which the eldest goes first."""
        others = self._of[held.user]
        if others[0] is held:
            return False
        return sum(each.bytes for each in others) + size > self.bytes_max_of_user

    def _go(self, turn: Turn) -> None:
        self._let(turn.held, turn.size)
        turn.came.set()

    def _let(self, held: Held, size: int) -> None:
        held.bytes += size
        self.bytes += size

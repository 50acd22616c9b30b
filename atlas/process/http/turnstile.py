"""Begins a few requests in each turn of the loop, however many come at once.

An export takes some ten turns of the loop from its socket to its answer. When thousands of senders
that never rest are refused, and all of them in each turn, a turn takes a second: nothing gets on
any more, the measured pace falls, and with it what is let in. That is how an overload collapses,
and why it stays so.
"""

import asyncio
from collections import deque
from collections.abc import Callable

AT_ONCE = 8  # in a turn of the loop


class Turnstile:
    """Calls what is to begin, in the order of asking."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._begun = 0  # in this turn
        self._is_scheduled = False

    def enter(self, begin: Callable[[], None]) -> None:
        """Now, if few have begun in this turn; otherwise in one of the next."""
        if self._begun < AT_ONCE and not self._waiting:
            self._begun += 1
            begin()
        else:
            self._waiting.append(begin)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._begun = min(AT_ONCE, len(self._waiting))
        for _ in range(self._begun):
            self._waiting.popleft()()
        self._is_scheduled = self._begun > 0
        if self._is_scheduled:
            self._loop.call_soon(self._turn)

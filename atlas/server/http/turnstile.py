"""Starts a few requests in each turn of the loop, however many come at once.

An export takes some ten turns of the loop from its socket to its answer. When thousands of senders
that never pause are refused, and all of them in each turn, a turn takes a second: exports stand
still, the measured rate falls, and fewer of them are admitted. The service does not recover.
"""

import asyncio
from collections import deque
from collections.abc import Callable

STARTS_MAX = 8  # in each turn of the loop


class Turnstile:
    """Calls functions in order, a few in each turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._started = 0  # in this turn
        self._is_scheduled = False

    def enter(self, start: Callable[[], None]) -> None:
        """Call it now, if few were called in this turn, or else in one of the next turns."""
        if self._started < STARTS_MAX and not self._waiting:
            self._started += 1
            start()
        else:
            self._waiting.append(start)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._start_waiting)

    def _start_waiting(self) -> None:
        self._started = min(STARTS_MAX, len(self._waiting))
        for _ in range(self._started):
            self._waiting.popleft()()
        self._is_scheduled = self._started > 0
        if self._is_scheduled:
            self._loop.call_soon(self._start_waiting)

"""Limits the number of requests that start in each turn of the loop.

An export takes about ten turns of the loop from its socket to its response. If thousands of clients
retry at once and all are rejected in the same turn, a turn takes a second. Exports stall, the
measured rate falls, fewer exports are admitted, and the service does not recover.
"""

import asyncio
from collections import deque
from collections.abc import Callable

STARTS_MAX = 8  # per turn of the loop


class Turnstile:
    """Calls functions in order, `STARTS_MAX` per turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._started = 0  # in this turn
        self._is_scheduled = False

    def enter(self, start: Callable[[], None]) -> None:
        """Call `start` now, or in a later turn if the limit of this turn is reached."""
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

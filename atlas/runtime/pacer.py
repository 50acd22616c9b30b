"""Limits the number of starts per second."""

import asyncio
from collections import deque

WINDOW_SECONDS = 0.01


class Pacer:
    """Allows `per_second` starts, in order of arrival: a hundredth in each window of 10 ms.

    The event loop may sleep between two windows, so that other work gets the processor.
    """

    def __init__(self, per_second: float) -> None:
        self._per_window = max(1, round(per_second * WINDOW_SECONDS))
        self._remaining = self._per_window
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_counting = False

    async def wait_for_turn(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._is_counting:
            self._is_counting = True
            loop.call_later(WINDOW_SECONDS, self._begin_window)
        if self._remaining > 0:
            self._remaining -= 1
            return
        waiter = loop.create_future()
        self._waiting.append(waiter)
        await waiter

    def _begin_window(self) -> None:
        self._remaining = self._per_window
        is_needed = bool(self._waiting)
        while self._waiting and self._remaining > 0:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._remaining -= 1
                waiter.set_result(None)
        self._is_counting = is_needed
        if is_needed:
            asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._begin_window)

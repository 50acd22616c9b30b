"""A deadline that moves with every request, at almost no cost."""

import asyncio
from collections.abc import Callable
from math import inf


class Deadline:
    """One timer of the loop. It is replaced only if it would fire too late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._at, self._timer_at = inf, inf
        self._callback: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, seconds: float, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._at = at = self._loop.time() + seconds
        if self._timer_at > at:
            if self._timer is not None:
                self._timer.cancel()
            self._schedule(at)

    def cancel(self) -> None:
        self._at = inf

    def close(self) -> None:
        """Cancel for good, and drop the references to the timer and its callback."""
        self._at, self._callback = inf, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, moment: float) -> None:
        self._timer_at = moment
        self._timer = self._loop.call_at(moment, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, inf
        if self._loop.time() >= self._at:
            if self._callback is not None:
                self._callback()
        elif self._at < inf:
            self._schedule(self._at)
